"""Run all GPU checks, in two parts of at most five and six minutes. The first part is useful on its own.

    python benchmarks/gpu_day.py first | second [FILE] --out FOLDER [--device cuda | cpu] [--seconds N] [--quick]

`first`: the tests marked `gpu`, the GPU's limits, all versions of the step, failed recordings, resuming, sampling,
whole commands. `second`: nanoGPT's recipe, compiled as published, compared with ours; long runs; torch.compile; recipes
with larger batches. Each check runs in its own process with its own time limit, and its results are written to FOLDER
at once, so that a check that crashes, hangs or times out costs nothing else. FILE is Tiny Shakespeare, by default the
file named by NANOGPT_TINYSHAKESPEARE. Neither gradio nor a network is needed. `--quick` tries the script with tiny
sizes, on a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# name -> time limit in seconds; checks in TOGETHER test correctness, not speed, so they run in parallel
TOGETHER = {"tests": 100, "failed_wait": 60, "failed_memory": 60, "evaluations": 70, "resume": 90, "ranks": 60}
FIRST = {
    "ceilings": 30, "step": 90, "small_batches": 40, "character_profile": 30, "sampling": 70, "commands": 90,
    "page_training": 45, "longer_command": 60,
}  # fmt: skip
SECOND = {"race": 150, "long_runs": 180, "compiled_step": 100, "recipes": 120}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=("first", "second"))
    parser.add_argument("file", nargs="?", default=os.environ.get("NANOGPT_TINYSHAKESPEARE"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--seconds", type=float, default=0, help="stop after this many seconds; default 300 and 360")
    parser.add_argument("--only", nargs="+", default=[], help="run only these checks, in this order")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args(argv)
    if not args.file:
        parser.error("give the path of Tiny Shakespeare, as an argument or in NANOGPT_TINYSHAKESPEARE")
    args.out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + (args.seconds or (300 if args.part == "first" else 360))
    found: dict[str, Any] = {}

    def check(name: str, limit: float) -> None:
        began = time.monotonic()
        found[name] = run_check(name, args, min(limit, end - began))
        took = time.monotonic() - began
        print(f"{name:14} {took:6.1f} s  {json.dumps(found[name], default=str)[:400]}", flush=True)
        whole = json.dumps({**about(), "checks": found}, indent=1, default=str)
        (args.out / f"{args.part}.json").write_text(whole + "\n", encoding="utf-8")

    if args.part == "first" and not args.only:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(check, TOGETHER, TOGETHER.values()))
    for name in args.only or (FIRST if args.part == "first" else SECOND):
        if end - time.monotonic() > 5:
            check(name, {**TOGETHER, **FIRST, **SECOND}[name])
    return found


def about() -> dict[str, Any]:
    """Return the GPU, date and Python version, without importing torch into this process."""
    ask = lambda *command: subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout.strip()
    try:
        gpu = ask("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
    except OSError:
        gpu = ""
    return dict(gpu=gpu, date=time.strftime("%Y-%m-%d"), python=sys.version.split()[0])


def run_check(name: str, args: argparse.Namespace, limit: float) -> Any:
    """Run one check in its own process. Return the JSON objects it printed, or how it failed."""
    module = ["-m", "benchmarks.gpu_checks", name, args.file, args.device, str(int(args.quick)), f"{limit:.0f}"]
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as home:
        environment = {
            **os.environ, "NANOGPT_HOME": home, "NANOGPT_SHIPPED": "off", "PYTHONUNBUFFERED": "1",
            "NANOGPT_CHECKS_OUT": str(args.out.resolve()),
        }  # fmt: skip
        try:
            done = subprocess.run(
                [sys.executable, *module], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit
            )
        except subprocess.TimeoutExpired as late:
            output = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
            return dict(error=f"cut off after {limit:.0f} s", rows=json_lines(output))
    rows = json_lines(done.stdout)
    if done.returncode:
        return dict(error=done.stderr[-3000:], rows=rows)
    return rows if len(rows) > 1 else rows[0] if rows else dict(error="printed nothing")


def json_lines(text: str) -> list[Any]:
    """Return the lines of a text that are JSON objects."""
    found = []
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return found


if __name__ == "__main__":
    main()
