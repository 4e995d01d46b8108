"""The history of a run: what metrics.jsonl and samples.jsonl have logged so far, and how far its last save has come."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import disk
from ..errors import explain
from .rows import Tail, is_number
from .saved import saved_progress


class History:
    """The logged rows of a run, cached in memory; `refresh` adds new ones.

    In each row, `tokens` and `characters` count what was trained on so far, and `tokens_per_second` and
    `characters_per_second` give the speed. Older runs have only tokens, which are single characters there. Whatever is
    asked each second is kept up to date row by row, because a run that is evaluated at each step logs a row for each.
    """

    def __init__(self, folder: Path):
        self._metrics = Tail(folder / "metrics.jsonl", _is_logged)
        self._samples = Tail(folder / "samples.jsonl", is_sample)
        self._folder = folder
        self._checkpoint: tuple[int, ...] | None = None  # the version of the checkpoint that was read
        self.saved: dict[str, Any] = {}  # the progress in it, unless the run has ended
        self._lock = threading.Lock()  # several visitors may look at once
        self.problem = ""  # why a file can't be read, as of the last refresh
        self._start_over()

    def _start_over(self) -> None:
        self._known, self._starts = 0, self._metrics.starts
        self.rows: list[dict] = []  # the measurements, in the order of their steps
        self.evaluations: list[dict] = []  # those with a validation loss
        self.events: list[dict] = []  # that determine the run's state: started, stopped, finished, failed
        self.notes: list[str] = []  # warnings about problems that did not end the run
        self.step = 0  # the last one logged
        self.best: dict | None = None  # the row with the lowest validation loss
        self._latest: dict[str, Any] = {}
        self._timed_read = self._timed_seconds = 0.0  # what was trained on at a logged speed, and the time it took

    def refresh(self) -> None:
        """Read the rows that were added to the files. A file that can't be read is a `problem`, not an exception."""
        with self._lock:
            self._refresh_rows()
            if self._has_new_checkpoint():
                self.saved = saved_progress(self._folder)
                self._refresh_rows()  # a step is logged before it is saved

    def _refresh_rows(self) -> None:
        self.problem = ""
        for tail in (self._metrics, self._samples):
            try:
                tail.refresh()
            except OSError as error:
                self.problem = explain(error)
        if self._starts != self._metrics.starts:  # the file was replaced
            self._start_over()
        for row in self._metrics.rows[self._known :]:
            self._add(row)
        self._known = len(self._metrics.rows)

    def _has_new_checkpoint(self) -> bool:
        """Return True if the run has not ended and its checkpoint is a new one. That of an ended run isn't needed."""
        if self.ended:
            return False
        before, self._checkpoint = self._checkpoint, disk.version(self._folder / "last.safetensors")
        return self._checkpoint != before

    def _add(self, row: dict) -> None:
        if is_number(row.get("step")):
            self.step = max(self.step, row["step"])
        if row.get("event") == "note":
            self.notes.append(str(row.get("message", "")))
        elif "event" in row:
            self.events.append(row)
        else:
            self.rows.append(row)
            self._add_time(row)
            self._latest |= {key: value for key, value in row.items() if value is not None}
            if (loss := row.get("val_loss")) is not None:
                self.evaluations.append(row)
                self.best = row if self.best is None or loss < self.best["val_loss"] else self.best

    def _add_time(self, row: dict) -> None:
        """Count what was trained on since the row before, and how long that took at the logged speed."""
        speed = row.get("characters_per_second") or row.get("tokens_per_second")
        read = amount_read(row) - self.characters
        if speed and read > 0:
            self._timed_read += read
            self._timed_seconds += read / speed

    @property
    def mean_speed(self) -> float | None:
        """Return the characters per second over the whole run so far, or None if unknown.

        As in the logged speeds, the time includes saves, but not evaluations and their samples.
        """
        return self._timed_read / self._timed_seconds if self._timed_seconds else None

    @property
    def characters(self) -> float:
        """Return how many characters the run has trained on so far."""
        return amount_read(self._latest)

    @property
    def samples(self) -> list[dict]:
        """Return the samples, in the order of their steps."""
        return self._samples.rows

    @property
    def last_trained(self) -> dict[str, Any]:
        """Return the last event, {} if there is none, leaving out starts that were canceled or failed before training.

        Those change no weights, and log no step.
        """
        ended = ("stopped", "failed")
        return next((one for one in reversed(self.events) if one["event"] not in ended or "step" in one), {})

    @property
    def ended(self) -> bool:
        """Return True if the trainer ended the run, and so wrote its best weights."""
        last = self.last_trained
        return last.get("event", "started") != "started" and "step" in last

    @property
    def best_saved(self) -> dict[str, Any]:
        """Return the step and the val_loss of the best weights that were written; {} before the first evaluation.

        A timed run doesn't save at each evaluation, so until it has ended, only its checkpoint knows them.
        """
        step, loss = self.saved.get("best_step"), self.saved.get("best_val_loss", math.inf)
        known = is_number(step) and is_number(loss) and loss < math.inf  # which it is before the first evaluation
        return dict(step=step, val_loss=loss) if known and not self.ended else self.best or {}

    @property
    def saved_rows(self) -> list[dict]:
        """Return the measurements up to the last save; all of them if the run has ended, or has no checkpoint."""
        return self._until_saved(self.rows)

    @property
    def saved_samples(self) -> list[dict]:
        """Return the samples up to the last save, as `saved_rows` does."""
        return self._until_saved(self.samples)

    @property
    def saved_step(self) -> float:
        """Return the step of the last save; infinity if the run has ended, or has no checkpoint, so that all counts."""
        last = self.saved.get("step", math.inf)
        return last if is_number(last) and not self.ended else math.inf

    def _until_saved(self, rows: list[dict]) -> list[dict]:
        last = self.saved_step
        return rows if last == math.inf else [row for row in rows if row["step"] <= last]

    @property
    def version(self) -> tuple:
        """Return a value that changes whenever rows are added or replaced. It outlives this object."""
        return self._metrics.version, self._samples.version

    @property
    def bytes_read(self) -> int:
        """Return how many bytes of the files are in memory as rows."""
        return self._metrics.bytes_read + self._samples.bytes_read

    @property
    def seconds(self) -> float:
        """Return the seconds of training so far."""
        rows = reversed(self._metrics.rows)
        return next((row["seconds"] for row in rows if is_number(row.get("seconds"))), 0.0)

    @property
    def age(self) -> float:
        """Return the seconds since the last row was written."""
        return max(0.0, time.time() - self._metrics.written)

    def latest(self, key: str) -> Any:
        """Return the latest value of `key`, or None."""
        return self._latest.get(key)


