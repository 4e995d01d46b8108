"""The files of the queue: who waits, who trains and who uses a device. queue.py decides what they are used for.

| in checkpoints/.queue/  | what it is                                                                                |
|-------------------------|-------------------------------------------------------------------------------------------|
| (20 digits).NAME        | a ticket, the run's place in the queue; empty until its trainer has arrived               |
| (20 digits).NAME.start  | a lock, held by the process that started the run while it waits for the trainer to arrive |
| NAME.trainer            | a lock, held by the run's trainer from its arrival to its end: a run has only one         |
| DEVICE.lock, DEVICE.now | a lock, held while a run uses the device, and the name of that run                        |
| withdrawn-NAME          | says that the run was withdrawn, until it is started again                                |

A ticket counts only while one of its two locks is held. The system frees the locks of a process that ends, even after
kill -9, so a dead process never blocks the queue, and the clock doesn't matter.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from .. import locks
from ..disk import read
from ..errors import shortages
from ..paths import NAME, home

TICKET = re.compile(rf"\d{{20}}\.{NAME.pattern}")

_starting: dict[Path, ExitStack] = {}  # the tickets drawn here whose trainers have not arrived, with their locks


# ---- where the files are ----------------------------------------------------------------------------------------


def folder() -> Path:
    """Return the folder with the tickets and the locks of the devices."""
    return home() / "checkpoints" / ".queue"


def make_folder() -> None:
    """Create the folder, with the permissions of the runs' folder: a user who may add runs may queue them."""
    folder().parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder().mkdir()
        folder().chmod(folder().parent.stat().st_mode & 0o777)


def files(pattern: str) -> list[Path]:
    """Return the files of the folder that match a pattern, sorted."""
    try:
        return sorted(folder().glob(pattern))
    except OSError:  # there is no queue yet, or it is another user's
        return []


def listed(name: str = "") -> list[Path]:
    """Return the tickets of a run, or of all runs, in order."""
    found = [path for path in files("*") if TICKET.fullmatch(path.name)]
    return [ticket for ticket in found if name in ("", name_of(ticket))]


def name_of(ticket: Path) -> str:
    """Return the name of a ticket's run."""
    return ticket.name.partition(".")[2]


def trainer(name: str) -> Path:
    """Return the lock of a run's trainer."""
    return folder() / f"{name}.trainer"


def withdrawal(name: str) -> Path:
    """Return the file that says that a run was withdrawn."""
    return folder() / f"withdrawn-{name}"


def starts(name: str) -> list[Path]:
    """Return the locks of a run's tickets, also of one that its launcher was killed before it could write."""
    return files(f"*.{name}.start")


def _start(ticket: Path) -> Path:
    return folder() / f"{ticket.name}.start"


# ---- what they say ----------------------------------------------------------------------------------------------


def running() -> list[str]:
    """Return the names of the runs that are using a device now."""
    names: dict[str, None] = {}  # in order; a run may use several
    for now in files("*.now"):
        if locks.is_held(now.with_suffix(".lock")):
            with contextlib.suppress(OSError, ValueError):  # it has just ended
                names[read(now).decode("utf-8")] = None
    return list(names)


def has_trainer(name: str) -> bool:
    """Return True if the run has a trainer process, whether it is waiting, training or about to log how it ended."""
    return locks.is_held(trainer(name))


def is_at_work(name: str) -> bool:
    """Return True if the run's trainer doesn't wait anymore: it trains here, or follows a job on another machine."""
    return name in running() or _holds_run(name)


def _holds_run(name: str) -> bool:
    """Return True if the run's own lock is held, which a trainer takes once it waits no longer."""
    return locks.is_held(home() / "checkpoints" / name / ".lock")


def living(found: Iterable[Path]) -> Iterator[Path]:
    """Yield the tickets that count, and delete the others."""
    using: list[str] | None = None
    for ticket in found:
        try:
            starting = ticket.stat().st_size == 0 and locks.is_held(_start(ticket))
        except FileNotFoundError:
            continue
        if has_trainer(name_of(ticket)):
            using = running() if using is None else using
            # if that is at work, the ticket is for a second one, which will leave at once
            if name_of(ticket) not in using and not _holds_run(name_of(ticket)):
                yield ticket
        elif starting:
            yield ticket
        else:
            _delete_dead(ticket)


def before(ticket: Path) -> list[Path]:
    """Return the tickets before this one."""
    return [other for other in listed() if other.name < ticket.name]


# ---- a ticket's life --------------------------------------------------------------------------------------------


def vouch(ticket: Path, seconds: float) -> None:
    """Hold a ticket's lock for its trainer to arrive, for at most `seconds`, by a clock that can't be set.

    Raise OSError if the folder can't lock files, or the system allows no more threads.
    """
    lock = ExitStack()
    try:
        lock.enter_context(locks.held(_start(ticket), passing=True))
    except locks.Held:
        return  # another process has just drawn the same ticket, and either may hold its lock
    timer = threading.Timer(seconds, disown, [ticket])
    timer.daemon = True
    lock.callback(timer.cancel)
    _starting[ticket] = lock
    try:
        with shortages():
            timer.start()
    except OSError:
        disown(ticket)
        raise


def disown(ticket: Path) -> None:
    """Stop waiting for the trainer of a ticket that this process drew, because it has arrived, or has ended."""
    if lock := _starting.pop(ticket, None):
        lock.close()


def mark(ticket: Path) -> None:
    """Note in a ticket that its trainer has arrived: from here on, it counts only while that trainer lives."""
    with contextlib.suppress(OSError), ticket.open("r+b") as file:  # which doesn't create a ticket just deleted
        file.write(b"arrived\n")


def leave(name: str) -> None:
    """Delete the tickets of a run that this process trains, except one that was drawn since for another trainer."""
    for ticket in listed(name):
        with contextlib.suppress(FileNotFoundError):
            if ticket.stat().st_size or not locks.is_held(_start(ticket)):
                delete(ticket)


def delete(ticket: Path) -> None:
    """Delete a ticket and its lock."""
    disown(ticket)
    for path in (ticket, _start(ticket)):
        with contextlib.suppress(PermissionError):  # Windows can't delete a file that the launcher has open
            path.unlink(missing_ok=True)


def sweep(*left: Path) -> None:
    """Delete those of the locks that no process holds: killed ones leave them behind."""
    for lock in left:
        with contextlib.suppress(locks.Held, OSError):
            if lock.exists():
                with locks.held(lock, passing=True):
                    pass


def _delete_dead(ticket: Path) -> None:
    """Delete a ticket that doesn't count, unless its trainer arrives at this moment."""
    with contextlib.suppress(locks.Held, OSError), locks.held(trainer(name_of(ticket)), passing=True):
        delete(ticket)
