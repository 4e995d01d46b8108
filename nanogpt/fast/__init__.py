"""Faster versions of functions in model.py, step.py and sample.py: one module per trick, each tested for equality.

fastest.py, sample.py and together.py choose a module in one line each; without it, or a module it needs, the plain
function runs instead. That's why nothing is imported here: import the module you need. `__all__` lists those
that are chosen; the others are parts of them.
"""

__all__ = ["cpu", "cuda", "cuda_decode", "decode", "ready", "rows", "threads"]
