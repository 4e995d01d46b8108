"""Compare the model that a time budget chooses with hand-picked ones that train for the same time.

    python -m benchmarks.budget [FILE] [--budgets 10 30 180] [--seeds 3] [--limit SECONDS] [--out rows.jsonl]

Each combination of the shapes and batch sizes below is one timed run, and the budget's own choice is trained with each
seed. Only settings within `--near` of the best so far are trained with more than one seed: the others can't win.
`--only` picks combinations by their number; from 24 on, they are sizes that budgets choose from.

Runs go side by side, each pinned to `--cores` cores of its own, in one process per group of cores, which imports all it
needs once: seven at a time on 16 cores with `--lanes 7`. FILE is Tiny Shakespeare, by default the file named by
NANOGPT_TINYSHAKESPEARE. No run is started that can't end within `--limit`. `--out` gets a row after each run;
`--table ROWS …` writes a table and `results/budget.json` from such files. Needs neither gradio nor a network.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from nanogpt.launch.sizes import SIZES

SHAPES = [(2, 2, 64), (3, 3, 96), (4, 4, 128), (4, 4, 192), (6, 4, 128), (6, 6, 192)]  # layers, heads, width
BATCHES = [(64, 8), (64, 16), (128, 8), (256, 4)]  # block_size, batch_size
OWN = "own"
_text: Any = None  # the stored text, in a process that trains
BY_HAND = len(SHAPES) * len(BATCHES)
AROUND = 6.0  # seconds beyond its budget that a run may take here, judging and a slow start included


def combinations() -> list[dict[str, int]]:
    """Return the settings picked by hand, and after them those that budgets choose from and that aren't among them."""
    by_hand = [
        dict(n_layer=layers, n_head=heads, n_embd=width, block_size=block, batch_size=batch)
        for (layers, heads, width), (block, batch) in itertools.product(SHAPES, BATCHES)
    ]
    return by_hand + [size.settings for size in SIZES if size.settings not in by_hand]


# ---- one run, in a process with cores of its own -----------------------------------------------------------------


def settle(groups: Any, file: str, root: str) -> None:
    """Pin this process to the next group of cores, import everything, store the text and warm up with a short run."""
    cores = groups.get()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    os.environ |= {"OMP_NUM_THREADS": str(len(cores)), "NANOGPT_HOME": str(Path(root) / str(min(cores)))}
    os.getloadavg = lambda: (0.0, 0.0, 0.0)  # what runs on the other cores is no load here
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    global _text
    from nanogpt import corpus

    _text = corpus.add(Path(file).read_text(encoding="utf-8"))
    train("warm-up", dict(max_iters=10, layout="modern"))


