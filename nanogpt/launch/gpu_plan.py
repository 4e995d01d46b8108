"""What a time budget buys on an NVIDIA GPU: how wide a model, how much dropout, how many passes over the text.

A GPU reads a short text so often that learning, not arithmetic, sets the limit: what pays is a larger model that is held
back from memorizing. The sizes below were measured on Tiny Shakespeare (benchmarks/README.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from ..device import Device

PER_STEP = 0.0008  # seconds of a step however small: the gaps between its kernels
OF_THE_PEAK = 0.33  # of the speed of a large product: what a step of the lecture's size reaches


@dataclass(frozen=True)
class GpuSize:
    """A model and a batch, and between how many passes over the text it is the best choice."""

    passes: float  # from here on it beats the size before it
    most: float  # more of them only memorize
    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    batch_size: int
    dropout: float
    val_loss: float  # on Tiny Shakespeare, at its best

    @property
    def settings(self) -> dict[str, Any]:
        names = ("n_layer", "n_head", "n_embd", "block_size", "batch_size", "dropout")
        return {name: getattr(self, name) for name in names}


SIZES = (
    GpuSize(0, 8, 4, 4, 256, 256, 32, 0.0, 1.55),
    GpuSize(5, 15, 6, 6, 384, 256, 64, 0.1, 1.44),
    GpuSize(15, 40, 8, 8, 512, 256, 64, 0.3, 1.40),
)


@lru_cache
def product_speed(device: Device) -> float:
    """Return the operations per second of a large matrix product in the device's precision, in a tenth of a second."""
    a, b = (torch.randn(4096, 4096, device=device.type, dtype=device.dtype) for _ in range(2))
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    a @ b  # the first one loads the library
    start.record()
    for _ in range(10):
        a @ b
    end.record()
    end.synchronize()
    return 10 * 2 * 4096**3 / (start.elapsed_time(end) / 1000)


def step_seconds(flops: float, speed: float) -> float:
    """Return about how long a step of so many operations takes on a GPU of this speed."""
    return PER_STEP + flops / (OF_THE_PEAK * speed)


def passes(seconds: float, flops_per_character: float, characters_per_step: int, characters: int, speed: float) -> float:
    """Return how often so many seconds of steps read a text's training part of so many characters."""
    steps = seconds / step_seconds(flops_per_character * characters_per_step, speed)
    return steps * characters_per_step / characters


def choose_size(reads: Mapping[GpuSize, float]) -> GpuSize:
    """Return the largest size whose passes over the text, `reads`, are worth it; the smallest if none are."""
    return next((size for size in reversed(SIZES) if reads[size] >= size.passes), SIZES[0])
