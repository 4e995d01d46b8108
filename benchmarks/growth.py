"""Measure how time and memory grow with the text, the processes, the model, the runs on disk, and the length of a run.

    python -m benchmarks.growth [FILE] [--tables text processes model runs steps] [--largest 1000] [--quick]

Each row is measured in a home folder and, unless it is `--quick`, in a process of its own. FILE is Tiny Shakespeare, by
default the file named by NANOGPT_TINYSHAKESPEARE; it is repeated for longer texts, up to `--largest` MB. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks import processes
from benchmarks.machine import RESULTS, about, write_result
from nanogpt import corpus, memory
from nanogpt.cli.runs import runs_command
from nanogpt.device import pick_device
from nanogpt.fast.gradients import product_dtype
from nanogpt.formats import read_config, weights_bytes
from nanogpt.launch import prepare
from nanogpt.launch.pace import step_flops
from nanogpt.model import GPT, count_parameters
from nanogpt.runs import Run, queue
from nanogpt.runs.run import TrainConfig
from nanogpt.train import train

MODELS = {  # (layers, heads, width): batch size, training steps
    (2, 2, 64): (16, 300), (4, 4, 144): (16, 100), (6, 6, 384): (16, 20), (12, 13, 832): (8, 6),
}  # fmt: skip
SMALL: dict[str, Any] = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, max_iters=50)
MB = 1_000_000


def resident(key: str = "VmRSS") -> int:
    """Return the memory of this process in MB: now, or at most (VmHWM)."""
    about = Path("/proc/self/status").read_text(encoding="utf-8")
    return round(int(about.split(f"{key}:")[1].split()[0]) / 1000)


def start_the_peak_anew() -> None:
    """Let VmHWM begin at the memory of this moment."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def timed(look: Callable[[], object], times: int = 5) -> float:
    """Return the median milliseconds of processor time that a call takes."""
    took = []
    for _ in range(times):
        began = time.process_time()
        look()
        took.append(1000 * (time.process_time() - began))
    return round(statistics.median(took), 1)


def quietly(call: Callable[[], Any]) -> Any:
    """Call a function without what it prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        return call()


# ---- rows of the tables ----------------------------------------------------------------------------------------------


def text(file: str, megabytes: int) -> dict[str, Any]:
    """Add a text of that many MB, and train on it for 20 steps."""
    path, piece = Path(os.environ["NANOGPT_HOME"]).parent / "text.txt", Path(file).read_bytes()
    with path.open("wb") as out:
        for _ in range(-(-megabytes * MB // len(piece))):
            out.write(piece)
    before, began = resident(), time.perf_counter()
    start_the_peak_anew()
    added = corpus.add([path])
    took, peak = time.perf_counter() - began, resident("VmHWM")
    path.unlink()
    run = prepare.new_run("grows", added, "quick", max_iters=20, eval_interval=20)
    began = time.perf_counter()
    quietly(lambda: train(run))
    return dict(
        megabytes=megabytes, seconds_to_add=round(took, 2), mb_per_second=round(megabytes / took, 1),
        mb_of_memory_to_add=peak - before, seconds_to_train_20_steps=round(time.perf_counter() - began, 2),
        mb_of_memory_in_all=resident("VmHWM") - before,
    )  # fmt: skip


def model(file: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Train a model of some shape, and compare it with the machine's fastest product and with the memory estimate."""
    (layers, heads, width), (batch, steps) = shape, MODELS[shape]
    sizes: dict[str, Any] = dict(n_layer=layers, n_head=heads, n_embd=width, block_size=64, batch_size=batch)
    run = prepare.new_run("grows", corpus.add([Path(file)]), "timed", max_iters=steps, eval_interval=steps, **sizes)
    config, settings = read_config(run.folder), TrainConfig.of(run.settings()["train"])
    began = time.perf_counter()
    quietly(lambda: train(run))
    speeds = [row["characters_per_second"] for row in run.history().rows if "characters_per_second" in row]
    seconds = batch * config.block_size / statistics.median(speeds[1:] or speeds)
    most = resident("VmHWM")  # before a product is timed
    dtype = product_dtype(config, "cpu") or torch.float32
    return dict(
        millions=round(count_parameters(config) / 1e6, 2), ms_per_step=round(1000 * seconds, 1),
        gflops=round(step_flops(config, batch) / seconds / 1e9),
        share_of_the_peak=round(step_flops(config, batch) / seconds / peak(dtype), 3), products=str(dtype)[6:],
        mb_of_memory=most, mb_estimated=round(memory.needed(config, settings, pick_device("cpu")) / MB),
        seconds_in_all=round(time.perf_counter() - began, 1),
    )  # fmt: skip


def peak(dtype: torch.dtype, size: int = 2048) -> float:
    """Return the operations per second of a large product, the best of ten."""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    took = []
    for _ in range(10):
        began = time.perf_counter()
        a @ b
        took.append(time.perf_counter() - began)
    return 2 * size**3 / min(took)


def ended(file: str) -> Run:
    """Create a finished run without training it."""
    run = prepare.new_run("one", corpus.add([Path(file)]), "quick", **SMALL)
    (run.folder / "model.safetensors").write_bytes(weights_bytes(GPT(read_config(run.folder))))
    run.event("started", step=0, device="CPU")
    for step in range(0, 1001, 10):
        run.log(step=step, seconds=step / 100, tokens=step * 64, train_loss=4.0 - step / 1000, val_loss=4.0)
    run.event("finished", step=1000, val_loss=4.0, message="Finished.")
    return run


