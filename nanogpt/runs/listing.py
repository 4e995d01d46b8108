"""List the runs: yours, and the ones that ship with the project."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .. import paths
from ..errors import PROBLEMS
from ..holdout import epochs
from ..paths import NAME, home, slug
from . import queue
from .job import open_job
from .kept import kept_loss
from .run import Run, ships
from .summary import Overview, remember, remembered


def overview(run: Run) -> Overview:
    """Return a run's overview, read again only if the run's `version` has changed.

    Listing hundreds of runs stays cheap this way: their losses would fill the memory, or be read from disk each time.
    """
    version = run.version()
    if known := remembered(run.folder, version):
        return known
    found = _read(run)
    if found.status.state != "damaged":  # a disk or a permission that comes back changes no file
        remember(run.folder, version, found)
    return found


@queue.one_look()
def overviews(runs: Iterable[Run]) -> list[tuple[Run, Overview]]:
    """Return each run with its overview."""
    return [(run, overview(run)) for run in runs]


def _read(run: Run) -> Overview:
    status = run.glance()
    try:
        if status.state == "damaged":
            return Overview(status)
        settings, history = run.settings(), run.history()
    except PROBLEMS:  # just deleted
        return Overview(status)
    about: dict[str, Any] = settings["corpus"]
    read, loss = history.characters, kept_loss(history)
    return Overview(
        status,
        about["name"],
        epochs(read, about["characters"]) if read else None,
        loss if isinstance(loss, int | float) else None,
        str(settings.get("created") or ""),
    )


def all_runs() -> list[Run]:
    """Return all runs, newest first; the ones that ship with the project come last."""
    here = home() / "checkpoints"
    names = {name: Run(name) for name in _newest_first(here)}
    if here != paths.SHIPPED:
        names |= {name: Run(name) for name in _newest_first(paths.SHIPPED) if ships(paths.SHIPPED / name)}
    return list(names.values())


def elsewhere() -> list[str]:
    """Return the names of the runs that train on another machine, and whose jobs a process here follows."""
    here = {*queue.running(), *queue.waiting()}
    return [name for name in sorted(queue.with_trainer() - here) if open_job(Run(name).folder)]


def _newest_first(folder: Path) -> list[str]:
    """Return the names of the runs in a folder, most recently changed first."""
    found = [(modified, path.parent.name) for path in folder.glob("*/run.json") if (modified := _modified(path))]
    return [name for _, name in sorted(found, reverse=True) if NAME.fullmatch(name)]


def _modified(path: Path) -> int:
    """Return when a file was last written, in nanoseconds; 0 if it has just been deleted."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


@queue.one_look()
def users_of(corpus_id: str) -> tuple[list[str], list[str]]:
    """Return the names of the runs on a text: those that are queued or training, and the others."""
    busy: list[str] = []
    others: list[str] = []
    for run in all_runs():
        try:
            if run.settings()["corpus"]["id"] == corpus_id:
                (busy if run.glance().busy else others).append(run.name)
        except PROBLEMS:
            continue  # it can't be read, so its text is unknown
    return busy, others


def free_name(wanted: str) -> str:
    """Turn `wanted` into a free name for a run, adding -2, -3, ... if it is taken.

    A folder "Diary" takes the name diary: Windows and macOS ignore case, so the run's folder would be the same one.
    """
    base = slug(wanted)[:56].strip("-") or "run"
    taken = {run.name for run in all_runs()} | {_folded(path.name) for path in (home() / "checkpoints").glob("*")}
    return next(name for i in range(1, 100_000) if (name := base if i == 1 else f"{base}-{i}") not in taken)


def _folded(name: str) -> str:
    """Return a name such that two have the same one if any system takes them for the same file."""
    return unicodedata.normalize("NFC", name).casefold()
