"""How the C library keeps freed memory: all of it where training needs it again at once, little in a public server.

Only glibc can be changed this way; elsewhere the functions do nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # as in malloc.h

_gives_back = False


def keep_freed_memory() -> None:
    """Keep up to 256 MB of freed memory, because the next training step allocates it again.

    Returning it to the system and fetching it back took an eighth of each step. In a process that has been told to
    `give_memory_back`, this does nothing: a server trains for a second now and then, to measure a model.
    """
    if not _gives_back:
        _set(M_TRIM_THRESHOLD, 256 << 20)
        _set(M_MMAP_THRESHOLD, 32 << 20)


def give_memory_back() -> None:
    """Return large blocks to the system when they are freed, and use two heaps instead of eight per core.

    Otherwise, each of the forty threads that read texts would never give back the memory that its largest text took:
    under attack, the server grew by 720 MB in two minutes; with this, it grew by 390 MB.
    """
    global _gives_back
    _gives_back = True
    _set(M_ARENA_MAX, 2)
    _set(M_MMAP_THRESHOLD, 1_000_000)


def _set(option: int, value: int) -> None:
    if os.name == "posix":
        with contextlib.suppress(AttributeError, OSError):  # another C library
            ctypes.CDLL(None).mallopt(option, value)
