"""Test sampling: cached decoding against the lecture's loop, and each setting against hand-computed probabilities."""

from __future__ import annotations

import itertools
import math
import sys
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from judges import probabilities

from nanogpt.config import ModelConfig, NanoGPTError, SampleConfig
from nanogpt.model import GPT
from nanogpt.sample import Decoder, decoder_for, generate, pick, stream, stream_many, weights
from nanogpt.tokenizer import CharTokenizer

T = 8
TOKENIZER = CharTokenizer("\nabcdefghij")
GREEDY, SEEDED = SampleConfig(temperature=0), SampleConfig(temperature=1.0, top_k=7, top_p=0.95, seed=5)


@pytest.fixture(scope="module", params=["classic", "modern"])
def model(request) -> GPT:
    return a_model(block_size=T, layout=request.param)


def a_model(**settings) -> GPT:
    """Return a small model whose weights are so large that every character of the context matters."""
    torch.manual_seed(0)
    made = GPT(ModelConfig(vocab_size=TOKENIZER.vocab_size, n_layer=2, n_head=2, n_embd=16, **settings))
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.4 * torch.randn_like(p))
    return made.eval()


def written(model, prompt, config, length=None):
    length = config.length if length is None else length
    return "".join(stream(model, TOKENIZER, prompt, SampleConfig.of({**config.as_dict(), "length": length})))


# --- the cached decoder matches the lecture's loop -----------------------------------------------------------------


@pytest.mark.parametrize("config", [GREEDY, SEEDED, SampleConfig(seed=0)], ids=["greedy", "seeded", "defaults"])
@pytest.mark.parametrize("length", [0, 1, 2, T - 1, T, T + 1, 3 * T])
def test_inside_the_window_stream_is_generate(model, config, length):
    prompt = ("abcdefghij" * 3)[:length]
    ids = TOKENIZER.encode(prompt or "\n")
    fits = max(0, T - len(ids)) + 1  # the last character is drawn when the window is exactly full
    config = SampleConfig.of({**config.as_dict(), "length": fits})
    expected = TOKENIZER.decode(generate(model, ids, config))
    assert len(expected) == fits
    assert written(model, prompt, config) == expected


def test_the_lecture_s_loop_is_the_lecture_s(model):
    """`generate` must call the full model on the last block_size characters for each greedy token."""
    ids = TOKENIZER.encode("abc")
    for _ in range(2 * T):
        logits, _ = model(torch.tensor([ids[-T:]]))
        ids.append(int(logits[0, -1].argmax()))
    assert generate(model, TOKENIZER.encode("abc"), SampleConfig(temperature=0, length=2 * T)) == ids[3:]


@pytest.mark.parametrize("config", [GREEDY, SEEDED], ids=["greedy", "seeded"])
@pytest.mark.parametrize("length", [0, 5, T, 3 * T])
def test_beyond_the_window_it_goes_on_from_the_newer_half(model, config, length):
    prompt = ("abcdefghij" * 3)[:length]
    assert written(model, prompt, config, 5 * T) == uncached(model, prompt, config, 5 * T)