def runs(file: str, count: int) -> dict[str, Any]:
    """Look at that many runs on disk, while one trains and 20 wait."""
    from nanogpt.ui import watching  # here, because it takes memory, which the other rows measure

    one = ended(file)
    for number in range(1, count):
        copy = one.folder.parent / f"run-{number}"
        shutil.copytree(one.folder, copy)
        about = {**json.loads((copy / "run.json").read_text(encoding="utf-8")), "name": copy.name}
        (copy / "run.json").write_text(json.dumps(about), encoding="utf-8")
    began = time.process_time()
    quietly(lambda: runs_command(argparse.Namespace(json=False)))
    listed = 1000 * (time.process_time() - began)
    with queue.turn("one", "cpu"), one.held():
        one.event("started", step=0, device="CPU")
        for number in range(1, min(count, 21)):
            queue.draw(f"run-{number}")
        return dict(
            runs=count, ms_of_nanogpt_runs=round(listed), ms_to_choose_the_run_to_show=timed(watching.newest),
            ms_per_tick=timed(lambda: watching.ticked("one", None, None)),
        )  # fmt: skip


def steps(file: str, count: int) -> dict[str, Any]:
    """Show a run of that many steps, with a row for every tenth."""
    from nanogpt.ui import watching

    one = ended(file)
    row = '{"step":%d,"seconds":%d.0,"tokens":%d,"train_loss":2.0,"lr":0.001,"grad_norm":0.5}\n'
    with (one.folder / "metrics.jsonl").open("w", encoding="utf-8") as log:
        log.write('{"event":"started","step":0,"device":"CPU"}\n')
        log.writelines(row % (step, step // 100, step * 64) for step in range(0, count, 10))
    with queue.turn("one", "cpu"), one.held():
        before, last = resident(), count

        def tick() -> None:
            nonlocal last
            last += 10
            one.log(step=last, seconds=last / 100, tokens=last * 64, train_loss=2.0)
            watching.ticked("one", None, None)

        first = timed(lambda: watching.ticked("one", None, None), 1)
        return dict(
            steps=count, rows=count // 10, mb_on_disk=round((one.folder / "metrics.jsonl").stat().st_size / MB, 2),
            ms_to_show=first, ms_per_tick_with_a_new_row=timed(tick), mb_of_memory=resident() - before,
        )  # fmt: skip


def shared(file: str, count: int) -> dict[str, Any]:
    """Train what a budget of three minutes chooses on several processes."""
    home = os.environ["NANOGPT_HOME"]
    speed = processes.speed(file, home, f"with-{count}", 200, count, processes.SHAPES["3m"])
    return dict(processes=count, characters_per_second=round(speed))


def rows(quick: bool, largest: int) -> dict[str, tuple[Callable, list]]:
    """Return the function and the sizes of each table."""
    cores = os.cpu_count() or 1
    return dict(
        text=(text, [size for size in ([2] if quick else [1, 10, 100, 1000]) if size <= largest]),
        processes=(shared, [1] if quick else [count for count in (1, 2, 4, 8) if count <= max(2, cores)]),
        model=(model, list(MODELS)[: 1 if quick else None]),
        runs=(runs, [10] if quick else [1, 10, 100, 1000]),
        steps=(steps, [1000] if quick else [10**3, 10**4, 10**5, 10**6]),
    )


def alone(measure: Callable, file: str, size: Any) -> dict[str, Any]:
    """Measure a row in an empty home folder."""
    before = os.environ.get("NANOGPT_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NANOGPT_HOME"] = str(Path(folder) / "home")
        try:
            return measure(file, size)
        finally:
            os.environ.pop("NANOGPT_HOME")
            os.environ |= {"NANOGPT_HOME": before} if before else {}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", nargs="?", default=os.environ.get("NANOGPT_TINYSHAKESPEARE", ""))
    parser.add_argument("--tables", nargs="+", choices=list(rows(True, 2)), default=list(rows(True, 2)))
    parser.add_argument("--largest", type=int, default=1000, help="MB of the largest text [1000]")
    parser.add_argument("--quick", action="store_true", help="only small sizes, and no result")
    args = parser.parse_args(argv)
    found: dict[str, list[dict[str, Any]]] = {}
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as each:
        for table in args.tables:
            measure, sizes = rows(args.quick, args.largest)[table]
            found[table] = []
            for size in sizes:
                row = (measure, args.file, size)
                found[table].append(alone(*row) if args.quick else each.submit(alone, *row).result())
                print(table, json.dumps(found[table][-1]), flush=True)
    if not args.quick:
        earlier = json.loads(path.read_text(encoding="utf-8")) if (path := RESULTS / "growth.json").exists() else {}
        kept = {table: earlier[table] for table in rows(False, args.largest) if table in earlier}
        commits = {**earlier.get("measured_at", {}), **dict.fromkeys(found, about()["commit"])}
        write_result("growth", dict(load=os.getloadavg()[0], measured_at=commits, **{**kept, **found}))
    return found


if __name__ == "__main__":
    main()
