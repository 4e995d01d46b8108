"""Switching parts off: against hooks that zero the same outputs, and what a run keeps of it."""

from __future__ import annotations

import errno
import json
import os

import pytest
import torch
from conftest import ended_run

from nanogpt import corpus, disk
from nanogpt.config import NanoGPTError, SampleConfig
from nanogpt.explain import ablation, cache
from nanogpt.explain.ablation import Part
from nanogpt.explain.opened import open_run
from nanogpt.holdout import train_length

SMALL = dict(n_layer=2, n_head=2, n_embd=16, block_size=16, batch_size=4, max_iters=50)


@pytest.fixture
def one(home, tiny_text):
    """Return an opened run whose every part does something."""
    run = ended_run(corpus.add(tiny_text, "A play"), "one", layout="classic", **SMALL)
    return open_run(run)


def loss_with_hooks(model, part: Part, xb, yb) -> float:
    """Return the loss with the output of one part replaced by zeros, while the model runs."""
    block = model.blocks[part.block]
    if part.kind == "head":
        hs = model.config.n_embd // model.config.n_head

        def silence(module, inputs):
            x = inputs[0].clone()
            x[..., part.head * hs : (part.head + 1) * hs] = 0
            return (x,)

        hook = block.sa.proj.register_forward_pre_hook(silence)
    else:
        hook = (block.ffwd if part.kind == "mlp" else block.sa).register_forward_hook(lambda *a: torch.zeros_like(a[2]))
    try:
        with torch.inference_mode():
            return float(model(xb, yb)[1])
    finally:
        hook.remove()


@torch.inference_mode()
def test_every_part_costs_what_it_does_with_its_output_silenced(model):
    idx = torch.randint(11, (3, 9), generator=torch.Generator().manual_seed(0))
    xb, yb = idx[:, :-1], idx[:, 1:]
    before = {name: p.clone() for name, p in model.named_parameters()}
    (none, whole), *found = ablation.rises(model, xb, yb)
    assert none is None
    assert whole == pytest.approx(float(model(xb, yb)[1]), abs=1e-5)
    assert [part for part, _ in found] == ablation.parts_of(model)
    assert len(found) == 2 * (2 + 2)
    for part, rise in found:
        silenced = loss_with_hooks(model, part, xb, yb)
        assert rise == pytest.approx(silenced - whole, abs=1e-5)
        assert float(ablation.without(model, [part])(xb, yb)[1]) == pytest.approx(silenced, abs=1e-5)
    assert max(abs(rise) for _, rise in found) > 0.01
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_a_copy_without_a_part_shares_the_other_blocks(model):
    ours = ablation.without(model, [Part(1, "mlp"), Part(1, "head", 0)])
    assert ours.blocks[0].sa.qkv.weight is model.blocks[0].sa.qkv.weight
    assert ours.lm_head.weight is model.lm_head.weight
    assert ours.blocks[1].ffwd.net[2].weight.abs().sum() == 0


def test_parts_have_names_for_people_and_for_programs(model):
    assert [part.key for part in ablation.parts_of(model)][:4] == ["0.head.0", "0.head.1", "0.attention", "0.mlp"]
    assert str(Part(0, "head", 4)) == "block 1, head 5"
    assert str(Part(2, "mlp")) == "block 3, feed-forward layer"
    assert ablation.part_of("1.mlp", model) == Part(1, "mlp")
    with pytest.raises(NanoGPTError, match="no part '7.mlp'"):
        ablation.part_of("7.mlp", model)


def test_a_sentence_says_what_stands_out(model):
    rises = {part.key: 0.001 for part in ablation.parts_of(model)}
    assert ablation.summary(model, rises)[0] == "No single head matters much: at most +0.00 nats."
    rises |= {"0.head.1": 1.41, "1.head.0": 0.2, "1.mlp": 0.5, "0.attention": 2.0, "1.attention": 1.0}
    assert ablation.summary(model, rises) == [
        "Block 1, head 2 matters most: +1.41 nats; the other heads at most +0.20.",
        "The feed-forward layer of block 1 does nothing: leaving it out changes the loss by less than 0.005 nats.",
    ]
    assert ablation.blocks([1, 2, 3]) == "blocks 1 to 3"
    assert ablation.blocks([1, 3, 4]) == "blocks 1, 3 and 4"