def uncached(model, prompt, config, length):
    """Return what is drawn without a cache, on the windows that the cache would hold."""
    T = model.config.block_size
    rng, seen = np.random.default_rng(config.seed), TOKENIZER.encode(prompt or "\n")[-T:]
    new = []
    for _ in range(length):
        if len(seen) > T:
            seen = seen[-(T // 2) :]
        logits = model(torch.tensor([seen]))[0][0, -1].detach().numpy()
        new.append(pick(logits, config, rng))
        seen.append(new[-1])
    return TOKENIZER.decode(new)


@pytest.mark.parametrize("block_size", [2, 3, 5])
def test_the_smallest_windows_go_on_as_well(block_size):
    tiny = a_model(block_size=block_size)
    for length in (0, 1, block_size, 9):
        prompt, seeds = "abcdefghij"[:length], (SEEDED.seed, SEEDED.seed + 1)
        config = SampleConfig.of({**SEEDED.as_dict(), "length": 20, "num_samples": 2})
        expected = [uncached(tiny, prompt, SampleConfig.of({**SEEDED.as_dict(), "seed": seed}), 20) for seed in seeds]
        assert written(tiny, prompt, SEEDED, 20) == expected[0]
        for decoder in (None, Decoder(tiny, 2)):
            both = zip(*stream_many(tiny, TOKENIZER, prompt, config, decoder))
            assert ["".join(text) for text in both] == expected


def test_on_a_gpu_its_decoder_is_chosen_and_without_its_file_the_plain_one(model, monkeypatch):
    gpu = SimpleNamespace(device=SimpleNamespace(type="cuda"), config=model.config, blocks=model.blocks)
    monkeypatch.setattr("nanogpt.fast.cuda_decode.StaticDecoder", lambda *given, **more: (given, more))
    assert decoder_for(gpu, 3, compiling=False) == ((gpu, 3), dict(kernels=False))
    monkeypatch.setitem(sys.modules, "nanogpt.fast.cuda_decode", None)  # importing it raises ImportError
    assert type(decoder_for(gpu, 3)) is Decoder


def test_whoever_takes_a_character_is_not_in_inference_mode(model):
    for _ in itertools.islice(stream(model, TOKENIZER, "", SampleConfig()), 3):
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()


def test_two_streams_at_once_do_not_disturb_each_other(model):
    first, second = (stream(model, TOKENIZER, "ab", SampleConfig(length=30, seed=s)) for s in (1, 2))
    together = ["".join(piece) for piece in zip(*zip(first, second))]
    assert together == [written(model, "ab", SampleConfig(seed=s), 30) for s in (1, 2)]


def test_a_character_the_model_never_saw_is_refused(model):
    with pytest.raises(NanoGPTError, match="Z is not in this model's alphabet"):
        written(model, "abZ", GREEDY)


# --- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "same_as_greedy", [dict(top_k=1), dict(top_p=0.0), dict(top_p=1e-9), dict(temperature=1e-9), dict(top_k=1, seed=9)]
)
def test_only_the_likeliest_is_greedy(model, same_as_greedy):
    assert written(model, "ab", SampleConfig(**same_as_greedy), 40) == written(model, "ab", GREEDY, 40)


def test_a_seed_is_a_text(model):
    texts = [written(model, "ab", SampleConfig(seed=seed), 60) for seed in (1, 2, 3, 1)]
    assert texts[0] == texts[3]
    assert len(set(texts)) == 3
    assert written(model, "ab", SampleConfig(temperature=0, seed=1), 60) == written(
        model, "ab", SampleConfig(temperature=0, seed=2), 60
    )


def test_a_longer_text_begins_with_the_shorter(model):
    assert written(model, "ab", SEEDED, 50).startswith(written(model, "ab", SEEDED, 17))


# --- probabilities -------------------------------------------------------------------------------------------------

P = np.array([0.05, 0.4, 0.1, 0.2, 0.05, 0.2])  # ties: 3 and 5, 0 and 4
LOGITS = np.log(P).astype(np.float32)


def kept(**settings):
    p = probabilities(LOGITS, SampleConfig(**{"temperature": 1.0, **settings}))
    assert p.sum() == pytest.approx(1, abs=1e-12)
    assert p.min() >= 0
    alive = np.flatnonzero(p)
    np.testing.assert_allclose(p[alive], P[alive] / P[alive].sum(), rtol=1e-6)  # kept probabilities are rescaled
    return alive.tolist()


def test_all_are_kept_by_default():
    np.testing.assert_allclose(probabilities(LOGITS, SampleConfig(temperature=1.0)), P, rtol=1e-6)


@pytest.mark.parametrize(
    ("top_k", "alive"),
    [
        (0, range(6)), (1, [1]), (2, [1, 3]), (3, [1, 3, 5]), (4, [1, 2, 3, 5]), (5, [0, 1, 2, 3, 5]), (6, range(6)),
        (99, range(6)),
    ],
)  # fmt: skip
def test_top_k_keeps_exactly_k_and_of_equals_the_first(top_k, alive):
    assert kept(top_k=top_k) == list(alive)


@pytest.mark.parametrize(
    ("top_p", "alive"),
    [
        (0.0, [1]), (0.3, [1]), (0.39, [1]), (0.41, [1, 3]), (0.59, [1, 3]), (0.61, [1, 3, 5]), (0.79, [1, 3, 5]),
        (0.81, [1, 2, 3, 5]), (0.91, [0, 1, 2, 3, 5]), (0.96, range(6)), (1.0, range(6)),
    ],
)  # fmt: skip
def test_top_p_keeps_the_fewest_that_reach_it(top_p, alive):
    assert kept(top_p=top_p) == list(alive)


def test_top_p_is_reached_by_exactly_that_much():
    halves = np.log(np.array([0.25, 0.5, 0.25], dtype=np.float32))
    assert np.flatnonzero(probabilities(halves, SampleConfig(temperature=1.0, top_p=0.5))).tolist() == [1]
    assert np.flatnonzero(probabilities(halves, SampleConfig(temperature=1.0, top_p=0.75))).tolist() == [0, 1]


def test_with_both_the_stricter_one_counts():
    assert kept(top_k=2, top_p=0.9) == [1, 3]
    assert kept(top_k=5, top_p=0.5) == [1, 3]


@pytest.mark.parametrize("temperature", [0.1, 0.8, 1.0, 2.0])
def test_the_temperature_divides_the_logits(temperature):
    expected = P ** (1 / temperature) / (P ** (1 / temperature)).sum()
    np.testing.assert_allclose(probabilities(LOGITS, SampleConfig(temperature=temperature)), expected, rtol=1e-5)


def test_temperature_zero_takes_the_first_of_the_likeliest():
    p = probabilities(np.array([0.0, 3.0, 3.0, -1.0], dtype=np.float32), SampleConfig(temperature=0))
    assert p.tolist() == [0, 1, 0, 0]


def test_a_greedy_draw_takes_memory_for_a_number_per_character():
    logits = np.zeros(4000, dtype=np.float32)
    tracemalloc.start()
    try:
        assert weights(logits, GREEDY).sum() == 1
        assert tracemalloc.get_traced_memory()[1] < 100_000  # bytes; a number for each pair would take 128 million
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("logits", [[1e30, -1e30, 0], [-1e30] * 3, [0, -math.inf, 0], [3e38, 3e38, -3e38]])
@pytest.mark.parametrize("temperature", [0.0, 0.01, 2.0])
def test_extreme_logits_still_give_a_distribution(logits, temperature):
    p = probabilities(np.array(logits, dtype=np.float32), SampleConfig(temperature=temperature))
    assert p.sum() == pytest.approx(1)
    assert np.isfinite(p).all()


# --- drawing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, dict(temperature=0.7), dict(top_k=4), dict(top_p=0.7, temperature=1.5)])
def test_draws_follow_the_probabilities(settings):
    config = SampleConfig(**{"temperature": 1.0, **settings})
    rng, n = np.random.default_rng(11), 20_000
    counts = np.bincount([pick(LOGITS, config, rng) for _ in range(n)], minlength=len(P))
    expected = n * probabilities(LOGITS, config)
    alive = expected > 0
    assert (counts[~alive] == 0).all()
    chi_square = ((counts[alive] - expected[alive]) ** 2 / expected[alive]).sum()
    assert chi_square < 20.5  # fair draws exceed this 0.1% of the time (5 degrees of freedom); the seed is fixed


def test_a_draw_takes_one_number_whatever_the_settings_are():
    for config in (SampleConfig(), SampleConfig(top_k=1), GREEDY):
        rng, other = np.random.default_rng(3), np.random.default_rng(3)
        pick(LOGITS, config, rng)
        other.random()
        assert rng.random() == other.random()
