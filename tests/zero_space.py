"""Run `app.py` as a ZeroGPU Space does, with the package `spaces` and its forks, on a machine without a GPU.

The forked process finds no CUDA device and trains on the CPU. This replaces no code of nanogpt, and only the two
functions of `spaces` that talk to the GPU driver.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import torch

torch._C._cuda_init = getattr(torch._C, "_cuda_init", lambda: None)
torch.cuda._is_in_bad_fork = bool
torch.version.cuda = torch.version.cuda or "12.8"  # `spaces` reads this when it is imported

import spaces.zero.torch  # noqa: E402

spaces.zero.torch.init = lambda uuid: None
spaces.zero.torch.move = lambda callback=None: None

APP = Path(__file__).resolve().parent.parent / "app.py"
sys.path[0] = str(APP.parent)  # as with `python app.py`
runpy.run_path(str(APP), run_name="__main__")
