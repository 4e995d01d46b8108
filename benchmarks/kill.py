"""Kill runs at any moment, resume them, and compare them with runs that nothing disturbed.

    python -m benchmarks.kill [--runs 200] [--timed 20] [--seed 1]

Each run is the command `nanogpt train` in a forked process, killed with SIGKILL one to three times: a third of them
within a second of the command's start, the others at any moment. After each kill the run is resumed with `--resume` or,
if it was killed before it existed, started again under the same name. In the end its weights, checkpoint, samples and
metrics must equal those of an undisturbed run with the same settings; only measured times and speeds may differ. No
temporary file may be left. The moments follow from the seed; what a process is doing then depends on the machine.

Before that, short runs are killed before each of their operations on files in turn, and once more when resumed. After
that, runs with a time budget, which can't be repeated exactly, must train for no longer than their budget.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load

from benchmarks.machine import write_result
from nanogpt import corpus, disk
from nanogpt.cli.main import main as nanogpt
from nanogpt.config import NanoGPTError
from nanogpt.launch import trainer  # noqa: F401  so that forked processes have everything imported
from nanogpt.paths import home
from nanogpt.runs import Run, queue, read_jsonl

KINDS = list(itertools.product(("classic", "modern"), ("random", "shuffled"), (0.0, 0.1)))  # layout, batches, dropout
SIZES = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4)
TIMES = {"seconds", "tokens_per_second", "characters_per_second", "time"}  # which differ from one time to the next
BUDGET = 6.0  # seconds, of the timed runs
MARGIN = 0.5  # seconds per process that a timed run may take longer: for its last steps, on a busy machine
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.utime", "fcntl.flock"}  # audit events


# ---- processes -------------------------------------------------------------------------------------------------------


def log() -> Path:
    """Return the file with the output of all commands."""
    return home() / "log.txt"


def started(arguments: list[str], kill_before: int = 0) -> int:
    """Run a command of nanogpt in a forked process and return its id.

    With `kill_before`, the process kills itself before its operation on files with that number.
    """
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with log().open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        if kill_before:
            kill_itself(kill_before)
        code = nanogpt(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def kill_itself(before: int) -> None:
    """Make this process kill itself before its operation on files with that number, counted from now."""
    numbers = itertools.count(1)

    def look(event: str, arguments: tuple) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in CHANGES) and next(numbers) == before:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


def ended(child: int, seconds: float = math.inf) -> bool:
    """Wait until a process ends or some seconds have passed, then kill it. Return True if it ended by itself."""
    until = time.perf_counter() + seconds
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found and os.WIFEXITED(status) and status:
            raise AssertionError(f"the command failed: {log().read_text(errors='replace')[-300:]}")
        if found:
            return os.WIFEXITED(status)
        if time.perf_counter() >= until:
            os.kill(child, signal.SIGKILL)
            until = math.inf
        time.sleep(min(0.002, max(0.0, until - time.perf_counter())))


def on(name: str, first: list[str], **killed: Any) -> bool:
    """Start a run, or resume it where it was killed. Return True when it is finished, False if it was killed again."""
    run = Run(name)
    if not run.exists():
        return ended(started(first, killed.get("before", 0)), killed.get("after", math.inf))
    status = run.status()
    if status.state == "finished":  # killed after its last word
        disk.sweep_home()  # as the next start does
        return True
    if status.state == "queued":  # killed before it held its place in the queue
        run.request_stop()
    resume = ["train", "--resume", name]
    return ended(started(resume, killed.get("before", 0)), killed.get("after", math.inf))


def state(name: str) -> str:
    """Return how a killed run is listed."""
    return Run(name).status().state if Run(name).exists() else "not created"


# ---- what a run comes to ---------------------------------------------------------------------------------------------


def outcome(name: str) -> dict[str, Any]:
    """Return everything that must be equal in two runs with the same settings."""
    folder = Run(name).folder
    rows = read_jsonl(folder / "metrics.jsonl")
    rows = [row for row in rows if "event" not in row] + rows[-1:]  # the last event: the final losses
    return {
        "metrics.jsonl": [{key: value for key, value in row.items() if key not in TIMES} for row in rows],
        "samples.jsonl": read_jsonl(folder / "samples.jsonl"),
        "model.safetensors": (folder / "model.safetensors").read_bytes(),
        **{f"last.safetensors: {key}": value.tolist() for key, value in load_file(folder / "last.safetensors").items()},
    }


def load_file(path: Path) -> dict[str, torch.Tensor]:
    return load(path.read_bytes())


def differences(name: str, expected: dict[str, Any]) -> list[str]:
    """Return what differs from the outcome of an undisturbed run, and what should not be there."""
    found = outcome(name)
    return sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)) + left_over()


def left_over() -> list[str]:
    """Return the temporary files and tickets in the home folder. There should be none while nothing runs."""
    names = [path.name for path in home().rglob("*") if disk.is_temporary(path.name) or path.parent.name == ".writers"]
    return names + [f"ticket of {name}" for name in queue.waiting()]


# ---- the three parts -------------------------------------------------------------------------------------------------


def command(file: str, kind: tuple, steps: int) -> list[str]:
    """Return the command that starts a run of this kind, without its name."""
    layout, batches, dropout = kind
    settings = {**SIZES, "layout": layout, "batches": batches, "dropout": dropout, "warmup_iters": 5, "patience": 0}
    settings |= dict(max_iters=steps, eval_interval=max(1, steps // 3))
    return [
        "train",
        file,
        "--preset=lecture",
        *(f"--{key.replace('_', '-')}={value}" for key, value in settings.items()),
    ]


def each_operation(file: str, root: Path, stride: int, steps: int = 2) -> dict[str, Any]:
    """Kill runs before an operation on files, one run for each, and their resumption, too. Return the counts."""
    first, failures, at_home = [*command(file, KINDS[-1], steps), "--name=one"], [], os.environ["NANOGPT_HOME"]
    states: Counter[str] = Counter()
    expected: dict[str, Any] = {}
    for n in itertools.count(0, stride):  # 0: undisturbed
        os.environ["NANOGPT_HOME"] = str(root / f"home-{n}")
        home().mkdir()
        if on("one", first, before=n):
            if expected:
                break
            expected = outcome("one")
            continue
        states[state("one")] += 1
        try:
            on("one", first, before=n) or on("one", first)
            wrong = differences("one", expected)
        except (AssertionError, NanoGPTError, OSError) as error:
            wrong = [str(error)]
        if wrong:
            failures.append(dict(operation=n, differs=wrong))
            print(f"operation {n}: {wrong}", flush=True)
        shutil.rmtree(home())
    os.environ["NANOGPT_HOME"] = at_home
    runs = sum(states.values())
    return dict(runs=runs, identical=runs - len(failures), states_after_kills=states, failures=failures)


def random_moments(file: str, runs: int, steps: int, seed: int) -> dict[str, Any]:
    """Compare runs killed at random moments with undisturbed ones. Return the counts."""
    dice, expected, lengths, failures = random.Random(seed), [], [], []
    states: Counter[str] = Counter()
    for i, kind in enumerate(KINDS[:runs]):
        began = time.perf_counter()
        ended(started([*command(file, kind, steps), f"--name=undisturbed-{i}"]))
        lengths.append(time.perf_counter() - began)
        expected.append(outcome(f"undisturbed-{i}"))
    for n in range(runs):
        kind, name = n % len(KINDS), f"killed-{n}"
        first = [*command(file, KINDS[kind], steps), f"--name={name}"]
        most = min(1.0, 0.9 * lengths[kind]) if n % 3 == 0 else 0.9 * lengths[kind]
        moments = [dice.uniform(0.0, most)] + [dice.uniform(0.0, lengths[kind]) for _ in range(dice.randrange(3))]
        planned = list(moments)
        try:
            while not on(name, first, after=moments.pop(0) if moments else math.inf):
                states[state(name)] += 1
            wrong = differences(name, expected[kind])
            Run(name).delete()  # so that lists stay short
        except (AssertionError, NanoGPTError, OSError) as error:
            wrong = [str(error)]
        if wrong:
            failures.append(dict(run=n, kind=KINDS[kind], moments=planned, differs=wrong))
            print(f"run {n}: {wrong}", flush=True)
    return dict(
        runs=runs, identical=runs - len(failures), kills=sum(states.values()), states_after_kills=states,
        steps=steps, seconds_undisturbed=[round(length, 2) for length in lengths], failures=failures,
    )  # fmt: skip


def by_the_clock(file: str, runs: int, seed: int) -> dict[str, Any]:
    """Kill runs with a time budget, and add up for how long their processes trained. Return the counts."""
    dice, rows = random.Random(seed + 1), []
    for n in range(runs):
        name, processes, trained, done = f"timed-{n}", 0, 0.0, False
        first = ["train", file, f"--budget={BUDGET}s", f"--name={name}"]
        moments = [dice.uniform(0.0, 1.5 * BUDGET) for _ in range(1 + dice.randrange(3))]
        while not done:
            since, processes = time.time_ns(), processes + 1
            done = on(name, first, after=moments.pop(0) if moments else math.inf)
            trained += seconds_trained(name, since)
        within = trained <= BUDGET + MARGIN * processes
        rows.append(dict(processes=processes, trained=round(trained, 2), within=within))
    return dict(budget=BUDGET, runs=runs, within=sum(row["within"] for row in rows), rows=rows, left_over=left_over())


def seconds_trained(name: str, since: int) -> float:
    """Return how long the latest process of a run trained by its own clock: from its start to the last row it logged.

    `since` is when the process began, in nanoseconds since the epoch.
    """
    path = Run(name).folder / "metrics.jsonl"
    if not path.exists() or path.stat().st_mtime_ns < since:  # killed before it began to train
        return 0.0
    rows = read_jsonl(path)
    [*_, begun] = [n for n, row in enumerate(rows) if row.get("event") == "started"]
    clock = [row["seconds"] for row in rows[begun:] if "seconds" in row]
    return clock[-1] - clock[0]


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--timed", type=int, default=20)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stride", type=int, default=1, help="kill before each operation with such a number")
    parser.add_argument("--quick", action="store_true", help="write no result")
    args = parser.parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = "1"  # on a busy machine threads wait for each other
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["NANOGPT_HOME"] = str(root / "home")
        home().mkdir()
        text = root / "text.txt"
        text.write_text(corpus.find("python-reference").text()[:20_000], encoding="utf-8")
        result = dict(
            seed=args.seed, each_operation=each_operation(str(text), root, args.stride),
            random_moments=random_moments(str(text), args.runs, args.steps, args.seed),
            by_the_clock=by_the_clock(str(text), args.timed, args.seed),
        )  # fmt: skip
    print(json.dumps(result, indent=1))
    if not args.quick:
        write_result("kill", result)
    return result


if __name__ == "__main__":
    main()
