"""Room on a public server's disk, which all visitors share."""

from __future__ import annotations

import os
import shutil
import time
from functools import lru_cache
from pathlib import Path

from .. import limits
from ..config import NanoGPTError
from ..paths import home

EVERY = 10.0  # seconds between two looks at all files


def check_share(used: int) -> None:
    """Raise NanoGPTError if a visitor who uses this many bytes may store no more at present.

    They may use a quarter of what is still free: visitors with little can go on when others have filled the disk.
    """
    total = limits.limit("NANOGPT_SERVER_DISK")
    if total is not None and used > max(0, free(total)) / 4:
        raise NanoGPTError(
            "The server's disk is almost full. Delete runs and texts that you no longer need, or try again tomorrow."
        )


def free(total: int) -> int:
    """Return how many bytes of `total` are left for runs and texts, and not more than the disk has."""
    folder = home()
    while not folder.exists():  # nothing has been stored yet
        folder = folder.parent
    return min(total - size(home(), int(time.monotonic() / EVERY)), shutil.disk_usage(folder).free)


@lru_cache(maxsize=1)
def size(folder: Path, moment: int) -> int:
    """Return the size in bytes of all runs and texts. `moment` is how often the files have been looked at."""
    return sum(size_of(folder / name) for name in ("checkpoints", "corpora"))


def size_of(folder: Path) -> int:
    """Return the size of all files in a folder in bytes."""
    found = 0
    for above, _, names in os.walk(folder):
        for name in names:
            try:
                found += os.lstat(os.path.join(above, name)).st_size
            except OSError:  # deleted meanwhile
                continue
    return found
