"""ZeroGPU: a card that is there only inside a call, for a minute at a time, on the quota of whoever clicked.

The package `spaces`, which only such a Space has, forks a process that has the card, and sends it the arguments and
the result as pickles. So the call gets a name and gives a sentence; everything else is in the run folder, where
the page reads it as always. Locks are taken inside the call: a lock held at a fork would be held for ever.
"""

from __future__ import annotations

import re
import sys

from .. import device, limits
from ..config import TrainConfig
from ..runs import Run, queue
from . import trainer

CALL = 60  # seconds, the longest call: a longer one may be refused
AROUND = CALL - limits.ZERO_SECONDS  # of a call, for beginning, judging and saving
HERE = limits.on_zero_gpu() and "spaces" in sys.modules  # app.py imports it, before torch
PATIENCE = 600.0  # seconds that a run waits for a card before it counts as not begun


def announce(run: Run) -> None:
    """Show the run as waiting, until `train_now` has a card for it."""
    run.stop_file.unlink(missing_ok=True)  # an old wish; from here on a stop is meant
    queue.draw(run.name)
    queue.keep(run.name, PATIENCE)


def train_now(name: str) -> None:
    """Train a run on a borrowed card until it ends or the call is over. What goes wrong is in the run folder.

    To be called in the event of the click itself: the quota is that of the visitor who made the request.
    """
    run = Run(name)
    before = len(run.history().events)
    try:
        _train(name)
    except Exception as error:  # whatever `spaces` raises: no card, no quota, a call that took too long
        if len(run.history().events) == before:
            run.event("failed", message=f"ZeroGPU did not train it: {in_a_line(error)}")
    finally:
        queue.drop(name)


def in_a_line(error: Exception) -> str:
    """What an error of ZeroGPU says, without the page's markup in it."""
    said = re.sub(r"<[^>]*>", "", str(getattr(error, "message", error)))
    return " ".join(said.split())[:300]


def seconds_wanted(name: str) -> int:
    """How long a call the run needs; less is asked for where its clock says so, which saves the visitor's quota."""
    run = Run(name)
    budget = TrainConfig.of(run.settings()["train"]).budget
    left = budget - run.history().seconds if budget else limits.ZERO_SECONDS
    return AROUND + int(max(1.0, min(left, limits.limit("NANOGPT_MAX_SECONDS") or limits.ZERO_SECONDS)))


def _train(name: str) -> None:
    device.lent = True  # in the forked process alone
    trainer.main(name, alone=True)


if HERE:
    _train = sys.modules["spaces"].GPU(duration=seconds_wanted)(_train)
