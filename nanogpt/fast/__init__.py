"""Faster versions of functions in model.py, step.py and sample.py: one module per trick, each tested for equality.

One line in sample.py or train.py chooses a module; without it, or a module it needs, the plain function runs instead.
That's why nothing is imported here: import the module you need.
"""

__all__ = ["attention", "block", "cpu", "cuda", "cuda_decode", "decode", "gradients", "ready", "rows", "threads"]
