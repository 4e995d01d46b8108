"""Compute the baselines of stored texts in the background, one text at a time, and only while nothing trains.

Each text is counted by a process of its own, at the lowest priority, that is ended as soon as a run starts. Its memory
is freed with it. Only the texts that someone looks at are counted.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import traceback
from typing import Any

from .. import corpus
from ..config import NanoGPTError
from ..explain.baselines import kept
from ..limits import counting_is_off
from ..paths import environment
from ..runs import queue

MOST = 100  # texts that may wait
SECONDS = 300.0  # that counting one text may take
LOOK = 0.2  # seconds between two looks at whether a run has started

_wanted: list[str] = []  # ids of texts, the next one last
_failed: set[str] = set()  # not tried again
_finished = 0
_more = threading.Condition()
_worker: threading.Thread | None = None


def start() -> None:
    """Start counting whatever is asked for, until the process ends. Until then, `ask` does nothing."""
    global _worker
    if not counting_is_off():
        _worker = threading.Thread(target=work, daemon=True)
        _worker.start()


def ask(id: str) -> bool:
    """Ask for the baselines of a stored text, before those that wait already. Return True if they are on their way."""
    if _worker is None or id in _failed:
        return False
    try:
        found = kept(corpus.load(id))
    except NanoGPTError:
        return False
    if found and not found.missing():
        return False
    with _more:
        if _wanted[-1:] != [id]:
            _wanted[:] = [*(other for other in _wanted if other != id), id][-MOST:]
        _more.notify()
    return True


def is_wanted(id: str) -> bool:
    """Return True if a text is being counted, or waits for it."""
    return id in _wanted


def finished() -> int:
    """Return how many texts have been counted, to tell whether there may be something new."""
    return _finished


def work() -> None:
    """Count the texts that are asked for, the latest first."""
    global _finished
    while True:
        with _more:
            _more.wait_for(lambda: bool(_wanted))
            id = _wanted[-1]
        try:
            if not count(id):
                continue  # a run has started: try again once it has ended
        except Exception:  # no memory or process left: log it
            traceback.print_exc()
            _failed.add(id)
        with _more:
            _wanted[:] = [other for other in _wanted if other != id]
        _finished += 1


def count(id: str) -> bool:
    """Count one text as soon as nothing trains. Return False if a run has started before the end."""
    while queue.running() or queue.waiting():
        time.sleep(LOOK)
    process, began = launch(id), time.monotonic()
    while process.poll() is None:
        if queue.running():
            process.kill()
            process.wait()
            return False
        if time.monotonic() - began > SECONDS:
            process.kill()
        time.sleep(LOOK)
    if process.returncode and is_stored(id):  # it may be added again after it was deleted
        _failed.add(id)
    return True


def is_stored(id: str) -> bool:
    """Return True if a text can still be counted: it hasn't been deleted, or damaged."""
    try:
        corpus.load(id)
    except NanoGPTError:
        return False
    return True


def launch(id: str) -> subprocess.Popen:
    """Start a process that counts a text. It lowers its own priority, except on Windows, where this does."""
    quiet: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    if sys.platform == "win32":
        quiet["creationflags"] = subprocess.IDLE_PRIORITY_CLASS | subprocess.CREATE_NO_WINDOW
    command = [sys.executable, "-m", "nanogpt.explain.baselines", id]
    return subprocess.Popen(command, env=environment(), **quiet)
