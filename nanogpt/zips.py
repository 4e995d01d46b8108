"""Open .zip archives made by other people, without loading a directory of millions of files into memory."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

from . import disk
from .config import NanoGPTError

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of the others, zipfile unpacks as much as there is at once
# what zipfile raises for an archive that is damaged, encrypted, or of a kind that Python can't read
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OverflowError, UnicodeDecodeError)
END = 22 + 0xFFFF  # bytes: the end with the longest comment, in which newer versions of zipfile look for the directory


class Archive(zipfile.ZipFile):
    """A .zip archive to read. Raise NanoGPTError with the sentence `refusal` if its directory is over `most` bytes.

    zipfile reads the directory as a whole and creates an object per file: for millions of files, gigabytes of them.
    """

    def __init__(self, path: Path, most: int, refusal: str):
        file = disk.opened(path)
        try:
            super().__init__(cast(Any, _Limited(file, most, refusal)))
        except BaseException:
            file.close()
            raise
        self.fp = file

    def close(self) -> None:
        """Close the archive and its file."""
        file = self.fp
        super().close()
        if file is not None:
            file.close()


class _Limited:
    """A file of which at most `most` bytes are read at a time, or END."""

    def __init__(self, file: BinaryIO, most: int, refusal: str):
        self.file, self.most, self.refusal = file, most, refusal

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def read(self, size: int = -1) -> bytes:
        if size > self.most and size != END:
            raise NanoGPTError(self.refusal)
        return self.file.read(size)
