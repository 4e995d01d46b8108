"""Measure the cost of watching a run: the CPU time of the server, the browser and the trainer, with and without a page.

    python -m benchmarks.overhead [FILE] [--pairs 5] [--seconds 20]

Uses a real server and a real run. First, a Chromium opens the page and leaves it at rest, `--pairs` times. Then each
pair measures with a Chromium that shows the Train tab, which polls once per second, and without. What counts is the
user and system time of their processes, as reported by Linux. Chromium draws without a GPU here, so a browser that has
one takes less.
"""

from __future__ import annotations

import argparse
import contextlib
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


def of_browser() -> list[int]:
    """Return the browser's processes: those named Chromium or Chrome that come from this process."""
    named, children = {}, dict[int, list[int]]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            name, _, rest = path.read_text().partition("(")[2].rpartition(")")
            named[int(path.parent.name)] = name
            children.setdefault(int(rest.split()[1]), []).append(int(path.parent.name))
    found = [os.getpid()]
    for pid in found:  # which grows
        found += children.get(pid, [])
    return [pid for pid in found if named.get(pid, "").startswith("chrom")]


def shares(pids: dict[str, list[int]], seconds: float) -> dict[str, float]:
    """Return how many cores each group of processes uses, measured over some seconds."""
    taken = lambda: {name: sum(map(cpu_seconds, group)) for name, group in pids.items()}
    before, began = taken(), time.perf_counter()
    time.sleep(seconds)
    after, passed = taken(), time.perf_counter() - began
    return {name: round((after[name] - before[name]) / passed, 4) for name in pids}


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


def opened(playwright, url: str):
    """Open the page in a browser of its own. Return both, and the seconds until the page is drawn."""
    browser = playwright.chromium.launch(
        executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    )
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    began = time.perf_counter()
    page.goto(url)
    page.wait_for_selector("#corpus-report h3", state="attached")
    return browser, page, round(time.perf_counter() - began, 2)


def at_rest(playwright, url: str, seconds: float) -> dict[str, float]:
    """Return how long the page took to be drawn, and how many cores the browser uses once nothing happens on it."""
    browser, _, drawn = opened(playwright, url)
    time.sleep(15)  # the replay plays for nine seconds
    found = shares({"browser": of_browser()}, seconds)
    browser.close()
    return dict(drawn_seconds=drawn, **found)


def watched(playwright, url: str, pids: dict[str, list[int]], seconds: float) -> dict[str, float]:
    """Return how many cores the server, the trainer and the browser use while a page shows the run."""
    browser, page, _ = opened(playwright, url)
    page.get_by_role("tab", name="Train").click()
    page.wait_for_function("document.querySelector('#train-status .status-line')?.dataset.state === 'running'")
    time.sleep(5)  # don't count opening the page
    found = shares({**pids, "browser": of_browser()}, seconds)
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
        server, url = served(home)
        rests = [at_rest(playwright, url, args.seconds) for _ in range(args.pairs)]
        print(rests, flush=True)
        command = [sys.executable, "-m", "nanogpt", "train", args.file, "--name", "watched", "--budget", "1h"]
        trainer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        time.sleep(30)  # calibration, and the first evaluations
        pids = {"server": [server.pid], "trainer": [trainer.pid]}
        pairs = []
        for _ in range(args.pairs):
            pairs.append(dict(page=watched(playwright, url, pids, args.seconds), none=shares(pids, args.seconds)))
            print(pairs[-1], flush=True)
        trainer.send_signal(signal.SIGINT)
        trainer.wait()
        server.terminate()
        server.wait()
    median = dict(
        server=statistics.median(pair["page"]["server"] - pair["none"]["server"] for pair in pairs),
        browser=statistics.median(pair["page"]["browser"] for pair in pairs),
        trainer=statistics.median(pair["page"]["trainer"] - pair["none"]["trainer"] for pair in pairs),
        at_rest=statistics.median(rest["browser"] for rest in rests),
        drawn_seconds=statistics.median(rest["drawn_seconds"] for rest in rests),
    )
    print("cores that watching adds to each, medians:", {name: round(extra, 3) for name, extra in median.items()})
    write_result("overhead", dict(median=median, pairs=pairs, at_rest=rests, seconds=args.seconds))


if __name__ == "__main__":
    main()
