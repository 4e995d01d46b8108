"""Start trainers as processes on this machine.

A trainer is a separate process that does not depend on its launcher: it keeps running if you close the page, the server
or the terminal.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from .. import disk
from ..paths import environment
from ..runs import Run, open_job, queue

TRAINER = "nanogpt.launch.trainer"

_children: dict[str, subprocess.Popen] = {}  # by the run's name, until the next start after they end; for the tests
_spare: list[subprocess.Popen] = []  # at most one pre-warmed trainer process


def start(run: Run, module: str = TRAINER) -> None:
    """Queue the run and start a process of `module` for it, by default a trainer.

    A run that is back from its job is not queued: its follower only deletes what was uploaded. Raise OSError if no
    process can be started, or the run can't be queued.
    """
    for name in [name for name, child in [*_children.items()] if child.poll() is not None]:
        _children.pop(name, None)
    ticket = queue.draw(run.name) if module == TRAINER or open_job(run.folder) else None
    try:
        child = (module == TRAINER and _hand_to_spare(run)) or _launch_for(run, module)
    except OSError:  # no memory, no process, no disk space
        if ticket:
            queue.drop(run.name)
        raise
    _children[run.name] = child
    with contextlib.suppress(RuntimeError):  # the system allows no more threads; the next start clears up, too
        threading.Thread(target=_look_after, args=(child, ticket), daemon=True).start()


def _hand_to_spare(run: Run) -> subprocess.Popen | None:
    """Give the run to the pre-warmed trainer process and return it, or None if there is none.

    A run that isn't next gets a process of its own, which takes a tenth of the memory until its turn is near.
    """
    spare = _spare.pop() if _spare and queue.place_of(run.name) == 1 else None
    if spare is not None and spare.poll() is None and spare.stdin is not None:
        with contextlib.suppress(OSError):  # it has just exited
            spare.stdin.write(f"{run.name}\n".encode())
            spare.stdin.close()
            return spare
    return None


def _launch_for(run: Run, module: str) -> subprocess.Popen:
    with disk.opened(run.folder / "log.txt", "ab") as log:
        return _launch([run.name], subprocess.DEVNULL, log, module)


def _look_after(child: subprocess.Popen, ticket: Path | None) -> None:
    """Wait for a trainer to end, so that it leaves no zombie, and no ticket if it ended before it arrived."""
    child.wait()
    if ticket:
        queue.disown(ticket)


def warm() -> None:
    """Keep one trainer process ready, with torch imported, waiting for a run's name. It exits when this one does."""
    if not _spare or _spare[0].poll() is not None:
        _spare[:] = [_launch(["--wait"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)]


def _launch(arguments: list[str], stdin: int, stdout: Any, module: str = TRAINER) -> subprocess.Popen:
    alone: dict[str, Any] = {"start_new_session": True}  # keeps the server's Ctrl-C from reaching it
    if sys.platform == "win32":
        alone = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=subprocess.STDOUT, env=environment(), **alone)
