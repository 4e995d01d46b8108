"""Where heads look: against the attention of one head by hand, and sentences for attention made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import ended_run
from torch.nn import functional as F

from nanogpt import corpus
from nanogpt.config import ModelConfig
from nanogpt.explain import attention
from nanogpt.explain.opened import open_run
from nanogpt.model import GPT
from nanogpt.tokenizer import make_tokenizer

TEXT = "the mill, the Mill. the mill, the Mill."
SMALL = dict(layout="classic", n_layer=1, n_head=2, n_embd=16, block_size=32, batch_size=4, max_iters=50)


@torch.inference_mode()
def test_attention_is_what_the_model_computes(model):
    idx = torch.randint(11, (3, 8), generator=torch.Generator().manual_seed(0))
    before = model(idx)[0]
    wei = attention.attentions(model, idx)
    assert wei.shape == (2, 3, 2, 8, 8)
    assert torch.allclose(wei.sum(-1), torch.ones(2, 3, 2, 8), atol=1e-5)
    assert torch.equal(wei, wei.tril())
    assert torch.equal(model(idx)[0], before)
    assert model.blocks[0].sa.attend is F.scaled_dot_product_attention
    # the output of the first block's attention is its values, weighted by what was returned
    x, rotary = model.embed(idx, slice(0, 8))
    x = model.blocks[0].ln1(x)
    v = model.blocks[0].sa.qkv(x).split(16, dim=-1)[2].view(3, 8, 2, 8).transpose(1, 2)
    out = model.blocks[0].sa.proj((wei[0] @ v).transpose(1, 2).reshape(3, 8, 16))
    assert torch.allclose(out, model.blocks[0].sa(x, None, rotary), atol=1e-5)


def made_by_hand(where) -> torch.Tensor:
    """Return the attention (1, 1, 1, T, T) of a head on TEXT that looks from each position evenly at `where(i)`."""
    T = len(TEXT)
    wei = torch.zeros(1, 1, 1, T, T)
    for i in range(T):
        places = [j for j in where(i) if 0 <= j <= i] or [i]
        wei[..., i, places] = 1 / len(places)
    return wei


@pytest.mark.parametrize(
    ("says", "where"),
    [
        ("100% on the previous character", lambda i: [i - 1]),
        ("100% on the character itself", lambda i: [i]),
        ("100% on the character before the previous one", lambda i: [i - 2]),
        ("100% on spaces and line breaks", lambda i: [j for j in range(i + 1) if TEXT[j] == " "]),
        ("100% on punctuation", lambda i: [j for j in range(i + 1) if TEXT[j] in ",."]),
        ("looks back 14 places on average", lambda i: range(i + 1)),
    ],
)  # fmt: skip
def test_a_sentence_says_what_a_head_looks_at(monkeypatch, says, where):
    tokenizer = make_tokenizer(TEXT)
    xb = torch.tensor([tokenizer.encode(TEXT)])
    monkeypatch.setattr(attention, "attentions", lambda model, idx: made_by_hand(where))
    monkeypatch.setattr(attention, "first_counted", lambda T: 19)  # the first comma has been read
    made = GPT(ModelConfig(tokenizer.vocab_size, "modern", block_size=64, n_layer=1, n_head=1, n_embd=8))
    [[fact]] = attention.facts(made, tokenizer, xb)
    assert fact["says"] == says


def test_kinds_of_places_by_hand():
    tokenizer = make_tokenizer("abca b")
    kinds = attention.kinds_of_places(np.array(tokenizer.encode("abca b")), tokenizer)
    places = lambda words, i: list(np.flatnonzero(kinds[words][i]))
    assert places("earlier places with the same character", 5) == [1]
    assert places("what followed the same character before", 3) == [1]  # an "a" came before; a "b" followed it
    assert places("what followed the same character before", 5) == [2]
    assert places("spaces and line breaks", 5) == [4]
    assert places("the previous character", 5) == [4]


def test_a_head_that_copies_is_recognized(monkeypatch):
    model = GPT(ModelConfig(11, "modern", block_size=32, n_layer=1, n_head=1, n_embd=8))

    def copying(q, k, rows):
        wei = torch.zeros(*q.shape[:2], len(rows), k.shape[2])
        wei[..., torch.arange(len(rows)), rows - k.shape[2] // 2 + 1] = 1
        return wei

    monkeypatch.setattr(attention, "rows_of", copying)
    assert attention.copying(model) == 1.0
    assert attention.copying_words(1.0).startswith("A head of this model copies")
    assert attention.copying_words(0.01) == "No head of this model copies earlier passages (best score 0.01 of 1)."


def test_a_head_that_looks_at_the_previous_character_is_not_said_to_copy_in_a_short_context(
    monkeypatch, home, tiny_text
):
    def previous(rows, T):
        wei = torch.zeros(len(rows), T)
        wei[torch.arange(len(rows)), (rows - 1).clamp(min=0)] = 1
        return wei

    every = lambda model, idx: previous(torch.arange(idx.shape[1]), idx.shape[1]).repeat(1, len(idx), 2, 1, 1)
    monkeypatch.setattr(attention, "attentions", every)
    monkeypatch.setattr(attention, "rows_of", lambda q, k, rows: previous(rows, k.shape[2]).repeat(*q.shape[:2], 1, 1))
    run = ended_run(corpus.add(tiny_text, "A play"), "one", **SMALL | dict(block_size=4))
    found = attention.of_heads(open_run(run))
    assert found["heads"][0][0]["says"] == "100% on the previous character"
    assert found["copying"] is None
    assert (
        attention.copying_words(found["copying"])
        == "Whether a head copies earlier passages can't be told in a context of fewer than 32 characters."
    )
    assert attention.copying(GPT(ModelConfig(11, "modern", block_size=32, n_layer=1, n_head=1, n_embd=8))) == 0.0


@pytest.mark.parametrize("block_size", [32, 33])
def test_the_score_of_copying_is_that_of_the_whole_attention_a_few_rows_at_a_time(monkeypatch, block_size):
    torch.manual_seed(0)
    model = GPT(ModelConfig(5, "modern", block_size=block_size, n_layer=2, n_head=3, n_embd=24))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    once = torch.randint(5, (4, 16), generator=torch.Generator().manual_seed(0))
    wei, rows = attention.attentions(model, torch.cat([once, once], dim=1)), torch.arange(16, 32)
    expected = float(wei[..., rows, rows - 15].mean(dim=(1, -1)).max())
    assert expected > 0.05
    assert attention.copying(model) == pytest.approx(expected, abs=1e-6)
    rows_of, numbers = attention.rows_of, []
    monkeypatch.setattr(attention, "AT_ONCE", 4 * 4 * 3 * 32 * 5)  # of five rows, which are copied three times
    monkeypatch.setattr(attention, "rows_of", lambda *of: numbers.append(len(of[2])) or rows_of(*of))
    assert attention.copying(model) == pytest.approx(expected, abs=1e-6)
    assert numbers == [5, 5, 5, 1] * 2


@pytest.mark.parametrize("text", ["किताब में हिन्दी", "สวัสดี", "שָׁלוֹם", "cafe\u0301"])
def test_marks_on_letters_are_no_punctuation(text):
    text += ", «€» 1_"
    tokenizer = make_tokenizer(text)
    kinds = attention.kinds_of_places(np.array(tokenizer.encode(text)), tokenizer)
    assert "".join(text[i] for i in np.flatnonzero(kinds["punctuation"][0])) == ",«€»_"


def test_a_run_is_described_once(home, tiny_text, monkeypatch):
    one = open_run(ended_run(corpus.add(tiny_text, "A play"), "one", **SMALL))
    found = attention.of_heads(one)
    assert [[set(fact) for fact in heads] for heads in found["heads"]] == [[{"says", "distance", "shares"}] * 2]
    assert found["on"] == "held-out text"
    monkeypatch.setattr(attention, "facts", lambda *a: pytest.fail("described again"))
    assert attention.of_heads(open_run(one.run)) == found


def test_heads_described_without_the_text_are_described_again_once_it_is_here(home, tiny_text):
    run = ended_run(corpus.add(tiny_text, "A play"), "one", **SMALL)
    assert attention.of_heads(open_run(run, may_read_text=False))["on"] == "text it wrote itself"
    found = attention.of_heads(open_run(run))
    assert found["on"] == "held-out text"
    assert attention.of_heads(open_run(run, may_read_text=False)) == found


def test_the_attention_of_long_windows_takes_no_more_memory_than_that_of_six(home, tiny_text, monkeypatch):
    seen = []
    monkeypatch.setattr(attention, "facts", lambda model, tokenizer, xb: seen.append(xb) or [])
    text = corpus.add(tiny_text * 8, "A long play")
    for block_size in (16, 200, 512):
        attention.of_heads(open_run(ended_run(text, f"run-{block_size}", **SMALL | dict(block_size=block_size))))
    assert [tuple(xb.shape) for xb in seen] == [(192, 16), (8, 200), (6, 256)]
    monkeypatch.setattr(attention, "AT_ONCE", 2 * 3 * 256**2)  # as with many more heads than these two
    attention.of_heads(open_run(ended_run(text, "many-heads", **SMALL | dict(block_size=512))))
    assert tuple(seen[-1].shape) == (3, 256)
