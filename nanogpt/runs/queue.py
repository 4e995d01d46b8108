"""One run at a time a device: trainers wait here, in the order in which they were launched.

A launcher draws a ticket, an empty file in `checkpoints/.queue/` whose name begins with the time. The trainer itself
holds a lock on its ticket while it waits, so the queue outlives the server, counts the command line in, and a trainer
that was killed while waiting holds nobody up: the operating system has freed its lock.
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

GRACE = 60.0  # seconds a drawn ticket counts before its trainer has had time to start and hold it


def folder() -> Path:
    return home() / "checkpoints" / ".queue"


def is_held(path: Path) -> bool:
    """Whether some process holds the lock on this file. A look holds it for an instant itself, so look twice."""
    for _ in range(2):
        if not path.exists():  # FileLock would make it, and its folder
            return False
        try:
            with FileLock(path, timeout=0):
                return False
        except Timeout:
            time.sleep(0.01)
    return True


def _tickets(name: str = "*") -> list[Path]:
    """The tickets of a run, or of all, in their order: twenty digits, a dot, the name. Nothing else here looks so."""
    return sorted(folder().glob("[0-9]" * 20 + f".{name}"))


def draw(name: str) -> Path:
    """Take a place at the end of the queue for the run of this name."""
    drop(name)
    _withdrawal(name).unlink(missing_ok=True)
    ticket = folder() / f"{time.time_ns():020d}.{name}"
    ticket.parent.mkdir(parents=True, exist_ok=True)
    ticket.touch()
    return ticket


def keep(name: str, seconds: float) -> None:
    """Let the ticket of a run count for so long, though no process stands behind it yet."""
    until = time.time() + seconds - GRACE
    for ticket in _tickets(name):
        with contextlib.suppress(FileNotFoundError):
            os.utime(ticket, (until, until))


def drop(name: str) -> bool:
    """Give up the place of a run that has not begun. Whether it had one."""
    tickets = _tickets(name)
    for ticket in tickets:
        with contextlib.suppress(PermissionError):  # Windows: its trainer holds it, and lets go when it sees the note
            ticket.unlink(missing_ok=True)
    return bool(tickets)


def withdraw(name: str) -> bool:
    """`drop`, and leave a note for a trainer that has not got as far as the queue: it must not draw a ticket itself."""
    if not _tickets(name):
        return False
    _withdrawal(name).touch()
    return drop(name)


def is_withdrawn(name: str) -> bool:
    """Whether the run was withdrawn and its trainer has not said so yet."""
    return _withdrawal(name).exists()


def _withdrawal(name: str) -> Path:
    return folder() / f"withdrawn-{name}"


def waiting() -> list[str]:
    """Names of the runs that wait, the next one first. Tickets nobody stands behind any more are thrown away."""
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
    """Names of the runs that hold a device now."""
    held = [lock for lock in sorted(folder().glob("[a-z]*.lock")) if is_held(lock)]
    names = []
    for lock in held:
        with contextlib.suppress(FileNotFoundError):  # it ends this very moment
            names.append(lock.with_suffix(".now").read_text(encoding="utf-8"))
    return names


class Withdrawn(Exception):
    """The ticket of a waiting run was taken away: it is not to begin."""


@contextmanager
def turn(name: str, device: str, alone: bool = False) -> Iterator[None]:
    """Wait for one's turn on a device, and hold the device until the block ends.

    With `alone` the device was given to this run and to no other, so that there is nothing to wait for.
    Raises Withdrawn when the ticket disappears while waiting.
    """
    ticket = next(iter(_tickets(name)), None) or (None if is_withdrawn(name) else draw(name))
    device = f"{device}-of-{name}" if alone else device
    lock = FileLock(folder() / f"{device}.lock")
    _wait(name, ticket, lock, alone)
    try:
        write_whole(folder() / f"{device}.now", name)
        drop(name)  # only now that nobody holds a lock on it: Windows would refuse
        yield
    finally:
        (folder() / f"{device}.now").unlink(missing_ok=True)  # before the next one has the device
        lock.release()
        if alone:
            (folder() / f"{device}.lock").unlink(missing_ok=True)  # nobody else waits for it


def _wait(name: str, ticket: Path | None, lock: FileLock, alone: bool = False) -> None:
    """Hold the ticket until it is the first of all, or need not be, then take the device's lock."""
    if ticket is not None and ticket.exists() and not is_withdrawn(name):
        with FileLock(ticket):
            if ticket.exists():
                os.utime(ticket, (0, 0))  # from here on it counts as long as this process holds it, and no longer
            while ticket.exists() and not is_withdrawn(name):
                if alone or _alive()[:1] == [ticket]:
                    with contextlib.suppress(Timeout):
                        lock.acquire(timeout=0.5)
                        return
                time.sleep(0.2)
    drop(name)
    _withdrawal(name).unlink(missing_ok=True)
    raise Withdrawn(name)
