"""The queue: one run at a time per device, in the order in which they were started.

| in checkpoints/.queue/  | what it is                                                                                |
|-------------------------|-------------------------------------------------------------------------------------------|
| (20 digits).NAME        | a ticket, the run's place in the queue; empty until its trainer has arrived               |
| (20 digits).NAME.start  | a lock, held by the process that started the run while it waits for the trainer to arrive |
| NAME.trainer            | a lock, held by the run's trainer from its arrival to its end: a run has only one         |
| DEVICE.lock, DEVICE.now | a lock, held while a run uses the device, and the name of that run                        |
| withdrawn-NAME          | says that the run was withdrawn, until it is started again                                |

A ticket counts only while one of its two locks is held. The system frees the locks of a process that ends, even after
kill -9, so a dead process never blocks the queue, and the clock doesn't matter. The queue survives the server, and
includes runs started from the command line.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

from ..config import NanoGPTError
from ..disk import write_whole
from ..paths import NAME, home
from . import locks

GRACE = 60.0  # seconds within which a started trainer must arrive
TICKET = re.compile(rf"\d{{20}}\.{NAME.pattern}")
SOON, LATER = 0.2, 1.0  # seconds between two looks at the queue: of the run that is next, and at most

_starting: dict[Path, ExitStack] = {}  # the tickets drawn here whose trainers have not arrived, with their locks


class Withdrawn(Exception):
    """Raised when a waiting run has been removed from the queue."""


class Busy(NanoGPTError):
    """Raised when a run has another trainer already."""

    def __init__(self, name: str):
        super().__init__(f"{name} is already being trained by another process.")


def folder() -> Path:
    """Return the folder with the tickets and the locks of the devices."""
    return home() / "checkpoints" / ".queue"


# ---- written by the launcher ------------------------------------------------------------------------------------


def draw(name: str, seconds: float = GRACE) -> Path:
    """Add a run to the end of the queue and return its ticket.

    Until the run's trainer arrives, the ticket counts for `seconds`, and only while this process lives. Raise OSError
    if the folder can't be written to or can't lock files.
    """
    _make_folder()
    last = max((int(ticket.name[:20]) for ticket in _living(_tickets())), default=0)
    number = max(time.time_ns(), last + 1)  # the last one, even if the clock has been set back
    earlier, ticket = _tickets(name), folder() / f"{number:020d}.{name}"
    _withdrawal(name).unlink(missing_ok=True)
    if seconds:
        _vouch(ticket, seconds)
    try:
        ticket.touch()
    except OSError:
        disown(ticket)
        raise
    for old in earlier:  # only now, so that a trainer that waits already doesn't leave
        _delete(old)
    return ticket


def disown(ticket: Path) -> None:
    """Stop waiting for the trainer of a ticket that this process drew, because it has arrived, or has ended."""
    if lock := _starting.pop(ticket, None):
        lock.close()


def drop(name: str) -> bool:
    """Remove a run from the queue. Return True if it was queued."""
    tickets = _tickets(name)
    for ticket in tickets:
        _delete(ticket)
    return bool(tickets)


def withdraw(name: str, note: str = "") -> bool:
    """Remove a run from the queue and tell its trainer, which may still be starting, not to queue it again.

    Return True if it was queued. `withdrawal` returns the note.
    """
    if not _tickets(name):
        return False
    write_whole(_withdrawal(name), note)
    return drop(name)


def forget(name: str) -> None:
    """Delete what the queue knows of a run, because it is gone."""
    drop(name)
    with contextlib.suppress(OSError):
        _withdrawal(name).unlink(missing_ok=True)


# ---- read by anyone ---------------------------------------------------------------------------------------------


def withdrawal(name: str) -> str | None:
    """Return the note with which a run was withdrawn, or None if it has been started since, or never withdrawn."""
    try:
        return _withdrawal(name).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def waiting() -> list[str]:
    """Return the names of the queued runs, next one first. Tickets of dead trainers are deleted."""
    return [_name(ticket) for ticket in _living(_tickets())]


def place_of(name: str) -> int:
    """Return a run's place in the queue, 1 if it is next; 0 if it isn't queued, which needs no look at any lock."""
    own = next(_living(_tickets(name)), None)
    return 1 + sum(1 for _ in _living(_before(own))) if own else 0


def running() -> list[str]:
    """Return the names of the runs that are using a device now."""
    names = []
    for now in sorted(folder().glob("*.now")):
        if locks.is_held(now.with_suffix(".lock")):
            with contextlib.suppress(OSError, ValueError):  # it has just ended
                names.append(now.read_text(encoding="utf-8"))
    return names


def has_trainer(name: str) -> bool:
    """Return True if the run has a trainer process, whether it is waiting, training or about to log how it ended."""
    return locks.is_held(_trainer(name))


# ---- held by the trainer ----------------------------------------------------------------------------------------


@contextmanager
def arrived(name: str) -> Iterator[None]:
    """Be the run's only trainer until the block ends, with a place in the queue unless the run was withdrawn.

    Raise Busy if the run has another trainer, and OSError if the folder can't be written to or can't lock files. Blocks
    may be nested.
    """
    if locks.is_mine(_trainer(name)):
        yield
        return
    _make_folder()
    with ExitStack() as lock:
        try:
            # patient, because the run's last trainer may be ending, and a look at the queue may delete its ticket
            lock.enter_context(locks.held(_trainer(name), patience=1.0, passing=True))
        except locks.Held:
            if name in running():  # if it waits, the second ticket is its own now
                drop(name)
            raise Busy(name) from None
        if not _tickets(name) and withdrawal(name) is None:
            draw(name, seconds=0)  # started without a launcher, or by one that was killed and lost its ticket
        for ticket in _tickets(name):
            _mark(ticket)
        try:
            yield
        finally:
            _leave(name)


def wait_for_place(name: str, place: int) -> None:
    """Wait until fewer than `place` runs are before this one. Raise Withdrawn if it is removed from the queue.

    A look stops at the first `place` tickets that count, and the later a run's turn, the less often it looks.
    """
    while True:
        before = _before(_ticket_of(name))
        if sum(1 for _ in islice(_living(before), place)) < place:
            return
        time.sleep(min(SOON * (1 + len(before)), LATER))


@contextmanager
def turn(name: str, device: str, alone: bool = False) -> Iterator[None]:
    """Wait for the run's turn on a device, and hold the device until the block ends.

    With `alone`, the device belongs to this run only, so there is nothing to wait for. Raise Withdrawn if the run is
    removed from the queue while it waits, and Busy if it has another trainer.
    """
    device = f"{device}-of-{name}" if alone else device
    now = folder() / f"{device}.now"
    with arrived(name), ExitStack() as lock:
        while True:
            if not alone:
                wait_for_place(name, 1)
            with contextlib.suppress(locks.Held):
                lock.enter_context(locks.held(now.with_suffix(".lock"), passing=alone))
                break
            _ticket_of(name)  # raises if the run was withdrawn
            time.sleep(SOON)
        _ticket_of(name)  # again: from here on, only the stop file stops it
        try:
            write_whole(now, name)
            _leave(name)
            yield
        finally:
            now.unlink(missing_ok=True)  # before the next run gets the device


# ---- tickets ----------------------------------------------------------------------------------------------------


def _tickets(name: str = "") -> list[Path]:
    """Return the tickets of a run, or of all runs, in order."""
    try:
        found = sorted(path for path in folder().iterdir() if TICKET.fullmatch(path.name))
    except OSError:  # there is no queue yet, or it is another user's
        return []
    return [ticket for ticket in found if name in ("", _name(ticket))]


def _living(tickets: Iterable[Path]) -> Iterator[Path]:
    """Yield the tickets that count, and delete the others."""
    using: list[str] | None = None
    for ticket in tickets:
        try:
            starting = ticket.stat().st_size == 0 and locks.is_held(_start(ticket))
        except FileNotFoundError:
            continue
        if has_trainer(_name(ticket)):
            using = running() if using is None else using
            if _name(ticket) not in using:  # if it is, the ticket is for a second trainer, which will leave at once
                yield ticket
        elif starting:
            yield ticket
        else:
            _delete_dead(ticket)


def _before(ticket: Path) -> list[Path]:
    """Return the tickets before this one."""
    return [other for other in _tickets() if other.name < ticket.name]


def _ticket_of(name: str) -> Path:
    """Return a waiting run's ticket. Raise Withdrawn if it has been removed from the queue."""
    tickets = _tickets(name)
    if not tickets or withdrawal(name) is not None:
        raise Withdrawn(name)
    return tickets[0]


