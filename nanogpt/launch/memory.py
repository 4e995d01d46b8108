"""How much memory a run needs, by arithmetic, and how much this machine has free."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from ..config import ModelConfig, NanoGPTError, TrainConfig
from ..device import Device, pick_device
from ..fastest import dtype_by_hand
from ..model import count_parameters
from ..runs import queue
from . import gpu_plan

GROUP = Path("/sys/fs/cgroup")  # what a container sees of its own limits


def needed(model: ModelConfig, train: TrainConfig, device: Device) -> int:
    """Return the peak memory of a run in bytes: weights, gradients, optimizer state and activations.

    On two cores of a CPU, models without dropout need from 3% more to 8% less (benchmarks/README.md).
    """
    on_cpu = device.type == "cpu"
    state = 1 if train.optimizer == "muon" else 2
    more = 3 if on_cpu else 2  # copies: the best weights, and on a CPU two to draw samples from
    threads = gradients(model, train.batch_size, device)
    rounded = 2 * threads if dtype_by_hand(model, device) is torch.bfloat16 else 0  # each has the weights in bfloat16
    kept = count_parameters(model) * (4 * (1 + threads + state + more) + rounded)
    tokens = train.batch_size * model.block_size
    per_layer = kept_per_token(model, device)
    activations = tokens * (model.n_layer * per_layer + 4 * 4 * model.vocab_size + 8 * model.n_embd)
    return kept + activations + 380_000_000  # torch itself


def kept_per_token(model: ModelConfig, device: Device) -> int:
    """Return how many bytes a block keeps per token for its backward pass."""
    layout, C, dtype = model.features, model.n_embd, dtype_by_hand(model, device)
    if dtype:  # what block.py's `Kept` has; of rotated or normalized queries and keys, also what they were before
        turned = layout.rotary or layout.qk_norm
        products = (10 + 2 * turned + 4 * layout.relu_squared) * C + attention_weights(model)
        return products * dtype.itemsize + (0 if layout.plain_norms else 2 * 4 * C)
    # autograd keeps the rotated, normalized or squared tensor as well as its input
    copies = 2 * layout.rotary + 2 * layout.qk_norm + 4 * layout.relu_squared + (6 if model.dropout else 0)
    return (20 + copies) * C * device.dtype.itemsize


def attention_weights(model: ModelConfig) -> int:
    """Return how many attention weights attention.py keeps per token. Each group of queries meets the keys up to it."""
    from ..fast.attention import KEEP, ROWS

    T = model.block_size
    return model.n_head * (T if T <= ROWS else (T + ROWS) // 2) if T <= KEEP else 0


def gradients(model: ModelConfig, batch_size: int, device: Device) -> int:
    """Return how many copies of the gradients there are: one for each thread of fast/cpu.py that has rows."""
    try:
        from ..fast.cpu import threads_for
    except ImportError:
        return 1
    threads = threads_for(model) if device.type == "cpu" else 1
    return min(threads, batch_size)


def free_now(device: Device) -> int:
    """Return the free memory of the device in bytes, or 0 if the system does not report it."""
    if device.elsewhere:
        return 0
    if device.type == "cuda":
        return gpu_plan.memory_free()
    free = 0
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:  # macOS reports only the total
        free = int(0.7 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable"):
                free = int(line.split()[1]) * 1024
        free = int(min(free, free_in_container()))
    except (OSError, ValueError):
        pass
    return free


def free_in_container() -> float:
    """Return how many bytes a container's memory limit leaves (cgroup v2); infinity without a limit.

    The memory in use includes the contents of files, and the system drops those not read lately before memory runs out.
    So they count as free, as in Docker and Kubernetes. Raise OSError or ValueError if the system reports no limit.
    """
    limit = float((GROUP / "memory.max").read_text().replace("max", "inf"))
    used = int((GROUP / "memory.current").read_text())
    kinds = [line.split() for line in (GROUP / "memory.stat").read_text().splitlines()]
    return limit - used + sum(int(size) for kind, size in kinds if kind == "inactive_file")


def check(model: ModelConfig, train: TrainConfig, device: Device | None = None) -> None:
    """Raise NanoGPTError if the run would not fit into free memory."""
    device = device or pick_device(train.device)
    need, free = needed(model, train, device), free_now(device)
    if queue.running():
        return  # the current run will have freed its memory by the time this one starts
    if free and need > free:
        raise NanoGPTError(
            f"These settings need about {need / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free. "
            f"Lower batch_size (now {train.batch_size}), block_size ({model.block_size}), n_embd ({model.n_embd}) "
            f"or n_layer ({model.n_layer})."
        )
