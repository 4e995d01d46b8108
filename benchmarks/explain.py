"""Time the views of the Understand tab on two models: the shipped one and the lecture's largest, of 10.65 M parameters.

    python -m benchmarks.explain TEXT [--ship]
    python -m benchmarks.explain TEXT --limits

TEXT is Tiny Shakespeare, the text of the shipped model. The large model's weights are random, which doesn't affect the
speed. With --ship, write the results that ship with checkpoints/shakespeare: numbers, and no text.

With --limits, measure only what must stay within a limit, in seconds of processor time, which other programs disturb
less, and add it to the results: searching 20 MB for copies, the share of a run that its snapshots take, and the
lecture's first six stages.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import RESULTS, about, write_result
from nanogpt import corpus
from nanogpt.config import SampleConfig
from nanogpt.explain import ablation, attention, characters, copies, neighbors, readout, replay, tiny, tour, units
from nanogpt.explain.opened import Opened, open_run
from nanogpt.explain.seen import seen
from nanogpt.formats import read_config, weights_bytes
from nanogpt.launch import prepare
from nanogpt.model import GPT
from nanogpt.paths import SHIPPED
from nanogpt.runs import Run, snapshots
from nanogpt.train import train

LARGE = dict(layout="classic", n_layer=6, n_head=6, n_embd=384, block_size=256)

NOTE = "Seconds of processor time, except the wall time of the stages: other programs shared the machine."


def seconds(function: Callable) -> float:
    began = time.perf_counter()
    function()
    return round(time.perf_counter() - began, 3)


def all_of(found) -> None:
    for _ in found:
        pass


def measure(one: Opened) -> dict[str, float]:
    """Return the seconds that each view takes on a run."""
    text, training, read = one.held_out_text() or "", one.training_text() or "", (one.model, one.tokenizer)
    config = SampleConfig(length=300)
    first = [ablation.Part(0, "head", 0)]
    return {
        "characters: color 600": seconds(lambda: characters.read(*read, text[:600])),
        "characters: what was expected": seconds(lambda: characters.logits_at(*read, text[:600], 600)),
        "characters: longest context in the training text": seconds(lambda: seen(training, text[:300])),
        "parts: all": seconds(lambda: all_of(ablation.measured(one))),
        "parts: 300 characters with and without": seconds(
            lambda: all_of(ablation.with_and_without(one, first, "", config))
        ),
        "attention: what each head looks at": seconds(lambda: attention.of_heads(one)),
        "readout: fit after each block": seconds(lambda: all_of(readout.measured(one))),
        "readout: a text of 200": seconds(
            lambda: readout.of_text(one, one.tokenizer.encode(text[:200]), readout.translators(one))
        ),
        "letters: neighbors and map": seconds(lambda: neighbors.maps(one, range(one.tokenizer.vocab_size))),
        "units: find one": seconds(lambda: units.of_feature(one, "word-start")),
        "tour: open": seconds(lambda: tour.lesson(one)),
        "tour: with and without the mask": seconds(lambda: all_of(tiny.asked("mask", tiny.text_for(one)[0]))),
        "tour: AdamW and SGD": seconds(lambda: all_of(tiny.asked("adamw", tiny.text_for(one)[0]))),
        "copies: index of the training text": seconds(lambda: copies.index_of(one)),
        "copies: check 2,000 characters": seconds(lambda: copies.checked(one, text[:2000])),
        "copies: a sample and its check": seconds(lambda: copies.of_a_sample(one)),
    }  # fmt: skip


def large(text: corpus.Corpus) -> Run:
    """Create a run of 10.65 M parameters with random weights."""
    run = prepare.new_run("large", text, "lecture", **LARGE)
    (run.folder / "model.safetensors").write_bytes(weights_bytes(GPT(read_config(run.folder))))
    return run


# ---- what must stay within a limit --------------------------------------------------------------------------------


def processor(function: Callable) -> float:
    """Return the seconds of processor time that a function takes, and its processes that have ended."""
    used = lambda: time.process_time() + sum(os.times()[2:4])  # the latter: of processes
    began = used()
    function()
    return round(used() - began, 3)


def limits(text: corpus.Corpus) -> dict[str, Any]:
    """Return what is measured with --limits."""
    found = searching(text) | snapshots_share(text)
    stages = lambda: all_of(replay.in_pairs(text.folder / "text.txt", replay.LECTURE))
    began = time.perf_counter()
    return found | {
        "replay: six stages, processor": processor(stages),
        "replay: six stages, wall": round(time.perf_counter() - began, 1),
        "load at the end": round(os.getloadavg()[0], 1),
    }


def searching(text: corpus.Corpus) -> dict[str, Any]:
    """Time the search for copies in 20 MB: the lines of the text, shuffled, as often as needed.

    So every line occurs about 18 times, which is more than a search usually finds.
    """
    lines, dice, whole = text.text().splitlines(keepends=True), random.Random(1), ""
    while len(whole) < copies.INDEXED:
        dice.shuffle(lines)
        whole += "".join(lines)
    long = corpus.add(whole[: copies.INDEXED], "20 MB")
    run = prepare.new_run("long", long, "quick", n_layer=1, n_head=1, n_embd=16, block_size=16)
    (run.folder / "model.safetensors").write_bytes(weights_bytes(GPT(read_config(run.folder))))
    one = open_run(run)
    asked = (one.held_out_text() or "")[:2000]
    return {
        "copies: index of 20 MB": processor(lambda: copies.index_of(one)),
        "copies: check 2,000 characters in 20 MB": processor(lambda: copies.checked(one, asked)),
    }


def snapshots_share(text: corpus.Corpus, steps: int = 250) -> dict[str, Any]:
    """Train a model for a while and return the share of the processor time that its snapshots take.

    It falls during a run, because snapshots are taken less and less often.
    """
    run = prepare.new_run("kept", text, "quick", max_iters=steps, eval_interval=steps)
    spent = [0.0]

    def timed(method: Callable) -> Callable:
        def measured(*inputs):
            result: list = []
            spent[0] += processor(lambda: result.append(method(*inputs)))
            return result[0]

        return measured

    kinds = snapshots.Snapshots
    before = kinds._copy, kinds._write
    kinds._copy, kinds._write = map(timed, before)
    try:
        whole = processor(lambda: train(run))
    finally:
        kinds._copy, kinds._write = before
    return {
        "snapshots: parameters": open_run(run).model.count_parameters(),
        "snapshots: steps": steps,
        "snapshots: kept": len(snapshots.steps_in(run.folder)),
        "snapshots: processor seconds": round(spent[0], 3),
        "snapshots: share of the run's processor time": round(spent[0] / whole, 4),
    }


def main(argv: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--ship", action="store_true")
    parser.add_argument("--limits", action="store_true")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as home:
        os.environ["NANOGPT_HOME"] = home
        text = corpus.add(args.text.read_text(encoding="utf-8"), "text")
        kept = json.loads((RESULTS / "explain.json").read_text(encoding="utf-8"))
        if args.limits:
            kept["limits"] = about() | dict(note=NOTE, seconds=limits(text))
            (RESULTS / "explain.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
            return kept["limits"]
        shutil.copytree(SHIPPED / "shakespeare", Path(home, "checkpoints", "own"))
        shutil.rmtree(Path(home, "checkpoints", "own", "explain"), ignore_errors=True)
        runs = {"shipped": Run("own"), "10.65 M": large(text)}
        table = {}
        for name, run in runs.items():
            one = open_run(run)
            assert one.corpus_id, "the text is not the one that the shipped model was trained on"
            table[name] = dict(parameters=one.model.count_parameters(), seconds=measure(one))
            print(name, table[name], flush=True)
        if args.ship:
            shutil.copytree(Path(home, "checkpoints", "own", "explain"), SHIPPED / "shakespeare" / "explain",
                            dirs_exist_ok=True)  # fmt: skip
    write_result("explain", dict(threads=torch.get_num_threads(), views=table, limits=kept.get("limits", {})))
    return table


if __name__ == "__main__":
    main()
