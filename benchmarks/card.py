"""Time a training step and sampling on an NVIDIA GPU, and compare the step with the GPU's arithmetic limit.

    python -m benchmarks.card [--device cuda | cpu] [--quick]

Uses the modern layout at the lecture's size, with batches of 64 x 256. The lower bound for a step is its number of
operations (`pace.step_flops`) at the speed of a large product in the same precision, measured in the same run.
`python -m benchmarks.time_to_loss --device cuda` includes these results.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.machine import write_result
from nanogpt.config import ModelConfig, NanoGPTError, SampleConfig, TrainConfig
from nanogpt.device import Device, pick_device
from nanogpt.launch.pace import step_flops
from nanogpt.model import GPT
from nanogpt.presets import PRESETS
from nanogpt.sample import decoder_for, generate_many
from nanogpt.train import make_step

SIZE: dict[str, Any] = dict(n_layer=6, n_head=6, n_embd=384, block_size=256, batch_size=64)
TINY: dict[str, Any] = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=2)  # for --quick
VOCAB = 65


def seconds(work: Callable[[], Any], device: Device) -> float:
    """Return how many seconds some work takes, waiting until the GPU has finished it."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def product_speed(device: Device, n: int) -> float:
    """Return operations per second in products of n x n matrices, the best of ten."""
    a, b = (torch.randn(n, n, device=device.type, dtype=device.dtype) for _ in range(2))
    return 2 * n**3 / min(seconds(lambda: a @ b, device) for _ in range(10))


def step_figures(model: ModelConfig, train: TrainConfig, device: Device, n: int, steps: int = 50) -> dict[str, float]:
    """Return the milliseconds per training step, the lower bound, and their ratio, from rounds of `steps` steps."""
    take_step = make_step(GPT(model).to(device.type), train, device)
    xb = torch.randint(model.vocab_size, (train.batch_size, model.block_size), device=device.type)

    def some_steps() -> None:
        for _ in range(steps):
            take_step(xb, xb, train.learning_rate)

    rounds = [seconds(some_steps, device) / steps for _ in range(6)]
    step = statistics.median(rounds[1:])  # the first records the graph
    floor = step_flops(model, train.batch_size) / product_speed(device, n)
    return dict(milliseconds=1000 * step, floor_milliseconds=1000 * floor, times_the_floor=step / floor)


def characters_a_second(model: ModelConfig, device: Device, length: int) -> float:
    """Return the characters per second when generating one text: the median of three rounds after a warm-up."""
    net = GPT(model).to(device.type).eval()
    with torch.no_grad():
        net.lm_head.weight.normal_(std=0.02)  # the modern layout initializes it to zero
    write = lambda: list(generate_many(decoder_for(net, 1), [0], SampleConfig(length=length)))
    return length / statistics.median([seconds(write, device) for _ in range(4)][1:])


def figures(device: Device, quick: bool = False) -> dict[str, Any]:
    """Print the results for training and sampling, and return them as plain data."""
    model, train = PRESETS["timed"].configs(layout="modern", budget=0.0, **(TINY if quick else SIZE))
    model = ModelConfig.of({**model.as_dict(), "vocab_size": VOCAB})
    step = step_figures(model, train, device, 64 if quick else 8192, 3 if quick else 50)
    speed = characters_a_second(model, device, 20 if quick else 2000)
    print(
        f"step {step['milliseconds']:.2f} ms, {step['times_the_floor']:.2f} x its arithmetic at the speed of large "
        f"products; {speed:,.0f} characters per second in one text"
    )
    return dict(device=str(device), step=step, characters_per_second=speed)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="try the script with a tiny model; write no result")
    args = parser.parse_args(argv)
    try:
        found = figures(pick_device(args.device), args.quick)
    except NanoGPTError as error:
        parser.error(str(error))
    if not args.quick:
        write_result("card" if args.device == "cuda" else "card-cpu", found)
    return found


if __name__ == "__main__":
    main()
