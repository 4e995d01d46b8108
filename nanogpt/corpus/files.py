"""The files to read a text from: those of given paths, all those in a folder, and the members of a zip archive."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import filterfalse
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from .. import disk, zips
from ..config import NanoGPTError
from ..limits import limit

DIRECTORY = 10_000  # bytes of an archive's list of files per file it may have
FILES = 10_000  # in an archive on your own machine, by that measure: a million with short names


class File(Protocol):
    """A file to read: on disk, in an archive, or in memory."""

    @property
    def name(self) -> str:
        """Its name, without folders."""

    @property
    def size(self) -> int:
        """Its size in bytes."""

    @property
    def optional(self) -> bool:
        """True if it was not asked for by name, so that it may be left out if it is no text."""

    def open(self) -> BinaryIO:
        """Open it to read its bytes."""


@dataclass(frozen=True)
class OnDisk:
    """A file on disk."""

    path: Path
    size: int
    optional: bool = False

    @property
    def name(self) -> str:
        """Its name, without folders."""
        return printable(self.path.name)

    def open(self) -> BinaryIO:
        """Open it to read its bytes."""
        return disk.opened(self.path)


@dataclass(frozen=True)
class InMemory:
    """A file whose bytes have been read."""

    name: str
    data: bytes
    optional: bool = False

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return len(self.data)

    def open(self) -> BinaryIO:
        """Return the bytes as an open file."""
        return io.BytesIO(self.data)


@dataclass(frozen=True)
class InZip:
    """A member of a zip archive."""

    archive: zipfile.ZipFile
    member: zipfile.ZipInfo
    optional: bool = True

    @property
    def name(self) -> str:
        """Its name, without folders."""
        return printable(Path(self.member.filename).name)

    @property
    def size(self) -> int:
        """Its size in bytes, unpacked; no more than this is ever read."""
        return self.member.file_size

    def open(self) -> BinaryIO:
        """Open it to read its bytes."""
        return cast(BinaryIO, self.archive.open(self.member))


def files_at(paths: Sequence[Path]) -> list[File]:
    """Return the files with these paths, those in folders and archives included, in a fixed order.

    Raise NanoGPTError if one can't be read, or isn't a regular file.
    """
    if not paths:
        raise NanoGPTError("No file was given. Add at least one text file.")
    found: list[File] = []
    for path in paths:
        with readable():
            mode = path.stat().st_mode
            if stat.S_ISDIR(mode):
                found += in_folder(path)
            elif not stat.S_ISREG(mode):  # a device or a pipe might never end
                raise NanoGPTError(
                    f"{printable(str(path))[-80:]} isn't a regular file. Save the text in one, and choose that."
                )
            elif path.suffix.lower() == ".zip" and zipfile.is_zipfile(path):
                found += in_zip(path)
            else:
                found.append(OnDisk(path, path.stat().st_size))
    return found


def in_folder(folder: Path) -> list[File]:
    """Return all files in a folder and the folders in it, by name, without hidden ones.

    Some may be pipes, or links to nothing or to a folder; they are left out later, and named.
    """
    found: list[File] = []
    for above, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(filterfalse(_is_hidden, folders))
        names += [name for name in folders if Path(above, name).is_symlink()]  # os.walk doesn't follow them
        for path in (Path(above, name) for name in sorted(filterfalse(_is_hidden, names))):
            found.append(OnDisk(path, path.stat().st_size if path.is_file() else 0, optional=True))
    if not found:
        raise NanoGPTError(
            f"{printable(folder.resolve().name)[:80]} has no files in it. Choose a folder with text files."
        )
    return found


def _refuse(error: OSError) -> None:
    raise error


def in_zip(path: Path) -> list[File]:
    """Return the members of a zip archive, in its order, without hidden ones."""
    name, most = printable(path.name)[:80], limit("NANOGPT_MAX_FILES")
    too_many = f"{name} has too many files. Join them into fewer."
    archive = zips.Archive(path, DIRECTORY * (most or FILES), too_many)
    members = [one for one in archive.infolist() if not one.is_dir() and not _is_hidden(one.filename)]
    if not members:
        raise NanoGPTError(f"{name} has no files in it. Choose an archive with text files.")
    if most is not None and len(members) > most:
        raise NanoGPTError(
            f"{name} has {len(members):,} files; this server takes at most {most:,}. Join them into one."
        )
    for one in members:
        _check_member(one, name)
    return [InZip(archive, one) for one in members]


def _check_member(member: zipfile.ZipInfo, name: str) -> None:
    """Raise NanoGPTError if a member of the archive `name` is encrypted or compressed by an unusual method."""
    if member.flag_bits & 1:
        raise NanoGPTError(f"{name} is encrypted. Unpack it and add the text files inside.")
    if member.compress_type not in zips.METHODS:
        raise NanoGPTError(f"{name} is compressed by an unusual method. Unpack it and add the text files inside.")


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


@contextmanager
def readable() -> Iterator[None]:
    """Raise NanoGPTError if a file can't be read."""
    try:
        yield
    except OSError as error:
        name = printable(Path(error.filename or "file").name)[:80]
        raise NanoGPTError(f"{name} can't be read ({error.strerror}). Choose a text file.") from None
    except zips.DAMAGED:
        raise NanoGPTError(
            "The archive is damaged or of an unusual kind. Unpack it and add the text files inside."
        ) from None


def printable(name: str) -> str:
    """Return a file's name with � for bytes that aren't UTF-8, which could be neither stored nor printed."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