def _vouch(ticket: Path, seconds: float) -> None:
    """Hold a ticket's lock for its trainer to arrive, for at most `seconds`, by a clock that can't be set."""
    lock = ExitStack()
    try:
        lock.enter_context(locks.held(_start(ticket), passing=True))
    except locks.Held:
        return  # another process has just drawn the same ticket, and either may hold its lock
    timer = threading.Timer(seconds, disown, [ticket])
    timer.daemon = True
    lock.callback(timer.cancel)
    _starting[ticket] = lock
    timer.start()


def _mark(ticket: Path) -> None:
    """Note in a ticket that its trainer has arrived: from here on, it counts only while that trainer lives."""
    with contextlib.suppress(OSError), ticket.open("r+b") as file:  # which doesn't create a ticket just deleted
        file.write(b"arrived\n")


def _leave(name: str) -> None:
    """Delete the tickets of a run that this process trains, except one that was drawn since for another trainer."""
    for ticket in _tickets(name):
        with contextlib.suppress(FileNotFoundError):
            if ticket.stat().st_size or not locks.is_held(_start(ticket)):
                _delete(ticket)


def _delete(ticket: Path) -> None:
    """Delete a ticket and its lock."""
    disown(ticket)
    for path in (ticket, _start(ticket)):
        with contextlib.suppress(PermissionError):  # Windows can't delete a file that the launcher has open
            path.unlink(missing_ok=True)


def _delete_dead(ticket: Path) -> None:
    """Delete a ticket that doesn't count, unless its trainer arrives at this moment."""
    with contextlib.suppress(locks.Held, OSError), locks.held(_trainer(_name(ticket)), passing=True):
        _delete(ticket)


def _make_folder() -> None:
    """Create the queue's folder, with the permissions of the runs' folder: a user who may add runs may queue them."""
    folder().parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder().mkdir()
        folder().chmod(folder().parent.stat().st_mode & 0o777)


def _name(ticket: Path) -> str:
    return ticket.name.partition(".")[2]


def _start(ticket: Path) -> Path:
    return folder() / f"{ticket.name}.start"


def _trainer(name: str) -> Path:
    return folder() / f"{name}.trainer"


def _withdrawal(name: str) -> Path:
    return folder() / f"withdrawn-{name}"
