"""Time a training step on a CPU: the plain one, and with each of the tricks in `nanogpt/fast/`.

    python -m benchmarks.step [--rounds 5] [--quick]

The text is random, which doesn't affect the speed. Each round takes ten steps of every version, so that all of them run
under the same conditions. Reports the median over all steps.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.machine import write_result
from nanogpt.config import ModelConfig
from nanogpt.device import native_bfloat16, pick_device
from nanogpt.fast.cpu import CrewStep
from nanogpt.fast.gradients import ByHand, loss_and_gradients
from nanogpt.heap import keep_freed_memory
from nanogpt.model import GPT
from nanogpt.presets import PRESETS
from nanogpt.step import Step

SIZES = [
    ("modern", 4, 128, 128, 8), ("modern", 3, 96, 64, 16), ("modern", 6, 384, 256, 4), ("classic", 4, 128, 64, 12),
    ("classic", 4, 128, 64, 16), ("classic", 4, 128, 256, 4), ("classic", 4, 128, 1024, 2),
]  # fmt: skip


def ways(model: GPT, layout: str) -> dict[str, Callable]:
    """Return all versions of the step, each with its own copy of the model."""
    device, (_, config) = pick_device("cpu"), PRESETS["timed"].configs(layout=layout)
    fresh = lambda: copy.deepcopy(model)
    found: dict[str, Callable] = {"plain": Step(fresh(), config, device)}
    for dtype in (torch.float32, torch.bfloat16) if native_bfloat16() else (torch.float32,):
        for script in (False, True):
            step = CrewStep(fresh(), config, device)
            step.by_hand = ByHand(step.model, dtype)
            if not script:
                step.by_hand.with_gradients = loss_and_gradients
            found[f"by hand in {str(dtype)[6:]}, {'TorchScript' if script else 'Python'}"] = step
    return found


def main(argv: list[str] | None = None) -> list[dict]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="try the script with a few steps; write no result")
    args = parser.parse_args(argv)
    keep_freed_memory()  # for every version, because it can't be undone
    table = []
    for layout, n_layer, n_embd, block_size, batch_size in SIZES[:1] if args.quick else SIZES:
        sizes = dict(vocab_size=65, n_layer=n_layer, n_head=n_embd // 32, n_embd=n_embd, block_size=block_size)
        model = GPT(ModelConfig(layout=layout, **sizes))
        steps = ways(model, layout)
        times: dict[str, list[float]] = {name: [] for name in steps}
        xb = torch.randint(65, (batch_size, block_size))
        for _ in range(1 if args.quick else args.rounds):
            for name, step in steps.items():
                for _ in range(2 if args.quick else 10):
                    began = time.perf_counter()
                    step(xb, xb, 1e-3)
                    times[name].append(time.perf_counter() - began)
        print(f"{layout}, {n_layer} layers, width {n_embd}, batch {batch_size} x {block_size}:")
        for name, found in times.items():
            ms = 1000 * statistics.median(found)
            table.append(dict(layout=layout, batch_size=batch_size, **sizes, way=name, milliseconds=round(ms, 1)))
            print(f"  {name:32} {ms:7.1f} ms", flush=True)
    if not args.quick:
        write_result("step", dict(threads=torch.get_num_threads(), load=os.getloadavg()[0], table=table))
    return table


if __name__ == "__main__":
    main()
