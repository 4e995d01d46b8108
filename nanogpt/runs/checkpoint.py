"""The checkpoint, last.safetensors: everything needed to resume a run exactly, in one file.

Its tensors are the weights, the optimizer state and the random number generators; its metadata holds the progress.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ..config import NanoGPTError
from ..disk import write_whole
from ..model import GPT
from ..optim import load_optimizer_tensors, optimizer_tensors
from .run import Run


@dataclass
class Progress:
    """A run's progress: what the checkpoint stores besides tensors."""

    step: int = 0
    seconds: float = 0.0
    best_val_loss: float = math.inf
    best_step: int = 0
    evaluated_step: int = -1
    worse: int = 0  # evaluations in a row clearly above the best, for early stopping
    loss_sum: float = 0.0  # over the batches since the training loss was last logged
    loss_count: int = 0
    judged_loss: float | None = None  # of the best weights, if a finishing run replaces them by the last ones


def save_state(run: Run, model: GPT, optimizers: list, generator: torch.Generator, progress: Progress) -> None:
    """Write the checkpoint: weights, optimizer state, random states and progress."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"optimizer.{name}": value for name, value in optimizer_tensors(optimizers).items()}
    tensors |= {"random.torch": torch.get_rng_state(), "random.batches": generator.get_state()}
    if model.device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_whole(run.folder / "last.safetensors", save(tensors, metadata={"progress": json.dumps(asdict(progress))}))


def load_state(run: Run, model: GPT, optimizers: list, generator: torch.Generator) -> Progress:
    """Restore everything from the checkpoint and return the progress; a new Progress if there is no checkpoint yet.

    Raise NanoGPTError if the file is damaged or belongs to another model.
    """
    try:
        data = (run.folder / "last.safetensors").read_bytes()
        tensors = load(data)
    except FileNotFoundError:
        return Progress()
    except SafetensorError as broken:
        raise NanoGPTError(
            f"last.safetensors of {run.name} cannot be read ({broken}), so the run can't be resumed."
        ) from None
    if (
        not {"random.torch", "random.batches"} <= tensors.keys()
        or f"model.{next(iter(model.state_dict()))}" not in tensors
    ):
        raise NanoGPTError(f"last.safetensors of {run.name} is not its checkpoint, so the run can't be resumed.")
    progress = _progress(run, data)
    part = lambda prefix: {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    model.load_state_dict(part("model."))
    try:
        load_optimizer_tensors(optimizers, part("optimizer."))
    except (ValueError, IndexError):
        raise NanoGPTError(
            f"{run.name} was trained with another version of nanogpt, whose optimizer doesn't match this one's, so it "
            "can't be resumed. You can still sample from it; train again to go on."
        ) from None
    torch.set_rng_state(tensors["random.torch"])
    generator.set_state(tensors["random.batches"])
    if "random.cuda" in tensors and model.device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random.cuda"])
    return progress


def _progress(run: Run, data: bytes) -> Progress:
    """Return the progress in a checkpoint's header. Raise NanoGPTError if a newer version wrote it."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    progress = json.loads(header["__metadata__"]["progress"])
    if progress.keys() - asdict(Progress()).keys():
        raise NanoGPTError(f"{run.name} was trained with a newer version of nanogpt. Update nanogpt to resume it.")
    return Progress(**progress)
