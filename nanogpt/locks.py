"""Locks between processes. A lock is held as long as its process lives: the system frees it, even after kill -9.

Each lock is an empty file. That it exists means nothing: only the system's lock on it counts. On POSIX this is flock,
or the record locks of fcntl on file systems without flock (some network and cluster ones). On Windows it is a lock on
the file's first byte. Where a file system has neither, `held` raises an OSError, for which `errors.explain` has a
sentence, and `is_held` is False.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import NO_LOCKS

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOOK = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)  # NONBLOCK: never wait, even if the file is a pipe
PAUSE = 0.02  # seconds between two attempts to take a lock
TRIES = 100  # to open a file that others create and delete in between
TAKEN = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}  # another process holds it

_mine: dict[tuple[int, int], int] = {}  # the locks this process holds: the file's device and inode, its open handle
_one_at_a_time = threading.RLock()  # reentrant, because Ctrl-C may come in the middle of a look, and its handler looks


class Held(Exception):
    """Raised when another process, or another thread of this one, holds a lock."""


@contextmanager
def held(path: Path, patience: float = 0.0, passing: bool = False) -> Iterator[None]:
    """Hold a lock until the block ends. Try for `patience` seconds. With `passing`, delete the file afterwards.

    Raise Held if another process holds the lock, and OSError if the file can't be created or locked.
    """
    deadline = time.monotonic() + patience
    while (identity := _attempt(path)) is None:
        if time.monotonic() >= deadline:
            raise Held(path)
        time.sleep(PAUSE)
    try:
        yield
    finally:
        _release(identity, path if passing else None)


def is_held(path: Path) -> bool:
    """Return True if a process holds this lock. Reading the file is all it takes, and it is never created.

    The look takes the lock for an instant, shared with other looks. A lock that can't be opened or taken for another
    reason counts as free, so that what depends on it can still be listed.
    """
    with _one_at_a_time:
        try:
            if is_mine(path):
                return True  # opening and closing the file would give a record lock up
            handle = os.open(path, LOOK)
        except OSError:
            return False
        try:
            return not _take(handle, shared=True)
        except OSError:
            return False
        finally:
            _close(handle)


def is_mine(path: Path) -> bool:
    """Return True if this process holds the lock."""
    try:
        return _identity(os.stat(path)) in _mine
    except OSError:
        return False


def _attempt(path: Path) -> tuple[int, int] | None:
    """Take a lock and return the identity of its file; None if the lock is held, or the file was just deleted."""
    with _one_at_a_time:
        if is_mine(path):
            return None
        handle = _open(path)
        identity, taken = _identity(os.fstat(handle)), False
        _mine[identity] = (
            handle  # recorded first, so that a signal handler that calls `is_held` doesn't open and close the file
        )
        try:
            taken = _take(handle, shared=False) and _identity(os.stat(path)) == identity
        except FileNotFoundError:
            pass  # its last holder has deleted it
        except OSError as error:
            error.filename = str(path)  # for the sentence that says what is wrong
            raise
        finally:
            if not taken:
                _close(_mine.pop(identity))
        return identity if taken else None


def _release(identity: tuple[int, int], path: Path | None) -> None:
    """Release a lock, unless this is a forked process, which does not hold it. Delete the file at `path`."""
    with _one_at_a_time:
        if (handle := _mine.pop(identity, None)) is None:
            return
        with contextlib.suppress(OSError):  # a process that opened the file before will see this, and open a new one
            if path is not None and sys.platform != "win32" and _identity(os.stat(path)) == identity:
                path.unlink()
        _close(handle)
        with contextlib.suppress(OSError):  # Windows can't delete a file that is open
            if path is not None and sys.platform == "win32":
                path.unlink()


def _open(path: Path) -> int:
    """Open a lock file, creating it if needed. Reading is enough to lock another user's file with flock."""
    for _ in range(TRIES):
        with contextlib.suppress(FileNotFoundError):
            try:
                return os.open(path, os.O_RDWR)
            except PermissionError:
                return os.open(path, LOOK)
        with contextlib.suppress(FileExistsError):  # created since, and perhaps deleted again
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            if sys.platform != "win32":
                os.fchmod(handle, os.fstat(handle).st_mode & 0o777 | 0o444)  # all may look, like at a run's other files
            return handle
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))  # a link to nothing


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


if sys.platform == "win32":

    def _take(handle: int, shared: bool) -> bool:
        """Lock an open file without waiting. Return False if it is held.

        Looks are not shared here, so try twice: the first time, another look may have it.
        """
        for _ in range(2):
            try:
                os.lseek(handle, 0, os.SEEK_SET)
                msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            except OSError as error:
                if error.errno not in TAKEN:
                    raise
                time.sleep(0.01)
                continue
            if shared:
                msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
            return True
        return False

    def _close(handle: int) -> None:
        """Unlock and close a file."""
        with contextlib.suppress(OSError):
            os.lseek(handle, 0, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
        os.close(handle)

else:

    def _take(handle: int, shared: bool) -> bool:
        """Lock an open file without waiting. Return False if it is held."""
        how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
        try:
            try:
                fcntl.flock(handle, how)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                fcntl.lockf(handle, how)
        except OSError as error:
            if error.errno in TAKEN:
                return False
            if error.errno == errno.EBADF:  # record locks need a file that may be written, so not another user's
                raise OSError(errno.EPERM, os.strerror(errno.EPERM)) from None
            raise
        return True

    def _close(handle: int) -> None:
        """Unlock and close a file. Unlocking first also frees a lock that a child process has inherited."""
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)

    def _leave_to_parent() -> None:
        """Close the locks in a process that was just forked: they are its parent's, and stay so."""
        global _one_at_a_time
        _one_at_a_time = threading.RLock()  # another thread of the parent may have held it
        for handle in _mine.values():
            os.close(handle)
        _mine.clear()

    os.register_at_fork(after_in_child=_leave_to_parent)
