"""Estimate the memory and time of a run on this machine, and choose a model for a time budget.

Memory is computed; time comes from measuring real training steps for about a second.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..config import PRESETS, ModelConfig, NanoGPTError, TrainConfig
from ..data import fitting_block_size
from ..device import Device, pick_device
from ..formats import read_config
from ..holdout import epochs
from ..model import GPT, count_parameters
from ..optim import settled
from ..runs import Run, queue
from ..timetable import overhead
from ..train import make_step
from . import gpu_plan, measured

# ZeroGPU can't be measured before a call, so guess the fixed seconds per step and the operations per second.
ZERO_STEP, ZERO_SPEED = 0.006, 1e13
AVERAGED = 60.0  # seconds over which the system averages its load
TRIAL_SECONDS = 0.8  # of training steps: long enough to be accurate to about 20%, short enough to wait for


def step_flops(config: ModelConfig, batch_size: int) -> float:
    """Return the operations of one training step: six per weight and token, plus attention (Kaplan et al., 2020)."""
    weights = 12 * config.n_layer * config.n_embd**2 + config.vocab_size * config.n_embd
    attention = 6 * config.n_layer * config.block_size * config.n_embd  # half the full square, since it is causal
    return batch_size * config.block_size * 6 * (weights + attention)


def memory_needed(model: ModelConfig, train: TrainConfig, device: Device) -> int:
    """Estimate the peak memory of a run in bytes: weights, gradients, optimizer state and activations."""
    numbers = count_parameters(model)
    remembered = 3 if train.optimizer == "muon" else 4  # per parameter: itself, its gradient and optimizer state
    kept = 4 * numbers * (remembered + 2)  # plus copies for saving and sampling
    size = 4 if device.dtype is torch.float32 else 2
    tokens = train.batch_size * model.block_size
    layout = model.features  # backward needs rotated, normalized and squared copies, too
    copies = 2 * layout.rotary + 2 * layout.qk_norm + 4 * layout.relu_squared + (6 if model.dropout else 0)
    per_layer = (20 + copies) * model.n_embd
    if keeps_attention(model, device):
        per_layer += model.n_head * model.block_size
    activations = tokens * (model.n_layer * per_layer * size + 4 * 4 * model.vocab_size + 8 * model.n_embd)
    return kept + activations + 400_000_000  # torch itself


def keeps_attention(model: ModelConfig, device: Device) -> bool:
    """Return True if the backward pass keeps the attention weights, as fast/block.py does."""
    try:
        from ..fast.block import product_dtype
    except ImportError:
        return False
    return product_dtype(model, device.type) is not None


def memory_free(device: Device) -> int:
    """Return the free memory of the device in bytes, or 0 if the system doesn't tell."""
    if device.elsewhere:
        return 0
    if device.type == "cuda":
        return gpu_plan.memory_free()
    free = 0
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:  # macOS only tells the total
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


def check_memory(model: ModelConfig, train: TrainConfig, device: Device | None = None) -> None:
    """Raise NanoGPTError if a run wouldn't fit into the free memory."""
    device = device or pick_device(train.device)
    needed, free = memory_needed(model, train, device), memory_free(device)
    if queue.running():
        return  # the memory that is free now says nothing about when this run's turn comes
    if free and needed > free:
        raise NanoGPTError(
            f"These settings need about {needed / 1e9:.1f} GB of memory, but only {free / 1e9:.1f} GB are free. "
            f"Lower batch_size (now {train.batch_size}), block_size ({model.block_size}), n_embd ({model.n_embd}) "
            f"or n_layer ({model.n_layer})."
        )


def speed(model: ModelConfig, train: TrainConfig, seconds: float = TRIAL_SECONDS) -> float:
    """Return the operations per second in training steps of a model of this shape, measured once per machine.

    On a CPU, measure training steps for about `seconds`; on a GPU, derive it from the speed of a single product.
    """
    device, flops = pick_device(train.device), step_flops(model, train.batch_size)
    if device.elsewhere:
        return flops / (ZERO_STEP + flops / ZERO_SPEED)
    if device.type == "cuda":
        return flops / gpu_plan.step_seconds(model.n_layer, flops, gpu_plan.product_speed(device))
    with _measuring:
        key = measured.key_of(device, model, train)
        known = measured.recall(key)
        if known is None:
            known = trial(device, model, train, seconds)
            measured.keep(key, known)
        return known


