"""The run folder, `checkpoints/NAME/`: the single source of truth for a run.

| file                                    | written by | contents                                                      |
|-----------------------------------------|------------|---------------------------------------------------------------|
| run.json                                | launcher   | training settings, the text's name and hash, versions, date   |
| config.json, generation_config.json     | launcher   | the model, in the format of transformers                      |
| tokenizer.json, tokenizer_config.json   | launcher   | the vocabulary, in the format of tokenizers                   |
| metrics.jsonl                           | trainer    | one object per line: the losses of a step, or an `event`      |
| samples.jsonl                           | trainer    | one sample per evaluation, from the same prompt and seed      |
| model.safetensors                       | trainer    | the weights with the best validation loss so far              |
| last.safetensors                        | trainer    | the checkpoint: everything an exact resume needs              |
| snapshots/STEP.safetensors              | trainer    | the weights at about 20 steps, in half precision, if wanted   |
| explain/VIEW.json, VIEW.safetensors     | anyone     | results of the views in Understand that take seconds          |
| log.txt                                 | launcher   | the trainer's output                                          |
| job.json                                | follower   | its job, if it trains on Hugging Face Jobs                    |
| stop                                    | anyone     | while it exists, it asks the trainer to save and stop         |
| .lock                                   | trainer    | locked while it runs; the system frees it, even after kill -9 |

Status is computed from the lock, the queue and the last event, never stored. This module needs no torch, so that
listing runs is instant.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import disk, limits, locks, paths
from ..config import NanoGPTError, TrainConfig
from ..disk import write_whole
from ..errors import PROBLEMS, explain
from ..paths import checked_name, home, new_name
from ..similar import did_you_mean
from . import about, job, queue, snapshots, summary
from .history import History, forget, history_of
from .queue import Busy
from .rows import append, as_line, is_number, read_jsonl
from .status import CANCELED, CANCELED_LATER, CONTINUE, CRASHED, EXPORTED, START_OVER, Status, length, withdrawn_at

TAKEN = "There is already a run named {}. Choose another name, or resume that run."
LONGEST_MESSAGE = 2_000  # characters: a list of runs has one of each, which may come from an imported file
OCCUPIED = "The folder checkpoints/{} holds files that are not a run's. Choose another name."

# What a folder may hold without being a run: what launchers of earlier versions wrote before run.json, and locks.
BEFORE_A_RUN = {
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "log.txt", ".lock", "stop",
}  # fmt: skip


class Taken(NanoGPTError):
    """Raised when a new run can't have its name, because there is another run, or something else, in its folder."""


