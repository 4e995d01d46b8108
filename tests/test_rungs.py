"""Test the ladder from the lecture's recipe to the modern one: both ends, and one change per rung."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from nanogpt.cli.main import main
from nanogpt.config import ModelConfig, NanoGPTError
from nanogpt.data import Shuffled, get_batch
from nanogpt.device import pick_device
from nanogpt.evaluate import estimate_loss
from nanogpt.layout import LAYOUTS, Layout
from nanogpt.lecture import STAGES, read
from nanogpt.model import GPT, MultiHeadAttention, RMSNorm, attention_by_hand, rotate
from nanogpt.presets import PRESETS
from nanogpt.rungs import (
    FIRST,
    LAST,
    RUNGS,
    Rung,
    make_layout,
    make_model,
    make_recipe,
    print_rungs,
    train_rung,
)
from nanogpt.schedule import get_lr, settled
from nanogpt.step import Step

ROOT = Path(__file__).resolve().parent.parent
SMALL = dict(block_size=16, n_embd=24, n_head=3, n_layer=2, eval_interval=40)
every_rung = pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: f"stage{rung.number}")


def number(n: int) -> Rung:
    return replace(RUNGS[n - FIRST], **SMALL)


def model_of(n: int) -> GPT:
    """Return a rung's model, initialized from a fixed seed."""
    torch.manual_seed(5)
    return make_model(number(n), vocab_size=20)


def stirred(model: GPT) -> GPT:
    """Return the model with noise added, so that no parameter is 0 or 1 and each affects the output."""
    for i, p in enumerate(model.parameters()):
        p.data.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(i)), alpha=0.1)
    return model


def ids() -> torch.Tensor:
    return torch.randint(20, (4, 16), generator=torch.Generator().manual_seed(1))


def of_layout(layout: str) -> GPT:
    sizes = {key: SMALL[key] for key in ("block_size", "n_embd", "n_head", "n_layer")}
    return GPT(ModelConfig(vocab_size=20, layout=layout, **sizes))


# --- both ends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "layout"), [(FIRST, "classic"), (LAST, "modern")])
def test_the_ends_are_the_two_layouts(n, layout):
    ours, whole = stirred(model_of(n)), of_layout(layout)
    whole.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(ids())[0], whole(ids())[0], atol=1e-5, rtol=0)
    for model in (ours, whole):
        torch.manual_seed(3)
        model.init_weights()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), whole.parameters()))


def test_the_last_recipe_is_that_of_the_modern_layout():
    last = RUNGS[-1]
    sizes = {name: getattr(last, name) for name in ("block_size", "n_embd", "n_head", "n_layer")}
    model, recipe = PRESETS["quick"].configs(
        layout="modern", batch_size=last.batch_size, max_iters=last.max_iters, eval_interval=last.eval_interval, **sizes
    )
    assert make_recipe(last) == recipe
    assert {key: getattr(model, key) for key in sizes} == sizes


def by_hand(text: str, rung: Rung, model: GPT, take_step, shuffled: bool = False) -> float:
    """Return the validation loss after calling `take_step(xb, yb, step)` on each of the rung's batches."""
    torch.manual_seed(1337)
    vocabulary, data = read(text, rung)
    model.load_state_dict(make_model(rung, len(vocabulary.chars)).state_dict())
    generator = torch.Generator().manual_seed(1337)
    passes = Shuffled(data["train"], rung.block_size, rung.batch_size, 1337)
    for step in range(rung.max_iters):
        random = get_batch(data["train"], rung.block_size, rung.batch_size, generator)
        take_step(*(passes(step) if shuffled else random), step)
    return estimate_loss(model, data["val"], pick_device("cpu"))


def test_the_first_rung_is_the_lecture_s_loop(tiny_text):
    rung = replace(number(FIRST), max_iters=30)
    model = GPT(ModelConfig.of({**asdict(rung), "vocab_size": len(set(tiny_text))}))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def take_step(xb, yb, step):
        _, loss = model(xb, yb)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    *_, last = train_rung(tiny_text, rung, pick_device("cpu"))
    # The lecture's weight decay also applies to biases and norm gains, but in 30 steps that hardly matters.
    assert last["val_loss"] == pytest.approx(by_hand(tiny_text, rung, model, take_step), abs=1e-3)


