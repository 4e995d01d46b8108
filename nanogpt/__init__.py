"""nanogpt: train a GPT on your own text, and understand what happened.

Start reading at `lecture.py` (the lecture's program), then `model.py` (the same model, fast) and `train.py` (the loop).
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import NanoGPTError
    from .publish.pretrained import GPT

__all__ = ["GPT", "NanoGPTError"]
__version__ = "0.1.0"

# Set before torch is imported: torch's threads (GNU OpenMP) wait for each other in a busy loop, which made a training
# step up to forty times slower when other programs wanted the cores (77 ms became 3 s on two busy cores). Let them spin
# briefly, then sleep; benchmarks/README.md has the measurements.
os.environ.setdefault("GOMP_SPINCOUNT", "300")


def __getattr__(name: str) -> Any:
    """Return `nanogpt.GPT` or `nanogpt.NanoGPTError`, importing it on first use: `GPT` imports torch."""
    if name in __all__:
        module = ".publish.pretrained" if name == "GPT" else ".config"
        return getattr(importlib.import_module(module, __name__), name)
    raise AttributeError(f"module 'nanogpt' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the module's names, and the lazy ones, so that editors and interpreters complete it."""
    return sorted({*globals(), *__all__})
