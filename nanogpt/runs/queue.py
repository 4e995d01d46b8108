"""The queue: one run at a time per device, in the order in which they were started.

A launcher creates a ticket, an empty file in `checkpoints/.queue/` whose name starts with the time. The trainer holds a
lock on its ticket while it waits. So the queue survives the server, includes runs started from the command line, and is
not blocked by a trainer that is killed while waiting, because the operating system frees its lock.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..disk import write_whole
from ..paths import home

GRACE = 60.0  # seconds that a new ticket is valid without a lock, while its trainer starts


def folder() -> Path:
    """Return the folder with the tickets and the locks of the devices."""
    return home() / "checkpoints" / ".queue"


def is_held(path: Path) -> bool:
    """Return True if a process holds the lock on this file. Checking takes the lock briefly, so check twice."""
    for _ in range(2):
        if not path.exists():  # FileLock would create it
            return False
        try:
            with FileLock(path, timeout=0):
                return False
        except Timeout:
            time.sleep(0.01)
    return True


def _tickets(name: str = "*") -> list[Path]:
    """Return the tickets of a run, or of all runs, in order. A ticket's name is twenty digits, a dot and the run."""
    return sorted(folder().glob("[0-9]" * 20 + f".{name}"))


def draw(name: str) -> Path:
    """Add a run to the end of the queue and return its ticket."""
    drop(name)
    _withdrawal(name).unlink(missing_ok=True)
    ticket = folder() / f"{time.time_ns():020d}.{name}"
    ticket.parent.mkdir(parents=True, exist_ok=True)
    ticket.touch()
    return ticket


def keep(name: str, seconds: float) -> None:
    """Keep a run's ticket valid for `seconds`, although no process holds it yet."""
    until = time.time() + seconds - GRACE
    for ticket in _tickets(name):
        with contextlib.suppress(FileNotFoundError):
            os.utime(ticket, (until, until))


def drop(name: str) -> bool:
    """Remove a run from the queue. Return True if it was queued."""
    tickets = _tickets(name)
    for ticket in tickets:
        with contextlib.suppress(
            PermissionError
        ):  # Windows can't delete a locked ticket; `withdraw` tells its trainer to
            ticket.unlink(missing_ok=True)
    return bool(tickets)


def withdraw(name: str) -> bool:
    """Remove a run from the queue and tell its trainer, which may still be starting, not to queue it again.

    Return True if it was queued.
    """
    if not _tickets(name):
        return False
    _withdrawal(name).touch()
    return drop(name)


def is_withdrawn(name: str) -> bool:
    """Return True if the run was withdrawn and its trainer has not confirmed it yet."""
    return _withdrawal(name).exists()


def _withdrawal(name: str) -> Path:
    return folder() / f"withdrawn-{name}"


def waiting() -> list[str]:
    """Return the names of the queued runs, next one first. Tickets of dead trainers are deleted."""
    return [ticket.name.split(".", 1)[1] for ticket in _alive()]


def _alive() -> list[Path]:
    alive = []
    for ticket in _tickets():
        try:
            young = time.time() - ticket.stat().st_mtime < GRACE
        except FileNotFoundError:
            continue
        if young or is_held(ticket):
            alive.append(ticket)
        else:
            ticket.unlink(missing_ok=True)
    return alive


def running() -> list[str]:
    """Return the names of the runs that are using a device now."""
    held = [lock for lock in sorted(folder().glob("[a-z]*.lock")) if is_held(lock)]
    names = []
    for lock in held:
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            names.append(lock.with_suffix(".now").read_text(encoding="utf-8"))
    return names


class Withdrawn(Exception):
    """Raised when a waiting run has been removed from the queue."""


@contextmanager
def turn(name: str, device: str, alone: bool = False) -> Iterator[None]:
    """Wait for the run's turn on a device, and hold the device until the block ends.

    With `alone`, the device belongs to this run only, so there is nothing to wait for.
    Raise Withdrawn if the run is removed from the queue while it waits.
    """
    ticket = next(iter(_tickets(name)), None) or (None if is_withdrawn(name) else draw(name))
    device = f"{device}-of-{name}" if alone else device
    lock = FileLock(folder() / f"{device}.lock")
    _wait(name, ticket, lock, alone)
    try:
        write_whole(folder() / f"{device}.now", name)
        drop(name)  # after its lock is released, because Windows can't delete a locked file
        yield
    finally:
        (folder() / f"{device}.now").unlink(missing_ok=True)  # before the next run gets the device
        lock.release()
        if alone:
            (folder() / f"{device}.lock").unlink(missing_ok=True)  # no other run uses it


def _wait(name: str, ticket: Path | None, lock: FileLock, alone: bool = False) -> None:
    """Hold the ticket until it is first in the queue (at once if `alone`), then acquire the device's lock."""
    if ticket is not None and ticket.exists() and not is_withdrawn(name):
        with FileLock(ticket):
            if ticket.exists():
                os.utime(ticket, (0, 0))  # no grace: from here on the ticket is valid only while locked
            while ticket.exists() and not is_withdrawn(name):
                if alone or _alive()[:1] == [ticket]:
                    with contextlib.suppress(Timeout):
                        lock.acquire(timeout=0.5)
                        return
                time.sleep(0.2)
    drop(name)
    _withdrawal(name).unlink(missing_ok=True)
    raise Withdrawn(name)
