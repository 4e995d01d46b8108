"""The lecture, replayed: its stages trained one after another on your own text, in a process of their own.

The process can be paused, so that it never competes with a training run, and it is killed when its reader stops.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

from .. import disk
from ..config import NanoGPTError
from ..errors import shortages

LECTURE, MODERN = range(1, 7), range(8, 19)  # stages; the seventh takes hours without a GPU
AT_ONCE = 2  # stages that train at the same time
VERSION = 1  # of the stored results: increase it when a stage changes

# What each stage adds, for someone who has just watched the lecture.
ADDS = {
    1: "The bigram model: a table that says for each character what comes next. It sees one character and no more.",
    2: "Self-attention: every character looks at the ones before it and mixes in what it finds useful. Positions "
    "are added, because attention alone doesn't know what stands where.",
    3: "Four small heads instead of a large one. Each can look for something else: vowels, or line breaks.",
    4: "A feed-forward layer: after gathering, each character computes on its own with what it has gathered.",
    5: "Three blocks, stacked, with residual connections: each adds its result to what comes in, so that "
    "gradients reach the first block unhindered.",
    6: "Layer norm before each part: the numbers that enter it have the same size, which makes training steadier.",
    8: "A new start: the lecture's architecture and recipe, at a size that two cores can train in half a minute.",
    9: "Rotary positions: queries and keys are rotated by their position, so that only distances count. "
    "On Tiny Shakespeare, it helps most.",
    10: "RMS norm without weights: only the division that keeps numbers in range. It is simpler, and costs nothing.",
    11: "Queries and keys are normalized, so that scores can't grow until a head sees one character only.",
    12: "ReLU squared: a strong match counts for more than several weak ones.",
    13: "No biases: fewer parameters for the same loss.",
    14: "Zero init: blocks start by adding nothing, so the first prediction gives all characters the same probability.",
    15: "Muon: the update of a matrix moves it as far in rare directions as in frequent ones.",
    16: "A higher learning rate for the rest of the parameters. Alone it hurts; the next step needs it.",
    17: "The learning rates fall to zero: large steps early, small ones at the end.",
    18: "Shuffled epochs: each part of the text is used once before any is used again.",
}  # fmt: skip


def replay(
    text: Path, stage: int, paused: Callable[[], bool] = lambda: False, max_iters: int | None = None
) -> Generator[dict[str, Any]]:
    """Train a stage of the ladder on a text file. Yield each of its events, and {} about once a second in between.

    While `paused()` is true, the process stands still and {"paused": True} is yielded. When the caller stops, it ends.
    Raise NanoGPTError if it fails.
    """
    command = [sys.executable, "-m", "nanogpt", "ladder", str(text), "--stage", str(stage), "--json", "--device", "cpu"]
    command += [] if max_iters is None else ["--max-iters", str(max_iters)]
    return events_of(command, paused, threads=max(1, cores() // AT_ONCE))


def cores() -> int:
    """Return how many cores this process may use."""
    from ..device import usable_cpus  # here, because it imports torch

    return usable_cpus()


def in_pairs(
    text: Path, stages: Iterable[int], paused: Callable[[], bool] = lambda: False
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Train stages, as many at once as there are cores, up to AT_ONCE. Yield (stage, event) as `replay` does, and
    (stage, None) when one has ended.

    They share the cores. The lecture's models are so small that a second thread doesn't make one train faster.
    """
    waiting, training = list(stages), dict[int, Generator[dict[str, Any]]]()
    try:
        while waiting or training:
            while waiting and len(training) < min(AT_ONCE, cores()):
                stage = waiting.pop(0)
                training[stage] = replay(text, stage, paused)
            for stage, events in list(training.items()):
                event = next(events, None)
                if event is None:
                    del training[stage]
                yield stage, event
    finally:
        for events in training.values():
            events.close()


def timed(pairs: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any, float]]:
    """Yield (stage, event, seconds) for pairs of a stage and its event: for how long it has trained, without pauses."""
    spent, before = dict[Any, float](), dict[Any, float]()
    for stage, event in pairs:
        now = time.monotonic()
        paused = event is not None and "paused" in event
        spent[stage] = spent.get(stage, 0.0) + (0.0 if paused else now - before.get(stage, now))
        before[stage] = now
        yield stage, event, spent[stage]


def events_of(
    command: list[str], paused: Callable[[], bool] = lambda: False, threads: int | None = None
) -> Generator[dict[str, Any]]:
    """Run a command that prints an event per line as JSON, on so many threads. Yield and pause as `replay` does."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=_environment(threads),
        **_alone(),
    ) as child:  # fmt: skip
        lines: queue.Queue[bytes | None] = queue.Queue()
        try:
            with shortages():
                threading.Thread(target=_read, args=(child, lines), daemon=True).start()
            yield from _events(child, lines, paused)
        finally:
            _signal(child, "SIGCONT")
            child.kill()


def _events(child: subprocess.Popen, lines: queue.Queue, paused: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    still = False
    while True:
        if paused() != still:
            still = not still
            _signal(child, "SIGSTOP" if still else "SIGCONT")
        if still:
            yield dict(paused=True)
            time.sleep(1.0)
            continue
        try:
            line = lines.get(timeout=1.0)
        except queue.Empty:
            yield {}
            continue
        if line is None:
            break
        yield json.loads(line)
    if child.wait() != 0:
        text = (child.stderr.read() if child.stderr else b"").decode(errors="replace").strip()
        last = text.splitlines()[-1] if text else "Training failed without an error message. Try again."
        raise NanoGPTError(last.removeprefix("nanogpt: "))


def _read(child: subprocess.Popen, lines: queue.Queue) -> None:
    assert child.stdout is not None
    with contextlib.suppress(ValueError):  # closed
        for line in child.stdout:
            lines.put(line)
    lines.put(None)


def _signal(child: subprocess.Popen, name: str) -> None:
    """Send a signal to a process, if there is one by this name: Windows has none that stops a process for a while."""
    if hasattr(signal, name) and child.poll() is None:
        child.send_signal(getattr(signal, name))


def _environment(threads: int | None) -> dict[str, str]:
    more = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUNBUFFERED": "1"}
    return os.environ | more | ({"OMP_NUM_THREADS": str(threads)} if threads else {})


def _alone() -> dict[str, Any]:
    """Return options that keep the server's Ctrl-C away from a process, and on Windows let other programs go first.

    A process group of its own, but in the server's session: when the server is killed while the process is paused, the
    system hangs it up and continues it (setpgid(2), "orphaned process group"), and it ends.
    """
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.BELOW_NORMAL_PRIORITY_CLASS}
    return {"process_group": 0}


# ---- what is kept next to a text -------------------------------------------------------------------------------------


def kept(folder: Path) -> dict[int, list[dict[str, Any]]]:
    """Return the events of the stages that have been trained to their end on the text in this folder, by stage."""
    try:
        stored = disk.from_json(disk.read(folder / "ladder.json"))
        return (
            {int(stage): events for stage, events in stored["stages"].items()} if stored["version"] == VERSION else {}
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none yet, or damaged
        return {}


def keep(folder: Path, stage: int, events: list[dict[str, Any]]) -> None:
    """Keep the events of a stage next to its text."""
    stages = {**kept(folder), stage: events}
    disk.write_whole(folder / "ladder.json", json.dumps(dict(version=VERSION, stages=stages), ensure_ascii=False))
