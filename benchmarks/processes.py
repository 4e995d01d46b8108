"""Measure what several processes gain over threads in one: characters per second, in alternating runs.

    python -m benchmarks.processes FILE [--processes 1 2] [--pairs 3] [--steps 150]

Each run is `python -m nanogpt train FILE --processes N` with fixed steps. Its speed is the median of those in its log,
whose first one is left out. The machine should be idle.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile

from benchmarks.clock import command
from benchmarks.machine import write_result
from nanogpt.runs import Run

SHAPES = {  # what time budgets of half a minute and of three minutes choose, and the lecture's
    "30s": dict(layout="modern", n_layer=3, n_head=3, n_embd=96, block_size=64, batch_size=16),
    "3m": dict(layout="modern", n_layer=4, n_head=4, n_embd=128, block_size=256, batch_size=4),
    "classic": dict(layout="classic", n_layer=4, n_head=4, n_embd=128, block_size=64, batch_size=12, dropout=0.0),
}


def speed(file: str, home: str, name: str, steps: int, processes: int, settings: dict) -> float:
    """Train one run. Return its characters per second."""
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
    fixed = [f"--max-iters={steps}", f"--eval-interval={steps}"]
    command(file, home, [], name, *flags, *fixed, f"--processes={processes}")
    os.environ["NANOGPT_HOME"] = home
    rows = [row["characters_per_second"] for row in Run(name).history().rows if "characters_per_second" in row]
    return statistics.median(rows[1:])


def main(argv: list[str] | None = None) -> dict:
    """Measure all shapes, print the medians and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    options = parser.parse_args(argv)
    found: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as home:
        for shape in options.shapes:
            speeds: dict[int, list[float]] = {count: [] for count in options.processes}
            for pair in range(options.pairs):
                for count in options.processes:
                    name = f"{shape}-{count}-{pair}"
                    speeds[count].append(speed(options.file, home, name, options.steps, count, SHAPES[shape]))
            found[shape] = {str(count): round(statistics.median(values)) for count, values in speeds.items()}
            print(shape, found[shape], flush=True)
    write_result("processes", dict(characters_per_second=found, pairs=options.pairs, steps=options.steps))
    return found


if __name__ == "__main__":
    main()
