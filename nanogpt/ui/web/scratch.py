"""Files that the page needs for a while: uploads, pasted texts, and downloads that it has prepared.

They are in a private folder of this server's own. Those of a visitor count against a share of it, and are deleted after
NANOGPT_UPLOAD_MINUTES.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gradio import route_utils
from gradio.utils import get_upload_folder
from starlette.formparsers import MultiPartException

from ... import errors, limits, locks
from ...config import NanoGPTError
from . import visit
from .shares import Sender, Share, sender_of

PREFIX = "nanogpt-page-"  # of the folder's name, see __init__.py
LOCK = ".lock"  # held as long as the server lives
STARTS, SOON = 10.0, 1.0  # seconds in which a server makes the file of its lock, and then takes it
PER_FILE = 8192  # bytes that a file takes on disk at least, with its folder
FULL = "The server's space for uploads and downloads is in use at the moment. Try again in a few minutes."

space = Share("NANOGPT_SERVER_UPLOADS", "NANOGPT_MAX_DISK")


@dataclass(frozen=True)
class Kept:
    """A file or folder that is kept for a sender until it expires."""

    path: Path
    sender: Sender
    size: int
    since: float


_kept: list[Kept] = []
_changing = threading.Lock()


def keep(path: Path, sender: Sender, size: int) -> None:
    """Delete this file or folder, which `space` counts with `size` bytes, after NANOGPT_UPLOAD_MINUTES."""
    with _changing:
        _kept.append(Kept(path, sender, size, time.monotonic()))


def keep_all(files: list[Path], sender: Sender, size: int) -> None:
    """Keep uploaded files, for which `space` counts `size` bytes in all. Without files, give the bytes back."""
    space.add(sender, PER_FILE * len(files))
    sizes = [PER_FILE + (size if first else 0) for first in (True, *[False] * len(files[1:]))]
    for path, each in zip(files, sizes):
        keep(path, sender, each)
    if not files:
        space.give(sender, size)


def expire(now: float | None = None) -> list[Path]:
    """Delete what has been kept long enough, and return it. Two uploads of one file share it: the last one counts."""
    minutes = limits.limit("NANOGPT_UPLOAD_MINUTES")
    if minutes is None:
        return []
    before = (time.monotonic() if now is None else now) - 60 * minutes
    old, needed = _too_old(before)
    gone = [one.path for one in old if one.path not in needed]
    for path in [*gone, *strays(needed, 60 * minutes)]:
        delete(path)
    for one in old:
        space.give(one.sender, one.size)
    return gone


def _too_old(before: float) -> tuple[list[Kept], set[Path]]:
    """Take out of the list what has been kept since then or longer. Return it, and the paths of the others."""
    with _changing:
        old = [one for one in _kept if one.since <= before]
        _kept[:] = [one for one in _kept if one.since > before]
        return old, {one.path for one in _kept}


def strays(needed: set[Path], seconds: float) -> list[Path]:
    """Return what else is old in this server's own folder, such as copies that Gradio made."""
    folder = Path(get_upload_folder())
    if not folder.name.startswith(PREFIX):
        return []  # GRADIO_TEMP_DIR was set, so other programs may keep files there
    known = {one for path in needed for one in (path, path.parent)}
    before = time.time() - seconds
    return [one for one in folder.glob("*") if one not in known and one.name != LOCK and changed(one) <= before]


def changed(path: Path) -> float:
    """Return when a file was changed, or that it is new if it is gone."""
    try:
        return path.lstat().st_mtime
    except OSError:
        return time.time()


def delete(path: Path) -> None:
    """Delete a file or folder, and the folder that Gradio made for this file alone."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()
        path.parent.rmdir()  # fails if there is another file in it


@contextlib.contextmanager
def new_folder(size: int) -> Iterator[Path]:
    """Make a folder for the block to write about `size` bytes into, and keep it; delete it if the block fails.

    Raise NanoGPTError if the visitor has no room for it.
    """
    request = visit.request()
    client = getattr(getattr(request, "client", None), "host", "")
    sender = sender_of(getattr(request, "headers", None) or {}, client)
    if not space.take(sender, size):
        raise NanoGPTError(FULL)
    try:
        above = Path(get_upload_folder())
        above.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=above))
        try:
            yield folder
        except BaseException:
            delete(folder)
            raise
    except BaseException:
        space.give(sender, size)
        raise
    keep(folder, sender, size)


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Name the folder of uploads and downloads in the error for a full disk. Use it where files are written there."""
    with errors.writing_to(get_upload_folder()):
        yield


# ---- the folder ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def private_folder() -> Iterator[None]:
    """Make this server's own folder, only for this user, and delete it at the end.

    Folders that killed servers left are deleted first. A folder that GRADIO_TEMP_DIR names is left as it is. Raise
    NanoGPTError if the folder can't be made.
    """
    folder = Path(get_upload_folder())
    if not folder.name.startswith(PREFIX):
        yield
        return
    for left in folder.parent.glob(PREFIX + "*"):
        clear(left)
    try:
        folder.mkdir(mode=0o700)  # fails if the name is taken: another user could have made it
    except OSError as error:
        raise NanoGPTError(
            f"No folder for uploads can be made in {folder.parent} ({error.strerror}). Set TMPDIR to a folder that you "
            "can write to."
        ) from None
    try:
        with locks.held(folder / LOCK):
            yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clear(folder: Path) -> None:
    """Delete the folder of another server of this user, unless that server is alive."""
    with contextlib.suppress(OSError):  # another user's, or being deleted by another server
        about = folder.lstat()
        if folder.is_symlink() or (hasattr(os, "getuid") and about.st_uid != os.getuid()):
            return
        with contextlib.suppress(FileNotFoundError):
            about = (folder / LOCK).lstat()
        young = STARTS if stat.S_ISDIR(about.st_mode) else SOON  # it may be about to make its lock, or to take it
        if time.time() - about.st_mtime >= young and not locks.is_held(folder / LOCK):
            shutil.rmtree(folder, ignore_errors=True)


# ---- uploads ---------------------------------------------------------------------------------------------------------


class Parser(route_utils.GradioMultiPartParser):
    """Gradio's parser for uploads, which also cleans up after one that was interrupted, and takes fewer files."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.max_files: float = min(self.max_files, limits.limit("NANOGPT_MAX_FILES") or self.max_files)
        self.max_fields = 10

    async def parse(self):
        """Return the form. Raise MultiPartException with a message for the visitor."""
        try:
            form = await super().parse()
            check_names(form)
            return form
        except MultiPartException as error:
            self.clean_up()
            many = error.message.startswith("Too many files")
            raise MultiPartException(too_many_files(self.max_files) if many else error.message) from None
        except BaseException:  # the sender is gone, or has sent more than they may
            self.clean_up()
            raise

    def clean_up(self) -> None:
        """Delete the files that were written."""
        for file in self._files_to_close_on_error:
            file.close()
            Path(file.name).unlink(missing_ok=True)


def check_names(form) -> None:
    """Raise MultiPartException for files that Gradio would write, but not find again."""
    for field_name, file in form.multi_items():
        if not isinstance(file, str) and (field_name != "files" or Path(file.filename or "file").name in ("", "..")):
            raise MultiPartException("The upload has a file without a proper name. Rename it, then try again.")


def too_many_files(most: float) -> str:
    """Return the message for an upload of more than `most` files."""
    return f"Upload at most {most:,.0f} files at a time; to train on more, join them into one."


route_utils.GradioMultiPartParser = Parser
