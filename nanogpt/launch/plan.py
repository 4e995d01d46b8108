"""Estimate how long a run takes on this machine, by training for a second, and choose a model for a time budget."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from ..config import PRESETS, ModelConfig, NanoGPTError, TrainConfig
from ..data import fitting_block_size
from ..device import Device, pick_device
from ..formats import read_config
from ..holdout import epochs
from ..model import GPT, count_parameters
from ..optim import settled
from ..runs import Run
from ..timetable import overhead
from ..train import make_step
from . import gpu_plan, measured, memory

# ZeroGPU can't be measured before a call, so guess: seconds of overhead per step, and operations per second.
ZERO_STEP, ZERO_SPEED = 0.006, 1e13
AVERAGED = 60.0  # seconds, over which the system averages its load
TRIAL_SECONDS = 0.8  # long enough to be accurate within about 20%, short enough to wait for


def step_flops(config: ModelConfig, batch_size: int) -> float:
    """Return the operations per training step: six per weight and token, plus attention (Kaplan et al., 2020)."""
    weights = 12 * config.n_layer * config.n_embd**2 + config.vocab_size * config.n_embd
    attention = 6 * config.n_layer * config.block_size * config.n_embd  # half of the full square: it is causal
    return batch_size * config.block_size * 6 * (weights + attention)


def speed(model: ModelConfig, train: TrainConfig, seconds: float = TRIAL_SECONDS) -> float:
    """Return the operations per second that training steps of this shape reach, measured once per machine.

    On a CPU, measure training steps for about `seconds`; on a GPU, derive it from the speed of a matrix product.
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


_measuring = threading.Lock()  # two measurements at once would skew each other


def trial(device: Device, model: ModelConfig, train: TrainConfig, seconds: float) -> float:
    """Train on random tokens for about `seconds` and return the operations per second.

    A large model is measured with fewer blocks and a smaller batch, so that it takes no longer than a small one.
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
        loss.item()  # wait until the device has finished
        times.append(time.perf_counter() - began)
    typical = sorted(times[1:])[len(times[1:]) // 2]
    return step_flops(small, batch_size) / typical


def learned_from(run: Run) -> None:
    """Cache the speed that a run reached in training, so that the next plan for this shape needs no trial."""
    train, model, history = TrainConfig.of(run.settings()["train"]), read_config(run.folder), run.history()
    started = next((event["step"] for event in reversed(history.events) if event["event"] == "started"), 0)
    rows = [row for row in history.rows if row["step"] > started and row.get("tokens_per_second")]  # of this machine
    device = pick_device(train.device)
    if rows and device.type == "cpu":
        rates = sorted(row["tokens_per_second"] for row in rows)
        per_token = step_flops(model, train.batch_size) / (train.batch_size * model.block_size)
        own = torch.get_num_threads() * min(1.0, (rows[-1]["seconds"] - rows[0]["seconds"]) / AVERAGED)
        measured.keep(measured.key_of(device, model, train, own), per_token * rates[len(rates) // 2])


def seconds_needed(model: ModelConfig, train: TrainConfig) -> float:
    """Return an estimate of the run's length in seconds, including evaluations."""
    if train.budget:
        return train.budget
    return 1.08 * train.max_iters * step_flops(model, train.batch_size) / speed(model, train)


def rough_seconds(model: ModelConfig, train: TrainConfig) -> float | None:
    """Return `seconds_needed` from what has been measured on this machine so far, or None. Measure nothing.

    Where only models of other shapes have been measured, take their typical speed.
    """
    device, flops = pick_device(train.device), step_flops(model, train.batch_size)
    if device.elsewhere:
        return seconds_needed(model, train)
    if device.type == "cuda":
        product = measured.recall(gpu_plan.product_key(device))
        return product and 1.08 * train.max_iters * gpu_plan.step_seconds(model.n_layer, flops, product)
    rate = measured.recall(measured.key_of(device, model, train)) or measured.typical(device)
    return rate and 1.08 * train.max_iters * flops / rate


