"""The queue: one run at a time per device, of which each GPU is one, in the order in which they were started.

Its state is in the files of one folder, which tickets.py reads and writes, so it survives the server, and includes runs
started from the command line.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from .. import locks
from ..config import NanoGPTError
from ..disk import read, write_whole
from . import tickets
from .tickets import disown, folder

GRACE = 60.0  # seconds within which a started trainer must arrive
Order: TypeAlias = Callable[[Sequence[str]], Sequence[str]]  # of devices
SOON, LATER = 0.2, 1.0  # seconds between two looks at the queue: of the run that is next, and at most

_look: ContextVar[Look | None] = ContextVar("look", default=None)  # that of `one_look`


class Withdrawn(Exception):
    """Raised when a waiting run has been removed from the queue."""


@dataclass(frozen=True)
class Look:
    """What there was to know about all runs at one moment."""

    waiting: list[str]  # as `waiting` returned it
    running: list[str]
    withdrawn: frozenset[str]
    with_trainer: frozenset[str]


class Busy(NanoGPTError):
    """Raised when a run has another trainer already."""

    def __init__(self, name: str):
        super().__init__(f"{name} is already being trained by another process.")


# ---- written by the launcher ------------------------------------------------------------------------------------


def draw(name: str, seconds: float = GRACE) -> Path:
    """Add a run to the end of the queue and return its ticket.

    Until the run's trainer arrives, the ticket counts for `seconds`, and only while this process lives. Raise OSError
    if the folder can't be written to or can't lock files.
    """
    tickets.make_folder()
    last = max((int(ticket.name[:20]) for ticket in tickets.living(tickets.listed())), default=0)
    number = max(time.time_ns(), last + 1)  # the last one, even if the clock has been set back
    earlier, ticket = tickets.listed(name), folder() / f"{number:020d}.{name}"
    tickets.withdrawal(name).unlink(missing_ok=True)
    tickets.sweep(*(start for start in tickets.starts(name) if not start.with_suffix("").exists()))
    tickets.vouch(ticket, seconds)
    try:
        ticket.touch()
    except OSError:
        disown(ticket)
        raise
    for old in earlier:  # only now, so that a trainer that waits already doesn't leave
        tickets.delete(old)
    return ticket


def drop(name: str) -> bool:
    """Remove a run from the queue. Return True if it was queued."""
    found = tickets.listed(name)
    for ticket in found:
        tickets.delete(ticket)
    return bool(found)


def withdraw(name: str, note: str = "") -> bool:
    """Remove a run from the queue and tell its trainer, which may still be starting, not to queue it again.

    Return True if it was queued. `withdrawal` returns the note, or "" if there was no room for it on the disk.
    """
    if not tickets.listed(name):
        return False
    try:
        write_whole(tickets.withdrawal(name), note)
    except OSError:  # the disk is full, but an empty file may still have room
        with contextlib.suppress(OSError):  # then a trainer that waits leaves without its ticket
            tickets.withdrawal(name).touch()
    return drop(name)


def forget(name: str) -> None:
    """Delete what the queue knows of a run, because it is gone, or has nothing left to train."""
    drop(name)
    tickets.sweep(tickets.trainer(name), *tickets.starts(name))
    with contextlib.suppress(OSError):
        tickets.withdrawal(name).unlink(missing_ok=True)


# ---- read by anyone ---------------------------------------------------------------------------------------------


@contextmanager
def one_look() -> Iterator[None]:
    """Answer what is asked in the block from a single look, so that a list of runs costs no look for each of them."""
    if _look.get():
        yield
        return
    withdrawn = frozenset(path.name.removeprefix("withdrawn-") for path in tickets.files("withdrawn-*"))
    token = _look.set(Look(waiting(), running(), withdrawn, with_trainer()))
    try:
        yield
    finally:
        _look.reset(token)


def withdrawal(name: str) -> str | None:
    """Return the note with which a run was withdrawn, or None if it has been started since, or never withdrawn."""
    if (look := _look.get()) and name not in look.withdrawn:
        return None
    try:
        return read(tickets.withdrawal(name)).decode("utf-8")
    except (OSError, ValueError):
        return None


def waiting() -> list[str]:
    """Return the names of the queued runs, next one first. Tickets of dead trainers are deleted."""
    if look := _look.get():
        return look.waiting
    return [tickets.name_of(ticket) for ticket in tickets.living(tickets.listed())]


def place_of(name: str) -> int:
    """Return a run's place in the queue, 1 if it is next; 0 if it isn't queued, which needs no look at any lock."""
    if look := _look.get():
        return 1 + look.waiting.index(name) if name in look.waiting else 0
    own = next(tickets.living(tickets.listed(name)), None)
    return 1 + sum(1 for _ in tickets.living(tickets.before(own))) if own else 0


def in_words(place: int) -> str:
    """Return a place in the queue in words; "" for 0, and for that of a run that is starting, as nothing else runs."""
    if place == 1:
        return "Queued: next" if running() else ""
    return f"Queued: number {place}" if place else ""


def running() -> list[str]:
    """Return the names of the runs that are using a device now."""
    if look := _look.get():
        return look.running
    return tickets.running()


def with_trainer() -> frozenset[str]:
    """Return the names of the runs with a trainer process; one that follows a job on another machine is one, too."""
    if look := _look.get():
        return look.with_trainer
    return frozenset(path.stem for path in tickets.files("*.trainer") if locks.is_held(path))


def has_trainer(name: str) -> bool:
    """Return True if the run has a trainer process, whether it is waiting, training or about to log how it ended."""
    if look := _look.get():
        return name in look.with_trainer
    return tickets.has_trainer(name)


# ---- held by the trainer ----------------------------------------------------------------------------------------


@contextmanager
def arrived(name: str) -> Iterator[None]:
    """Be the run's only trainer until the block ends, with a place in the queue unless the run was withdrawn.

    Raise Busy if the run has another trainer, and OSError if the folder can't be written to or can't lock files. Blocks
    may be nested.
    """
    if locks.is_mine(tickets.trainer(name)):
        yield
        return
    tickets.make_folder()
    # started without a launcher, or by one that was killed and lost its ticket; drawn first, so that Stop always finds
    # the ticket of a run that has a trainer but doesn't train yet
    if not tickets.listed(name) and withdrawal(name) is None:
        draw(name)
    with ExitStack() as lock:
        try:
            # patient, because the run's last trainer may be ending, and a look at the queue may delete its ticket
            lock.enter_context(locks.held(tickets.trainer(name), patience=1.0, passing=True))
        except locks.Held:
            if tickets.is_at_work(name):  # if it waits, the second ticket is its own now
                drop(name)
            raise Busy(name) from None
        for ticket in tickets.listed(name):
            tickets.mark(ticket)
            disown(ticket)
        try:
            yield
        finally:
            tickets.leave(name)


def wait_for_place(name: str, place: int) -> None:
    """Wait until fewer than `place` runs are before this one. Raise Withdrawn if it is removed from the queue.

    A look stops at the first `place` tickets that count, and the later a run's turn, the less often it looks.
    """
    while True:
        before = tickets.before(_ticket_of(name))
        if sum(1 for _ in islice(tickets.living(before), place)) < place:
            return
        time.sleep(min(SOON * (1 + len(before)), LATER))


@contextmanager
def turn(
    name: str, *devices: str, count: int = 1, alone: bool = False, in_order: Order = lambda free: free
) -> Iterator[list[str]]:  # fmt: skip
    """Wait for the run's turn, take the first `count` devices that are free, yield them, and hold them in the block.

    If more are free, the first ones are those of `in_order(free)`. With `alone`, they belong to this run only, so there
    is nothing to wait for. Raise Withdrawn if the run is removed from the queue while it waits, and Busy if it has
    another trainer.
    """
    of = f"-of-{name}" if alone else ""
    with arrived(name), ExitStack() as held:
        while True:
            if not alone:
                wait_for_place(name, 1)
            if taken := _take(held, _free(devices, count, of, in_order), count, of):
                break
            _ticket_of(name)  # raises if the run was withdrawn
            time.sleep(SOON)
        for device in taken:
            now = folder() / f"{device}{of}.now"
            held.callback(_delete, now)  # before the next run gets the device
            write_whole(now, name)  # from here on, Stop writes the stop file; if it came before, the ticket is gone
        _ticket_of(name)
        tickets.leave(name)
        yield taken


def _free(devices: Sequence[str], count: int, of: str, in_order: Order) -> Sequence[str]:
    """Return the devices that no run uses, in order if there are more than `count`. They may be taken since."""
    free = [device for device in devices if not locks.is_held(_lock(device, of))]
    return in_order(free) if len(free) > count else free


def _lock(device: str, of: str) -> Path:
    return folder() / f"{device}{of}.lock"


def _take(held: ExitStack, devices: Sequence[str], count: int, of: str) -> list[str]:
    """Lock the first `count` of the devices that are free, and return them; lock none and return [] if fewer are.

    Holding some while waiting for the others could have two runs wait for each other.
    """
    with ExitStack() as locked:
        taken: list[str] = []
        for device in devices:
            with contextlib.suppress(locks.Held):
                locked.enter_context(locks.held(_lock(device, of), passing=bool(of)))
                taken.append(device)
                _delete(folder() / f"{device}{of}.now")  # of a run that was killed
            if len(taken) == count:
                held.enter_context(locked.pop_all())
                return taken
    return []


def _delete(now: Path) -> None:
    """Delete the file that says which run uses a device. If that fails, it counts for nothing once the lock is free."""
    with contextlib.suppress(OSError):  # Windows can't delete it while a look at the queue has it open
        now.unlink()


def _ticket_of(name: str) -> Path:
    """Return a waiting run's ticket. Raise Withdrawn if it has been removed from the queue."""
    found = tickets.listed(name)
    if not found or withdrawal(name) is not None:
        raise Withdrawn(name)
    return found[0]
