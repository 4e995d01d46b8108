"""Choose a model for a time budget on an NVIDIA GPU: its width, its dropout and the number of epochs.

A GPU goes through a short text so many times that overfitting, not arithmetic, is the limit. A larger model with more
regularization then pays off. The sizes below were measured on Tiny Shakespeare (benchmarks/README.md).
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch

from ..device import Device, pick_device
from ..paths import environment
from ..runs import queue
from . import measured

SLOW = 2e13  # operations per second to assume if the measurement fails
AGAIN = 60.0  # seconds after a failed measurement before the next one: the GPU's memory may be full
_failed: dict[str, float] = {}  # when, on the monotonic clock, by the key of the measurement

# On an H200, a training step of 6 layers of width 384 with dropout takes 1.5 ms plus 0.24 us per character: 2.5 ms for
# a batch of 16 x 256. PER_STEP is the fixed part, in seconds per layer; OF_THE_PEAK is the share of the speed of one
# large matrix product that the rest reaches.
PER_STEP, OF_THE_PEAK = 0.0002, 0.40


@dataclass(frozen=True)
class GpuSize:
    """A model and batch size, and the range of epochs for which it is the best choice."""

    passes: float  # epochs from which it beats the previous size
    most: float  # epochs after which it only overfits
    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    batch_size: int
    dropout: float
    weight_decay: float
    val_loss: float  # best validation loss on Tiny Shakespeare, nats per character
    longest: float = float("inf")  # text, in tokens, for which this size is large enough

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings among the fields."""
        return {
            key: value for key, value in asdict(self).items() if key not in ("passes", "most", "val_loss", "longest")
        }


# Small batches win. With 6 layers of width 384: 1.476 for 64 x 256 and 1.421 for 32 x 256 after 10 epochs, 1.404 for
# 16 x 256 after 8. For a text as short as Tiny Shakespeare, the best of all is small enough to need no dropout: 1.392
# after 10 epochs, 1.384 after 15, compared to 1.390 for 6 layers of width 384 after 41.
SIZES = (
    GpuSize(0, 8, 4, 4, 256, 256, 16, 0.0, 0.1, 1.50),
    GpuSize(3, 13, 6, 6, 384, 256, 16, 0.1, 0.1, 1.42),
    GpuSize(13, 40, 6, 6, 384, 512, 8, 0.2, 0.2, 1.39),
    GpuSize(30, 40, 8, 8, 512, 512, 8, 0.3, 0.2, 1.38),  # expected, not measured
    GpuSize(9, 15, 5, 6, 192, 512, 8, 0.0, 0.2, 1.39, longest=3e6),
)


def product_key(device: Device) -> str:
    """Return the key under which `product_speed` is cached."""
    return f"{device.name}, {device.dtype}, torch {torch.__version__}: product"


def product_speed(device: Device) -> float:
    """Return the operations per second of a large matrix product, in the device's precision.

    It is measured once per GPU and PyTorch version. If that fails, return SLOW; it is tried again after a while.
    """
    key = product_key(device)
    if time.monotonic() < _failed.get(key, -AGAIN) + AGAIN:
        return SLOW
    try:
        return measured.recall(key) or _measured_apart(device)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        _failed[key] = time.monotonic()
        return SLOW


@lru_cache  # for a folder that is read-only
def _measured_apart(device: Device) -> float:
    """Measure `product_speed` in a separate process, so that its GPU memory is freed afterwards.

    Raise OSError, ValueError or subprocess.TimeoutExpired if that fails.
    """
    command = [sys.executable, "-m", "nanogpt.launch.gpu_plan", str(device.dtype).removeprefix("torch.")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment())
    speed = float(done.stdout)
    measured.keep(product_key(device), speed)
    return speed


def measure_here(wanted: str) -> None:
    """Measure the GPU for `product_speed` in this process, which is about to train: another one takes seconds to start.

    Leave it to another one if this process may have to wait for the GPU, because it would hold some memory meanwhile.
    """
    device = pick_device(wanted)
    if device.type != "cuda" or device.elsewhere or queue.running() or measured.recall(product_key(device)):
        return
    with contextlib.suppress(RuntimeError):  # the GPU's memory may be full
        measured.keep(product_key(device), measure(device.dtype))
        torch.cuda.empty_cache()


def measure(dtype: torch.dtype) -> float:
    """Return the operations per second of a product of 4,096 x 4,096 matrices on the GPU, the best of ten."""
    a, b = (torch.randn(4096, 4096, device="cuda", dtype=dtype) for _ in range(2))
    took = []
    for _ in range(11):  # the first one loads the library, so it is never the fastest
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        a @ b
        end.record()
        end.synchronize()
        took.append(start.elapsed_time(end) / 1000)
    return 2 * 4096**3 / min(took)


def step_seconds(layers: int, flops: float, speed: float) -> float:
    """Return an estimate of the seconds per step: `flops` operations on a GPU that does `speed` per second."""
    return PER_STEP * layers + flops / (OF_THE_PEAK * speed)


def choose_size(reads: Mapping[GpuSize, float], tokens: int) -> GpuSize:
    """Return the last size in `reads` that gets enough epochs to pay off on this text, or the first if none does."""
    paying = [size for size, passes in reads.items() if passes >= size.passes and tokens <= size.longest]
    return paying[-1] if paying else next(iter(reads))


if __name__ == "__main__":
    print(measure(getattr(torch, sys.argv[1])))
