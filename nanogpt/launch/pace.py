"""How fast this machine trains: measured by training for a second, remembered, and corrected by what runs reach."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace

import torch

from .. import memory
from ..config import ModelConfig, TrainConfig
from ..device import Device, pick_device
from ..errors import shortages
from ..fastest import make_step
from ..formats import read_config
from ..model import GPT
from ..runs import Run, queue
from . import gpu_plan, measured
from .sizes import SLOW, TRIAL_BYTES, TRIAL_FLOPS, TRIAL_PREDICTIONS

# ZeroGPU can't be measured before a call, so guess: seconds of overhead per step, and operations per second.
ZERO_STEP, ZERO_SPEED = 0.006, 1e13
AVERAGED = 60.0  # seconds, over which the system averages its load
TRIAL_SECONDS = 0.8  # long enough to be accurate within about 20%, short enough to wait for
BESIDE = "beside a run: "  # begins the key of a trial made then, which must not be taken for one on an idle machine
_measuring = threading.Lock()  # two measurements at once would skew each other


def step_flops(config: ModelConfig, batch_size: int) -> float:
    """Return the operations per training step: six per weight and token, plus attention (Kaplan et al., 2020)."""
    weights = 12 * config.n_layer * config.n_embd**2 + config.vocab_size * config.n_embd
    attention = 6 * config.n_layer * config.block_size * config.n_embd  # half of the full square: it is causal
    return batch_size * config.block_size * 6 * (weights + attention)


def speed(model: ModelConfig, train: TrainConfig, seconds: float = TRIAL_SECONDS) -> float:
    """Return the operations per second that training steps of this shape reach, measured once per machine.

    On a CPU, measure training steps for about `seconds`; on a GPU, derive it from the speed of a matrix product. Where
    a trial would take too much memory, guess: the typical speed here.
    """
    device, flops = pick_device(train.device), step_flops(model, train.batch_size)
    if device.elsewhere:
        return flops / (ZERO_STEP + flops / ZERO_SPEED)
    if device.type == "cuda":
        return flops / gpu_plan.step_seconds(model.n_layer, flops, gpu_plan.product_speed(device))
    with _measuring:
        shared, key = is_shared(), _keys(model, train)[0]
        known = known_speed(model, train) or (speed_beside(model, train) if shared else None)
        if known is not None:
            return known
        if not fits_a_trial(device, model, train):
            return measured.typical(device) or SLOW
        device = pick_device(train.device, probe=True)  # the trial will take memory of an Apple GPU anyway
        known = trial(device, model, train, seconds)
        # half the speed mustn't be recalled for good, nor measured again for every run on a busy server
        measured.keep(BESIDE + key if shared or is_shared() else key, known)
        return known


def is_shared() -> bool:
    """Return True if a run trains here or is about to, so that nothing can be measured properly."""
    return bool(queue.running() or queue.waiting())


def known_speed(model: ModelConfig, train: TrainConfig) -> float | None:
    """Return the speed of this shape if it was measured on this machine at this load, or None. Measure nothing."""
    return next(filter(None, map(measured.recall, _keys(model, train))), None)


def speed_beside(model: ModelConfig, train: TrainConfig) -> float | None:
    """Return the speed of this shape in a trial made while another run trained or waited here, or None."""
    return measured.recall(BESIDE + _keys(model, train)[0])


def known_costs(model: ModelConfig, train: TrainConfig) -> dict[str, float]:
    """Return the seconds that a sample and a save took in an earlier run of this shape on this machine, if known."""
    return next(filter(None, map(measured.recall_costs, _keys(model, train))), {})


def _keys(model: ModelConfig, train: TrainConfig) -> list[str]:
    """Return the key for training steps at the load there will be once the runs that train here now have ended.

    While there are any, a second key is for the load that there is now, at which runs that follow each other are kept.
    """
    device, own = pick_device(train.device), torch.get_num_threads() * len(queue.running())
    return [measured.key_of(device, model, train, load) for load in sorted({own, 0}, reverse=True)]


def reduced(model: ModelConfig, train: TrainConfig) -> tuple[ModelConfig, TrainConfig]:
    """Return what a trial trains in place of a model.

    A large model is measured with fewer blocks and a smaller batch, so that it takes no longer than a small one; one of
    many characters, too, is measured with a smaller batch, because its predictions could fill the memory.
    """
    small = replace(model, n_layer=1, vocab_size=max(2, model.vocab_size))
    most = min(int(TRIAL_FLOPS / step_flops(small, 1)), TRIAL_PREDICTIONS // (small.block_size * small.vocab_size))
    batch_size = max(1, min(train.batch_size, most))
    layers = max(1, min(model.n_layer, int(TRIAL_FLOPS / step_flops(small, batch_size))))
    return replace(small, n_layer=layers), replace(train, batch_size=batch_size)


def fits_a_trial(device: Device, model: ModelConfig, train: TrainConfig) -> bool:
    """Return True if a trial takes little memory. A server makes it itself, and its runs have their own processes."""
    most = min(TRIAL_BYTES, (memory.free_now(device) or math.inf) / 2)
    return memory.needed(*reduced(model, train), device) - memory.TORCH <= most


@shortages()
def trial(device: Device, model: ModelConfig, train: TrainConfig, seconds: float) -> float:
    """Train what `reduced` returns on random tokens for about `seconds`, and return the operations per second.

    The first step, which also loads libraries, doesn't count, unless it took three times as long as the whole trial
    should.
    """
    small, train = reduced(model, train)
    take_step = make_step(GPT(small).to(device.type), train, device)
    xb = torch.randint(small.vocab_size, (train.batch_size, small.block_size), device=device.type)
    times: list[float] = []
    start = time.perf_counter()
    while time.perf_counter() < start + (seconds if len(times) >= 3 else 3 * seconds) or not times:
        began = time.perf_counter()
        loss, _ = take_step(xb, xb, train.learning_rate)
        loss.item()  # wait until the device has finished
        times.append(time.perf_counter() - began)
    counted = sorted(times[1:] or times)
    return step_flops(small, train.batch_size) / counted[len(counted) // 2]


def learned_from(run: Run) -> None:
    """Cache the speed that a run reached in training, and what a sample and a save took.

    The next plan for this shape needs no trial.
    """
    train, model, history = TrainConfig.of(run.settings()["train"]), read_config(run.folder), run.history()
    started = next((event["step"] for event in reversed(history.events) if event["event"] == "started"), 0)
    rows = [row for row in history.rows if row["step"] > started and row.get("tokens_per_second")]  # of this machine
    device = pick_device(train.device)
    if rows and device.type == "cpu":
        rates = sorted(row["tokens_per_second"] for row in rows)
        per_token = step_flops(model, train.batch_size) / (train.batch_size * model.block_size)
        own = torch.get_num_threads() * min(1.0, (rows[-1]["seconds"] - rows[0]["seconds"]) / AVERAGED)
        key = measured.key_of(device, model, train, own)
        measured.keep(key, per_token * rates[len(rates) // 2])
        measured.keep_costs(key, history.events[-1].get("costs", {}))


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
    rate = known_speed(model, train) or measured.typical(device)
    return rate and 1.08 * train.max_iters * flops / rate