def test_the_last_rung_trains_as_a_run_of_the_modern_layout_does(tiny_text):
    rung = replace(number(LAST), max_iters=20)
    config, recipe = PRESETS["quick"].configs(layout="modern", batch_size=rung.batch_size, max_iters=rung.max_iters)
    config = replace(config, **{k: v for k, v in SMALL.items() if k != "eval_interval"}, vocab_size=len(set(tiny_text)))
    recipe = settled(recipe, config, len(tiny_text))
    assert recipe.weight_decay > 0  # as in a run, set from the number of epochs
    model = GPT(config)
    step_of = Step(model, recipe, pick_device("cpu"))
    *_, last = train_rung(tiny_text, rung, pick_device("cpu"))
    expected = by_hand(tiny_text, rung, model, lambda xb, yb, step: step_of(xb, yb, get_lr(step, recipe)), True)
    assert last["val_loss"] == expected  # same operations in the same order, so equal in any precision


# --- each rung -----------------------------------------------------------------------------------------------------

# Validation losses after 30 steps from the weights of `given`, recorded when each rung's model was built by replacing
# the parts of a classic GPT one by one. Those with Muon were recorded again when its iteration changed.
BY_SURGERY = {
    8: 3.772982, 9: 3.753732, 10: 3.063277, 11: 3.045183, 12: 3.023065, 13: 2.993824, 14: 2.993824,
    15: 2.316140, 16: 1.124535, 17: 1.656048, 18: 1.637812,
}  # fmt: skip


def given(model: GPT) -> GPT:
    """Return the model with weights that depend only on their position and shape."""
    for i, p in enumerate(model.parameters()):
        p.data = 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
    return model


@every_rung
def test_a_layout_trains_as_the_model_changed_by_hand_did(rung, tiny_text, monkeypatch):
    make = make_model
    monkeypatch.setattr("nanogpt.optim.native_bfloat16", lambda: False)  # the same losses on every machine
    monkeypatch.setattr("nanogpt.rungs.make_model", lambda *rung_and_size: given(make(*rung_and_size)))
    *_, last = train_rung(tiny_text, number(rung.number), pick_device("cpu"), max_iters=30)
    assert last["val_loss"] == pytest.approx(BY_SURGERY[rung.number], abs=1e-3)


def test_a_rung_changes_one_feature_or_the_recipe():
    layouts = [asdict(make_layout(rung)) for rung in RUNGS]
    changed = [[name for name in now if now[name] != before[name]] for before, now in zip(layouts, layouts[1:])]
    assert changed[:6] == [[feature] for feature in asdict(Layout())]  # all features, in this order
    assert changed[6:] == [[]] * 4
    assert (make_layout(RUNGS[0]), make_layout(RUNGS[-1])) == (LAYOUTS["classic"], LAYOUTS["modern"])
    assert [bool(rung.recipe) for rung in RUNGS] == [True] + [False] * 6 + [True] * 4


def test_the_last_rungs_begin_with_the_weights_of_a_run_of_the_modern_layout():
    ours = model_of(LAST)
    torch.manual_seed(5)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), of_layout("modern").parameters()))


def test_each_departure_takes_away_what_it_says():
    C, layers, T = 24, 2, 16
    counts = [model_of(rung.number).count_parameters() for rung in RUNGS]
    lost = [before - after for before, after in zip(counts, counts[1:])]
    biases = layers * (3 * C + C + 4 * C + C)
    assert lost == [T * C, (2 * layers + 1) * 2 * C, 0, 0, biases, 0, 0, 0, 0, 0]


def test_each_departure_keeps_the_weights_but_the_one_about_beginnings():
    for n in range(FIRST + 1, LAST + 1):
        before, after = model_of(n - 1).state_dict(), model_of(n).state_dict()
        assert all(torch.equal(before[name], after[name]) for name in after) is (n != 14)


