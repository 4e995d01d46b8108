"""Bits per character, and what the model and the training text expected, against plain computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nanogpt.config import ModelConfig, SampleConfig
from nanogpt.explain import characters
from nanogpt.explain.seen import LONGEST, Seen, seen
from nanogpt.model import GPT
from nanogpt.tokenizer import make_tokenizer

TEXT = "the miller and the baker sat by the river, and the boat went on.\n" * 3


@pytest.fixture(params=["classic", "modern"])
def model(request):
    torch.manual_seed(1)
    made = GPT(ModelConfig(len(set(TEXT)), request.param, block_size=16, n_layer=2, n_head=2, n_embd=16)).eval()
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return made


@pytest.fixture
def tokenizer():
    return make_tokenizer(TEXT)


@torch.inference_mode()
def plain_bits(model, tokenizer, text: str, i: int, context: int) -> float:
    """Return the bits of one character, from a forward pass over its context alone."""
    ids = [tokenizer.stoi["\n"], *tokenizer.encode(text)]
    logits = model(torch.tensor([ids[context : i + 1]]))[0][0, -1]
    return -float(logits.log_softmax(-1)[ids[i + 1]]) / math.log(2)


def test_a_character_is_judged_at_its_place_as_in_the_whole_text(model, tokenizer):
    read = characters.read(model, tokenizer, TEXT[:40])
    for i in (0, 7, 20, 39):
        logits = characters.logits_at(model, tokenizer, TEXT[:i], i)
        bits, rank = characters.judged(logits, tokenizer.stoi[TEXT[i]])
        assert (bits, rank) == (pytest.approx(read.bits[i], abs=1e-4), read.ranks[i])


def test_a_place_that_is_shared_has_no_rank(model, tokenizer):
    assert [characters.judged(np.array([2.0, 1.0, 2.0, 0.0]), id)[1] for id in range(4)] == [0, 3, 0, 4]
    model.lm_head.weight.detach().zero_()
    if model.lm_head.bias is not None:
        model.lm_head.bias.detach().zero_()
    read = characters.read(model, tokenizer, TEXT[:20])
    assert read.ranks.tolist() == [0] * 20
    assert read.bits == pytest.approx(math.log2(tokenizer.vocab_size))


def test_a_context_is_at_least_half_full_and_never_longer_than_the_model_can_read():
    for block_size in (1, 2, 3, 8, 16):
        for i in range(80):
            start = characters.context_start(i, block_size)
            assert 0 <= start <= i
            assert i + 1 - start <= block_size
            assert start == 0 or i + 1 - start > block_size // 2 - 1


def test_the_bits_are_those_of_each_character_after_its_context(model, tokenizer):
    text = TEXT[:70]
    read = characters.read(model, tokenizer, text)
    assert "".join(read.tokens) == text
    for i in (0, 1, 15, 16, 17, 24, 40, 69):
        start = characters.context_start(i, 16)
        assert read.bits[i] == pytest.approx(plain_bits(model, tokenizer, text, i, start), abs=1e-4)


def test_the_rank_counts_the_likelier_ones(model, tokenizer):
    text = TEXT[:40]
    read = characters.read(model, tokenizer, text)
    for i in (0, 5, 39):
        logits = characters.logits_at(model, tokenizer, text, i)
        own = logits[tokenizer.stoi[text[i]]]
        assert read.ranks[i] == 1 + (logits > own + 1e-6).sum()
        p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        assert read.bits[i] == pytest.approx(-math.log2(p[tokenizer.stoi[text[i]]]), abs=1e-4)


def test_bars_show_the_models_own_probability_and_the_one_when_sampling(tokenizer):
    logits = np.arange(tokenizer.vocab_size, dtype=np.float64)
    bars = characters.likeliest(logits, tokenizer, SampleConfig(temperature=0.5, top_k=2))
    likeliest = [tokenizer.itos[tokenizer.vocab_size - 1 - i] for i in range(5)]
    assert [bar["token"] for bar in bars] == likeliest
    p = np.exp(logits) / np.exp(logits).sum()
    assert [bar["p"] for bar in bars] == pytest.approx(p[::-1][:5])
    assert [bar["drawn"] for bar in bars] == pytest.approx([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2)), 0, 0, 0])


# --- the training text -----------------------------------------------------------------------------------------------


def plain_seen(text: str, context: str) -> Seen:
    for length in range(min(len(context), LONGEST), 0, -1):
        end = context[-length:]
        places = [i for i in range(len(text)) if text.startswith(end, i)]
        if places:
            followed = [text[i + length] for i in places if i + length < len(text)]
            return Seen(end, len(places), sorted({(ch, followed.count(ch)) for ch in followed}, key=lambda x: -x[1]))
    return Seen("", 0, [])


@pytest.mark.parametrize("context", ["", "q", "the", "xxthe ", "and the b", TEXT, TEXT[:50], "on.\n", "zz\n", "aaaa"])
def test_the_longest_context_that_occurs(context):
    text = TEXT + "aaaaaa"
    found, plain = seen(text, context), plain_seen(text, context)
    assert (found.context, found.times) == (plain.context, plain.times)
    assert sorted(found.followed) == sorted(plain.followed)
    assert [count for _, count in found.followed] == sorted((count for _, count in found.followed), reverse=True)
