"""Measure sampling speed on a CPU, compared with sampling without a cache from the same model in the same process.

    python -m benchmarks.sampling [--rounds 3] [--quick]

The peer is nanoGPT's way: crop to the context, run the whole model, softmax, torch.multinomial, append. Each method
generates 1,000 characters from a one-character prompt. The weights are random, which doesn't affect the speed, and are
prepared for sampling beforehand, as on the page; `ready_milliseconds` is the time that takes. Read bandwidth is the
best of several ways to read a buffer the size of the weights, on one core and on all, with the same libraries in the
same run. The machine should be idle, because other programs slow down threads that wait for each other the most.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.machine import write_result
from nanogpt.config import ModelConfig, SampleConfig
from nanogpt.fast.threads import openblas
from nanogpt.model import GPT
from nanogpt.sample import Decoder, decoder_for, generate_many, keep_ready

SIZES = {
    "10.65 M": dict(n_layer=6, n_head=6, n_embd=384, block_size=256),
    "0.80 M": dict(n_layer=4, n_head=4, n_embd=128, block_size=64),
}
QUICK = {"tiny": dict(n_layer=1, n_head=2, n_embd=16, block_size=8)}
VOCAB = 65


@torch.no_grad()
def peer(model: GPT, length: int, temperature: float = 0.8) -> torch.Tensor:
    """Generate as nanoGPT's `generate` does, line by line."""
    idx = torch.zeros(1, 1, dtype=torch.long)
    for _ in range(length):
        idx_cond = idx if idx.size(1) <= model.config.block_size else idx[:, -model.config.block_size :]
        logits, _ = model(idx_cond)
        probs = F.softmax(logits[:, -1, :] / temperature, dim=-1)
        idx = torch.cat((idx, torch.multinomial(probs, num_samples=1)), dim=1)
    return idx


def ours(model: GPT, length: int, texts: int = 1, decoder: Callable | None = None) -> None:
    """Generate as `stream` does."""
    for _ in generate_many((decoder or decoder_for)(model, texts), [0], SampleConfig(length=length, num_samples=texts)):
        pass