_measuring = threading.Lock()  # simultaneous measurements would slow each other down


def trial(device: Device, model: ModelConfig, train: TrainConfig, seconds: float) -> float:
    """Train briefly on random text and return the operations per second.

    Use fewer blocks and a smaller batch for a large model, so that measuring takes no longer.
    """
    small = replace(model, n_layer=1, vocab_size=max(2, model.vocab_size))
    most = 2e10  # operations per step: a fifth of a second on a slow machine
    batch_size = max(1, min(train.batch_size, int(most / step_flops(small, 1))))
    layers = max(1, min(model.n_layer, int(most / step_flops(small, batch_size))))
    small = replace(small, n_layer=layers)
    take_step = make_step(GPT(small).to(device.type), train, device)
    xb = torch.randint(small.vocab_size, (batch_size, small.block_size), device=device.type)
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        began = time.perf_counter()
        loss, _ = take_step(xb, xb, train.learning_rate)
        loss.item()  # on a GPU: wait for it
        times.append(time.perf_counter() - began)
    typical = sorted(times[1:])[len(times[1:]) // 2]
    return step_flops(small, batch_size) / typical


def learned_from(run: Run) -> None:
    """Store the speed at which a run actually trained, so that the next plan for its shape needs no trial."""
    train, model = TrainConfig.of(run.settings()["train"]), read_config(run.folder)
    rates = sorted(row["tokens_per_second"] for row in run.history().rows if row.get("tokens_per_second"))
    device = pick_device(train.device)
    if rates and device.type == "cpu":
        per_token = step_flops(model, train.batch_size) / (train.batch_size * model.block_size)
        own = torch.get_num_threads() * min(1.0, run.history().seconds / AVERAGED)
        measured.keep(measured.key_of(device, model, train, own), per_token * rates[len(rates) // 2])


def seconds_needed(model: ModelConfig, train: TrainConfig) -> float:
    """Estimate the seconds that a run takes on this machine, including evaluations."""
    if train.budget:
        return train.budget
    return 1.08 * train.max_iters * step_flops(model, train.batch_size) / speed(model, train)


@dataclass(frozen=True)
class Size:
    """A model and batch size that suits about `flops` operations, and the loss it reached on Tiny Shakespeare."""

    flops: float
    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    batch_size: int
    val_loss: float

    @property
    def settings(self) -> dict[str, Any]:
        """Return the fields that are settings."""
        return {name: value for name, value in asdict(self).items() if name not in ("flops", "val_loss")}


MEASURED_LAYOUT = "modern"  # the layout that SIZES were measured with, and the default for a time budget
# From small to large; a budget gets the largest one it can afford. Losses above the line are based on the runs in
# benchmarks/README.md, those below it are extrapolated.
SIZES = (
    Size(0.0, 2, 2, 64, 64, 8, 2.1),
    Size(3e11, 3, 3, 96, 64, 16, 1.92),
    Size(5.2e12, 3, 4, 128, 128, 8, 1.60),
    Size(1.2e13, 4, 4, 128, 256, 4, 1.50),
    # --------
    Size(6e13, 5, 5, 160, 256, 8, 1.43),
    Size(4e14, 6, 8, 256, 256, 16, 1.42),
    Size(2e15, 6, 6, 384, 256, 64, 1.41),
)


@dataclass(frozen=True)
class Plan:
    """The model and settings chosen for a time budget on this machine."""

    settings: dict[str, Any]
    parameters: int
    weight_decay: float  # for the number of epochs that fit into the budget
    val_loss: float  # expected validation loss on Tiny Shakespeare
    unit: str = "character"  # the word for a token in messages

    def __str__(self) -> str:
        """Return the plan in words, with a loss to expect. Only the modern layout's losses were measured."""
        s = self.settings
        loss = f"a validation loss of about {self.val_loss:.2f} on Tiny Shakespeare"
        was_measured = s["layout"] == MEASURED_LAYOUT
        expect = f"Expect {loss}" if was_measured else f"The modern layout reaches {loss} in this time"
        return (
            f"{s['n_layer']} layers, {s['n_head']} heads, width {s['n_embd']}, context {s['block_size']} {self.unit}s: "
            f"{self.parameters:,} parameters. About {s['max_iters']:,} steps of {s['batch_size']}, "
            f"weight decay {self.weight_decay:g}. {expect}; other texts will differ."
        )


def choose(budget: float, vocab_size: int, tokens: int, given: Mapping[str, Any], unit: str = "character") -> Plan:
    """Choose sizes and steps for a budget in seconds, measuring training steps for about two seconds if necessary.

    The text has `tokens` tokens; `unit` is the word for one in messages. Settings in `given` are kept, and the others
    are chosen to fit. Raise NanoGPTError if the budget is below 5 seconds.
    """
    if budget < 5:
        raise NanoGPTError(f"The training time must be at least 5 seconds, not {budget:g}. A minute or more is better.")
    recipe = {"layout": MEASURED_LAYOUT, **given, "budget": budget}
    device = pick_device(str(given.get("device") or "auto"))
    if device.type == "cuda" and not device.elsewhere:
        return _choose_on_a_gpu(recipe, vocab_size, tokens, device, unit)
    guess = _configs(SIZES[2].settings | recipe, vocab_size)
    moment = min(TRIAL_SECONDS, 0.03 * budget)  # measured twice; with creating the models, a tenth of the budget
    flops = 0.85 * budget * speed(*guess, moment)  # the rest is for evaluations, samples and saving
    size = [one for one in SIZES if one.flops <= flops][-1]
    settings = size.settings | recipe
    model, train = _configs(settings, vocab_size)
    settings["block_size"] = fitting_block_size(tokens, model.block_size)
    model = replace(model, block_size=settings["block_size"])
    step = step_flops(model, train.batch_size) / speed(model, train, moment)  # seconds
    settings["max_iters"] = max(20, int(0.85 * budget / step))
    decay = settled(replace(train, max_iters=settings["max_iters"]), model, tokens).weight_decay
    larger = next((one for one in SIZES if one.flops > flops), size)
    near = (flops - size.flops) / max(1.0, larger.flops - size.flops)  # interpolate between this size and the next
    val_loss = size.val_loss + min(1.0, near) * (larger.val_loss - size.val_loss)
    return Plan(settings, count_parameters(model), decay, val_loss, unit)


def measure_once(wanted: str) -> None:
    """Measure the GPU for `choose` if that hasn't been done on this machine, so that no run's budget pays for it."""
    device = pick_device(wanted)
    if device.type == "cuda" and not device.elsewhere:
        gpu_plan.product_speed(device)


def _choose_on_a_gpu(recipe: dict[str, Any], vocab_size: int, tokens: int, device: Device, unit: str) -> Plan:
    """Choose as `choose` does, for a GPU, from the speed of a single product."""
    rate = gpu_plan.product_speed(device)
    seconds = recipe["budget"] - overhead(recipe["budget"])
    reads, made = {}, {}
    for size in gpu_plan.SIZES:
        model, train = _configs(size.settings | recipe, vocab_size)
        model = replace(model, block_size=fitting_block_size(tokens, model.block_size))
        step = gpu_plan.step_seconds(model.n_layer, step_flops(model, train.batch_size), rate)
        made[size] = model, train, seconds / step
        reads[size] = epochs(seconds / step * train.batch_size * model.block_size, tokens)
    size = gpu_plan.choose_size(reads)
    model, train, steps = made[size]
    used = min(1.0, size.most / reads[size])  # fraction of the budget: more epochs would only memorize
    max_iters = max(20, int(used * steps))
    settings = size.settings | recipe | dict(block_size=model.block_size, max_iters=max_iters)
    settings["budget"] = round(used * recipe["budget"], 1)
    decay = settled(replace(train, max_iters=max_iters), model, tokens).weight_decay
    return Plan(settings, count_parameters(model), decay, size.val_loss, unit)


def _configs(settings: dict[str, Any], vocab_size: int) -> tuple[ModelConfig, TrainConfig]:
    model, train = PRESETS["timed"].configs(**settings)
    return replace(model, vocab_size=vocab_size), train


if __name__ == "__main__":
    for name, preset in PRESETS.items():
        shape, settings = preset.configs()
        shape = replace(shape, vocab_size=65)
        gb = memory_needed(shape, settings, pick_device()) / 1e9
        print(
            f"{name:8} {count_parameters(shape):>11,} parameters, {gb:.1f} GB, {seconds_needed(shape, settings):,.0f} s"
        )
    for seconds in (10, 30, 180, 600, 3600):
        print(f"{seconds:>5} s: {choose(seconds, 65, 1_000_000, {})}")