def train(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Train one run. Return its size, steps, loss on the whole validation set, promise, and seconds.

    `beyond` is how many seconds it took beyond its budget, from before planning to the end.
    """
    from nanogpt.device import pick_device
    from nanogpt.evaluate import estimate_loss
    from nanogpt.formats import load_model, read_config
    from nanogpt.launch import prepare, trainer
    from nanogpt.runs import free_name
    from nanogpt.tokenizer import load_tokenizer
    from nanogpt.train import load_data

    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        run = prepare.new_run(free_name(name), _text, "timed" if "budget" in settings else "quick", **settings)
        status = trainer.main(run.name)
    seconds = time.perf_counter() - began
    if status:
        return dict(name=name, error=run.status().message)
    made, config, history, device = run.settings(), read_config(run.folder), run.history(), pick_device("cpu")
    held_out = load_data(_text.id, load_tokenizer(run.folder), device).val
    val_loss = estimate_loss(load_model(run.folder), held_out, device)
    return dict(
        name=name, seed=made["train"]["seed"], n_layer=config.n_layer, n_embd=config.n_embd,
        block_size=config.block_size, batch_size=made["train"]["batch_size"], steps=history.step, val_loss=val_loss,
        promise=made.get("promise"), planning=made.get("planning"), costs=history.events[-1].get("costs"),
        seconds=round(seconds, 3), beyond=round(seconds - made["train"]["budget"], 3),
    )  # fmt: skip


# ---- which runs, and in which order ------------------------------------------------------------------------------


def jobs(budget: float, seeds: list[int], rows: list[dict], chosen: list[int], near: float) -> list[tuple[str, dict]]:
    """Return the runs of a budget: the own choice first, then the hand-picked ones that may still win."""
    losses = {row["name"]: row["val_loss"] for row in rows if row["budget"] == budget and "val_loss" in row}
    best = min((loss for name, loss in losses.items() if name != OWN), default=float("inf"))
    by_hand = {f"by-hand-{number}": combinations()[number] for number in chosen}
    if losses:
        by_hand = {
            name: settings for name, settings in by_hand.items() if losses.get(name, best * 9) <= (1 + near) * best
        }
    runs = {OWN: {}} | by_hand
    return [(name, settings | dict(budget=budget, seed=seed)) for seed in seeds for name, settings in runs.items()]


def run_all(args: argparse.Namespace, pool: ProcessPoolExecutor, began: float) -> list[dict]:
    """Train all runs, one budget after the other, the first seed before the others. Write a row after each."""
    rows: list[dict] = []
    every = list(range(1, args.seeds + 1))
    for budget, seeds in itertools.product(args.budgets, [every[:1], every[1:]] if args.only else [every]):
        waiting, running = jobs(budget, seeds, rows, args.only, args.near), dict[Future, float]()
        while waiting or running:
            late = time.perf_counter() - began + budget + AROUND > args.limit
            while waiting and not late and len(running) < args.lanes:
                running[pool.submit(train, *waiting.pop(0))] = budget
            if late and not running:
                print(f"no time left for {len(waiting)} runs of {budget:g} s", flush=True)
                break
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                rows.append(dict(budget=running.pop(done), **done.result()))
                with Path(args.out).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
                print(json.dumps(rows[-1]), flush=True)
    return rows


def groups_of_cores(cores: int, lanes: int) -> list[list[int]]:
    """Return the cores of each run that trains at a time, the last ones first: the system prefers the first."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    if cores * lanes > len(usable):
        raise SystemExit(f"{lanes} runs at a time on {cores} cores each need more than the {len(usable)} cores here")
    return [usable[len(usable) - cores * (i + 1) :][:cores] for i in range(lanes)]


# ---- the table ---------------------------------------------------------------------------------------------------


def number_of(name: str) -> int:
    """Return the number of a combination; that of the own choice comes after all of them."""
    return int(name.rpartition("-")[2]) if name != OWN else 10**9


def table(rows: list[dict]) -> dict[str, Any]:
    """Return, for each budget, the median losses of the own choice and of the best setting, and what was promised."""
    found = {}
    for budget in sorted({row["budget"] for row in rows}):
        losses: dict[str, list[float]] = {}
        for row in rows:
            if row["budget"] == budget and "val_loss" in row:
                losses.setdefault(row["name"], []).append(row["val_loss"])
        own = [row for row in rows if row["budget"] == budget and row["name"] == OWN and "val_loss" in row]
        most = max((len(of) for name, of in losses.items() if number_of(name) < BY_HAND), default=0)
        medians = {n: statistics.median(of) for n, of in losses.items() if number_of(n) < BY_HAND and len(of) == most}
        if not own or not medians:
            continue
        name = min(medians, key=medians.__getitem__)
        by_hand = combinations()[number_of(name)]
        mine = statistics.median(row["val_loss"] for row in own)
        found[f"{budget:g}"] = dict(
            own=mine, own_losses=losses[OWN], promised=[row["promise"] for row in own],
            own_sizes=sorted({(r["n_layer"], r["n_embd"], r["block_size"], r["batch_size"]) for r in own}),
            best=medians[name], best_losses=losses[name], best_settings=by_hand, seeds=most,
            over=mine / medians[name] - 1, most_beyond=max(row["beyond"] for row in own),
        )  # fmt: skip
        print(
            f"{budget:g} s: own choice {mine:.3f}, best of {len(medians)} {medians[name]:.3f}: {found[f'{budget:g}']}"
        )
    return found


def main(argv: list[str] | None = None) -> list[dict]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", nargs="?", default=os.environ.get("NANOGPT_TINYSHAKESPEARE"))
    parser.add_argument("--budgets", type=float, nargs="+", default=[10.0, 30.0, 180.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", type=int, nargs="*", default=list(range(BY_HAND)))
    parser.add_argument(
        "--near", type=float, default=0.03, help="share above the best loss up to which a setting stays"
    )
    parser.add_argument("--cores", type=int, default=2, help="cores per run")
    parser.add_argument("--lanes", type=int, default=1, help="runs at a time")
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds in which everything must end")
    parser.add_argument("--out", default="budget-rows.jsonl", help="file to which a row is appended after each run")
    parser.add_argument("--table", nargs="+", help="only summarize the rows in these files")
    args = parser.parse_args(argv)
    began = time.perf_counter()
    if args.table:
        from benchmarks.machine import write_result

        rows = [json.loads(line) for path in args.table for line in Path(path).read_text().splitlines()]
        write_result("budget", dict(table=table(rows), runs=rows))
        return rows
    if not args.file:
        parser.error("give the path of Tiny Shakespeare, as an argument or in NANOGPT_TINYSHAKESPEARE")
    context, groups = multiprocessing.get_context("spawn"), groups_of_cores(args.cores, args.lanes)
    queue = context.Queue()
    for group in groups:
        queue.put(group)
    with (
        tempfile.TemporaryDirectory() as root,
        ProcessPoolExecutor(args.lanes, context, settle, (queue, args.file, root)) as pool,
    ):
        rows = run_all(args, pool, began)
    table(rows)
    return rows


if __name__ == "__main__":
    sys.exit(not main())
