"""Where a run trains: in a process on this machine, or on ZeroGPU. Only this module chooses.

Each place to train is a module in this package that can start a run. To add one, call it here.
"""

from __future__ import annotations

from .. import limits
from ..runs import Run
from . import local, zero


def start(run: Run) -> None:
    """Queue a run for training. Call `attend` next."""
    if zero.HERE:
        zero.announce(run)
    else:
        local.start(run)


def takes_the_request() -> bool:
    """Return True if a run trains inside the request that starts it, so that the request lasts as long as the run."""
    return zero.HERE


def attend(run: Run) -> None:
    """Train a run inside the request that started it, on ZeroGPU. Do nothing elsewhere."""
    if zero.HERE:
        zero.train_now(run.name)


def warm() -> None:
    """Keep a pre-warmed trainer process ready, if runs train in processes and training is allowed."""
    if not zero.HERE and not limits.training_is_off():
        local.warm()
