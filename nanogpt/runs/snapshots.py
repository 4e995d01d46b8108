"""Snapshots: a run's weights at about 20 steps, from which the time machine lets the model write again.

They are taken at steps that grow by a factor of 1.6, because a model learns most of what can be seen early on. A
snapshot is `snapshots/STEP.safetensors` in the run folder, in half precision. It is no part of a checkpoint: archives,
pushes and Spaces leave it out, and a run trains and resumes the same without any.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .. import disk, limits
from ..config import NanoGPTError, TrainConfig
from ..cost import Cost
from ..errors import explain
from ..formats import load_model, weights_parts
from ..timetable import SLOW_DISK

if TYPE_CHECKING:  # so that deleting snapshots doesn't import torch
    import torch

    from ..model import GPT

STEPS = frozenset({0} | {round(1.6**k) for k in range(35)})  # 0, 1, 2, 3, 4, 7, 10, 17, … beyond the longest run
LARGEST = 3_000_000  # parameters of a model whose snapshots are kept if you don't choose
SHARE = 0.02  # of the training time, for copying and writing
DISK = 100e6  # bytes per second, until the first write is measured


def wanted(config: TrainConfig, parameters: int) -> bool:
    """Return True if a run of a model of this size keeps snapshots. On a public server, no run does."""
    if limits.is_public():
        return False
    return config.snapshots == "on" or config.snapshots == "auto" and parameters <= LARGEST


def path_of(folder: Path, step: int) -> Path:
    """Return the path of a snapshot in a run folder."""
    return folder / "snapshots" / f"{step}.safetensors"


def steps_in(folder: Path) -> list[int]:
    """Return the steps of the snapshots in a run folder, in order."""
    names = [path.stem for path in (folder / "snapshots").glob("*.safetensors")]
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def cut_back(folder: Path, kept: int) -> None:
    """Delete the snapshots after the step `kept`, from which a run is resumed."""
    for step in steps_in(folder):
        if step > kept:
            path_of(folder, step).unlink(missing_ok=True)


def load(folder: Path, step: int) -> GPT:
    """Load the model as it was at a step. Raise NanoGPTError if the file is missing, broken, or of another model."""
    try:
        return load_model(folder, weights=disk.read(path_of(folder, step)))
    except (NanoGPTError, OSError):
        raise NanoGPTError(
            f"The snapshot of step {step:,} can't be read. Delete snapshots/{step}.safetensors in the folder of "
            f"{folder.name} to see the others."
        ) from None


class Snapshots:
    """Takes the snapshots of a run while it trains, within SHARE of the time since this trainer started.

    Copying the weights is quick, and they must be copied at their step. Writing can wait, in memory, until there is
    time for it: at the latest until the next save, so that a run resumed from there has them all. A run with a time
    budget leaves out those that would take it beyond that share.
    """

    def __init__(self, folder: Path, model: GPT, config: TrainConfig, before: float, note: Callable[[int, str], None]):
        """Start with a run that has trained for `before` seconds. `note(step, message)` logs a problem."""
        self.folder, self.model, self.before, self.note = folder, model, before, note
        self.most = SHARE * config.budget if config.budget else math.inf  # seconds in all, in a run with a time budget
        self.wanted = wanted(config, model.count_parameters())
        self.waiting: dict[int, dict[str, torch.Tensor]] = {}  # not yet written: step -> state dict
        self.seconds = 0.0  # spent on copying and writing
        size = 2 * model.count_parameters()
        self._writes = Cost(size / DISK, 1.0 + size / SLOW_DISK)

    @property
    def _writing(self) -> float:
        """Return the seconds that a write usually takes."""
        return self._writes.usual

    @property
    def pending(self) -> float:
        """Return about how many seconds it will take to write all that wait."""
        return len(self.waiting) * self._writing

    def look(self, step: int, trained: float) -> float:
        """Copy the weights if a snapshot is due, and write those that wait if there is time.

        `trained` is how many seconds the run has trained. Return the seconds that this took.
        """
        if not self.wanted or not (self.waiting or step in STEPS):
            return 0.0
        spent = self.seconds
        fits = self.seconds + self.pending + self._writing <= self.most
        if step in STEPS and fits and not path_of(self.folder, step).exists():  # it does where a run is resumed
            self._copy(step)
        while self.waiting and self.seconds + self._writing <= SHARE * (trained - self.before):
            self._write()
        return self.seconds - spent

    def write(self) -> None:
        """Write all that wait."""
        while self.waiting:
            self._write()

    def _copy(self, step: int) -> None:
        """Copy the weights, unless the run has diverged: if one is NaN or too large for half precision."""
        import torch

        began = time.perf_counter()
        half = lambda weights: weights.detach().to("cpu", torch.float16, copy=True)
        if self.model.largest_weight() <= torch.finfo(torch.float16).max:  # False for NaN
            self.waiting[step] = {name: half(weights) for name, weights in self.model.state_dict().items()}
        self.seconds += time.perf_counter() - began

    def _write(self) -> None:
        """Write the oldest. If that fails, say so in the run's notes and keep no more: the run matters more."""
        began = time.perf_counter()
        step = min(self.waiting)
        path = path_of(self.folder, step)
        try:
            path.parent.mkdir(exist_ok=True)
            disk.write_whole(path, weights_parts(self.model, self.waiting.pop(step), half=True))
        except OSError as error:
            self.wanted, self.waiting = False, {}
            with suppress(OSError):  # the disk may be too full even for that
                self.note(step, f"No more snapshots are kept: {explain(error)}")
        took = time.perf_counter() - began
        self._writes.add(took)
        self.seconds += took