def test_each_departure_of_the_recipe_is_one_thing():
    def changed(n):
        before, after = asdict(make_recipe(number(n - 1))), asdict(make_recipe(number(n)))
        return {name: after[name] for name in after if after[name] != before[name]}

    assert [changed(n) for n in range(9, 15)] == [{}] * 6
    assert [n for n in range(9, 19) if "weight_decay" in changed(n)] == [15]
    assert [rung.number for rung in RUNGS if "weight decay" in rung.name] == [15]
    assert changed(15) == {"optimizer": "muon", "momentum": 0.9, "weight_decay": -1.0}
    assert changed(16) == {"learning_rate": 0.012, "min_lr": 0.012, "beta1": 0.8, "beta2": 0.95, "grad_clip": 1.0}
    assert changed(17) == {"schedule": "linear", "min_lr": 0.0}
    assert changed(18) == {"batches": "shuffled"}


def test_up_to_the_last_rung_the_rate_stays_and_then_it_falls():
    rates = lambda n: [get_lr(step, make_recipe(RUNGS[n - FIRST])) for step in (0, 250, 500)]
    assert rates(8) == rates(15) == [1e-3] * 3
    assert rates(16) == [0.012] * 3
    assert rates(17) == pytest.approx([0.012, 0.006, 0])


def heads_of(attention, x):
    B, T, C = x.shape
    return [z.view(B, T, attention.n_head, -1).transpose(1, 2) for z in attention.qkv(x).split(C, dim=-1)]


