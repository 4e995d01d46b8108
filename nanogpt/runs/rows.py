"""Rows of JSON, one per line: append them to a file, and read them while it grows.

Each refresh reads only what is new. An unfinished last line is left for the next one; invalid lines are skipped.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from .. import disk


class Tail:
    """The rows of a growing JSONL file. Each refresh reads only the lines that were completed since the last one."""

    def __init__(self, path: Path, wanted: Callable[[dict], bool] = lambda row: True):
        self.path, self.wanted = path, wanted
        self.rows: list[dict] = []
        self.version: tuple[int, ...] | None = None  # of the file that was read last
        self.starts = 0  # how often the file was read from its beginning
        self.written = 0.0  # when the file was, in seconds since 1970
        self._inode = self._offset = 0
        self._before = b""  # the last bytes read: a new file may reuse the inode of a deleted one

    @property
    def bytes_read(self) -> int:
        """Return how many bytes of the file have been read."""
        return self._offset

    def refresh(self) -> None:
        """Read the new lines, or the whole file if it has been replaced."""
        version = disk.version(self.path)
        if version and version == self.version:
            return
        try:
            with disk.opened(self.path) as file:
                self._start_over_if_replaced(file)
                file.seek(self._offset)
                new = file.read()
            self.version = version
        except FileNotFoundError:
            if self._inode:
                starts = self.starts + 1
                self.__init__(self.path, self.wanted)  # type: ignore[misc]
                self.starts = starts
            return
        whole = new.rfind(b"\n") + 1
        if whole:
            self._offset += whole
            self._before = new[max(0, whole - 200) : whole]
            self.rows = self.rows + [row for row in _rows(new[:whole].splitlines()) if self.wanted(row)]

    def _start_over_if_replaced(self, file: BinaryIO) -> None:
        found = os.fstat(file.fileno())
        inode, self.written = found.st_ino, found.st_mtime
        file.seek(self._offset - len(self._before))
        if inode == self._inode and file.read(len(self._before)) == self._before:
            return
        self.starts += 1
        self._inode, self._offset, self._before, self.rows = inode, 0, b"", []


def read_jsonl(path: Path, wanted: Callable[[dict], bool] = lambda row: True) -> list[dict]:
    """Return the valid rows of a JSONL file that are `wanted`; none if it does not exist.

    Raise OSError if it can't be read.
    """
    tail = Tail(path, wanted)
    tail.refresh()
    return tail.rows


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row to a JSONL file in a single write, so that readers see at most one unfinished line.

    Append all of it or, if the disk is full, nothing.
    """
    with disk.opened(path, "a+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        torn = end and file.read(1) != b"\n"  # the last writer was killed in the middle of a line
        line = b"\n" * bool(torn) + as_line(row).encode("utf-8")
        try:
            while line:  # once, unless the disk is about to be full
                line = line[file.write(line) :]
        except OSError:
            file.truncate(end)
            raise


def as_line(row: Mapping[str, Any]) -> str:
    """Return a row as a line of JSON."""
    return json.dumps(_finite(row), ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """Replace NaN and infinity, which JSON does not have, by None."""
    return {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in row.items()}


def _rows(lines: list[bytes]) -> list[dict]:
    """Return the valid rows among lines of JSON.

    All at once, so that rows share their keys: a run of 100,000 rows takes half the memory and time. One by one only if
    a line is damaged.
    """
    try:
        found = disk.from_json(b"[%s]" % b",".join(lines))
        if len(found) == len(lines):
            return [row for row in found if isinstance(row, dict)]
    except ValueError:
        pass
    return [row for line in lines if (row := _parsed(line)) is not None]


def _parsed(line: bytes) -> dict | None:
    try:
        row = disk.from_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def is_number(value: Any) -> bool:
    """Return True for an int or a float, but not for a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)
