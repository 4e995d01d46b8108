"""What a list of runs shows of each, kept in memory until the run changes or is deleted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .status import Status

REMEMBERED = 4096  # overviews, of a few hundred bytes each; of a few thousand with the longest messages
_overviews: dict[Path, tuple[tuple, Overview]] = {}


@dataclass(frozen=True)
class Overview:
    """What a list of runs shows of one. A run that can't be read has a status, and nothing else."""

    status: Status
    text: str = ""  # the name of the text
    epochs: float | None = None  # trained so far
    loss: float | None = None  # the validation loss of the saved weights
    created: str = ""  # in the format of run.json


def remembered(folder: Path, version: tuple) -> Overview | None:
    """Return the overview of this version of a run folder, or None if it isn't known."""
    known = _overviews.get(folder)
    return known[1] if known and known[0] == version else None


def remember(folder: Path, version: tuple, found: Overview) -> None:
    """Keep the overview of this version of a run folder."""
    if len(_overviews) >= REMEMBERED:
        _overviews.clear()
    _overviews[folder] = version, found


def forget(folder: Path) -> None:
    """Forget the overview of a run folder that was deleted or renamed."""
    _overviews.pop(folder, None)
