"""Room on a public server's disk, which all visitors share."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .. import limits
from ..config import NanoGPTError
from ..disk import bytes_in
from ..paths import home

EVERY = 10.0  # seconds between two looks at all files


@dataclass(frozen=True)
class Stored:
    """Bytes that were stored from a network address, in seconds of the monotonic clock."""

    when: float
    address: str
    bytes: int


@dataclass(frozen=True)
class Coming:
    """Bytes that a visitor is storing at this moment, from a network address. They may not be on the disk yet."""

    visitor: str | None
    address: str
    bytes: int


MOST = 100_000  # folders that are remembered
stored: dict[Path, Stored] = {}  # by folder of a run or a text
coming: list[Coming] = []


def check_share(used: int, address: str, new: int) -> None:
    """Raise NanoGPTError if a visitor who uses this many bytes may not store `new` ones at present.

    They may use a quarter of what is still free, and so may everyone at their network address together, because one
    person can be many visitors. So those with little can go on when others have filled the disk.
    """
    total = limits.limit("NANOGPT_SERVER_DISK")
    if total is None:
        return
    here = stored_from(address) + sum(one.bytes for one in list(coming) if one.address == address) if address else 0
    if max(used, here) + new > max(0, free(total)) / 4:
        raise NanoGPTError(
            "The server's disk is almost full. Delete runs and texts that you no longer need, or try again tomorrow."
        )


def coming_from(visitor: str | None) -> int:
    """Return the bytes that a visitor is storing at this moment."""
    return sum(one.bytes for one in list(coming) if one.visitor == visitor)


def note(address: str, folder: Path, new: int) -> None:
    """Note that a visitor at this address has stored a run or a text of so many bytes, or has stored it again."""
    stored.pop(folder, None)
    stored[folder] = Stored(time.monotonic(), address, new)
    for oldest in list(stored)[: max(0, len(stored) - MOST)]:
        stored.pop(oldest, None)


def move(before: Path, after: Path) -> None:
    """Note that a run's folder has another name."""
    if one := stored.pop(before, None):
        stored[after] = one


def forget() -> None:
    """Forget what has been deleted, and what was stored so long ago that whatever is unused has expired since."""
    since = time.monotonic() - 3600 * (limits.limit("NANOGPT_EXPIRE_HOURS") or math.inf)
    for folder, one in list(stored.items()):
        if one.when < since or not folder.exists():
            stored.pop(folder, None)


def stored_from(address: str) -> int:
    """Return the bytes stored from an address that are still there, as far back as nothing has expired since."""
    forget()
    return sum(one.bytes for one in list(stored.values()) if one.address == address)


def free(total: int) -> int:
    """Return how many bytes of `total` are left for runs and texts, and not more than the disk has.

    What is being stored at this moment counts as if it were on the disk.
    """
    folder = home()
    while not folder.exists():  # nothing has been stored yet
        folder = folder.parent
    moment = int(time.monotonic() / EVERY)
    left = min(total - size(home(), moment), shutil.disk_usage(folder).free)
    new = [one.bytes for folder, one in list(stored.items()) if one.when >= EVERY * moment and folder.exists()]
    return left - sum(new) - sum(one.bytes for one in list(coming))  # not in `size` yet


@lru_cache(maxsize=1)
def size(folder: Path, moment: int) -> int:
    """Return the size in bytes of all runs and texts, from a look at all files at this moment."""
    return sum(bytes_in(folder / name) for name in ("checkpoints", "corpora"))
