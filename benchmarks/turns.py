"""Measure how long after its turn a waiting run starts: from when the device is free to its event "started".

    python -m benchmarks.turns [FILE] [--waiting 20] [--turns 5] [--seconds 15]

The runs wait as processes of their own; the one that trains is stopped after `--seconds`, and then the next one. FILE
is Tiny Shakespeare, by default the file named by NANOGPT_TINYSHAKESPEARE. Nothing is written.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from nanogpt import corpus
from nanogpt.launch import local, prepare
from nanogpt.runs import Run, queue


def until(true: Callable[[], bool]) -> float:
    """Wait until something is true, and return the time."""
    while not true():
        time.sleep(0.005)
    return time.perf_counter()


def has_started(run: Run) -> bool:
    return [event["event"] for event in run.history().events[:1]] == ["started"]


def turns(text: corpus.Corpus, waiting: int, count: int, seconds: float) -> list[float]:
    """Return the seconds from when the device was free to the start of the next run, for `count` runs."""
    runs = [prepare.new_run(f"run-{i:02}", text, "quick", max_iters=10**6, snapshots="off") for i in range(waiting + 1)]
    found = []
    try:
        for run in runs:
            local.start(run)
        until(lambda: has_started(runs[0]))
        for now, after in zip(runs[:count], runs[1:]):
            time.sleep(seconds)
            now.request_stop()
            free = until(lambda name=now.name: name not in queue.running())  # type: ignore[misc]
            found.append(until(lambda run=after: has_started(run)) - free)  # type: ignore[misc]
            print(f"{after.name} started after {found[-1]:.2f} s; load {os.getloadavg()[0]:.1f}", flush=True)
    finally:
        for run in reversed(runs):
            run.request_stop()
        for run in runs:
            local._children[run.name].wait()
    return found


def main(arguments: list[str] | None = None) -> list[float]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", default=os.environ.get("NANOGPT_TINYSHAKESPEARE"))
    parser.add_argument("--waiting", type=int, default=20)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=15.0)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as home, mock.patch.dict(os.environ, NANOGPT_HOME=home):
        found = turns(corpus.add([Path(chosen.file)]), chosen.waiting, chosen.turns, chosen.seconds)
    print(f"median {statistics.median(found):.2f} s")
    return found


if __name__ == "__main__":
    main()