def amount_read(row: Mapping[str, Any]) -> float:
    """Return how many characters a run had trained on when it logged this row.

    Older runs logged tokens only. There, each token was one character.
    """
    return row.get("characters") or row.get("tokens") or 0


MOST = 256  # runs whose rows are kept in memory
MOST_READ = 30_000_000  # bytes of their files; in memory, rows take up to ten times as many
_histories: OrderedDict[Path, History] = OrderedDict()  # those looked at last, the newest one last
_remembering = threading.Lock()


def history_of(folder: Path) -> History:
    """Return the History of a run folder with what was logged so far. Only rows that aren't in memory yet are read."""
    with _remembering:
        history = _histories.setdefault(folder, History(folder))
        _histories.move_to_end(folder)
    before = history.bytes_read
    history.refresh()
    if history.bytes_read == before and len(_histories) <= MOST:
        return history
    with _remembering:
        read = sum(one.bytes_read for one in _histories.values())
        while len(_histories) > MOST or read > MOST_READ and len(_histories) > 1:
            read -= _histories.popitem(last=False)[1].bytes_read
    return history


def forget(folder: Path) -> None:
    """Forget the History of a run folder, whose name another run may get."""
    with _remembering:
        _histories.pop(folder, None)


def _is_logged(row: Mapping[str, Any]) -> bool:
    """Return True if a row is valid in metrics.jsonl: an event, or a step with numbers or nulls."""
    if "event" in row:
        return isinstance(row["event"], str)
    return is_number(row.get("step")) and all(value is None or is_number(value) for value in row.values())


def is_sample(row: Mapping[str, Any]) -> bool:
    """Return True if a row is valid in samples.jsonl."""
    return is_number(row.get("step")) and isinstance(row.get("text"), str)
