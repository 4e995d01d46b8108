"""Atomic writes: a reader sees the old file or folder or the new one, never a part, even if the writer is killed.

Files and folders are written under a temporary name, `.NAME.TOKEN`, and then renamed. Until then their writer holds a
lock on `checkpoints/.writers/TOKEN.lock`, which the operating system frees when the process is killed. So `sweep` can
tell what a killed process left from what a live one is still writing.

Reads: only regular files are opened, because a pipe or a device could be waited for without end.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from . import locks
from .errors import NotAFile
from .paths import home

TEMPORARY = re.compile(r"\..+\.([0-9a-f]{16})")
WRITTEN = r"[a-z_-]+\.json|(metrics|samples)\.jsonl|(model|last)\.safetensors|text\.txt|tokens\.npy|[a-z0-9-]+\.now"
OLDER = re.compile(rf"\.(import-|({WRITTEN})\.)[a-z0-9_]{{8}}")  # of earlier versions
NO_LOCK = "0" * 8  # begins a token where files can't be locked
HALF = re.compile(r"\\u[dD][89a-fA-F]")  # half a character, or the halves of a whole one, in JSON
DAY = 24 * 3600.0  # seconds after which a temporary counts as left over if no lock can tell


# ---- write -----------------------------------------------------------------------------------------------------------


def write_whole(path: Path, content: str | bytes | Iterable[bytes | memoryview]) -> None:
    """Write a file atomically: even after a power failure it is all old or all new. Its folder must exist.

    `content` may come in parts.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with _temporary(path) as temporary:
        with temporary.open("xb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            os.fsync(file.fileno())  # the content must reach the disk before the new name does
        _replace(temporary, path)


def move(finished: Path, path: Path) -> None:
    """Move a finished file, such as a download, into place atomically, and have it reach the disk first."""
    sync(finished)
    _replace(finished, path)


def sync(path: Path) -> None:
    """Have a finished file reach the disk, or the names in a folder, so that a power failure can't undo it."""
    if path.is_dir():
        with suppress(OSError):  # Windows opens no folders, and some network file systems can't do this
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        return
    with path.open("r+b") as file:  # Windows syncs only what may be written
        os.fsync(file.fileno())


def _replace(temporary: Path, path: Path) -> None:
    """Call os.replace, retrying for up to two seconds: Windows refuses while another process has the file open."""
    for _ in range(40):
        try:
            return os.replace(temporary, path)
        except PermissionError:
            time.sleep(0.05)
    os.replace(temporary, path)


@contextmanager
def unfinished(parent: Path) -> Iterator[Path]:
    """Create a temporary folder in `parent` to be completed and renamed. Delete it in the end if it still exists.

    First delete what killed processes left in the folders that all runs and texts share.
    """
    parent.mkdir(parents=True, exist_ok=True)
    sweep(*shared_folders())
    with _temporary(parent / "new") as folder:
        folder.mkdir()
        yield folder


def rename_folder(folder: Path, path: Path) -> None:
    """Move a completed folder to `path`. Raise FileExistsError if anything but an empty folder is there."""
    try:
        folder.rename(path)
    except OSError:
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        raise


def delete_folder(folder: Path) -> None:
    """Delete a folder. It loses its name first, so that a kill leaves all of it or nothing that has a name."""
    with _temporary(folder) as gone:
        folder.rename(gone)


# ---- temporary names, and what is left of killed processes -------------------------------------------------------


def is_temporary(name: str) -> bool:
    """Return True if a file or folder of this name is one that is being written, or was when its writer was killed."""
    return bool(TEMPORARY.fullmatch(name) or OLDER.fullmatch(name))


def shared_folders() -> list[Path]:
    """Return the folders in which runs, texts and the queue store files."""
    return [home(), home() / "corpora", home() / "checkpoints", home() / "checkpoints" / ".queue"]


def sweep(*folders: Path) -> None:
    """Delete the temporary files and folders that killed processes left in these folders, and their locks."""
    for folder in folders:
        only = ".machine.json." if folder == home() else "."  # the home folder may hold your own files, too
        for path in _entries(folder):
            if path.name.startswith(only) and is_temporary(path.name) and not _is_being_written(path):
                _delete(path)
    for path in _entries(_writers()):
        _is_alive(path.stem)  # deletes the lock of a process that is gone


def sweep_file(path: Path) -> None:
    """Delete what killed processes left of this file, in a folder that may hold temporary files of other programs."""
    for left in _entries(path.parent):
        found = TEMPORARY.fullmatch(left.name)
        if found and left.name == f".{path.name}.{found[1]}" and not _is_being_written(left):
            _delete(left)


def sweep_home() -> None:
    """Sweep all folders: the shared ones, and that of each run and text with its explanations and snapshots."""
    within = [path for folder in shared_folders()[1:3] for path in _entries(folder) if path.is_dir()]
    sweep(*shared_folders(), *within, *(path / name for path in within for name in ("explain", "snapshots")))


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # missing, or another user's
        return []


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)  # a file still open on Windows is left to a later sweep
    else:
        with suppress(OSError):  # it is gone, or another user's
            path.unlink()


