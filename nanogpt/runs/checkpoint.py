"""The checkpoint, last.safetensors: everything needed to resume a run exactly, in one file.

Its tensors are the weights, the optimizer state, the random number generators and the scale of a float16 loss; its
metadata holds the progress. Only runs of several processes with dropout aren't resumed exactly: the generators are
those of rank 0, and the other ranks drop other numbers than they would have.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from ..config import NanoGPTError
from ..disk import from_json, read, write_whole
from ..errors import lacks_memory
from ..formats import check_header, safetensors_parts
from ..model import GPT
from ..optim import load_optimizer_tensors, optimizer_tensors
from .rows import is_number
from .run import Run

SCALER = ("scale", "_growth_tracker")  # what changes of a GradScaler's state; saved as float32 numbers


@dataclass
class Progress:
    """A run's progress: what the checkpoint stores besides tensors."""

    step: int = 0
    seconds: float = 0.0
    best_val_loss: float = math.inf
    best_step: int = 0
    evaluated_step: int = -1
    best_regular_loss: float = math.inf  # the lowest of the regular evaluations, which those at stops are not
    windows: int = 0  # of the validation set, used by each evaluation; 0 if there was none yet
    evaluated_seconds: float = 0.0  # when the last regular evaluation was
    worse: int = 0  # regular evaluations in a row clearly above the best of them, for early stopping
    loss_sum: float = 0.0  # over the batches since the training loss was last logged
    loss_count: int = 0
    judged_loss: float | None = None  # of the best weights, if a finishing run replaces them by the last ones


def save_state(
    run: Run, model: GPT, optimizers: list, scaler: torch.amp.GradScaler, generator: torch.Generator, progress: Progress
) -> None:
    """Write the checkpoint: weights, optimizer state, the loss's scale, random states and progress."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"optimizer.{name}": value for name, value in optimizer_tensors(optimizers).items()}
    tensors |= {"random.torch": torch.get_rng_state(), "random.batches": generator.get_state()}
    if model.device.type != "cpu":
        tensors[f"random.{model.device.type}"] = getattr(torch, model.device.type).get_rng_state()
    if scaler.is_enabled():
        tensors["scaler"] = torch.tensor([scaler.state_dict()[name] for name in SCALER])
    parts = safetensors_parts(tensors, {"progress": json.dumps(asdict(progress))})
    write_whole(run.folder / "last.safetensors", parts)


def load_state(
    run: Run, model: GPT, optimizers: list, scaler: torch.amp.GradScaler, generator: torch.Generator
) -> Progress:
    """Restore everything from the checkpoint and return the progress; a new Progress if there is no checkpoint yet.

    What it lacks, because it is from another kind of device or an earlier version, stays as it is. Raise NanoGPTError
    if the file is damaged or belongs to another model.
    """
    try:
        data = read(run.folder / "last.safetensors")
        check_header(data, f"last.safetensors of {run.name}")
        tensors = load(data)
    except FileNotFoundError:
        return Progress()
    except SafetensorError as broken:
        raise NanoGPTError(
            f"last.safetensors of {run.name} cannot be read ({broken}), so the run can't be resumed. You can still "
            "sample from it."
        ) from None
    try:
        progress = progress_in(_metadata(data), run.name)
        part = lambda prefix: {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        model.load_state_dict(part("model."))
        _load_optimizers(run.name, optimizers, part("optimizer."))
        torch.set_rng_state(tensors["random.torch"])
        generator.set_state(tensors["random.batches"])
        if (state := tensors.get(f"random.{model.device.type}")) is not None:
            getattr(torch, model.device.type).set_rng_state(state)
        if "scaler" in tensors:
            _load_scaler(scaler, tensors["scaler"])
    except NanoGPTError:
        raise
    except (KeyError, ValueError, TypeError, RuntimeError) as error:  # missing, or of another shape or type
        if lacks_memory(error):
            raise
        raise NanoGPTError(
            f"last.safetensors of {run.name} is not its checkpoint, so the run can't be resumed. You can still sample "
            "from it."
        ) from None
    return progress


def _load_optimizers(name: str, optimizers: list, tensors: dict[str, torch.Tensor]) -> None:
    try:
        load_optimizer_tensors(optimizers, tensors)
    except (ValueError, IndexError):
        raise NanoGPTError(
            f"{name} was trained with another version of nanogpt, whose optimizer doesn't match this one's, so it "
            "can't be resumed. You can still sample from it; train again to go on."
        ) from None


def _load_scaler(scaler: torch.amp.GradScaler, saved: torch.Tensor) -> None:
    scale, growth = saved.tolist()
    if not (0 < scale < math.inf and 0 <= growth < 2**31):  # `not` catches NaN
        raise ValueError(f"a scale of {scale}, unchanged for {growth} steps")
    scaler.load_state_dict(scaler.state_dict() | dict(zip(SCALER, (scale, int(growth)))))


def check_random(shape: list[int], state: Callable[[], torch.Tensor]) -> None:
    """Raise ValueError, RuntimeError or TypeError if a tensor is not the state of a random number generator.

    `state` returns the tensor. It is called only if the shape is right.
    """
    generator = torch.Generator()
    if shape != list(generator.get_state().shape):
        raise ValueError(f"the shape is {shape}")
    generator.set_state(state())


def _metadata(data: bytes) -> dict[str, str]:
    return from_json(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]


def progress_in(metadata: Mapping[str, str], name: str) -> Progress:
    """Return the progress in the metadata of the checkpoint of the run with this name.

    Raise NanoGPTError if a newer version wrote it, and ValueError or KeyError if it is no progress.
    """
    found = from_json(metadata["progress"].encode())
    if not isinstance(found, dict):
        raise ValueError("not an object")
    found.setdefault("best_regular_loss", found.get("best_val_loss", math.inf))  # an older checkpoint has only this
    if found.keys() - asdict(Progress()).keys():
        raise NanoGPTError(f"{name} was trained with a newer version of nanogpt. Update nanogpt to resume it.")
    for one in fields(Progress):
        if not _fits(found.get(one.name, one.default), str(one.type), least=-1 if one.name == "evaluated_step" else 0):
            raise ValueError(f"{one.name} is {found[one.name]!r}")
    return Progress(**found)


def _fits(value: Any, kind: str, least: int) -> bool:
    """Return True if a value that was read from JSON can be that of a field of Progress."""
    if value is None:
        return kind == "float | None"
    if kind == "int":
        return is_number(value) and isinstance(value, int) and least <= value < 2**53
    return is_number(value) and not math.isnan(value)
