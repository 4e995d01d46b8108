"""Compare the model that a time budget chooses with hand-picked ones that train for the same time.

    python -m benchmarks.budget [FILE] [--budgets 30 180] [--at-once 1]

Each combination of the shapes and batch sizes below is one timed run. The first and the last run use the budget's own
choice, which shows whether the machine slowed down in between. `--at-once 2` trains two runs at a time, each on one
thread, the budget's own choice included: half the wait, and the same question for a smaller machine.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.machine import RESULTS, write_result
from nanogpt.data import split
from nanogpt.device import pick_device
from nanogpt.formats import load_model, read_config
from nanogpt.tokenizer import CharTokenizer
from nanogpt.train import estimate_loss

SHAPES = [(2, 2, 64), (3, 3, 96), (4, 4, 128), (4, 4, 192), (6, 4, 128), (6, 6, 192)]  # layers, heads, width
BATCHES = [(64, 8), (64, 16), (128, 8), (256, 4)]  # block_size, batch_size
OWN = "the budget's own choice"


def train(root: str, file: str, threads: int | None, name: str, settings: dict) -> dict:
    """Train one run with the command. Return its size, steps, loss on the whole validation set, and seconds."""
    home = Path(root) / name  # a separate home per run, because runs in one home wait for each other
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
    command = [sys.executable, "-m", "nanogpt", "train", file, "--name", name, *flags]
    environment = {**os.environ, "NANOGPT_HOME": str(home), **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    began = time.perf_counter()
    subprocess.run(command, cwd=RESULTS.parent.parent, env=environment, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    folder = home / "checkpoints" / name
    model, config = load_model(folder), read_config(folder)
    [text] = (home / "corpora").rglob("*.txt")
    _, tail = split(CharTokenizer.load(folder).encode_array(text.read_text(encoding="utf-8")))
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()][-1]
    return dict(
        name=name, n_layer=config.n_layer, n_embd=config.n_embd, block_size=config.block_size, steps=steps,
        val_loss=estimate_loss(model, tail, pick_device("cpu")), seconds=seconds,
    )  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", nargs="?", default=os.environ.get("NANOGPT_TINYSHAKESPEARE"))
    parser.add_argument("--budgets", type=float, nargs="+", default=[30.0, 180.0])
    parser.add_argument("--at-once", type=int, default=1)
    args = parser.parse_args(argv)
    if not args.file:
        parser.error("give the path of Tiny Shakespeare, as an argument or in NANOGPT_TINYSHAKESPEARE")
    by_hand = [
        dict(n_layer=layers, n_head=heads, n_embd=width, block_size=block, batch_size=batch)
        for (layers, heads, width), (block, batch) in itertools.product(SHAPES, BATCHES)
    ]
    threads = None if args.at_once == 1 else 1
    for budget in args.budgets:
        with tempfile.TemporaryDirectory() as home, ThreadPoolExecutor(args.at_once) as pool:
            clock = dict(budget=f"{budget:g}s")
            jobs = [("own-1", clock)]
            jobs += [(f"by-hand-{number}", settings | clock) for number, settings in enumerate(by_hand)]
            jobs += [("own-2", clock)]
            runs = []
            for row in pool.map(partial(train, home, args.file, threads), *zip(*jobs)):
                runs.append(row)
                print(
                    f"{row['name']:12} {row['n_layer']} layers, width {row['n_embd']:4}, block {row['block_size']:4} "
                    f"{row['steps']:6,} steps {row['seconds']:6.1f} s  val {row['val_loss']:.4f}",
                    flush=True,
                )
        own = [row["val_loss"] for row in runs if row["name"].startswith("own")]
        best = min(row["val_loss"] for row in runs if row["name"].startswith("by-hand"))
        mean = sum(own) / len(own)
        print(f"{budget:g} s: {OWN} {mean:.4f}, best of {len(by_hand)} hand-picked {best:.4f}: {mean / best - 1:+.1%}")
        result = dict(budget=budget, at_once=args.at_once, own=own, best_by_hand=best, over=mean / best - 1, runs=runs)
        write_result(f"budget-{budget:g}", result)


if __name__ == "__main__":
    main()
