"""last.safetensors: all that an exact resume needs, in one file.

The weights, the optimizers' memory and the random states are its tensors; where the run stands is in its metadata.
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
    """Where a run stands, beside its tensors: kept in the metadata of last.safetensors."""

    step: int = 0
    seconds: float = 0.0
    best_val_loss: float = math.inf
    best_step: int = 0
    evaluated_step: int = -1
    worse: int = 0  # evaluations in a row that were clearly above the best
    loss_sum: float = 0.0  # of the batches since the last logged training loss
    loss_count: int = 0


def save_state(run: Run, model: GPT, optimizers: list, generator: torch.Generator, progress: Progress) -> None:
    """last.safetensors: weights, the optimizer's memory, the random states, and where we are."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"optimizer.{name}": value for name, value in optimizer_tensors(optimizers).items()}
    tensors |= {"random.torch": torch.get_rng_state(), "random.batches": generator.get_state()}
    if model.device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_whole(run.folder / "last.safetensors", save(tensors, metadata={"progress": json.dumps(asdict(progress))}))


def load_state(run: Run, model: GPT, optimizers: list, generator: torch.Generator) -> Progress:
    """Put everything back from last.safetensors; a fresh Progress where the run has not begun."""
    try:
        data = (run.folder / "last.safetensors").read_bytes()
        tensors = load(data)
    except FileNotFoundError:
        return Progress()
    except SafetensorError as broken:
        raise NanoGPTError(
            f"last.safetensors of {run.name} cannot be read ({broken}); it cannot be continued."
        ) from None
    if (
        not {"random.torch", "random.batches"} <= tensors.keys()
        or f"model.{next(iter(model.state_dict()))}" not in tensors
    ):
        raise NanoGPTError(f"last.safetensors of {run.name} is not a run's; it cannot be continued.")
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    part = lambda prefix: {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    model.load_state_dict(part("model."))
    load_optimizer_tensors(optimizers, part("optimizer."))
    torch.set_rng_state(tensors["random.torch"])
    generator.set_state(tensors["random.batches"])
    if "random.cuda" in tensors and model.device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random.cuda"])
    return Progress(**json.loads(header["__metadata__"]["progress"]))
