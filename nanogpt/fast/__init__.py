"""The plain functions of model.py, optim.py and sample.py, faster: one module per trick, each with an equality test.

A module is chosen in one line, in sample.py or train.py. Delete the module and the plain function runs instead.
So nothing is imported here: import the module you need.
"""

__all__ = ["block", "cpu", "cuda", "cuda_decode", "decode"]
