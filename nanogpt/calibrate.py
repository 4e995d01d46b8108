"""What a run will take on this machine: memory by arithmetic, time by a second of real training steps."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch

from .config import ModelConfig, NanoGPTError, TrainConfig
from .device import Device, pick_device
from .model import GPT
from .optim import make_optimizers

TRIAL_SECONDS = 1.0  # of steps: enough to be right within a fifth or so, short enough to wait for


def count_parameters(config: ModelConfig) -> int:
    """Numbers that training sets, without making the model."""
    with torch.device("meta"):
        return GPT(config).count_parameters()


def step_flops(config: ModelConfig, batch_size: int) -> float:
    """Arithmetic of one training step: six operations a weight and character, and attention (Kaplan et al., 2020)."""
    weights = 12 * config.n_layer * config.n_embd**2 + config.vocab_size * config.n_embd
    attention = 6 * config.n_layer * config.block_size * config.n_embd  # half of the full square: it is causal
    return batch_size * config.block_size * 6 * (weights + attention)


def memory_needed(model: ModelConfig, train: TrainConfig, device: Device) -> int:
    """Bytes a run takes at its largest: weights, gradients, optimizer, and what the backward pass must remember."""
    numbers = count_parameters(model)
    kept = 4 * numbers * (3 if train.optimizer == "muon" else 4) + 4 * numbers  # the last: a copy while saving
    size = 4 if device.dtype is torch.float32 else 2
    tokens = train.batch_size * model.block_size
    per_layer = (20 if model.layout == "classic" else 28) * model.n_embd + (6 * model.n_embd if model.dropout else 0)
    activations = tokens * (model.n_layer * per_layer * size + 4 * 4 * model.vocab_size + 8 * model.n_embd)
    return kept + activations + 400_000_000  # torch itself


def memory_free(device: Device) -> int:
    """Bytes that can still be had on the device; 0 where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info()[0]
    free = 0
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


def check_memory(model: ModelConfig, train: TrainConfig, device: Device | None = None) -> None:
    """NanoGPTError where a run would not fit into the memory that is free."""
    device = device or pick_device(train.device)
    needed, free = memory_needed(model, train, device), memory_free(device)
    if free and needed > free:
        raise NanoGPTError(
            f"These settings need about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free. "
            f"Lower batch_size (now {train.batch_size}), block_size ({model.block_size}), n_embd ({model.n_embd}) "
            f"or n_layer ({model.n_layer})."
        )


@lru_cache(maxsize=64)
def speed(model: ModelConfig, train: TrainConfig) -> float:
    """Operations a second in real training steps of a model of this shape: measured once, in about a second.

    One block of it and a part of the batch stand for the whole, so that a large model takes no longer to measure.
    """
    device = pick_device(train.device)
    trial = replace(model, n_layer=1, vocab_size=max(2, model.vocab_size))
    budget = 2e10 if device.type == "cpu" else 4e12  # operations a step: a fifth of a second on a slow machine
    batch_size = max(1, min(train.batch_size, int(budget / step_flops(trial, 1))))
    layers = max(1, min(model.n_layer, int(budget / step_flops(trial, batch_size))))
    trial = replace(trial, n_layer=layers)
    net = GPT(trial).to(device.type)
    optimizers = make_optimizers(net, train)
    xb = torch.randint(trial.vocab_size, (batch_size, trial.block_size), device=device.type)
    times: list[float] = []
    until = time.perf_counter() + TRIAL_SECONDS
    while len(times) < 3 or time.perf_counter() < until:
        began = time.perf_counter()
        with device.autocast():
            _, loss = net(xb, xb)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        net.zero_grad(set_to_none=True)
        loss.item()  # on a GPU: wait for it
        times.append(time.perf_counter() - began)
    typical = sorted(times[1:])[len(times[1:]) // 2]
    return step_flops(trial, batch_size) / typical


def seconds_needed(model: ModelConfig, train: TrainConfig) -> float:
    """About how long a run takes here, its evaluations included."""
    return 1.08 * train.max_iters * step_flops(model, train.batch_size) / speed(model, train)


if __name__ == "__main__":
    from .config import PRESETS

    for name, preset in PRESETS.items():
        shape, settings = preset.configs()
        shape = replace(shape, vocab_size=65)
        gb = memory_needed(shape, settings, pick_device()) / 1e9
        print(
            f"{name:8} {count_parameters(shape):>11,} parameters, {gb:.1f} GB, {seconds_needed(shape, settings):,.0f} s"
        )
