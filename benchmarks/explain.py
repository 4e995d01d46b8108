"""Time the views of the Understand tab on two models: the shipped one and the lecture's largest, of 10.65 M parameters.

    python -m benchmarks.explain TEXT [--ship]

TEXT is Tiny Shakespeare, the text of the shipped model. The large model's weights are random, which doesn't affect the
speed. With --ship, write the results that ship with checkpoints/shakespeare: numbers, and no text.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.machine import write_result
from nanogpt import corpus
from nanogpt.config import SampleConfig
from nanogpt.explain import ablation, attention, characters, copies
from nanogpt.explain.opened import Opened, open_run
from nanogpt.explain.seen import seen
from nanogpt.formats import read_config, weights_bytes
from nanogpt.launch import prepare
from nanogpt.model import GPT
from nanogpt.paths import SHIPPED
from nanogpt.runs import Run

LARGE = dict(layout="classic", n_layer=6, n_head=6, n_embd=384, block_size=256)


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
        "copies: index of the training text": seconds(lambda: copies.index_of(one)),
        "copies: check 2,000 characters": seconds(lambda: copies.checked(one, text[:2000])),
        "copies: a sample and its check": seconds(lambda: copies.of_a_sample(one)),
    }  # fmt: skip


def large(text: corpus.Corpus) -> Run:
    """Create a run of 10.65 M parameters with random weights."""
    run = prepare.new_run("large", text, "lecture", **LARGE)
    (run.folder / "model.safetensors").write_bytes(weights_bytes(GPT(read_config(run.folder))))
    return run


def main(argv: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--ship", action="store_true")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as home:
        os.environ["NANOGPT_HOME"] = home
        text = corpus.add(args.text.read_text(encoding="utf-8"), "text")
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
    write_result("explain", dict(threads=torch.get_num_threads(), views=table))
    return table


if __name__ == "__main__":
    main()
