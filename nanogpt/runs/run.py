"""The run folder, `checkpoints/NAME/`: the only truth about a run.

| file                                    | one writer | what                                                          |
|-----------------------------------------|------------|---------------------------------------------------------------|
| run.json                                | launcher   | training settings, corpus name and hash, versions, when       |
| config.json, generation_config.json     | launcher   | the model, in transformers' form                              |
| tokenizer.json, tokenizer_config.json   | launcher   | the alphabet, in tokenizers' form                             |
| metrics.jsonl                           | trainer    | an object a line: losses of a step, or an `event`             |
| samples.jsonl                           | trainer    | at evaluations: step, and text from the same prompt and seed  |
| model.safetensors                       | trainer    | weights of the best validation loss so far                    |
| last.safetensors                        | trainer    | all that an exact resume needs                                |
| log.txt                                 | launcher   | the trainer's output                                          |
| stop                                    | anyone     | its presence asks the trainer to save and stop                |
| .lock                                   | trainer    | held while it lives; the system frees it, even after kill -9  |

Status is never stored: it is read off the lock, the queue and the last event. No torch here: listing runs is instant.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .. import __version__, paths
from ..config import NanoGPTError, TrainConfig
from ..disk import write_whole
from ..paths import checked_name, home
from . import queue
from .history import History, append, as_line, history_of, is_number, read_jsonl


class Busy(NanoGPTError):
    """Another process has the run's lock."""


CRASHED = (
    "The trainer was ended from outside, as when memory runs out or the machine is switched off. "
    "Continue goes on from its last save."
)


@dataclass(frozen=True)
class Status:
    """What a run is doing, as its folder tells it."""

    state: str  # queued, running, stopping, finished, stopped, failed, crashed, or damaged: its run.json cannot be read
    step: int = 0
    max_iters: int = 0
    seconds: float = 0.0  # spent training so far
    message: str = ""  # one sentence, where there is something to say
    place: int = 0  # in the queue: 1 is next

    @property
    def busy(self) -> bool:
        """Whether a trainer has this run in hand, or soon will."""
        return self.state in ("queued", "running", "stopping")

    @property
    def can_continue(self) -> bool:
        """Whether it can go on; a finished one needs a new length for that."""
        return not self.busy and self.state != "damaged"


