"""Speeds measured on this machine, in operations per second, cached in `machine.json` so each is measured only once.

A key names everything the speed of one process depends on: the processor, the versions of nanogpt and PyTorch, threads,
load, the model's shape and, roughly, the size of a large vocabulary. What a sample and a save take, in seconds, is
cached in the same file, so that a run can schedule its first ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch

from .. import __version__
from ..config import ModelConfig, TrainConfig
from ..device import Device
from ..disk import from_json, read, write_whole
from ..paths import home

MOST = 400  # entries; the oldest are dropped first
COSTS = ("sample", "save")
# From about so many tokens on, softmax takes much of a small model's time, and it isn't among the operations counted.
LARGE = 1000


def recall(key: str) -> float | None:
    """Return a cached speed, or None."""
    speed = _all().get(key)
    return speed if isinstance(speed, float) and speed > 0 else None


def typical(device: Device) -> float | None:
    """Return the median of the speeds cached for this processor, whatever the model and the load, or None."""
    here = [speed for key, speed in _all().items() if key.startswith(f"{_machine(device)}, load ")]
    known = sorted(speed for speed in here if isinstance(speed, float) and speed > 0)
    return known[len(known) // 2] if known else None


def keep(key: str, speed: float) -> None:
    """Cache a speed. If the folder is read-only, it will be measured again next time."""
    known = {name: value for name, value in _all().items() if name != key} | {key: float(speed)}
    with contextlib.suppress(OSError):
        home().mkdir(parents=True, exist_ok=True)
        write_whole(home() / "machine.json", json.dumps(dict(list(known.items())[-MOST:]), indent=1))


def keep_costs(key: str, costs: Mapping[str, float]) -> None:
    """Cache the seconds that a sample and a save took in a run with this key."""
    for name in COSTS:
        if costs.get(name, 0.0) > 0:
            keep(f"{name}: {key}", costs[name])


def recall_costs(key: str) -> dict[str, float]:
    """Return the cached seconds of a sample and a save, those that are known."""
    known = {name: recall(f"{name}: {key}") for name in COSTS}
    return {name: seconds for name, seconds in known.items() if seconds}


def key_of(device: Device, model: ModelConfig, train: TrainConfig, own: float = 0.0) -> str:
    """Return the key for training steps of a model of this shape, on this machine at its current load.

    `own` is the part of that load caused by runs that train here.
    """
    shape = f"{model.layout} {model.n_layer} x {model.n_embd}, {model.n_head} heads, dropout {model.dropout:g}"
    batch = f"{train.batch_size} x {model.block_size}, {train.optimizer}"
    if model.vocab_size > LARGE:
        batch += f", {model.vocab_size.bit_length()} bits per token"
    busy = max(0, round(os.getloadavg()[0] - own)) if hasattr(os, "getloadavg") and device.type == "cpu" else 0
    return f"{_machine(device)}, load {busy}: {shape}, {batch}"


def _machine(device: Device) -> str:
    return f"{processor()}, {device}, nanogpt {__version__}, torch {torch.__version__}"


@lru_cache
def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _all() -> dict[str, float]:
    try:
        known = from_json(read(home() / "machine.json"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
