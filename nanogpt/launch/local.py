"""Start trainers as processes on this machine.

A trainer is a separate process that does not depend on its launcher: it keeps running if you close the page, the server
or the terminal.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import Any

from ..paths import environment
from ..runs import Run, queue

_children: dict[str, subprocess.Popen] = {}  # kept only to reap finished processes; run folders hold the state
_spare: list[subprocess.Popen] = []  # at most one pre-warmed trainer process


def start(run: Run) -> None:
    """Queue the run and start a trainer process for it."""
    for name in [name for name, child in _children.items() if child.poll() is not None]:
        _children.pop(name, None)
    run.stop_file.unlink(missing_ok=True)  # clear a stale stop request
    queue.draw(run.name)
    spare = _spare.pop() if _spare else None
    if spare is not None and spare.poll() is None and spare.stdin is not None:
        with contextlib.suppress(OSError):  # it has just exited: start another one
            spare.stdin.write(f"{run.name}\n".encode())
            spare.stdin.close()
            _children[run.name] = spare
            return
    with (run.folder / "log.txt").open("ab") as log:
        _children[run.name] = _launch([run.name], stdin=subprocess.DEVNULL, stdout=log)


def warm() -> None:
    """Keep one trainer process ready, with torch imported, waiting for a run's name. It exits when this one does."""
    if not _spare or _spare[0].poll() is not None:
        _spare[:] = [_launch(["--wait"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)]


def _launch(arguments: list[str], stdin: int, stdout: Any) -> subprocess.Popen:
    alone: dict[str, Any] = {"start_new_session": True}  # keeps the server's Ctrl-C from reaching it
    if sys.platform == "win32":
        alone = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS}
    command = [sys.executable, "-m", "nanogpt.launch.trainer", *arguments]
    return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=subprocess.STDOUT, env=environment(), **alone)
