"""What a time budget buys on an NVIDIA GPU: how wide a model, how much dropout, how many passes over the text.

A GPU reads a short text so often that learning, not arithmetic, sets the limit: what pays is a larger model that is
held back from memorizing. The sizes below were measured on Tiny Shakespeare (benchmarks/README.md).
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

SLOW = 2e13  # operations per second, if they could not be measured

# A step of 6 x 384 with dropout on an H200 takes 1.5 ms and 0.24 us per character: 2.5 ms for 16 x 256.
PER_STEP, OF_THE_PEAK = 0.0002, 0.40  # seconds per layer however small the batch, and the share of a product's speed


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
    weight_decay: float
    val_loss: float  # on Tiny Shakespeare, at its best

    @property
    def settings(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key not in ("passes", "most", "val_loss")}


# Small batches: of 6 x 384 and 10 passes, 64 x 256 reach 1.476, 32 x 256 1.421; of 8 passes, 16 x 256 1.404.
SIZES = (
    GpuSize(0, 8, 4, 4, 256, 256, 16, 0.0, 0.1, 1.50),
    GpuSize(3, 13, 6, 6, 384, 256, 16, 0.1, 0.1, 1.40),
    GpuSize(13, 40, 6, 6, 384, 512, 8, 0.2, 0.2, 1.39),
    GpuSize(30, 40, 8, 8, 512, 512, 8, 0.3, 0.2, 1.38),
)


@lru_cache
def product_speed(device: Device) -> float:
    """Return the operations per second of a large matrix product in the device's precision.

    Measured once per GPU and version of PyTorch, in a process of its own, whose memory on the GPU is free again after.
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
    """Return the bytes that are free on the GPU, without taking some of them for this process as torch would."""
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
    for _ in range(11):  # the first one loads the library
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        a @ b
        end.record()
        end.synchronize()
        took.append(start.elapsed_time(end) / 1000)
    return 2 * 4096**3 / min(took)


def step_seconds(layers: int, flops: float, speed: float) -> float:
    """Return about how long a step of so many operations takes on a GPU of this speed."""
    return PER_STEP * layers + flops / (OF_THE_PEAK * speed)


def choose_size(reads: Mapping[GpuSize, float]) -> GpuSize:
    """Return the largest size whose passes over the text, `reads`, are worth it; the smallest if none are."""
    return next((size for size in reversed(SIZES) if reads[size] >= size.passes), SIZES[0])


if __name__ == "__main__":
    print(measure(getattr(torch, sys.argv[1])))
