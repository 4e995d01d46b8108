"""What happened in a run, a line each: metrics.jsonl and samples.jsonl, written a whole line at a time, and read on.

Whoever looks again reads only what is new. An unfinished last line waits; a line that is none is passed over.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO


class History:
    """The logged rows of a run, kept in memory and read on as the files grow.

    `tokens` and `characters` of a row are what was trained on so far, `tokens_per_second` and `characters_per_second`
    how fast. Where each token is a character they are the same; older runs have only the former.
    """

    def __init__(self, folder: Path):
        self._metrics = Tail(folder / "metrics.jsonl", _is_logged)
        self._samples = Tail(folder / "samples.jsonl", _is_sample)

    def refresh(self) -> None:
        self._metrics.refresh()
        self._samples.refresh()

    @property
    def rows(self) -> list[dict]:
        """The measurements, in order of their steps."""
        return [row for row in self._metrics.rows if "event" not in row]

    @property
    def events(self) -> list[dict]:
        """What the run's state follows from: started, stopped, finished, failed."""
        return [row for row in self._metrics.rows if row.get("event", "note") != "note"]

    @property
    def notes(self) -> list[str]:
        """Return sentences about what did not work as it should, but did not end the run."""
        return [str(row.get("message", "")) for row in self._metrics.rows if row.get("event") == "note"]

    @property
    def samples(self) -> list[dict]:
        return self._samples.rows

    @property
    def version(self) -> tuple[int, int]:
        """Changes whenever there is something new to see."""
        return (self._metrics.version, self._samples.version)

    @property
    def step(self) -> int:
        return max((row["step"] for row in self._metrics.rows if is_number(row.get("step"))), default=0)

    @property
    def seconds(self) -> float:
        rows = reversed(self._metrics.rows)
        return next((row["seconds"] for row in rows if is_number(row.get("seconds"))), 0.0)

    def latest(self, key: str) -> float | None:
        """The number that was measured last."""
        return next((row[key] for row in reversed(self.rows) if row.get(key) is not None), None)

    @property
    def best(self) -> dict | None:
        """The row of the lowest validation loss."""
        rows = [row for row in self.rows if row.get("val_loss") is not None]
        return min(rows, key=lambda row: row["val_loss"]) if rows else None


@lru_cache(maxsize=256)
def history_of(folder: Path) -> History:
    return History(folder)


def kept_loss(history: History) -> float | None:
    """The validation loss of the kept weights: over the whole held-out text once a run has finished, else the best."""
    last = history.events[-1] if history.events else {}
    return last.get("val_loss", history.best and history.best["val_loss"])


class Tail:
    """The rows of a growing JSONL file: each look reads only what is new, and an unfinished last line waits."""

    def __init__(self, path: Path, wanted: Callable[[dict], bool] = lambda row: True):
        self.path, self.wanted = path, wanted
        self.rows: list[dict] = []
        self.version = 0
        self._inode = self._offset = 0
        self._before = b""  # the end of what was read: a new file may get the number of one that is gone

    def refresh(self) -> None:
        """Read on. If another file has taken the place of the one read before, begin again."""
        try:
            with self.path.open("rb") as file:
                self._begin_again_if_replaced(file)
                file.seek(self._offset)
                new = file.read()
        except FileNotFoundError:
            if self._inode:
                self.__init__(self.path, self.wanted)  # type: ignore[misc]
            return
        whole = new.rfind(b"\n") + 1
        if whole:
            self._offset += whole
            self._before = new[max(0, whole - 200) : whole]
            rows = [row for line in new[:whole].splitlines() if (row := _parsed(line)) is not None]
            self.rows = self.rows + [row for row in rows if self.wanted(row)]
            self.version += 1

    def _begin_again_if_replaced(self, file: BinaryIO) -> None:
        inode = os.fstat(file.fileno()).st_ino
        file.seek(self._offset - len(self._before))
        if inode == self._inode and file.read(len(self._before)) == self._before:
            return
        self.version += bool(self.rows)  # a resumed run cut the file back
        self._inode, self._offset, self._before, self.rows = inode, 0, b"", []


def read_jsonl(path: Path) -> list[dict]:
    """Every whole line of a JSONL file; none where there is no file."""
    tail = Tail(path)
    tail.refresh()
    return tail.rows


def append(path: Path, row: Mapping[str, Any]) -> None:
    with path.open("a+b") as file:  # one write a line: a reader sees it whole or unfinished, and passes over the latter
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        torn = end and file.read(1) != b"\n"  # whoever wrote last was killed over it
        file.write(b"\n" * bool(torn) + as_line(row).encode("utf-8"))


def as_line(row: Mapping[str, Any]) -> str:
    return json.dumps(_finite(row), ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """NaN and infinity are no JSON: null."""
    return {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in row.items()}


def _parsed(line: bytes) -> dict | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_logged(row: Mapping[str, Any]) -> bool:
    """Whether a row is what a trainer logs: an event, or a step and numbers, null where there was none."""
    if "event" in row:
        return isinstance(row["event"], str)
    return is_number(row.get("step")) and all(value is None or is_number(value) for value in row.values())


def _is_sample(row: Mapping[str, Any]) -> bool:
    return is_number(row.get("step")) and isinstance(row.get("text"), str)