def test_rotary_positions_turn_queries_and_keys_and_nothing_else():
    model = stirred(model_of(9))
    attention, x = model.blocks[0].sa, torch.randn(2, 16, 24)
    q, k, v = heads_of(attention, x)
    heard, _ = attention_by_hand(rotate(q, *model.rotary), rotate(k, *model.rotary), v)
    expected = attention.proj(heard.transpose(1, 2).reshape(x.shape))
    torch.testing.assert_close(attention(x, rotary=model.rotary), expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(model(ids())[0][:, -1], model(ids()[:, [1, 0, *range(2, 16)]])[0][:, -1])  # order matters


@pytest.mark.parametrize(("n", "minded"), [(10, True), (11, False)])
def test_from_stage_eleven_on_the_length_of_a_query_does_not_count(n, minded):
    model = stirred(model_of(n))
    before = model(ids())[0]
    for block in model.blocks:
        block.sa.qkv.bias.data[:24] *= 10
        block.sa.qkv.weight.data[:24] *= 10
    assert torch.allclose(model(ids())[0], before, atol=1e-3) is not minded


def test_norms_are_without_weights_and_one_more():
    def norms(n):
        return Counter(type(m).__name__ for m in model_of(n).modules() if "Norm" in type(m).__name__)

    assert norms(9) == {"LayerNorm": 5}
    assert norms(10) == norms(17) == {"RMSNorm": 6}
    model = model_of(10)
    assert isinstance(model.norm_in, RMSNorm)
    assert type(model_of(11).blocks[1].sa) is MultiHeadAttention


@pytest.mark.parametrize(("n", "power"), [(11, 1), (12, 2), (17, 2)])
def test_relu_is_squared_from_stage_twelve_on(n, power):
    ffwd, x = stirred(model_of(n)).blocks[0].ffwd, torch.randn(2, 16, 24)
    inner = F.linear(x, ffwd.net[0].weight, ffwd.net[0].bias).clamp(min=0) ** power
    torch.testing.assert_close(ffwd(x), F.linear(inner, ffwd.net[2].weight, ffwd.net[2].bias))


def test_it_begins_at_nothing():
    logits, loss = model_of(14)(ids(), ids())
    assert logits.abs().max() == 0
    assert loss.item() == pytest.approx(math.log(20))
    assert model_of(13)(ids())[0].abs().max() > 0


# --- training the ladder -------------------------------------------------------------------------------------------


def entropy(counts):
    total = sum(counts.values())
    return -sum(n / total * math.log(n / total) for n in counts.values())


@every_rung
def test_each_rung_learns(rung, tiny_text):
    first, *_, last = train_rung(tiny_text, number(rung.number), pick_device("cpu"), max_iters=100)
    assert first.keys() == {"stage", "step", "train_loss", "val_loss"}
    assert last.keys() == first.keys() | {"parameters", "seconds", "sample"}
    assert (first["stage"], first["step"], last["step"], len(last["sample"])) == (rung.number, 0, 100, 300)
    # Better than a unigram model, so it uses the context.
    assert last["val_loss"] < entropy(Counter(tiny_text)) < first["val_loss"]


@pytest.mark.slow
def test_the_seed_decides_the_run(tiny_text):
    def run(seed):
        *_, last = train_rung(tiny_text, number(17), pick_device("cpu"), seed=seed, max_iters=5)
        return {key: value for key, value in last.items() if key != "seconds"}

    assert run(1) == run(1)
    assert run(1)["val_loss"] != run(2)["val_loss"]


def test_what_does_not_fit_is_refused(tiny_text):
    device = pick_device("cpu")
    with pytest.raises(NanoGPTError, match=r"The text has only 500 characters. Stage 9 needs at least 641"):
        print_rungs("ab" * 250, 9, device)
    with pytest.raises(NanoGPTError, match=r"max_iters was 0; it must be a whole number from 1"):
        print_rungs(tiny_text, 9, device, max_iters=0)
    with pytest.raises(NanoGPTError, match=r"stage was 0; it must be a whole number from 1 to 18"):
        print_rungs(tiny_text, 0, device)


@pytest.mark.slow
def test_the_command_prints_a_rung(tiny_text, tmp_path, capsys):
    file = tmp_path / "play.txt"
    file.write_text(tiny_text, encoding="utf-8")
    assert main(["ladder", str(file), "--stage", "9", "--max-iters", "1", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("stage 9: rotary positions\n")
    assert len(re.findall(r"^ +[01] +\d\.\d{4} +\d\.\d{4}$", out, re.M)) == 2
    assert f"measured on Tiny Shakespeare: {RUNGS[1].loss}." in out


@pytest.mark.slow
def test_without_a_number_all_rungs_are_climbed(tiny_text, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("nanogpt.rungs.RUNGS", tuple(number(rung.number) for rung in RUNGS))
    file = tmp_path / "play.txt"
    file.write_text(tiny_text, encoding="utf-8")
    assert main(["ladder", str(file), "--modern", "--max-iters", "1", "--device", "cpu"]) == 0
    stages = re.findall(r"^stage (\d+): (.*)$", capsys.readouterr().out, re.M)
    assert stages == [(str(rung.number), rung.name) for rung in RUNGS]


def test_the_lecture_s_ladder_says_how_to_go_on(tiny_text, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("nanogpt.lecture.LADDER", (replace(STAGES[1], eval_iters=1),))
    file = tmp_path / "play.txt"
    file.write_text(tiny_text, encoding="utf-8")
    assert main(["ladder", str(file), "--max-iters", "1", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("stage 1: bigram model\n")
    assert "Run with --modern for stages 8 to 18" in out


def test_the_measured_losses_are_told_everywhere_alike():
    measured = json.loads((ROOT / "benchmarks/results/rungs.json").read_text(encoding="utf-8"))
    assert measured["settings"] == {key: getattr(RUNGS[0], key) for key in measured["settings"]}
    lecture = (ROOT / "docs/lecture.md").read_text(encoding="utf-8")
    assert [rung["rung"] for rung in measured["rungs"]] == list(range(FIRST, LAST + 1))
    before = None
    for rung, result in zip(RUNGS, measured["rungs"]):
        mean = result["val_loss_mean"]
        assert (rung.name, rung.loss) == (result["name"], f"{mean:.3f}")
        row = next(line for line in lecture.splitlines() if line.startswith(f"| {rung.number} "))
        assert f" {mean:.3f} " in row
        if before is not None:
            assert f"| {mean - before:+.3f} |" in row
        before = mean
