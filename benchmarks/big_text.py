"""Measure the whole way from a large file to a trained model: speed and memory, beside the same run on a small text.

    python -m benchmarks.big_text FILE [--megabytes 1000] [--steps 2000]

FILE is a text such as Tiny Shakespeare. The large text is its paragraphs in random order, again and again, with one
word in twelve replaced. Linux only, because it reads memory from /proc. It needs three times the size on disk.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import write_result
from nanogpt.paths import environment
from nanogpt.runs import Run

SHAPE = ["--preset", "laptop", "--eval-interval", "500"]


def write_text(source: Path, path: Path, size: int) -> None:
    """Write about `size` bytes of text like that in `source`."""
    paragraphs = source.read_text(encoding="utf-8").split("\n\n")
    words = sorted({word for one in paragraphs for word in one.split()})
    chance, written = random.Random(1), 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        while written < size:
            chance.shuffle(paragraphs)
            written += file.write("\n\n".join(changed(one, words, chance) for one in paragraphs) + "\n\n")


def changed(paragraph: str, words: list[str], chance: random.Random) -> str:
    """Return a paragraph with one word in twelve replaced by any other."""
    parts = paragraph.split(" ")
    for _ in range(len(parts) // 12):
        parts[chance.randrange(len(parts))] = chance.choice(words)
    return " ".join(parts)


def memory(process: int) -> dict[str, float]:
    """Return the memory of a process now, in MB: its own, and that of mapped files, which the system can take back."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    found = {
        key: int(rest.split()[0]) / 1000 for key, _, rest in (line.partition(":") for line in lines) if "kB" in rest
    }
    return dict(own=found["RssAnon"], files=found["RssFile"])


def processor_seconds(process: int) -> float:
    """Return the processor time that a process has used so far, all its threads together."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def trained(text: Path, home: Path, name: str, steps: int) -> dict[str, Any]:
    """Train on a text in a process of its own. Return how long each part took, and the peaks of its memory."""
    command = [sys.executable, "-m", "nanogpt", "train", str(text), "--name", name, *SHAPE, f"--max-iters={steps}"]
    env = {**environment(), "NANOGPT_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    began, stored, peaks = time.perf_counter(), 0.0, dict(own=0.0, files=0.0)
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    while process.returncode is None:
        time.sleep(0.02)
        process.poll()
        try:
            peaks = {key: max(peaks[key], value) for key, value in memory(process.pid).items()}
        except (OSError, KeyError):  # it has just ended
            continue
        if not stored and (home / "checkpoints" / name / "run.json").exists():
            stored, storing, busy = time.perf_counter() - began, dict(peaks), processor_seconds(process.pid)
    seconds = time.perf_counter() - began
    os.environ["NANOGPT_HOME"] = str(home)
    history = Run(name).history()
    rounded = lambda figures: {key: round(value) for key, value in figures.items()}
    megabytes = round(text.stat().st_size / 1e6, 1)
    return dict(
        megabytes=megabytes, seconds_to_store=round(stored, 2), megabytes_per_second=round(megabytes / stored, 1),
        processor_seconds_to_store=round(busy, 2), seconds=round(seconds, 1),
        peak_while_storing=rounded(storing), peak=rounded(peaks), val_loss=history.best["val_loss"],
        characters_per_second=history.latest("characters_per_second"),
    )  # fmt: skip


def main(argv: list[str] | None = None) -> dict:
    """Measure both texts, print and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args(argv)
    found: dict[str, Any] = dict(steps=options.steps)
    with tempfile.TemporaryDirectory() as folder:
        home, large = Path(folder), Path(folder, "large.txt")
        write_text(options.file, large, options.megabytes * 1_000_000)
        for name, text in (("small", options.file), ("large", large)):
            found[name] = trained(text, home, name, options.steps)
            print(name, found[name], flush=True)
    write_result("big_text", found)
    return found


if __name__ == "__main__":
    main()
