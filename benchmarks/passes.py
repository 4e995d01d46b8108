"""Measure shuffled epochs and weight decay for many epochs. `schedule.weight_decay` is based on these results.

    python -m benchmarks.passes [FILE] [--seeds 1337 1338] [--quick]

Each row is a run with fixed steps and the modern layout on the beginning of Tiny Shakespeare, or on all of it,
evaluated on the last tenth of that text. Two runs at a time use one thread each, which only changes their last digits.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.clock import train
from benchmarks.machine import write_result
from nanogpt.holdout import epochs

MODEL: dict[str, Any] = dict(layout="modern", n_layer=4, n_head=4, n_embd=128)
TINY: dict[str, Any] = dict(layout="modern", n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4)
WAYS = (("random", 0.0), ("random", 0.05), ("shuffled", 0.0), ("shuffled", 0.05), ("shuffled", 0.1))
# characters of the text, settings: the rows of the tables in README.md
ROWS: list[tuple[int, dict[str, Any]]] = [
    *(
        (120_000, dict(**MODEL, block_size=128, batch_size=8, max_iters=steps, patience=0, weight_decay=decay))
        for steps, decays in ((500, (0.0, 0.05, 0.2)), (1500, (0.05, 0.15, 0.4, 0.8)), (4500, (0.4, 1.0)))
        for decay in decays
    ),
    *(
        (0, dict(**MODEL, block_size=256, batch_size=4, max_iters=5000, batches=batches, weight_decay=decay))
        for batches, decay in (
            ("random", 0.0),
            ("random", 0.05),
            ("shuffled", 0.0),
            ("shuffled", 0.05),
            ("shuffled", 0.1),
        )
    ),
]
QUICK = [(0, dict(**TINY, max_iters=5, batches=batches, weight_decay=0.1)) for batches in ("random", "shuffled")]


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", nargs="?", default=os.environ.get("NANOGPT_TINYSHAKESPEARE"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337, 1338])
    parser.add_argument("--quick", action="store_true", help="try the script with two tiny runs; write no result")
    args = parser.parse_args(argv)
    if not args.file:
        parser.error("give the path of Tiny Shakespeare, as an argument or in NANOGPT_TINYSHAKESPEARE")
    text = Path(args.file).read_text(encoding="utf-8")
    rows, seeds = (QUICK, args.seeds[:1]) if args.quick else (ROWS, args.seeds)
    table = []
    with tempfile.TemporaryDirectory() as home, ThreadPoolExecutor(2) as pool:

        def run(number: int, characters: int, settings: dict[str, Any], seed: int) -> float:
            file = Path(home) / f"text-{characters or len(text)}.txt"
            return train(home, str(file), 1, f"row-{number}-{seed}", {**settings, "seed": seed})["val_loss"]

        for characters in {characters for characters, _ in rows}:
            part = text[: characters or None]
            (Path(home) / f"text-{len(part)}.txt").write_text(part, encoding="utf-8", newline="")
        jobs = [[pool.submit(run, number, *row, seed) for seed in seeds] for number, row in enumerate(rows)]
        for (characters, settings), found in zip(rows, jobs):
            losses = [job.result() for job in found]
            read = settings["max_iters"] * settings["batch_size"] * settings["block_size"]
            passes = epochs(read, characters or len(text))
            mean = statistics.mean(losses)
            row = dict(
                characters=characters or len(text), passes=round(passes, 1), **settings, val_loss=losses, mean=mean
            )
            table.append(row)
            print(
                f"{row['characters']:>9,} characters, {passes:4.1f} epochs, {settings.get('batches', 'shuffled'):8} "
                f"weight decay {settings['weight_decay']:<4} val {mean:.4f}  {[round(loss, 4) for loss in losses]}",
                flush=True,
            )
    if not args.quick:
        write_result("passes", dict(seeds=seeds, table=table))
    return table


if __name__ == "__main__":
    main()