def seconds(function: Callable, *arguments) -> float:
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def bandwidth(size: int) -> dict[str, float]:
    """Return the GB/s at which `size` bytes can be read on one core and on all of OpenBLAS's, the best of several."""
    get, switch = openblas()
    most = get()
    flat = np.ones(size // 4, np.float32)
    matrix = flat[: flat.size // 1024 * 1024].reshape(-1, 1024)
    v = np.ones(len(matrix), np.float32)
    tensor = torch.from_numpy(flat)
    ways = [lambda: np.dot(v, matrix), lambda: np.dot(flat, flat), lambda: tensor.sum(), lambda: tensor.amax()]
    found = {}
    for name, threads in (("one core", 1), ("all cores", most)):
        switch(threads)
        torch.set_num_threads(threads)
        found[name] = size / 1e9 / min(seconds(way) for _ in range(8) for way in ways)
        switch(most)
    return {name: round(value, 1) for name, value in found.items()}


def weight_bytes(model: GPT) -> int:
    """Return the bytes read per character: all matrices except the embeddings, which need only one row."""
    return sum(4 * p.numel() for name, p in model.named_parameters() if "embedding" not in name)


def best_threads(model: GPT) -> int:
    """Return the number of torch threads with which the peer is fastest at full context length."""
    taken = {}
    idx = torch.zeros(1, model.config.block_size, dtype=torch.long)
    for threads in {1, os.cpu_count() or 1}:
        torch.set_num_threads(threads)
        with torch.no_grad():
            taken[threads] = min(seconds(model, idx) for _ in range(10))
    return min(taken, key=lambda threads: taken[threads])


def measure(layout: str, size: dict, length: int, rounds: int) -> dict:
    """Run the peer, the plain cache, ours and ours with 16 texts in turn, `rounds` times. Return medians.

    Ratios are medians of each round's ratio.
    """
    torch.manual_seed(1337)
    model = GPT(ModelConfig(vocab_size=VOCAB, layout=layout, **size)).eval()
    with torch.no_grad():
        for matrix in model.parameters():
            if matrix.dim() == 2:
                matrix.normal_(std=0.02)  # the modern layout initializes some to zero, which would be left out
    keep_ready(model)  # as on the page
    reads = bandwidth(weight_bytes(model))
    threads = best_threads(model)
    torch.set_num_threads(threads)
    preparing = seconds(decoder_for, model, 1) + seconds(decoder_for, model, 16)
    ours(model, length), peer(model, 2)  # warm up memory and threads
    times: dict[str, list[float]] = {"peer": [], "plain cache": [], "ours": [], "ours, 16 texts": []}
    for _ in range(rounds):
        times["peer"].append(seconds(peer, model, length))
        times["plain cache"].append(seconds(ours, model, length, 1, Decoder))
        times["ours"].append(seconds(ours, model, length))
        times["ours, 16 texts"].append(seconds(ours, model, length, 16))
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    ratio = lambda a, b: round(statistics.median(x / y for x, y in zip(times[a], times[b])), 2)
    speed = length / medians["ours"]
    return dict(
        layout=layout, parameters=model.count_parameters(), **size, weight_megabytes=weight_bytes(model) / 1e6,
        read_gigabytes_per_second=reads, peer_threads=threads, ready_milliseconds=round(1000 * preparing, 1),
        characters_per_second={name: round(length * (16 if "16" in name else 1) / t) for name, t in medians.items()},
        times_the_peer=ratio("peer", "ours"), times_the_plain_cache=ratio("plain cache", "ours"),
        sixteen_times_one=round(16 * ratio("ours", "ours, 16 texts"), 2),
        share_of_bandwidth={name: round(speed * weight_bytes(model) / 1e9 / gb, 3) for name, gb in reads.items()},
        seconds={name: [round(t, 4) for t in taken] for name, taken in times.items()},
    )  # fmt: skip


def show(name: str, row: dict) -> None:
    """Print one row of the table."""
    speeds = row["characters_per_second"]
    print(
        f"{name:<8} {row['layout']:<8} {speeds['peer']:>8,} {speeds['plain cache']:>8,} {speeds['ours']:>8,} "
        f"{row['times_the_peer']:>7.1f} x {speeds['ours, 16 texts']:>8,} {row['sixteen_times_one']:>6.1f} x "
        + " ".join(
            f"{row['read_gigabytes_per_second'][cores]:>6.1f} GB/s {share:>4.0%}"
            for cores, share in row["share_of_bandwidth"].items()
        ),
        flush=True,
    )


def main(argv: list[str] | None = None) -> dict:
    """Measure, print the table and write the result. With --quick use a tiny model and write nothing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="try the script with a tiny model")
    args = parser.parse_args(argv)
    sizes, length = (QUICK, 20) if args.quick else (SIZES, 1000)
    load = [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None
    print(f"load before: {load}; characters per second\n")
    print(
        f"{'model':<8} {'layout':<8} {'peer':>8} {'cache':>8} {'ours':>8} {'':>9} {'16 texts':>8} {'to one':>8} ",
        end="",
    )
    print("  read, one core and all; our share of it")
    rows = []
    for name, size in sizes.items():
        for layout in ("classic", "modern"):
            rows.append(measure(layout, size, length, args.rounds))
            show(name, rows[-1])
    result = dict(
        what="1,000 characters from a one-character prompt, on a CPU: without a cache as in nanoGPT (peer), with a "
        "key-value cache in torch (plain cache), ours, and ours with 16 texts; medians, and medians of each round's "
        "ratios",
        load_before=load, load_after=[round(x, 2) for x in os.getloadavg()] if load else None,
        openblas_threads=openblas()[0](), numpy=np.__version__, models=rows,
    )  # fmt: skip
    if not args.quick:
        write_result("sampling", result)
    return result


if __name__ == "__main__":
    main()
