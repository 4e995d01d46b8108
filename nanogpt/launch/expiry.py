"""Expiry: on a server with NANOGPT_EXPIRE_HOURS, delete the runs and texts of visitors who no longer use them."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from .. import corpus, limits
from ..config import NanoGPTError
from ..runs import Run, all_runs
from .visitors import is_for_all, setting


def expire(now: float | None = None) -> list[str]:
    """Delete visitors' runs and texts not used for NANOGPT_EXPIRE_HOURS. Return the names and ids deleted.

    `now` is in seconds since the epoch.
    """
    hours = limits.limit("NANOGPT_EXPIRE_HOURS")
    if hours is None:
        return []
    before = (now or time.time()) - 3600 * hours
    return expire_runs(before) + expire_texts(before)  # runs first: a text is kept as long as a run needs it


def expire_runs(before: float) -> list[str]:
    """Delete visitors' runs not used since then, unless they are public, queued or training. Return their names."""
    gone = []
    for run in all_runs():
        if is_unused_run(run, before):
            with contextlib.suppress(NanoGPTError, OSError):  # a trainer has just started on it
                run.delete()
                gone.append(run.name)
    return gone


def is_unused_run(run: Run, before: float) -> bool:
    """Return True if a visitor's run has not been used since then, isn't shared with all visitors, and isn't in use."""
    if setting(run, "owner") is None or is_for_all(run):
        return False
    return last_used(run.folder) <= before and not run.glance().busy


def expire_texts(before: float) -> list[str]:
    """Delete visitors' texts not used since then, unless a run needs them. Return their ids."""
    gone = []
    needed = {about["id"] for run in all_runs() if (about := setting(run, "corpus"))}
    for one in corpus.listed():
        if one.owner is not None and one.id not in needed and last_used(one.folder) <= before:
            with contextlib.suppress(NanoGPTError):
                corpus.delete(one.id)
                gone.append(one.id)
    return gone


def last_used(folder: Path) -> float:
    """Return when the newest file in a folder was written, ignoring locks; the current time if that is unknown."""
    try:
        written = [path.stat().st_mtime for path in folder.iterdir() if not path.name.startswith(".")]
        return max(written, default=time.time())
    except OSError:
        return time.time()
