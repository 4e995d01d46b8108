"""nanogpt: train a GPT on your own text, and understand what happened.

Start reading at `lecture.py` (the lecture's program), then `model.py` (the same model, fast) and `train.py` (the loop).
"""

import importlib
import os
from typing import Any

__version__ = "0.1.0"

# Before torch is imported: its threads (GNU OpenMP) wait for each other in a busy loop, which on a machine that has
# something else to do as well made a training step up to forty times slower (77 ms became 3 s on two busy cores).
# So they spin for a moment and then sleep; benchmarks/README.md has the figures.
os.environ.setdefault("GOMP_SPINCOUNT", "300")


def __getattr__(name: str) -> Any:
    """`nanogpt.GPT`, for programs. Only who asks for it waits for torch."""
    if name == "GPT":
        return importlib.import_module(".publish.pretrained", __name__).GPT
    raise AttributeError(f"module 'nanogpt' has no attribute {name!r}")