class Run:
    """One run, by its name. Making the object touches nothing on the disk."""

    def __init__(self, name: str):
        self.name = checked_name(name)
        self.folder = home() / "checkpoints" / name
        if not self.folder.exists() and ships(paths.SHIPPED / name):
            self.folder = paths.SHIPPED / name  # wherever NANOGPT_HOME points

    # ---- written by the launcher ------------------------------------------------------------------------------

    @classmethod
    def create(cls, name: str, settings: Mapping[str, Any], files: Mapping[str, str]) -> Run:
        """A new run folder: `run.json` from the settings, and the model's and the alphabet's files.

        NanoGPTError where the name is none, or taken.
        """
        run = cls(name)
        try:
            run.folder.mkdir(parents=True)
        except FileExistsError:
            raise NanoGPTError(
                f"There is already a run named {name}. Choose another name, or continue that one."
            ) from None
        for file, text in files.items():
            write_whole(run.folder / file, text)
        about = dict(name=name, created=_now(), parent=None, owner=None, versions=_versions())
        write_whole(run.folder / "run.json", json.dumps({**about, **settings}, indent=1, ensure_ascii=False))
        return run

    def change(self, **settings: Any) -> None:
        """Set some entries of `run.json` otherwise, before a trainer continues the run."""
        write_whole(self.folder / "run.json", json.dumps({**self.settings(), **settings}, indent=1, ensure_ascii=False))

    # ---- written by the trainer -------------------------------------------------------------------------------

    @contextmanager
    def held(self) -> Iterator[None]:
        """The run's lock. NanoGPTError where another process has it."""
        try:
            self.settings()  # the lock would make the folder of a run that has been deleted anew
            with FileLock(self.folder / ".lock", timeout=2):  # 2 s: somebody may just be looking whether it is held
                yield
        except Timeout:
            raise Busy(f"{self.name} is being trained by another process already.") from None

    def log(self, **row: Any) -> None:
        """One line of `metrics.jsonl`."""
        append(self.folder / "metrics.jsonl", row)

    def event(self, event: str, **facts: Any) -> None:
        """One line of `metrics.jsonl` that is not a measurement."""
        self.log(event=event, time=_now(), **facts)

    def sample(self, step: int, text: str) -> None:
        """One line of `samples.jsonl`."""
        append(self.folder / "samples.jsonl", dict(step=step, text=text))

    def cut_back(self, step: int) -> None:
        """Forget what was logged after `step`, so that a resumed run repeats no step."""
        for file in ("metrics.jsonl", "samples.jsonl"):
            rows = [row for row in read_jsonl(self.folder / file) if is_number(row.get("step", 0))]
            rows = [row for row in rows if row.get("step", 0) <= step]
            write_whole(self.folder / file, "".join(as_line(row) for row in rows))

    @property
    def stop_file(self) -> Path:
        return self.folder / "stop"

    # ---- read by anyone ---------------------------------------------------------------------------------------

    def exists(self) -> bool:
        return (self.folder / "run.json").exists()

    def settings(self) -> dict[str, Any]:
        """`run.json`. NanoGPTError where there is no such run."""
        try:
            settings = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise self.missing() from None
        except (OSError, ValueError, RecursionError):
            settings = None
        if not isinstance(settings, dict):
            raise NanoGPTError(f"The run.json of {self.name} cannot be read.") from None
        if not isinstance(settings.get("train"), dict) or not _is_about_a_text(settings.get("corpus")):
            raise NanoGPTError(f"The run.json of {self.name} lacks its settings.")
        return settings

    def missing(self) -> NanoGPTError:
        """What is said where there is no such run, or none that the asker may know of."""
        return NanoGPTError(f"There is no run named {self.name}. `python -m nanogpt runs` lists them.")

    def history(self) -> History:
        """Everything logged so far, read on from where the last look ended."""
        history = history_of(self.folder)
        history.refresh()
        return history

    def status(self) -> Status:
        """What the run is doing: from the lock, the queue and the last event, in that order."""
        train = TrainConfig.of(self.settings()["train"])
        while True:  # until nothing was logged while we looked: lock, queue and events are then of one moment
            history, waiting = self.history(), queue.waiting()
            version = history.version
            held = queue.is_held(self.folder / ".lock") or self.name in queue.running()
            if held or self.history().version == version:
                break
        facts: dict[str, Any] = dict(step=history.step, max_iters=_length(train, history), seconds=history.seconds)
        if held:
            return Status("stopping" if self.stop_file.exists() else "running", **facts)
        if self.name in waiting:
            return Status("queued", place=waiting.index(self.name) + 1, **facts)
        if queue.is_withdrawn(self.name):
            return Status("stopped", message="Withdrawn from the queue before its turn came.", **facts)
        if not history.events:
            return Status("failed", message=f"The trainer did not start. {self.log_tail()}".strip(), **facts)
        return _status_after(history.events[-1], facts)

    def glance(self) -> Status:
        """`status` for a list of runs: a run that cannot be read is "damaged", and does not hide the others."""
        try:
            return self.status()
        except NanoGPTError as error:
            return Status("damaged", message=str(error))

    def request_stop(self) -> None:
        """Ask the trainer to save and stop; a run that still waits leaves the queue."""
        if not queue.withdraw(self.name) and self._in_use():
            self.stop_file.touch()

    def log_tail(self, lines: int = 1) -> str:
        """The end of `log.txt`, what the trainer printed."""
        try:
            text = (self.folder / "log.txt").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.strip().splitlines()[-lines:])

    def size(self) -> int:
        """Bytes on disk."""
        return sum(_size(path) for path in self.folder.rglob("*"))

    def rename(self, name: str) -> Run:
        """The run under another name. NanoGPTError while it is in use, or where the name is none or taken."""
        self.settings()
        self._leave_alone("renamed")
        renamed = Run(name)
        if renamed.folder.exists():
            raise NanoGPTError(f"There is already a run named {name}. Choose another name.")
        self.folder.rename(renamed.folder)
        history_of.cache_clear()  # what was read belongs to the folder, not to the name
        renamed.change(name=name)
        return renamed

    def delete(self) -> None:
        """Remove the folder. NanoGPTError while it is in use."""
        self._leave_alone("deleted")
        shutil.rmtree(self.folder)
        history_of.cache_clear()

    def _in_use(self) -> bool:
        """Whether a trainer has it; one that cannot be read may be in use, too."""
        return self.glance().busy or queue.is_held(self.folder / ".lock")

    def _leave_alone(self, done: str) -> None:
        """NanoGPTError for a run that must not be `done`: it is in a trainer's hands, or comes with the project."""
        if not self.exists():
            self.settings()  # says that there is none
        if self._in_use():
            raise NanoGPTError(f"{self.name} is being trained; stop it first. Only then can it be {done}.")
        if self.folder.parent != home() / "checkpoints":
            raise NanoGPTError(f"{self.name} comes with the project; it cannot be {done}.")


def _status_after(last: Mapping[str, Any], facts: dict[str, Any]) -> Status:
    """Return the status of a run that nothing trains, from its last event."""
    if last["event"] == "started":
        return Status("crashed", message=CRASHED, **facts)
    return Status(last["event"], message=last.get("message", ""), **facts)


def _length(train: TrainConfig, history: History) -> int:
    """How many steps the run has in all. By the clock that is a guess, ever better, until it is over."""
    if not train.budget:
        return train.max_iters
    if history.events and history.events[-1]["event"] == "finished":
        return history.step
    gone = history.seconds / train.budget
    return max(history.step + 1, round(history.step / gone) if gone > 0.05 else train.max_iters)


def ships(folder: Path) -> bool:
    """Return whether a run beside the code came with the project: it is public. None does with NANOGPT_SHIPPED=off."""
    if os.environ.get("NANOGPT_SHIPPED") == "off":
        return False
    try:
        return json.loads((folder / "run.json").read_text(encoding="utf-8"))["public"] is True
    except (OSError, ValueError, KeyError, TypeError):  # none, broken, or somebody's own
        return False


def _size(path: Path) -> int:
    """Bytes of a file; 0 of a folder, or where a trainer has just put another file in its place."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0


def _is_about_a_text(about: Any) -> bool:
    """Whether `corpus` in a run.json says what everyone relies on."""
    if not isinstance(about, dict) or not all(isinstance(about.get(key), str) for key in ("id", "name")):
        return False
    return is_number(about.get("characters")) and about["characters"] > 0


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    return dict(nanogpt=__version__, torch=version("torch"), python=platform.python_version(), system=platform.system())
