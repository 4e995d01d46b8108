"""Measure what a new user waits for.

    python -m benchmarks.newcomer

Measures, in three visits: how soon the server answers after `python app.py`; how soon the page is drawn, and how many
bytes it takes; how soon the first point is on the plot after Start, with the Train tab open and its estimate shown; and
the time of `--help`. The machine should be idle.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from typing import Any

from benchmarks.machine import write_result
from benchmarks.overhead import ROOT, served

VISITS = 3
STATE = "document.querySelector('#train-status .status-line')?.dataset.state"
POINTS = "document.querySelectorAll('#train-plot .plot-dot').length"


def first_moments() -> dict[str, float]:
    """Return the seconds that a new user waits, the browser's work included, and the size of the first page as sent."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        received = bytes_received(page)
        os.environ["NANOGPT_SHIPPED"] = "off"  # so that the plot starts empty
        began = time.perf_counter()
        server, url = served(home)
        del os.environ["NANOGPT_SHIPPED"]
        urllib.request.urlopen(url).read()
        answers = time.perf_counter() - began
        began = time.perf_counter()
        page.goto(url)
        page.wait_for_selector("#corpus-report h3")
        shows = time.perf_counter() - began
        page.wait_for_timeout(5000)  # what is requested late counts, too
        megabytes, requests = sum(received) / 1e6, len(received)
        page.get_by_role("tab", name="Train").click()
        page.wait_for_function("document.querySelector('#train-estimate textarea').value.includes('parameters')")
        time.sleep(8)  # a user reads the page for a while, and the pre-warmed trainer gets ready
        began = time.perf_counter()
        page.get_by_role("button", name="Start", exact=True).click()
        page.wait_for_function(f"{STATE} === 'running' && {POINTS} > 0")
        point = time.perf_counter() - began
        page.locator("#train-stop").click()
        page.wait_for_function(f"{STATE} === 'stopped'")
        browser.close()
        server.terminate()
        server.wait()
    return dict(
        page_answers_seconds=round(answers, 1), page_shows_seconds=round(shows, 1), page_megabytes=round(megabytes, 2),
        page_requests=requests, first_point_seconds=round(point, 1), help_seconds=round(help_seconds(), 2),
    )  # fmt: skip


def bytes_received(page: Any) -> list[float]:
    """Return a list to which each response that a page receives adds its size: bytes sent, headers included."""
    received: list[float] = []
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    # without responses that never end, such as the heartbeat
    network.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    return received


def help_seconds() -> float:
    """Return how long the slowest `--help` takes, of three ways to ask, three times each."""
    taken = []
    for command in (["-m", "nanogpt", "--help"], ["-m", "nanogpt", "train", "--help"], ["app.py", "--help"]) * 3:
        began = time.perf_counter()
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - began)
    return max(taken)


def main() -> dict[str, float]:
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    visits = [first_moments() for _ in range(VISITS)]
    found = {key: statistics.median(one[key] for one in visits) for key in visits[0]}
    print(found)
    write_result("newcomer", dict(median=found, visits=visits))
    return found


if __name__ == "__main__":
    main()
