"""ZeroGPU: train on a GPU that exists only during a call, for up to a minute, on the quota of the visitor who clicked.

The `spaces` package, present only on ZeroGPU Spaces, forks a process that has the GPU and pickles arguments and results
to and from it. So the call takes only a run's name; everything else goes through the run folder, which the page reads
as usual. Locks are taken inside the call, because a lock held across a fork would never be released.
"""

from __future__ import annotations

import re
import sys

from .. import limits
from ..config import TrainConfig
from ..runs import Run, queue
from . import trainer

CALL = 60  # seconds, the longest call: a longer one may be refused
AROUND = CALL - limits.ZERO_SECONDS  # seconds of a call for starting, evaluating and saving
HERE = limits.on_zero_gpu() and "spaces" in sys.modules  # app.py imports it, before torch
PATIENCE = 600.0  # seconds that a run may wait for a GPU before it counts as not started


def announce(run: Run) -> None:
    """Show the run as queued until `train_now` gets a GPU for it."""
    queue.draw(run.name, PATIENCE)


def train_now(name: str) -> None:
    """Train a run on a ZeroGPU until it ends or the call is over. Errors are recorded in the run folder.

    Call this from the click's own event, because the quota is that of the visitor who made the request.
    """
    run = Run(name)
    before = len(run.history().events)
    try:
        _train(name)
    except Exception as error:  # whatever `spaces` raises: no GPU, no quota, a timeout
        if len(run.history().events) == before:
            run.event("failed", message=f"ZeroGPU could not train this run: {in_a_line(error)}")
    finally:
        queue.drop(name)


def in_a_line(error: Exception) -> str:
    """Return an error's message as one line, without the HTML that `spaces` puts in it."""
    text = re.sub(r"<[^>]*>", "", str(getattr(error, "message", error)))
    return " ".join(text.split())[:300]


def seconds_wanted(name: str) -> int:
    """Return the seconds to request for a call. A run with little time left asks for less, to save quota."""
    run = Run(name)
    budget = TrainConfig.of(run.settings()["train"]).budget
    left = budget - run.history().seconds if budget else limits.ZERO_SECONDS
    return AROUND + int(max(1.0, min(left, limits.limit("NANOGPT_MAX_SECONDS") or limits.ZERO_SECONDS)))


def _train(name: str) -> None:
    from .. import device  # here, because it imports torch

    device.lent = True  # only in the forked process
    trainer.main(name, alone=True)


if HERE:
    _train = sys.modules["spaces"].GPU(duration=seconds_wanted)(_train)
