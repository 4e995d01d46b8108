"""Measure whether whole commands end within their time budget, on idle cores and on busy ones.

    python -m benchmarks.clock [FILE] [--budgets 1 10 30] [--cores 0 1] [--busy [0 1]] [--limit SECONDS]
        [--out rows.jsonl]

Each run is `python -m nanogpt train FILE --budget …`, pinned to `--cores`; without them it may use every core. With
`--busy`, all runs are repeated while one process computes on each core that they may use, or on the ones named. Startup
is what a command with a single small step takes just before: a run is over its budget by its seconds less the startup
and the budget.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nanogpt.data import split
from nanogpt.device import pick_device
from nanogpt.evaluate import estimate_loss
from nanogpt.formats import load_model, read_config
from nanogpt.tokenizer import CharTokenizer

ROOT = Path(__file__).resolve().parent.parent
# a single step that takes next to no time
STEP = ["--max-iters=1", "--layout=modern", "--n-layer=1", "--n-head=1", "--n-embd=16", "--block-size=16"]
SPIN = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"


def command(file: str, home: str, cores: list[int], name: str, *flags: str) -> tuple[float, Path]:
    """Train one run with the command. Return the seconds it took and the run's folder."""
    environment = {**os.environ, "NANOGPT_HOME": home, "CUDA_VISIBLE_DEVICES": ""}
    line = [sys.executable, "-m", "nanogpt", "train", file, "--name", name, *flags]
    pin = (lambda: os.sched_setaffinity(0, cores)) if cores else None
    began = time.perf_counter()
    subprocess.run(line, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL, preexec_fn=pin)
    return time.perf_counter() - began, Path(home) / "checkpoints" / name


def train(root: str, file: str, threads: int | None, name: str, settings: dict) -> dict:
    """Train one run with the command. Return its size, steps, loss on the whole validation set, and seconds."""
    home = Path(root) / name  # a separate home per run, because runs in one home wait for each other
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
    line = [sys.executable, "-m", "nanogpt", "train", file, "--name", name, *flags]
    environment = {**os.environ, "NANOGPT_HOME": str(home), **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    began = time.perf_counter()
    subprocess.run(line, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
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


@contextmanager
def load(cores: list[int]) -> Iterator[None]:
    """Keep each core busy with one process until the block ends."""
    processes = [subprocess.Popen([sys.executable, "-c", SPIN, str(core)]) for core in cores]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(file: str, home: str, cores: list[int], budgets: list[float], ends: float) -> Iterator[dict]:
    """Yield a row for each budget. Start none that might end after `ends`, a time of `time.perf_counter`."""
    command(file, home, cores, "first", *STEP)  # stores the text, and reads every file once
    startup = 5.0
    for number, budget in enumerate(budgets):
        if time.perf_counter() + 1.2 * budget + 2 * startup > ends:
            return
        startup, _ = command(file, home, cores, f"startup-{number}", *STEP)
        seconds, folder = command(file, home, cores, f"run-{number}", "--budget", f"{budget:g}s")
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        settings = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        yield dict(
            budget=budget, seconds=round(seconds, 2), startup=round(startup, 2),
            over=round(seconds - startup - budget, 2), planning=settings.get("planning"), steps=lines[-1]["step"],
            val_loss=round(lines[-1]["val_loss"], 4), promise=settings.get("promise"), costs=lines[-1].get("costs"),
        )  # fmt: skip


def main(argv: list[str] | None = None) -> list[dict]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", nargs="?", default=os.environ.get("NANOGPT_TINYSHAKESPEARE"))
    parser.add_argument("--budgets", type=float, nargs="+", default=[1.0, 10.0, 10.0, 30.0])
    parser.add_argument("--cores", type=int, nargs="*", default=[])
    parser.add_argument("--busy", type=int, nargs="*", help="repeat the runs with these cores busy; by default, theirs")
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds in which everything must end")
    parser.add_argument("--out", default="clock-rows.jsonl", help="file to which a row is appended after each run")
    args = parser.parse_args(argv)
    if not args.file:
        parser.error("give the path of Tiny Shakespeare, as an argument or in NANOGPT_TINYSHAKESPEARE")
    ends, rows = time.perf_counter() + args.limit, []
    theirs = args.cores or sorted(os.sched_getaffinity(0))
    for busy in ([],) if args.busy is None else ([], args.busy or theirs):
        with tempfile.TemporaryDirectory() as home, load(busy):
            for row in measure(args.file, home, args.cores, args.budgets, ends):
                rows.append(dict(busy=bool(busy), **row))
                with Path(args.out).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
                print(json.dumps(rows[-1]), flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(not main())
