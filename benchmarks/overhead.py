"""Measure the cost of watching a run: the server's CPU time with and without an open page.

    python -m benchmarks.overhead [FILE] [--pairs 5] [--seconds 20]

Uses a real server and a real run. Each pair measures the same server with a Chromium that shows the Train tab, which
polls once per second, and without. Only the server process's user and system time counts, as reported by Linux; the
trainer's and the browser's don't.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import RESULTS, write_result

ROOT = RESULTS.parent.parent


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def share(pid: int, seconds: float) -> float:
    """Return the share of one core that a process uses, measured over some seconds."""
    before, began = cpu_seconds(pid), time.perf_counter()
    time.sleep(seconds)
    return (cpu_seconds(pid) - before) / (time.perf_counter() - began)


def served(home: str) -> tuple[subprocess.Popen, str]:
    """Start a server. Return its process and address."""
    process = subprocess.Popen(
        [sys.executable, "-u", "app.py"], cwd=ROOT, env={**os.environ, "NANOGPT_HOME": home}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            return process, found[0]
    raise SystemExit("the server did not start")


def watched(playwright, url: str, pid: int, seconds: float) -> float:
    """Return the server's share of a core while a page shows the run."""
    browser = playwright.chromium.launch(
        executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    )
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    page.goto(url)
    page.get_by_role("tab", name="Train").click()
    page.wait_for_function("document.querySelector('#train-status .status-line')?.dataset.state === 'running'")
    time.sleep(5)  # don't count opening the page
    found = share(pid, seconds)
    browser.close()
    time.sleep(3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", nargs="?", default=os.environ.get("NANOGPT_TINYSHAKESPEARE"))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0)
    args = parser.parse_args()
    if not args.file:
        parser.error("give the path of Tiny Shakespeare, as an argument or in NANOGPT_TINYSHAKESPEARE")
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        os.environ["NANOGPT_HOME"] = home
        command = [sys.executable, "-m", "nanogpt", "train", args.file, "--name", "watched", "--budget", "1h"]
        trainer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        server, url = served(home)
        time.sleep(30)  # calibration, and the first evaluations
        pairs = []
        for number in range(args.pairs):
            pair = watched(playwright, url, server.pid, args.seconds), share(server.pid, args.seconds)
            pairs.append(pair)
            print(f"pair {number + 1}: with a page {pair[0]:.1%} of a core, without {pair[1]:.1%}", flush=True)
        trainer.send_signal(signal.SIGINT)
        trainer.wait()
        server.terminate()
        server.wait()
    extra = statistics.median(with_page - without for with_page, without in pairs)
    print(f"median of {len(pairs)} pairs: watching costs the server {extra:.1%} of a core")
    write_result("overhead", dict(watching=extra, pairs=pairs, seconds=args.seconds))


if __name__ == "__main__":
    main()
