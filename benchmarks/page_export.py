"""Measure the single-page export in Chromium, offline: its speed, and how close its logits are to PyTorch's.

    python -m benchmarks.page_export [--rounds 5] [--quick]

Each page is opened twice, with WebAssembly and without, where it runs in JavaScript; the two take turns. Speeds are
characters per second of processor time of the page's own process, so that other programs matter less. The weights are
random, which doesn't affect the speed. Half of the 512 characters, or more, are beyond the context length, where half
of the context is read again each time it is full. Also records the speed that the page itself shows, which is by the
clock and includes rendering.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import write_result
from benchmarks.sampling import QUICK, SIZES, VOCAB
from nanogpt.config import ModelConfig
from nanogpt.disk import write_whole
from nanogpt.formats import config_files, load_model, weights_bytes
from nanogpt.model import GPT
from nanogpt.publish import page_export
from nanogpt.runs import Run
from nanogpt.tokenizer import CharTokenizer
from tests.run import find_browser

TIMED = """([length, seed, times]) => {
    for (let i = 0; i < times; i++) for (const id of write(gpt, [0], { length, temperature: 0.8, seed })) void id;
}"""
SCORES = "ids => { gpt.restart(); return ids.map((id) => { gpt.read([id]); return Array.from(gpt.scores()); }); }"
JAVASCRIPT = "delete window.WebAssembly"  # makes a page run in JavaScript


def made(name: str, layout: str, size: dict) -> Run:
    """Create a run whose random weights are about as large as a trained model's."""
    tokenizer = CharTokenizer(map(chr, range(32, 32 + VOCAB)))
    config = ModelConfig(VOCAB, layout, **size)
    about = dict(id="0" * 16, name="Random", sha256="", characters=1)
    settings = dict(preset="quick", plan=None, corpus=about, train={})
    run = Run.create(name, settings, {**config_files(config), **tokenizer.files(config.block_size)})
    torch.manual_seed(1)
    model = GPT(config)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    write_whole(run.folder / "model.safetensors", weights_bytes(model))
    return run


class Opened:
    """A run's page, opened in a process of its own."""

    def __init__(self, browser, path: Path, script: str = ""):
        self.page = browser.new_context(offline=True).new_page()
        self.page.set_default_timeout(600_000)
        self.page.add_init_script(script)
        self.session = self.page.context.new_cdp_session(self.page)
        self.session.send("Performance.enable")
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("#text[aria-busy=false]")

    def seconds(self) -> float:
        """Return the processor time that the page has taken so far."""
        metrics = self.session.send("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == "ProcessTime")

    def speed(self, length: int, seed: int, times: int = 1) -> float:
        """Generate a text, several times, without showing it. Return characters per second of processor time."""
        began = self.seconds()
        self.page.evaluate(TIMED, [length, seed, times])
        return times * length / max(self.seconds() - began, 0.01)  # it is counted in hundredths of a second

    def shown(self, length: int) -> int:
        """Generate a text as a visitor does. Return the characters per second that the page then shows."""
        self.page.locator("#length").fill(str(length))
        self.page.locator("#go").click()
        self.page.wait_for_selector("#text[aria-busy=false]")
        [shown] = re.findall(r"([\d,]+) per second", self.page.locator("#status").inner_text())
        return int(shown.replace(",", ""))


def measure(browser, run: Run, folder: Path, rounds: int, length: int) -> dict:
    """Open a run's page both ways, generate texts in turns, and return the results."""
    model = load_model(run.folder)
    path = folder / "page.html"
    path.write_text(page_export.html(run), encoding="utf-8", newline="")
    pages = dict(webassembly=Opened(browser, path), javascript=Opened(browser, path, JAVASCRIPT))
    inside: dict[str, list[float]] = {way: [] for way in pages}
    beyond: dict[str, list[float]] = {way: [] for way in pages}
    times = max(1, 8_000_000 // model.count_parameters())  # a small model is too fast to be timed once
    for seed in range(rounds):
        for way, opened in pages.items():
            inside[way].append(opened.speed(model.config.block_size, seed, times * length // model.config.block_size))
            beyond[way].append(opened.speed(length, seed, times))
    ids = np.random.default_rng(0).integers(0, VOCAB, model.config.block_size).tolist()
    with torch.no_grad():
        expected = model(torch.tensor([ids]))[0][0].numpy()  # (T, vocab_size)
    found = dict(
        layout=model.config.layout, parameters=model.count_parameters(), megabytes=round(path.stat().st_size / 1e6, 2),
        largest_score=round(float(np.abs(expected).max()), 2),
    )  # fmt: skip
    for way, opened in pages.items():
        apart = np.abs(np.array(opened.page.evaluate(SCORES, ids)) - expected).max()
        found[way] = dict(
            characters_per_second_inside=round(statistics.median(inside[way])),
            characters_per_second=round(statistics.median(beyond[way])),
            rounds=[round(speed) for speed in beyond[way]],
            the_page_shows=opened.shown(length), scores_apart=float(f"{apart:.1e}"),
        )  # fmt: skip
        opened.page.context.close()
    return found


def main(argv: list[str] | None = None) -> dict:
    """Measure, print the table and write the result. With --quick use a tiny model and write nothing."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="try the script with a tiny model")
    args = parser.parse_args(argv)
    load = [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None
    print(f"load before: {load}; characters per second\n")
    print(f"{'model':<8} {'layout':<8} {'MB':>5} {'way':<11} {'inside':>7} {'512':>7} {'page':>7}  scores apart")
    rows = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        os.environ["NANOGPT_HOME"] = folder
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox", "--disable-gpu"])
        for name, size in (QUICK if args.quick else SIZES).items():
            for layout in ("classic", "modern"):
                run = made(f"{layout}-{size['n_embd']}", layout, size)
                row = measure(browser, run, Path(folder), args.rounds, 100 if args.quick else 512)
                rows.append(dict(model=name, **row))
                for way in ("webassembly", "javascript"):
                    print(
                        f"{name:<8} {layout:<8} {row['megabytes']:>5.1f} {way:<11} "
                        f"{row[way]['characters_per_second_inside']:>7,} {row[way]['characters_per_second']:>7,} "
                        f"{row[way]['the_page_shows']:>7,}  {row[way]['scores_apart']:.1e}",
                        flush=True,
                    )
        result = dict(
            what="the single-page export in Chromium, offline, with WebAssembly and without: characters per second of "
            "processor time within the context and for 512 characters, those that the page shows, which are by the "
            "clock, and the largest difference from PyTorch's logits",
            browser=browser.version, load_before=load, models=rows,
        )  # fmt: skip
        browser.close()
    if not args.quick:
        write_result("page_export", result)
    return result


if __name__ == "__main__":
    main()