@dataclass(frozen=True)
class Size:
    """A model and batch size that suit a compute budget, and the validation loss it reached on Tiny Shakespeare."""

    flops: float  # operations per run from which this size is the best choice
    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    batch_size: int
    val_loss: float

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings among the fields."""
        return {name: value for name, value in asdict(self).items() if name not in ("flops", "val_loss")}


MEASURED_LAYOUT = "modern"  # SIZES were measured with it, so it is the default for time budgets
# From small to large; a budget gets the last one it can afford. Losses above the dashes come from the runs in
# benchmarks/README.md; those below are extrapolated.
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
    """The model and the number of steps chosen for a time budget on this machine."""

    settings: dict[str, Any]
    parameters: int
    weight_decay: float  # for about this many epochs
    val_loss: float  # to expect on a text like Tiny Shakespeare, in nats per character
    unit: str = "character"  # the word for a token in messages

    def __str__(self) -> str:
        s = self.settings
        layout = "" if s["layout"] == MEASURED_LAYOUT else f" from the {MEASURED_LAYOUT} architecture"
        return (
            f"{s['n_layer']} layers, {s['n_head']} heads, width {s['n_embd']}, context {s['block_size']} {self.unit}s: "
            f"{self.parameters:,} parameters. About {s['max_iters']:,} steps of {s['batch_size']}, "
            f"weight decay {self.weight_decay:g}. Expect a validation loss of about {self.val_loss:.2f}{layout} on "
            "Tiny Shakespeare; other texts will differ."
        )


def choose(budget: float, vocab_size: int, tokens: int, given: Mapping[str, Any], unit: str = "character") -> Plan:
    """Choose a model and the number of steps for a budget in seconds, by measuring steps for about two seconds.

    `tokens` is the length of the text, `unit` the word for a token in messages. Settings in `given` are kept, and the
    others are chosen to go with them. Raise NanoGPTError if the budget is below 5 seconds.
    """
    if budget < 5:
        raise NanoGPTError(f"{budget:g} seconds is too short. Give at least 5 seconds; a minute or more is better.")
    recipe = {"layout": MEASURED_LAYOUT, **given, "budget": budget}
    device = pick_device(str(given.get("device") or "auto"))
    if device.type == "cuda" and not device.elsewhere:
        return _choose_on_a_gpu(recipe, vocab_size, tokens, device, unit)
    guess = _configs(SIZES[2].settings | recipe, vocab_size)
    moment = min(TRIAL_SECONDS, 0.03 * budget)  # there are two trials: a tenth of the budget, all in all
    flops = 0.85 * budget * speed(*guess, moment)  # the rest is for evaluating, sampling and saving
    size = [one for one in SIZES if one.flops <= flops][-1]
    settings = size.settings | recipe
    model, train = _configs(settings, vocab_size)
    settings["block_size"] = fitting_block_size(tokens, model.block_size)
    model = replace(model, block_size=settings["block_size"])
    step = step_flops(model, train.batch_size) / speed(model, train, moment)  # seconds per step
    settings["max_iters"] = max(20, int(0.85 * budget / step))
    decay = settled(replace(train, max_iters=settings["max_iters"]), model, tokens).weight_decay
    larger = next((one for one in SIZES if one.flops > flops), size)
    near = (flops - size.flops) / max(1.0, larger.flops - size.flops)  # 0 to 1: how near the next size is
    val_loss = size.val_loss + min(1.0, near) * (larger.val_loss - size.val_loss)
    return Plan(settings, count_parameters(model), decay, val_loss, unit)


def measure_once(wanted: str) -> None:
    """Load and measure what `choose` needs before the clock starts: on a GPU its speed, once per machine."""
    import torch._dynamo  # noqa: F401, the optimizers import it at their first use, which takes two seconds

    device = pick_device(wanted)
    if device.type == "cuda" and not device.elsewhere:
        gpu_plan.product_speed(device)


def _choose_on_a_gpu(recipe: dict[str, Any], vocab_size: int, tokens: int, device: Device, unit: str) -> Plan:
    """`choose` for a GPU, from the speed of one matrix product."""
    rate = gpu_plan.product_speed(device)
    seconds = recipe["budget"] - overhead(recipe["budget"])
    reads, made = {}, {}
    for size in gpu_plan.SIZES:
        model, train = _configs(size.settings | recipe, vocab_size)
        model = replace(model, block_size=fitting_block_size(tokens, model.block_size))
        step = gpu_plan.step_seconds(model.n_layer, step_flops(model, train.batch_size), rate)
        made[size] = model, train, seconds / step
        reads[size] = epochs(seconds / step * train.batch_size * model.block_size, tokens)
    size = gpu_plan.choose_size(reads, tokens)
    model, train, steps = made[size]
    used = min(1.0, size.most / reads[size])  # share of the budget to use: more epochs would only overfit
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
        gb = memory.needed(shape, settings, pick_device()) / 1e9
        print(
            f"{name:8} {count_parameters(shape):>11,} parameters, {gb:.1f} GB, {seconds_needed(shape, settings):,.0f} s"
        )
    for seconds in (10, 30, 180, 600, 3600):
        print(f"{seconds:>5} s: {choose(seconds, 65, 1_000_000, {})}")
