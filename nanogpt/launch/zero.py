"""Training on ZeroGPU, where a GPU is available only inside a call, for up to a minute, on the visitor's quota.

The package `spaces`, which is installed only on ZeroGPU Spaces, forks a process that has the GPU and passes arguments
and results as pickles. So a call takes only a run's name; everything else is in the run folder, where the page reads it
as usual. Locks are taken inside the call, because a lock held during a fork would never be released.
"""

from __future__ import annotations

import re
import sys

from .. import device, limits
from ..config import TrainConfig
from ..runs import Run, queue
from . import trainer

CALL = 60  # seconds per call; longer calls may be refused
AROUND = CALL - limits.ZERO_SECONDS  # seconds of a call for startup, evaluation and saving
HERE = limits.on_zero_gpu() and "spaces" in sys.modules  # app.py imports it before torch
PATIENCE = 600.0  # seconds that a run waits for a GPU before it counts as not started


def announce(run: Run) -> None:
    """Show the run as queued until `train_now` gets a GPU for it."""
    run.stop_file.unlink(missing_ok=True)  # clear a stale stop request
    queue.draw(run.name)
    queue.keep(run.name, PATIENCE)


def train_now(name: str) -> None:
    """Train a run on a shared GPU until it finishes or the call ends. Errors are recorded in the run folder.

    Call this in the click's own event handler, because the quota used is that of the visitor who made the request.
    """
    run = Run(name)
    before = len(run.history().events)
    try:
        _train(name)
    except Exception as error:  # `spaces` raises many types: no GPU, no quota, a call that took too long
        if len(run.history().events) == before:
            run.event("failed", message=f"ZeroGPU couldn't train this run: {in_a_line(error)}")
    finally:
        queue.drop(name)


def in_a_line(error: Exception) -> str:
    """Return the message of a ZeroGPU error on one line, without HTML."""
    said = re.sub(r"<[^>]*>", "", str(getattr(error, "message", error)))
    return " ".join(said.split())[:300]


def seconds_wanted(name: str) -> int:
    """Return the length of the call that the run needs. Shorter time budgets save the visitor's quota."""
    run = Run(name)
    budget = TrainConfig.of(run.settings()["train"]).budget
    left = budget - run.history().seconds if budget else limits.ZERO_SECONDS
    return AROUND + int(max(1.0, min(left, limits.limit("NANOGPT_MAX_SECONDS") or limits.ZERO_SECONDS)))


def _train(name: str) -> None:
    device.lent = True  # only in the forked process
    trainer.main(name, alone=True)


if HERE:
    _train = sys.modules["spaces"].GPU(duration=seconds_wanted)(_train)
