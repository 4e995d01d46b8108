"""The page as a ZeroGPU Space runs it, on a machine without a GPU: `app.py` with the package `spaces` and its forks.

What stands in for the card is that torch has none: the forked process finds no CUDA and trains on the CPU. Nothing of
ours is replaced, and of `spaces` only the two steps that talk to a driver.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import torch

torch._C._cuda_init = getattr(torch._C, "_cuda_init", lambda: None)
torch.cuda._is_in_bad_fork = bool
torch.version.cuda = torch.version.cuda or "12.8"  # what `spaces` asks for when it is imported

import spaces.zero.torch  # noqa: E402

spaces.zero.torch.init = lambda uuid: None
spaces.zero.torch.move = lambda callback=None: None

APP = Path(__file__).resolve().parent.parent / "app.py"
sys.path[0] = str(APP.parent)  # as `python app.py` has it
runpy.run_path(str(APP), run_name="__main__")
