"""What is known of a run's saved weights: their step, their loss, and on how much of the text that was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..holdout import percent_scored
from .history import History
from .rows import is_number


def kept_loss(history: History) -> float | None:
    """Return the validation loss of the saved weights, in nats per character.

    For a finished run it is the final one, on as much of the validation set as its time allowed; before that, the best
    estimate that was saved.
    """
    loss = history.last_trained.get("val_loss", history.best_saved.get("val_loss"))
    return loss if is_number(loss) else None


def newest_loss(history: History) -> float | None:
    """Return the newest validation loss, in nats per character: once a run has finished, its final one."""
    loss = history.last_trained.get("val_loss", history.latest("val_loss"))
    return loss if is_number(loss) else None


def judged_percent(history: History, settings: Mapping[str, Any]) -> int | None:
    """Return what percentage of the validation set a finished run's loss is of, or None for one that has not finished.

    An older version didn't log it, which gives None, too.
    """
    scored = history.last_trained.get("val_characters")
    return percent_scored(scored, settings["corpus"]["characters"]) if isinstance(scored, int) else None


def kept_step(history: History) -> int:
    """Return the step of the saved weights: the best ones or, wherever a run finished with better ones, its last ones.

    A run that has been extended since keeps those until an evaluation is lower than all before.
    """
    steps = [event["step"] for event in history.events if event["event"] == "finished" and _kept_the_last(event)]
    return int(max([history.best_saved.get("step", 0), *steps]))


def _kept_the_last(end: Mapping[str, Any]) -> bool:
    """Return True if a run finished with last weights that were at least as good as its best ones."""
    if not all(is_number(end.get(key)) for key in ("step", "last_val_loss", "best_val_loss")):
        return False  # of an older version, or damaged
    return end["last_val_loss"] <= end["best_val_loss"]
