"""Choose a model for a time budget on an NVIDIA GPU: its size, dropout and number of epochs.

A GPU gets through so many epochs of a short text that memorization, not arithmetic, is the limit: a larger model with
more regularization works best. The sizes below were measured on Tiny Shakespeare (benchmarks/README.md).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch

from ..device import Device
from ..paths import environment
from . import measured

SLOW = 2e13  # operations per second to assume if measuring fails

# On an H200 a step of 6 layers of width 384 with dropout takes 1.5 ms plus 0.24 us per character: 2.5 ms for 16 x 256.
PER_STEP, OF_THE_PEAK = 0.0002, 0.40  # fixed seconds per layer and step, and the share of a large product's speed


@dataclass(frozen=True)
class GpuSize:
    """A model and batch size, and the number of epochs it is the best choice for."""

    passes: float  # epochs from which it beats the previous size
    most: float  # epochs beyond which it only memorizes
    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    batch_size: int
    dropout: float
    weight_decay: float
    val_loss: float  # best validation loss on Tiny Shakespeare

    @property
    def settings(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key not in ("passes", "most", "val_loss")}


# Small batches are better: with 6 layers of width 384, 64 x 256 reaches 1.476 and 32 x 256 1.421 after 10 epochs, and
# 16 x 256 reaches 1.404 after 8.
SIZES = (
    GpuSize(0, 8, 4, 4, 256, 256, 16, 0.0, 0.1, 1.50),
    GpuSize(3, 13, 6, 6, 384, 256, 16, 0.1, 0.1, 1.40),
    GpuSize(13, 40, 6, 6, 384, 512, 8, 0.2, 0.2, 1.39),
    GpuSize(30, 40, 8, 8, 512, 512, 8, 0.3, 0.2, 1.38),
)


@lru_cache
def product_speed(device: Device) -> float:
    """Return the operations per second of a large matrix product in the device's precision.

    Measure once per GPU and version of PyTorch, in a separate process, so that its GPU memory is freed afterwards.
    """
    key = f"{device.name}, {device.dtype}, torch {torch.__version__}: product"
    if known := measured.recall(key):
        return known
    command = [sys.executable, "-m", "nanogpt.launch.gpu_plan", str(device.dtype).removeprefix("torch.")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment())
        speed = float(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return SLOW
    measured.keep(key, speed)
    return speed


def memory_free() -> int:
    """Return the free bytes on the GPU. Unlike torch, don't allocate GPU memory for this process to find out."""
    properties = torch.cuda.get_device_properties(0)
    command = ["nvidia-smi", "-i", f"GPU-{properties.uuid}", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        return int(done.stdout) * 2**20
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return properties.total_memory


def measure(dtype: torch.dtype) -> float:
    """Return the operations per second of the best of ten products of 4,096 x 4,096 matrices on the GPU."""
    a, b = (torch.randn(4096, 4096, device="cuda", dtype=dtype) for _ in range(2))
    took = []
    for _ in range(11):  # the first one is a warm-up
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        a @ b
        end.record()
        end.synchronize()
        took.append(start.elapsed_time(end) / 1000)
    return 2 * 4096**3 / min(took)


def step_seconds(layers: int, flops: float, speed: float) -> float:
    """Estimate the seconds of a step with `flops` operations on a GPU of this speed."""
    return PER_STEP * layers + flops / (OF_THE_PEAK * speed)


def choose_size(reads: Mapping[GpuSize, float]) -> GpuSize:
    """Return the largest size that gets enough epochs (`reads` has those of each), or the smallest if none does."""
    return next((size for size in reversed(SIZES) if reads[size] >= size.passes), SIZES[0])


if __name__ == "__main__":
    print(measure(getattr(torch, sys.argv[1])))
