"""Measure the single-page export in Chromium, offline: its speed, and how close its logits are to PyTorch's.

    python -m benchmarks.page_export [--rounds 5] [--quick]

The weights are random, which doesn't affect the speed. Most of the 2,000 characters generated are beyond the context
length, where each costs two forward passes: its own, and its share of the restarts. Within the context it costs one.
Also records the speed that the page itself shows, which includes rendering.
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

TIMED = """([length, seed]) => {
    const began = performance.now();
    for (const id of write(gpt, [0], { length, temperature: 0.8, seed })) void id;
    return length / (performance.now() - began) * 1000;
}"""
SCORES = "ids => { gpt.restart(); return ids.map((id) => { gpt.read(id); return Array.from(gpt.scores()); }); }"


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


def measure(page, run: Run, folder: Path, rounds: int, length: int) -> dict:
    """Open a run's page, generate text, and return the results."""
    model = load_model(run.folder)
    path = folder / "page.html"
    path.write_text(page_export.html(run), encoding="utf-8", newline="")
    page.goto(path.as_uri())
    page.wait_for_selector("#text[aria-busy=false]")
    speeds = lambda n: [page.evaluate(TIMED, [n, seed]) for seed in range(rounds)]
    inside, beyond = speeds(model.config.block_size), speeds(length)
    page.locator("#length").fill(str(length))
    page.locator("#go").click()
    page.wait_for_selector("#text[aria-busy=false]")
    [shown] = re.findall(r"([\d,]+) per second", page.locator("#status").inner_text())
    ids = np.random.default_rng(0).integers(0, VOCAB, model.config.block_size).tolist()
    with torch.no_grad():
        expected = model(torch.tensor([ids]))[0][0].numpy()  # (T, vocab_size)
    apart = np.abs(np.array(page.evaluate(SCORES, ids)) - expected).max()
    return dict(
        layout=model.config.layout, parameters=model.count_parameters(), megabytes=round(path.stat().st_size / 1e6, 2),
        characters_per_second_inside=round(statistics.median(inside)),
        characters_per_second=round(statistics.median(beyond)), rounds=[round(speed) for speed in beyond],
        the_page_says=int(shown.replace(",", "")),
        largest_score=round(float(np.abs(expected).max()), 2), scores_apart=float(f"{apart:.1e}"),
    )  # fmt: skip


def main(argv: list[str] | None = None) -> dict:
    """Measure, print the table and write the result. With --quick use a tiny model and write nothing."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="try the script with a tiny model")
    args = parser.parse_args(argv)
    load = [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None
    print(f"load before: {load}; characters per second\n")
    print(f"{'model':<8} {'layout':<8} {'MB':>6} {'inside':>8} {'2,000':>8} {'page':>8}  scores apart")
    rows = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        os.environ["NANOGPT_HOME"] = folder
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_context(offline=True).new_page()
        page.set_default_timeout(600_000)
        for name, size in (QUICK if args.quick else SIZES).items():
            for layout in ("classic", "modern"):
                run = made(f"{layout}-{size['n_embd']}", layout, size)
                row = measure(page, run, Path(folder), args.rounds, 100 if args.quick else 2000)
                rows.append(dict(model=name, **row))
                print(
                    f"{name:<8} {layout:<8} {row['megabytes']:>6.1f} {row['characters_per_second_inside']:>8,} "
                    f"{row['characters_per_second']:>8,} {row['the_page_says']:>8,}  {row['scores_apart']:.1e}",
                    flush=True,
                )
        result = dict(
            what="the single-page export in Chromium, offline: characters per second within the context, for 2,000 "
            "characters, and as the page shows; and the largest difference from PyTorch's logits",
            browser=browser.version, load_before=load, models=rows,
        )  # fmt: skip
        browser.close()
    if not args.quick:
        write_result("page_export", result)
    return result


if __name__ == "__main__":
    main()
