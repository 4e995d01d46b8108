"""The queue of a public server, whose places all visitors share."""

from __future__ import annotations

from .. import limits
from ..config import NanoGPTError
from ..runs import queue

_addresses: dict[str, str] = {}  # by name of a run in the queue: the network address that started it


def check_share(address: str) -> None:
    """Raise NanoGPTError if the queue is full, or if a network address has its share of it.

    Its share is a quarter of the places that are free, because one person can be many visitors, but never less than
    what a single visitor may have. So one address can't close the queue to all others.
    """
    total, each = limits.limit("NANOGPT_MAX_WAITING"), limits.limit("NANOGPT_MAX_RUNS") or 1
    if total is None:
        return
    known = list(_addresses)  # before the look: a run that is noted was queued earlier
    waiting = queue.waiting()
    for name in set(known) - set(waiting):
        _addresses.pop(name, None)
    if len(waiting) >= total:
        raise NanoGPTError(f"The queue is full: {total} runs are waiting. Try again later.")
    here = sum(_addresses.get(name) == address for name in waiting) if address else 0
    if here + 1 > max(each, (total - len(waiting)) / 4):
        raise NanoGPTError(
            f"Your network address has its share of the queue: {here} waiting. Try again when one of them has begun."
        )


def note(name: str, address: str) -> None:
    """Note which network address has just queued a run."""
    _addresses[name] = address