def _is_being_written(path: Path) -> bool:
    """Return True if the process that created this temporary is alive, or for a day if that is unknown."""
    found = TEMPORARY.fullmatch(path.name)
    alive = _is_alive(found[1]) if found else None
    if alive is not None:
        return alive
    try:
        return time.time() - path.stat().st_mtime < DAY
    except OSError:
        return False


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Choose a temporary name next to `path` for the block to use, and delete what is there in the end."""
    with ExitStack() as lock:
        token = secrets.token_hex(8)
        try:
            _writers().mkdir(parents=True, exist_ok=True)
            # patient, because a sweep takes the lock for an instant
            lock.enter_context(locks.held(_lock_of(token), patience=10.0, passing=True))
        except (OSError, locks.Held):  # files can't be locked here
            token = NO_LOCK + secrets.token_hex(4)
        temporary = path.with_name(f".{path.name}.{token}")
        try:
            yield temporary
        except OSError as error:
            if isinstance(error.filename, str | Path) and Path(error.filename).is_relative_to(temporary):
                error.filename = str(path.parent)  # for the sentence that says what is wrong
            raise
        finally:
            _delete(temporary)


def _writers() -> Path:
    return home() / "checkpoints" / ".writers"


def _lock_of(token: str) -> Path:
    return _writers() / f"{token}.lock"


def _is_alive(token: str) -> bool | None:
    """Return True if the writer with this token is alive, None if that can't be told. Delete its lock if it is not."""
    if token.startswith(NO_LOCK):
        return None
    if not _lock_of(token).exists():
        return False
    try:
        with locks.held(_lock_of(token), passing=True):
            return False
    except locks.Held:
        return True
    except OSError:  # another user's, or files can't be locked here
        return None


# ---- read ------------------------------------------------------------------------------------------------------------


def read(path: Path) -> bytes:
    """Return the contents of a file. Raise OSError if that fails, or if it is no regular file."""
    with opened(path) as file:
        return file.read()


def opened(path: Path, mode: str = "rb", buffering: int = -1) -> BinaryIO:
    """Open a file to read it, or with the mode "ab" to append to it. Raise OSError as `checked` does.

    All that we store is read through here, because opening a pipe waits for its other end, and a device may never end.
    """
    with suppress(FileNotFoundError):
        checked(path)
    return cast(BinaryIO, open(path, mode, buffering, opener=_without_waiting))


def checked(path: Path) -> Path:
    """Return the path of a file, for libraries that open it themselves.

    Raise NotAFile if it, or what it is a link to, is a pipe, a socket or a device, and OSError if there is nothing.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a folder says what is wrong
        raise NotAFile(errno.EINVAL, "it is not a regular file", str(path))
    return path


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)  # even if it has just become a pipe


def from_json(data: bytes) -> Any:
    """Return what JSON in UTF-8 says. Raise ValueError if it is invalid, too deeply nested, or can't be written again.

    JSON may name half of a character, "\\ud800", which no file can hold.
    """
    text = data.decode("utf-8").removeprefix("\ufeff")
    try:
        found = json.loads(text)
        if HALF.search(text):
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
    return found


# ---- sizes -----------------------------------------------------------------------------------------------------------


def version(path: Path) -> tuple[int, ...] | None:
    """Return a value that changes whenever a file or its permissions do; None if there is no such file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def bytes_in(folder: Path) -> int:
    """Return the size of all files in a folder in bytes, without those that are being written."""
    found = 0
    for above, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_temporary(name)]
        for name in names:
            with suppress(OSError):  # replaced or deleted meanwhile
                found += 0 if is_temporary(name) else os.lstat(os.path.join(above, name)).st_size
    return found


def size(count: int) -> str:
    """Format a number of bytes: 12.3 kB, 4.5 MB."""
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 else f"{count / 1e3:,.1f} kB"
