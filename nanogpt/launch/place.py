"""Choose how this machine trains a run: in a process, or on ZeroGPU. Only this module decides.

To add a way, write a module in this package that can start a run, and call it from here. A machine elsewhere is another
matter: `nanogpt/jobs/` sends a run to Hugging Face Jobs, and the commands and the page call it instead of this module.
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
    """Return True if a run trains inside the request that starts it, so that the request lasts until it ends."""
    return zero.HERE


def attend(run: Run) -> None:
    """Finish the request that started a run: on ZeroGPU, train it now; anywhere else, do nothing."""
    if zero.HERE:
        zero.train_now(run.name)


def warm() -> None:
    """Keep a trainer process ready for the next start, if runs train in processes and training is allowed."""
    if not zero.HERE and not limits.training_is_off():
        local.warm()
