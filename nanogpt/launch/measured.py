"""Speeds measured on this machine, in operations per second, stored in `machine.json` so that each is measured once.

A key names everything that a speed depends on: the processor, the version of PyTorch, threads, load, the model's shape.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from functools import lru_cache
from pathlib import Path

import torch

from ..config import ModelConfig, TrainConfig
from ..device import Device
from ..disk import write_whole
from ..paths import home

MOST = 200  # speeds to keep; older ones are dropped


def recall(key: str) -> float | None:
    """Return a stored speed, or None if there is none."""
    speed = _all().get(key)
    return speed if isinstance(speed, float) and speed > 0 else None


def keep(key: str, speed: float) -> None:
    """Store a speed. If the folder isn't writable, it will be measured again next time."""
    known = {name: value for name, value in _all().items() if name != key} | {key: float(speed)}
    with contextlib.suppress(OSError):
        write_whole(home() / "machine.json", json.dumps(dict(list(known.items())[-MOST:]), indent=1))


def key_of(device: Device, model: ModelConfig, train: TrainConfig, own: float = 0.0) -> str:
    """Return the key for training steps of a model of this shape, on this machine at its present load.

    `own` is how much of that load this process has made itself.
    """
    shape = f"{model.layout} {model.n_layer} x {model.n_embd}, {model.n_head} heads, dropout {model.dropout:g}"
    batch = f"{train.batch_size} x {model.block_size}, {train.optimizer}"
    busy = max(0, round(os.getloadavg()[0] - own)) if hasattr(os, "getloadavg") else 0
    return f"{processor()}, {device}, torch {torch.__version__}, load {busy}: {shape}, {batch}"


@lru_cache
def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _all() -> dict[str, float]:
    try:
        known = json.loads((home() / "machine.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
