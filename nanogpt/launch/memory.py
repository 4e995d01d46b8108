"""How much memory a run needs, by arithmetic, and how much this machine has free."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from ..config import ModelConfig, NanoGPTError, TrainConfig
from ..device import Device, pick_device
from ..model import count_parameters
from ..runs import queue
from . import gpu_plan


def needed(model: ModelConfig, train: TrainConfig, device: Device) -> int:
    """Return the peak memory of a run in bytes: weights, gradients, optimizer state and activations.

    On two cores of a CPU, modern models need from 3% more to 15% less (benchmarks/README.md).
    """
    on_cpu = device.type == "cpu"
    state = 1 if train.optimizer == "muon" else 2
    more = 3 if on_cpu else 2  # copies: the best weights, and on a CPU two to draw samples from
    kept = 4 * count_parameters(model) * (1 + gradients(model, device) + state + more)
    size = 4 if device.dtype is torch.float32 else 2  # on CPUs with bfloat16, half of it is memory that was freed
    tokens = train.batch_size * model.block_size
    layout = model.features  # autograd keeps the rotated, normalized or squared tensor as well as its input
    copies = 2 * layout.rotary + 2 * layout.qk_norm + 4 * layout.relu_squared + (6 if model.dropout else 0)
    per_layer = (20 + copies) * model.n_embd
    if by_hand(model, device):
        per_layer = 17 * model.n_embd + model.n_head * model.block_size  # what block.py's `Kept` has
    activations = tokens * (model.n_layer * per_layer * size + 4 * 4 * model.vocab_size + 8 * model.n_embd)
    return kept + activations + 365_000_000  # torch itself


def gradients(model: ModelConfig, device: Device) -> int:
    """Return how many copies of the gradients there are: one for each thread of fast/cpu.py."""
    try:
        from ..fast.cpu import threads_for
    except ImportError:
        return 1
    return threads_for(model) if device.type == "cpu" else 1


def by_hand(model: ModelConfig, device: Device) -> bool:
    """Return True if the backward pass is the one of fast/block.py, which keeps the attention weights."""
    try:
        from ..fast.block import product_dtype
    except ImportError:
        return False
    return product_dtype(model, device.type) is not None


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
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            free = min(free, int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return free


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