# --- of a run ---------------------------------------------------------------------------------------------------------


def test_a_run_is_measured_once_on_held_out_text(one, tiny_text, monkeypatch):
    *filling, found = ablation.measured(one)
    assert found["done"]
    assert found["on"] == "held-out text"
    assert len(found["rises"]) == 2 * (2 + 2)
    assert one.held_out_text() == tiny_text[train_length(len(tiny_text)) :]
    monkeypatch.setattr(ablation, "rises", lambda *a: pytest.fail("measured again"))
    assert list(ablation.measured(open_run(one.run))) == [found]


def test_a_result_that_cannot_be_kept_is_shown_all_the_same(one, monkeypatch):
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    *_, found = ablation.measured(one)
    assert found["done"]
    assert cache.load(one, "parts") is None


def test_what_is_kept_belongs_to_the_weights(one):
    cache.keep(one, "parts", dict(done=True, rises={}))
    assert cache.load(one, "parts") == dict(done=True, rises={})
    path = one.run.folder / "explain" / "parts.json"
    path.write_text(json.dumps(dict(weights="0" * 16, result=dict(done=True))))
    assert cache.load(one, "parts") is None
    path.write_text("{")
    assert cache.load(one, "parts") is None


def test_what_is_kept_counts_and_is_deleted_with_the_run(one):
    before = one.run.size()
    cache.keep(one, "parts", dict(done=True, rises={}))
    assert one.run.size() > before
    left = one.run.folder / "explain" / f".parts.json.{'ab' * 8}"
    left.write_text("half")
    disk.sweep_home()
    assert not left.exists()
    assert (one.run.folder / "explain" / "parts.json").exists()
    one.run.delete()
    assert not one.run.folder.exists()


def test_without_its_text_a_model_writes_the_passages_itself(one):
    alone = open_run(one.run, may_read_text=False)
    assert alone.training_text() is None
    assert alone.held_out_text() is None
    xb, yb, on = ablation.passages(alone)
    assert on == "text it wrote itself"
    assert xb.shape == yb.shape == (192, 16)


def test_a_short_context_is_measured_on_as_much_text_as_a_long_one(home, tiny_text):
    text = corpus.add(tiny_text * 8, "A long play")
    xb, _, on = ablation.passages(open_run(ended_run(text, "one", **SMALL)))
    assert xb.numel() >= 3000
    assert on == "held-out text"
    xb, _, _ = ablation.passages(open_run(ended_run(text, "two", **SMALL | dict(block_size=512))))
    assert xb.shape == (6, 512)


def test_what_was_measured_without_the_text_is_measured_again_once_it_is_here(one):
    alone = open_run(one.run, may_read_text=False)
    *_, found = ablation.measured(alone)
    assert found["on"] == "text it wrote itself"
    assert ablation.measured_on(found) == "3,072 characters of text it wrote itself"
    assert ablation.kept(alone) == found
    assert ablation.kept(one) is None
    *_, again = ablation.measured(one)
    assert again["on"] == "held-out text"
    assert ablation.measured_on(again) == "464 characters of held-out text"  # 29 windows of 16
    assert ablation.kept(one) == ablation.kept(alone) == again  # still true without the text


def test_results_of_an_earlier_version_are_computed_again(one):
    cache.keep(one, "parts", dict(done=True, rises={}))
    path = one.run.folder / "explain" / "parts.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in stored.items() if key != "version"}))
    assert cache.load(one, "parts") is None
    assert cache.load_for(one.run, one.weights, "parts") is None
    path.rename(path.with_name("copies.json"))  # which has never changed
    assert cache.load(one, "copies") == dict(done=True, rises={})


def test_the_same_seed_writes_with_and_without_a_part(one):
    config = SampleConfig(length=20, seed=3)
    *_, (whole, less) = ablation.with_and_without(one, [Part(0, "attention")], "The ", config)
    assert len(whole) == len(less) == 20
    *_, (again, _) = ablation.with_and_without(one, [Part(1, "mlp")], "The ", config)
    assert again == whole
