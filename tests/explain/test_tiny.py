"""Tiny models: what a missing mask lets a model do, and AdamW against its formula."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import ended_run

from nanogpt import corpus, lecture
from nanogpt.explain import tiny
from nanogpt.explain.opened import open_run

SIZES = dict(block_size=8, n_embd=32, n_head=2, n_layer=1, batch_size=16, max_iters=200, eval_interval=100)


def test_without_the_mask_every_place_sees_what_follows():
    stage = lecture.Stage(**SIZES)
    model = tiny.made(stage, 11)
    idx = torch.randint(11, (1, 8), generator=torch.Generator().manual_seed(0))
    other = idx.clone()
    other[0, -1] = (idx[0, -1] + 1) % 11
    with torch.no_grad():
        assert torch.equal(model(idx)[0][:, :-1], model(other)[0][:, :-1])
        tiny.look_ahead(model)
        changed = (model(idx)[0] != model(other)[0]).any(-1)
    assert changed.all()


def test_of_a_large_alphabet_the_frequent_characters_are_learned(tmp_path, monkeypatch):
    """With thousands of them, a step would take several times as long."""
    path = tmp_path / "text.txt"
    path.write_text("abcabcabdab", encoding="utf-8")
    assert tiny.read(path) == "abcabcabdab"
    monkeypatch.setattr(tiny, "KINDS", 3)
    assert tiny.read(path) == "abcabcabab"


@pytest.mark.slow
def test_a_loss_without_the_mask_is_a_cheat(tiny_text):
    *early, last = tiny.mask(tiny_text, **SIZES)
    assert [event["step"] for event in early] == [0, 100]
    ours, cheat = last["with"], last["without"]
    assert early[0]["with"]["held_out"] == pytest.approx(math.log(len(set(tiny_text))), abs=0.4)
    # seven of eight places can copy; the last one sees as much as with the mask
    assert cheat["held_out"] < ours["held_out"] / 2
    assert cheat["writing"] > ours["writing"] + 0.5
    assert ours["writing"] == pytest.approx(ours["held_out"], abs=1e-3)
    assert len(ours["sample"]) == len(cheat["sample"]) == 200


@pytest.mark.slow
def test_adamw_moves_weights_by_its_formula(tiny_text):
    *_, last = tiny.adamw(tiny_text, steps=30)
    assert [len(last["adamw"]), len(last["sgd"])] == [31, 31]
    assert last["rate"] in tiny.RATES
    a, b = last["weights"]
    counts = {ch: tiny_text.count(ch) for ch in set(tiny_text)}
    assert counts[a["character"]] == max(counts.values())
    assert a["share"] == pytest.approx(100 * counts[a["character"]] / len(tiny_text), abs=1)
    assert counts[b["character"]] < counts[a["character"]] / 20
    for weight in (a, b):
        m = v = 0.0
        for t, step in enumerate(weight["steps"], start=1):
            g, before = step["g"], step["value"] - step["update"]
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            assert (step["m"], step["v"]) == (
                pytest.approx(m / (1 - 0.9**t), rel=1e-4, abs=1e-12),
                pytest.approx(v / (1 - 0.999**t), rel=1e-4, abs=1e-16),
            )
            moved = step["m"] / (math.sqrt(step["v"]) + 1e-8)  # as the tour says
            assert step["update"] == pytest.approx(-tiny.RATE * (moved + 0.01 * before), abs=2e-6)
    first = a["steps"][0]
    assert abs(first["update"]) == pytest.approx(tiny.RATE, rel=0.02)  # whatever its gradient is
    gradients = a["typical"]["gradient"] / b["typical"]["gradient"]
    assert gradients > 5
    assert a["typical"]["adamw"] / b["typical"]["adamw"] < gradients / 2
    assert a["typical"]["gradient"] == pytest.approx(math.sqrt(sum(g * g for g, _, _ in a["path"]) / 30))


def test_sgd_moves_weights_by_their_gradients(tiny_text):
    stage = lecture.Stage(block_size=8, n_embd=32, n_head=2, n_layer=1)
    vocabulary, data = lecture.read(tiny_text, stage)
    model = tiny.made(stage, len(vocabulary.chars))
    *_, (losses, [trace]) = tiny.trained(model, stage, data["train"], "sgd", 0.1, 5, [vocabulary.stoi["e"]])
    assert (len(losses), len(trace)) == (6, 5)
    xb, yb = lecture.get_batch(data["train"], 8, stage.batch_size, torch.Generator().manual_seed(tiny.SEED))
    untrained = tiny.made(stage, len(vocabulary.chars))
    assert losses[0] == tiny.loss_of(untrained, xb, yb)
    assert [row["update"] for row in trace] == pytest.approx([-0.1 * row["g"] for row in trace], abs=1e-6)
    assert "m" not in trace[0]


def test_a_text_that_is_not_here_is_replaced_by_a_built_in_one(home, tiny_text):
    one = open_run(ended_run(corpus.add(tiny_text, "A play"), "one", n_layer=1, n_head=1, n_embd=8, block_size=16))
    path, name = tiny.text_for(one)
    assert (path.read_text(encoding="utf-8"), name) == (tiny_text, "A play")
    path, name = tiny.text_for(open_run(one.run, may_read_text=False))
    assert name == "Python reference"
    assert len(path.read_text(encoding="utf-8")) > 100_000


@pytest.mark.slow
def test_a_question_is_answered_in_a_process_that_ends_with_its_reader(home, tiny_text):
    running = tiny.asked("adamw", corpus.add(tiny_text, "A play").folder / "text.txt")
    while "adamw" not in (event := next(running)):
        pass
    assert len(event["adamw"]) == 1
    child = running.gi_frame.f_locals["child"]
    running.close()
    assert child.poll() is not None
