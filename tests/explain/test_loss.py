"""Test what a loss is compared with, and dynamic evaluation."""

from __future__ import annotations

import json
import math

import pytest
import torch
from conftest import CLASSIC, SMALL, ended_run

from nanogpt import corpus
from nanogpt.config import ModelConfig, NanoGPTError
from nanogpt.explain import baselines, loss
from nanogpt.explain.dynamic import dynamic
from nanogpt.explain.opened import open_run
from nanogpt.model import GPT


def small_model() -> GPT:
    torch.manual_seed(1)
    return GPT(
        ModelConfig(
            vocab_size=4, **{key: CLASSIC[key] for key in ("layout", "n_layer", "n_head", "n_embd", "block_size")}
        )
    )


def test_a_model_learns_while_it_reads_and_stays_as_it_was():
    model, val = small_model().eval(), torch.tensor([0, 1, 2, 3] * 400)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    *_, found = dynamic(model, val, torch.ones(4, dtype=torch.int32))
    assert found["windows"] == found["of"] == found["all"] == 100
    assert found["dynamic"] < found["static"] - 0.01
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_window_is_scored_before_it_is_learned_from():
    model, val = small_model().eval(), torch.tensor([0, 1, 2, 3] * 400)
    first, *_ = dynamic(model, val, torch.ones(4, dtype=torch.int32))
    with torch.no_grad():
        expected = float(model(val[None, :16], val[None, 1:17])[1])
    assert first["dynamic"] == pytest.approx(expected, abs=1e-6)
    assert first["static"] == pytest.approx(expected, abs=1e-6)


def test_the_losses_are_per_character_whatever_the_length_of_a_token():
    model, val = small_model().eval(), torch.tensor([0, 1, 2, 3] * 40)
    [*_, one], [*_, two] = (list(dynamic(model, val, torch.full((4,), length))) for length in (1, 2))
    assert two["static"] == pytest.approx(one["static"] / 2)
    assert two["dynamic"] == pytest.approx(one["dynamic"] / 2)


def test_a_slow_model_reads_an_evenly_spaced_part(monkeypatch):
    monkeypatch.setattr("nanogpt.explain.dynamic.seconds_per_window", lambda *a: 2.0)
    *_, found = dynamic(small_model(), torch.tensor([0, 1, 2, 3] * 400), torch.ones(4, dtype=torch.int32), seconds=21)
    assert (found["windows"], found["of"], found["all"]) == (10, 10, 100)


def test_the_strongest_baseline_passed_is_named():
    losses = dict(uniform=4.0, unigram=3.0, bigram=2.5, xz=1.8, ppmd=1.4)
    assert loss.passed(2.6, losses) == "unigram"
    assert loss.better_than(1.6, losses, now=True) == "Now better than xz, which keeps learning as it reads."
    assert loss.better_than(2.49, losses) == "Better than knowing the previous character."
    assert loss.better_than(4.2, losses) == ""


def test_the_results_are_kept_in_the_run_and_found_without_the_text(home, tiny_text):
    text = corpus.add(tiny_text, "A play")
    run = ended_run(text, "one", **CLASSIC)
    assert loss.counted_for(run) is None
    *_, found = loss.learn(open_run(run))
    on_ruler = loss.ruler(open_run(run))
    assert on_ruler["dynamic"] == found
    assert on_ruler["loss"] == 3.0
    assert on_ruler["losses"] == baselines.kept(text).losses
    corpus.delete(text.id)
    assert loss.counted_for(run).losses == on_ruler["losses"]
    file = run.folder / "explain" / "loss.json"
    file.write_text(json.dumps(json.loads(file.read_text())["result"]))
    assert loss.counted_for(run) is None  # damaged
    with pytest.raises(NanoGPTError, match="isn't on this machine"):
        list(loss.learn(open_run(run)))


def test_what_the_counting_models_reach_is_kept(home, tiny_text):
    text = corpus.add(tiny_text, "A play")
    run = ended_run(text, "one", **SMALL)
    found = loss.count_for(run)
    assert {"bigram", "7-gram"} <= found.losses.keys()
    assert baselines.kept(text) == loss.count_for(run) == found
    assert baselines.keep(text).losses.items() >= found.losses.items()


def test_numbers_of_another_text_are_not_a_run_s(home, tiny_text):
    text = corpus.add(tiny_text, "A play")
    run = ended_run(text, "one", **CLASSIC)
    list(loss.learn(open_run(run)))
    corpus.delete(text.id)
    file = run.folder / "explain" / "loss.json"
    kept = json.loads(file.read_text())
    kept["result"]["sha256"] = "0" * 64
    file.write_text(json.dumps(kept))
    assert loss.counted_for(run) is None
    assert math.isfinite(kept["result"]["dynamic"]["dynamic"])
