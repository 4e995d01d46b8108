"""List the runs: yours, and the ones that ship with the project."""

from __future__ import annotations

from pathlib import Path

from .. import paths
from ..errors import PROBLEMS
from ..paths import NAME, home, slug
from .run import Run, ships


def all_runs() -> list[Run]:
    """Return all runs, newest first; the ones that ship with the project come last."""
    here = home() / "checkpoints"
    names = {name: Run(name) for name in _newest_first(here)}
    if here != paths.SHIPPED:
        names |= {name: Run(name) for name in _newest_first(paths.SHIPPED) if ships(paths.SHIPPED / name)}
    return list(names.values())


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
    """Turn `wanted` into a free name for a run, adding -2, -3, ... if it is taken."""
    base = slug(wanted)[:56].strip("-") or "run"
    taken = {run.name for run in all_runs()} | {path.name for path in (home() / "checkpoints").glob("*")}
    return next(name for i in range(1, 100_000) if (name := base if i == 1 else f"{base}-{i}") not in taken)
