"""Read-outs after each block: against hooks, the model's own loss, and a bigram model counted by hand."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest
import torch
from conftest import ROOT, ended_run
from torch.nn import functional as F

from nanogpt import corpus
from nanogpt.config import ModelConfig, NanoGPTError
from nanogpt.explain import cache, readout
from nanogpt.explain.opened import open_run
from nanogpt.formats import weights_bytes
from nanogpt.model import GPT
from nanogpt.runs import Run

SMALL = dict(layout="modern", n_layer=2, n_head=2, n_embd=32, block_size=32, batch_size=8, max_iters=50)


def test_what_flows_past_is_what_the_blocks_return(model):
    seen = []
    hooks = [block.register_forward_hook(lambda module, inputs, out: seen.append(out)) for block in model.blocks]
    idx = torch.randint(11, (3, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(idx)[0]
    for hook in hooks:
        hook.remove()
    found = list(readout.after_each_block(model, idx))
    assert len(found) == 3
    assert torch.equal(found[0], model.embed(idx, slice(0, 8))[0])
    assert torch.equal(torch.stack(found[1:]), torch.stack(seen))
    assert torch.allclose(readout.read_out(model, found[-1], None), logits)
    # a translator adds an affine map
    matrix, bias = torch.randn(16, 16), torch.randn(16)
    by_hand = torch.stack([torch.stack([x + matrix @ x + bias for x in row]) for row in found[1]])
    translated = readout.read_out(model, found[1], (matrix, bias))
    assert torch.allclose(translated, model.lm_head(model.ln_f(by_hand)), atol=1e-4)


# --- of a run that has learned ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tiny_text) -> dict[str, torch.Tensor]:
    """Return the weights of a model that was trained on the play for a moment."""
    characters = sorted(set(tiny_text))
    ids = torch.tensor([characters.index(ch) for ch in tiny_text[: len(tiny_text) * 9 // 10]])
    torch.manual_seed(1)
    sizes = {key: SMALL[key] for key in ("n_layer", "n_head", "n_embd", "block_size")}
    model = GPT(ModelConfig(len(characters), "modern", **sizes))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(120):
        starts = torch.randint(len(ids) - 33, (16, 1))
        piece = ids[starts + torch.arange(33)]
        optimizer.zero_grad()
        model(piece[:, :-1], piece[:, 1:])[1].backward()
        optimizer.step()
    return model.state_dict()


@pytest.fixture
def one(home, tiny_text, trained, monkeypatch):
    monkeypatch.setattr(readout, "STEPS", 300)
    monkeypatch.setattr(readout, "RATE", 1e-2)  # the model is narrow
    run = ended_run(corpus.add(tiny_text, "A play"), "one", **SMALL)
    opened = open_run(run)
    opened.model.load_state_dict(trained)
    (run.folder / "model.safetensors").write_bytes(weights_bytes(opened.model))
    return open_run(run)


def bigram_loss(training: str, held_out: str) -> float:
    """Return the loss of counting which character follows which, with a little smoothing, in nats per character."""
    characters = sorted(set(training + held_out))
    counts = np.full((len(characters), len(characters)), 0.05)
    for a, b in zip(training, training[1:]):
        counts[characters.index(a), characters.index(b)] += 1
    p = counts / counts.sum(axis=1, keepdims=True)
    return float(
        -np.mean([math.log(p[characters.index(a), characters.index(b)]) for a, b in zip(held_out, held_out[1:])])
    )


def test_the_losses_go_from_a_bigram_model_to_the_models_own(one):
    before = {name: p.clone() for name, p in one.model.named_parameters()}
    *filling, found = readout.measured(one)
    assert found["done"]
    assert len(filling) > 20  # it can be paused in between
    losses = found["losses"]
    xb, yb = readout.windows(one, one.held_out_text(), readout.JUDGED_BY)
    with torch.inference_mode():
        own = float(one.model(xb, yb)[1])
    assert losses[-1] == pytest.approx(own, abs=1e-4)
    # In this layout an embedding says which character it is and no more.
    assert losses[0] == pytest.approx(bigram_loss(one.training_text(), one.held_out_text()), abs=0.1)
    assert losses[0] > losses[1] + 0.1 > losses[2]
    # As it is usually drawn, without a translator, the first read-out is useless.
    with torch.inference_mode():
        untranslated = readout.read_out(one.model, next(readout.after_each_block(one.model, xb)), None)
        raw = float(F.cross_entropy(untranslated.flatten(0, 1), yb.flatten()))
    assert raw > losses[0] + 0.3
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in one.model.named_parameters())


def test_a_run_is_fitted_once_and_read_from_its_folder(one, monkeypatch):
    monkeypatch.setattr(readout, "STEPS", 40)
    *_, found = readout.measured(one)
    monkeypatch.setattr(readout, "fitting", lambda *a: pytest.fail("fitted again"))
    again = open_run(one.run, may_read_text=False)  # what is kept has no text in it
    assert list(readout.measured(again)) == [found]
    chosen = readout.translators(again)
    assert [one is None for one in chosen] == [False, False, True]
    ids = one.tokenizer.encode("The mill\nThe")
    log_p = readout.of_text(again, ids, chosen)
    assert log_p.shape == (3, 13, one.tokenizer.vocab_size)
    assert torch.allclose(log_p.exp().sum(-1), torch.ones(3, 13), atol=1e-4)
    with torch.no_grad():
        whole = one.model(torch.tensor([[one.tokenizer.stoi["\n"], *ids]]))[0][0].log_softmax(-1)
    assert torch.allclose(log_p[-1], whole, atol=1e-5)
    # the embedding knows the current character only: after "Th" it is the same both times, later it isn't
    assert torch.allclose(log_p[0, 2], log_p[0, 11], atol=1e-5)
    assert not torch.allclose(log_p[1, 2], log_p[1, 11], atol=1e-2)


def test_what_is_kept_must_belong_to_the_weights(one):
    cache.keep_tensors(one, "readout", {"0.matrix": torch.ones(2, 2)})
    assert torch.equal(cache.load_tensors(one, "readout")["0.matrix"], torch.ones(2, 2))
    path = one.run.folder / "explain" / "readout.safetensors"
    path.write_bytes(path.read_bytes().replace(one.weights.encode(), b"0" * 16))
    assert cache.load_tensors(one, "readout") is None
    path.write_bytes(b"nonsense")
    assert cache.load_tensors(one, "readout") is None
    with pytest.raises(NanoGPTError, match="not been fitted yet"):
        readout.translators(one)


def test_without_the_text_nothing_can_be_fitted(one):
    with pytest.raises(NanoGPTError, match="no read-out can be fitted"):
        list(readout.measured(open_run(one.run, may_read_text=False)))


def test_a_sentence_says_what_stands_out():
    assert readout.summary([2.5, 2.3, 2.29, 1.3]) == [
        "Read out from the embedding alone, the loss is 2.50 nats; after the last block it is 1.30.",
        "82% of the improvement comes from block 3: from 2.29 to 1.30.",
        "After block 2, hardly anything more can be read out than before.",
    ]
    assert readout.summary([2.5, 1.3])[1] == "All of the improvement comes from block 1: from 2.50 to 1.30."
    even = "No block does it alone: one after the other, they bring 35%, 30%, 35% of the improvement."
    assert readout.summary([2.5, 2.15, 1.85, 1.5])[1] == even
    worse = "No block does it alone: one after the other, they bring 35%, -5%, 35%, 35% of the improvement."
    assert readout.summary([2.5, 2.15, 2.2, 1.85, 1.5])[1] == worse  # of 100% together
    assert readout.summary([4.1, 4.09])[1] == "So the blocks add little that a read-out of the embedding doesn't have."


@pytest.mark.slow
def test_the_shipped_read_outs_belong_to_the_shipped_model(home, shakespeare):
    """The last one is the model, the first one knows what a bigram model knows (2.491), none is worse than guessing."""
    text = corpus.add(shakespeare, "Tiny Shakespeare")
    shutil.copytree(ROOT / "checkpoints" / "shakespeare", home / "checkpoints" / "shakespeare-copy")
    one = open_run(Run("shakespeare-copy"))
    assert one.corpus_id == text.id
    found = readout.kept(one)
    assert found is not None
    losses = found["losses"]
    assert losses[0] == pytest.approx(2.491, abs=0.03)
    assert all(after < before + 0.02 for before, after in zip([math.log(65), *losses], losses))
    xb, yb = readout.windows(one, one.held_out_text(), readout.JUDGED_BY)
    with torch.inference_mode():
        own = float(one.model(xb, yb)[1])
    depths = zip(readout.after_each_block(one.model, xb), readout.translators(one))
    there = [readout.loss_of(one.model, x.flatten(0, 1), yb.flatten(), chosen) for x, chosen in depths]
    assert there[-1] == pytest.approx(own, abs=0.001)
    assert there == pytest.approx(losses, abs=0.002)