class Run:
    """A run, by name. Creating the object does not touch the disk."""

    def __init__(self, name: str):
        self.name = checked_name(name)
        self.folder = home() / "checkpoints" / name
        if not self.folder.exists() and ships(paths.SHIPPED / name):
            self.folder = paths.SHIPPED / name  # a model that ships with the project

    # ---- written by the launcher ------------------------------------------------------------------------------

    @classmethod
    def create(cls, name: str, settings: Mapping[str, Any], files: Mapping[str, str]) -> Run:
        """Create a run folder with a `run.json` from `settings`, and the model's and the tokenizer's `files`.

        Raise Taken if the name is, NanoGPTError if it is invalid, and OSError if the disk is full. Then nothing is
        left behind.
        """
        run = cls(new_name(name))
        if run.exists():
            raise Taken(TAKEN.format(name))
        facts = about.of_a_new_run(name)
        with disk.unfinished(run.folder.parent) as folder:
            for file, text in files.items():
                write_whole(folder / file, text)
            write_whole(folder / "run.json", json.dumps({**facts, **settings}, indent=1, ensure_ascii=False))
            run.take(folder)
        return run

    def take(self, folder: Path) -> None:
        """Move a complete folder into place as this run's. Raise Taken if the name is."""
        try:
            disk.rename_folder(folder, self.folder)
        except FileExistsError:
            if self.exists() or not _is_before_a_run(self.folder):
                raise Taken((TAKEN if self.exists() else OCCUPIED).format(self.name)) from None
            disk.delete_folder(self.folder)
            disk.rename_folder(folder, self.folder)

    def change(self, **settings: Any) -> None:
        """Change entries of `run.json`. Call it only while no trainer works on the run."""
        write_whole(self.folder / "run.json", json.dumps({**self.settings(), **settings}, indent=1, ensure_ascii=False))

    # ---- written by the trainer -------------------------------------------------------------------------------

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run's lock until the block ends.

        Raise Busy if another process holds it, NanoGPTError if the run was deleted, and OSError if its folder can't be
        written to or can't lock files.
        """
        self.settings()
        with ExitStack() as lock:
            try:
                lock.enter_context(locks.held(self.folder / ".lock", patience=2.0))  # a look takes it for an instant
            except locks.Held:
                raise Busy(self.name) from None
            disk.sweep(self.folder, self.folder / "snapshots", self.folder / "explain", queue.folder())
            yield

    def log(self, **row: Any) -> None:
        """Append a measurement to `metrics.jsonl`."""
        append(self.folder / "metrics.jsonl", row)

    def event(self, event: str, **facts: Any) -> None:
        """Append an event to `metrics.jsonl`, such as "started" or "finished"."""
        self.log(event=event, time=about.now(), **facts)

    def sample(self, step: int, text: str) -> None:
        """Append a sample to `samples.jsonl`."""
        append(self.folder / "samples.jsonl", dict(step=step, text=text))

    def cut_back(self, kept: int, **started: Any) -> None:
        """Delete what was logged, and the snapshots, after the step `kept`, so that a resumed run logs no step twice.

        With `started`, the facts of the event "started", log it in the same write: a kill in between could lose them.
        """
        event = [dict(event="started", time=about.now(), **started)] if started else []
        for file, more in (("samples.jsonl", []), ("metrics.jsonl", event)):
            rows = [row for row in read_jsonl(self.folder / file) if is_number(row.get("step", 0))]
            rows = [row for row in rows if row.get("step", 0) <= kept] + more
            write_whole(self.folder / file, "".join(as_line(row) for row in rows))
        snapshots.cut_back(self.folder, kept)

    @property
    def stop_file(self) -> Path:
        """Return the path of the file that asks the trainer to stop."""
        return self.folder / "stop"

    # ---- read by anyone ---------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Return True if the run exists."""
        return (self.folder / "run.json").exists()

    def is_bundled(self) -> bool:
        """Return True if the run ships with the project, so that it can't be changed.

        In a checkout it is in the same folder as your own runs.
        """
        return self.folder.parent.resolve() == paths.SHIPPED.resolve() and ships(self.folder)

    def settings(self) -> dict[str, Any]:
        """Return the contents of `run.json`. Raise NanoGPTError if there is no such run or it can't be read."""
        try:
            return about.read(self.folder / "run.json", self.name)
        except FileNotFoundError:
            raise self.missing() from None

    def missing(self) -> NanoGPTError:
        """Return the error for a run that does not exist, or that a visitor must not know about."""
        if limits.is_public():  # visitors have no command line, and must not be told the names of others' runs
            return NanoGPTError(f"There is no run named {self.name}.")
        folders = [one.parent for at in (home() / "checkpoints", paths.SHIPPED) for one in at.glob("*/run.json")]
        meant = did_you_mean(self.name, sorted({folder.name for folder in folders} - {self.name}))
        hint = f"; {meant}" if meant else "."
        return NanoGPTError(f"There is no run named {self.name}{hint} `{paths.PROGRAM} runs` lists them.")

    def version(self) -> tuple:
        """Return a value that changes whenever `status` may change. Unlike `status`, it reads none of the files."""
        files = (
            self.folder / name
            for name in (
                "run.json",
                "metrics.jsonl",
                "samples.jsonl",
                "last.safetensors",
                "log.txt",
                "stop",
                job.NAME,
            )  # fmt: skip
        )
        place, withdrawn = queue.place_of(self.name), queue.withdrawal(self.name)
        return (*map(disk.version, files), place, withdrawn, self._is_training(), queue.has_trainer(self.name))

    def history(self) -> History:
        """Return everything logged so far. Only new rows are read."""
        return history_of(self.folder)

    def status(self) -> Status:
        """Return what the run is doing, from the lock, the queue and the last event, in that order.

        Raise NanoGPTError if a file in the folder can't be read.
        """
        train = TrainConfig.of(self.settings()["train"])
        history, place, held, ending = self._look()
        facts: dict[str, Any] = dict(step=history.step, max_iters=length(train, history), seconds=history.seconds)
        if held:
            there = job.open_job(self.folder)
            stage = there.stage if there else ""
            return Status("stopping" if self.stop_file.exists() else "running", message=stage, **facts)
        if place:
            return Status("queued", place=place, **facts)
        if self._is_canceled(history):
            return Status("stopped", message=_canceled(history), **facts)
        if ending and [event["event"] for event in history.events[-1:]] in ([], ["started"]):
            return Status("running", **facts)  # it is about to log how it ended
        status = self._ended(history, facts)
        message = str(status.message)[:LONGEST_MESSAGE]
        return replace(status, message=f"{message} {self._leftover(ending)}".strip())

    def _leftover(self, followed: bool) -> str:
        """Return a sentence about what a job has left on the Hub, or "" if nothing, or it is just being deleted."""
        there = job.job_of(self.folder)
        return "" if there is None or (followed and not there.problem) else there.leftover

    def _ended(self, history: History, facts: dict[str, Any]) -> Status:
        """Return the status of a run that is not in use, from its last event, unless it trains elsewhere."""
        if there := job.open_job(self.folder):
            return Status("crashed", message=there.interrupted, **facts)
        if not history.events:
            why = self.log_tail() or "Resume the run to start it."
            return Status("failed", message=f"The trainer did not start. {why}", **facts)
        last = history.events[-1]
        if last["event"] == "started":
            saved = (self.folder / "last.safetensors").exists()
            killed = f"{CRASHED} {CONTINUE if saved else START_OVER}"
            return Status("crashed", message=EXPORTED if self.lacks_checkpoint() else killed, **facts)
        return Status(last["event"], message=last.get("message", ""), **facts)

    def _look(self) -> tuple[History, int, bool, bool]:
        """Return the history, the place in the queue, and whether a trainer is training or ending, all at one moment.

        Raise NanoGPTError if the history can't be read.
        """
        while True:  # until nothing is logged while reading, so that lock, queue and events match
            history, place = self.history(), queue.place_of(self.name)
            version = history.version
            if history.problem:
                raise NanoGPTError(history.problem)
            held = self._is_training() and not self.is_being_cleaned_up()
            ending = not held and queue.has_trainer(self.name)
            if held or self.history().version == version:
                return history, place, held, ending

    def glance(self) -> Status:
        """Return `status`, or a status "damaged" if the run can't be read, so that it can be listed with the others."""
        try:
            return self.status()
        except PROBLEMS as error:
            return Status("damaged", message=explain(error))

    def request_stop(self) -> None:
        """Ask the trainer to save and stop, and remove the run from the queue: resumed twice, it may be in both."""
        history = History(self.folder)  # its own: Ctrl-C may come while this thread holds the lock of the cached one
        history.refresh()
        queue.withdraw(self.name, withdrawn_at(history))
        if self._is_training():
            self.stop_file.touch()

    def cancel(self) -> None:
        """Log that the run was withdrawn before it began, unless another trainer has logged anything since."""
        history = self.history()
        if self._is_canceled(history):
            self.event("stopped", message=_canceled(history))

    def log_tail(self, lines: int = 1) -> str:
        """Return the last lines of `log.txt`. On a public server, folders are removed from file paths."""
        try:
            text = disk.read(self.folder / "log.txt").decode("utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        tail = "\n".join(text.strip().splitlines()[-lines:])
        return paths.without_folders(tail) if limits.is_public() else tail

    def lacks_checkpoint(self) -> bool:
        """Return True if the run has weights whose checkpoint was left out: it was imported, pulled or shipped so.

        A run that was killed between the two writes of its first save has never had a checkpoint. It starts over.
        """
        if (self.folder / "last.safetensors").exists() or not (self.folder / "model.safetensors").exists():
            return False
        settings = self.settings()
        from_elsewhere = self.is_bundled() or "pulled" in settings
        # a trainer logs the step of these events after it has saved
        saved = any(event["event"] in ("stopped", "finished") and "step" in event for event in self.history().events)
        return from_elsewhere or settings.get("checkpoint") is False or saved

    def size(self) -> int:
        """Return the size on disk in bytes, without files that are being written."""
        return disk.bytes_in(self.folder)

    def rename(self, name: str) -> Run:
        """Rename the run and return it. Raise NanoGPTError if it is in use, or if the name is invalid or taken.

        Raise OSError if the disk is full or the folder can't be moved; then the run is as before.
        """
        self.settings()
        new_name(name)
        self.check_changeable("rename")
        renamed = Run(name)
        if renamed.folder.exists():
            raise NanoGPTError(f"There is already a run named {name}. Choose another name.")
        self.change(name=name)  # first: a full disk refuses this, and the folder's name is the one that counts
        try:
            self.folder.rename(renamed.folder)
        except OSError:
            self.change(name=self.name)
            raise
        queue.forget(self.name)  # a later run of this name wasn't withdrawn
        self._forget()
        return renamed

    def delete(self) -> None:
        """Delete the folder. Raise NanoGPTError if the run is in use."""
        self.check_changeable("delete")
        disk.delete_folder(self.folder)
        queue.forget(self.name)
        self._forget()

    def _forget(self) -> None:
        """Forget what is in memory of the folder, whose name another run may get."""
        forget(self.folder)
        summary.forget(self.folder)

    def _is_training(self) -> bool:
        """Return True if the run's trainer has begun."""
        return locks.is_held(self.folder / ".lock") or self.name in queue.running()

    def is_being_cleaned_up(self) -> bool:
        """Return True if the run is back from its job, and a process only deletes what was uploaded."""
        there = job.job_of(self.folder)
        held = bool(there and there.ended) and locks.is_held(self.folder / ".lock")
        return held and self.name not in queue.running()  # a trainer here has a device as long as it holds the lock

    def _is_canceled(self, history: History) -> bool:
        """Return True if the run was withdrawn from the queue, and nothing was logged since."""
        return queue.withdrawal(self.name) in ("", withdrawn_at(history))  # "" on a full disk

    def _in_use(self) -> bool:
        """Return True if a trainer is using the run. An unreadable run may still be in use."""
        return self.glance().busy or self._is_training()

    def check_changeable(self, change: str) -> None:
        """Raise NanoGPTError if you can't `change` ("rename") the run: it is in use, or ships with the project."""
        if not self.exists():
            self.settings()  # raises
        if self.is_being_cleaned_up():
            raise NanoGPTError(job.CLEANING.format(self.name))
        if self._in_use():
            raise NanoGPTError(f"{self.name} is training. Stop it before you {change} it.")
        there = job.open_job(self.folder)
        if there and there.commit and not there.is_out_of_reach:
            raise NanoGPTError(
                f"{self.name} is training on Hugging Face Jobs. Resume it to follow its job, and stop that before you "
                f"{change} it."
            )
        if self.is_bundled():
            raise NanoGPTError(f"{self.name} ships with the project, so you can't {change} it.")


def _canceled(history: History) -> str:
    """Return what is said of a run that was withdrawn from the queue."""
    return CANCELED_LATER if history.rows else CANCELED


def ships(folder: Path) -> bool:
    """Return True if a run in the project's folder ships with it: it is public, and NANOGPT_SHIPPED is not "off"."""
    if os.environ.get("NANOGPT_SHIPPED") == "off":
        return False
    try:
        return disk.from_json(disk.read(folder / "run.json"))["public"] is True
    except (OSError, ValueError, KeyError, TypeError):  # missing, damaged, or your own run
        return False


def _is_before_a_run(folder: Path) -> bool:
    """Return True if a folder holds nothing but what a launcher writes before it completes a run."""
    return all(path.name in BEFORE_A_RUN or disk.is_temporary(path.name) for path in folder.iterdir())
