"""Where a run trains: in a process on this machine, or on ZeroGPU. Only this module chooses.

A place to train is one module of this room that can start a run; name it here.
"""

from __future__ import annotations

from .. import limits
from ..runs import Run
from . import local, zero


def start(run: Run) -> None:
    """Have a run trained. It waits for its turn, trains and ends; call `attend` next."""
    if zero.HERE:
        zero.announce(run)
    else:
        local.start(run)


def takes_the_request() -> bool:
    """Return True where a run trains inside the request that starts it, which so lasts until the run has ended."""
    return zero.HERE


def attend(run: Run) -> None:
    """Do what the place wants of the request that has started a run: on ZeroGPU train it now, elsewhere nothing."""
    if zero.HERE:
        zero.train_now(run.name)


def warm() -> None:
    """Keep a trainer ready for the next start, where it is a process and visitors may train."""
    if not zero.HERE and not limits.training_is_off():
        local.warm()
