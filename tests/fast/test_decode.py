"""The fast decoder against the plain one and against the lecture's loop."""

from __future__ import annotations

import copy
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import until
from judges import plainly_generated

from nanogpt import sample
from nanogpt.config import ModelConfig, SampleConfig
from nanogpt.fast import threads as fast_threads, weights
from nanogpt.fast.decode import FastDecoder
from nanogpt.fast.packed import Packed, attend_one, has_onednn, packed
from nanogpt.fast.ready import Ready
from nanogpt.fast.threads import Threads, all_threads, openblas, torch_threads, usual_threads
from nanogpt.fast.weights import Weights
from nanogpt.layout import Layout
from nanogpt.model import GPT, attention_by_hand
from nanogpt.sample import Decoder, decoder_for, generate, generate_many, keep_ready, stream
from nanogpt.tokenizer import CharTokenizer

TOKENIZER = CharTokenizer("\nabcdefghij")
V, T = TOKENIZER.vocab_size, 16
SHAPES = [
    dict(n_layer=2, n_head=2, n_embd=16),
    dict(n_layer=1, n_head=1, n_embd=6),
    dict(n_layer=3, n_head=4, n_embd=40),
    dict(n_layer=1, n_head=2, n_embd=256),  # wide: torch reads its prompts
]
LAYOUTS = ["classic", "modern"]
CONFIGS = [
    pytest.param(SampleConfig(temperature=0), id="greedy"),
    pytest.param(SampleConfig(seed=5), id="seeded"),
    pytest.param(SampleConfig(temperature=1.2, top_k=7, top_p=0.9, seed=6), id="top-k-p"),
]


def made(layout: str, noise: float = 0.3, **shape) -> GPT:
    """Return a model whose parameters are all nonzero, so that biases, gains and heads all matter."""
    torch.manual_seed(0)
    model = GPT(ModelConfig(vocab_size=V, layout=layout, block_size=T, **(shape or SHAPES[0])))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(noise * torch.randn_like(p))
    return model.eval()


def prompts(texts: int, length: int) -> np.ndarray:
    return np.random.default_rng(length).integers(0, V, (texts, length))


@pytest.mark.parametrize("most", [0, 1024])  # tokens for which the first layer is computed in advance
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("texts", [1, 3])
@pytest.mark.parametrize("length", [1, 2, 5, T])
def test_the_scores_are_those_of_the_whole_model(layout, shape, texts, length, most, monkeypatch):
    monkeypatch.setattr(weights, "MOST", most)
    model, ids = made(layout, noise=min(0.3, 12 / shape["n_embd"]), **shape), prompts(texts, T)
    with torch.no_grad():
        expected = model(torch.from_numpy(ids))[0].numpy()  # (B, T, vocab_size)
    assert np.abs(expected).max() > 1
    for decoder in (decoder_for(model, texts), Decoder(model, texts)):
        for _ in range(2):  # the second time after a restart, over a stale cache
            np.testing.assert_allclose(decoder.read(ids[:, :length]), expected[:, length - 1], atol=2e-5)
            for t in range(length, T):
                np.testing.assert_allclose(decoder.read(ids[:, t : t + 1]), expected[:, t], atol=2e-5)
            assert decoder.length == T
            decoder.restart()
            assert decoder.length == 0


@pytest.mark.parametrize("texts", [1, 3])
@pytest.mark.parametrize("gain", [1.0, 60.0])
def test_scores_that_could_overflow_are_shifted_and_others_are_not(texts, gain):
    model, ids = made("classic"), prompts(texts, T)
    with torch.no_grad():
        for block in model.blocks:
            block.sa.qkv.weight[: 2 * 16] *= gain  # queries and keys
        expected = model(torch.from_numpy(ids))[0].numpy()
    decoder = decoder_for(model, texts)
    assert decoder.w.bounded == [gain == 1.0] * 2
    for t in range(T):
        np.testing.assert_allclose(decoder.read(ids[:, t : t + 1]), expected[:, t], atol=1e-4)
    np.testing.assert_allclose(Ready(model).read(ids, caches(decoder.w, texts)), expected[:, -1], atol=1e-4)


def caches(w: Weights, texts: int) -> list[np.ndarray]:
    return [np.ones((2, texts, w.nh, T, w.hs + 1), np.float32) for _ in w.layers]


@pytest.mark.parametrize("layout", [LAYOUTS[0], Layout(rotary=True)], ids=["learned", "rotary"])
def test_no_score_is_higher_than_its_bound(layout):
    model = made(layout, n_layer=1, n_head=2, n_embd=16)
    w, found = Weights(model), []
    decoder = FastDecoder(Ready(model))
    exp = lambda scores, out: found.append(np.abs(scores).max()) or np.exp(scores, out=out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nanogpt.fast.decode.np", SimpleNamespace(**{**vars(np), "exp": exp}))
        for seed in range(20):
            decoder.restart()
            for i in np.random.default_rng(seed).integers(0, V, T):
                decoder.read(np.array([[i]]))
    bound = w.highest_score(w.layers[0][0])
    assert 0.1 * bound < max(found) <= bound


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("length", [1, 3, T])
def test_inside_the_window_it_writes_what_the_lecture_s_loop_writes(layout, length, config):
    model, ids = made(layout), prompts(1, length)[0].tolist()
    config = SampleConfig.of({**config.as_dict(), "length": T - length + 1})
    expected = generate(model, ids, config)
    assert len(set(expected)) > 1 or len(expected) < 5
    assert [i for [piece] in generate_many(FastDecoder(Ready(model)), ids, config) for i in piece] == expected


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("length", [1, T, 3 * T])
def test_beyond_the_window_it_writes_what_the_plain_decoder_writes(layout, length, config):
    model, ids = made(layout), prompts(1, length)[0].tolist()
    config = SampleConfig.of({**config.as_dict(), "length": 6 * T})
    expected = plainly_generated(model, ids, config)
    assert [i for [piece] in generate_many(FastDecoder(Ready(model)), ids, config) for i in piece] == expected


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_is_chosen_on_a_cpu_and_without_it_the_plain_one_writes_the_same(layout, monkeypatch):
    model, config = made(layout), SampleConfig(length=50)
    assert isinstance(decoder_for(model, 1), FastDecoder)
    fast = "".join(stream(model, TOKENIZER, "ab", config))
    monkeypatch.setattr(sample, "FastDecoder", None)
    assert isinstance(decoder_for(model, 1), Decoder)
    assert "".join(stream(model, TOKENIZER, "ab", config)) == fast
    assert isinstance(decoder_for(GPT(ModelConfig(vocab_size=V)).to("meta"), 1), Decoder)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", [decoder_for, Decoder])
def test_some_texts_can_be_dropped(layout, kind):
    model, ids = made(layout), prompts(4, 8)
    all_of_them, some = kind(model, 4), kind(model, 4)
    all_of_them.read(ids[:, :5]), some.read(ids[:, :5])
    some.keep([0, 3])
    np.testing.assert_allclose(some.read(ids[[0, 3], 5:6]), all_of_them.read(ids[:, 5:6])[[0, 3]], atol=1e-5)
    some.keep([1])
    np.testing.assert_allclose(some.read(ids[[3], 6:7]), all_of_them.read(ids[:, 6:7])[[3]], atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("onednn", [True, False])
def test_packed_matrices_give_the_models_scores(layout, onednn, monkeypatch):
    has_onednn.cache_clear()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
    for shape in SHAPES:
        model, ids = made(layout, **shape), torch.from_numpy(prompts(3, T))
        ours = packed(model)
        assert isinstance(ours.lm_head, Packed) is onednn
        with torch.no_grad():
            torch.testing.assert_close(ours(ids)[0], model(ids)[0][:, -1:], atol=1e-4, rtol=1e-4)
    has_onednn.cache_clear()


def test_attention_of_one_query_is_attention():
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 3, 1, 8), torch.randn(2, 3, 9, 8), torch.randn(2, 3, 9, 8)
    torch.testing.assert_close(attend_one(q, k, v), torch.nn.functional.scaled_dot_product_attention(q, k, v))
    many = attend_one(k, k, v, is_causal=True)
    torch.testing.assert_close(many, attention_by_hand(k, k, v)[0])
    mask = torch.tensor([[True] * 4 + [False] * 5])  # (1, 9): mask out the last five keys
    torch.testing.assert_close(attend_one(q, k, v, mask), attend_one(q, k[:, :, :4], v[:, :, :4]))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_can_be_kept_ready(layout):
    model, ids = made(layout), prompts(2, T)
    fresh = decoder_for(model, 1)
    assert model.ready is None
    assert keep_ready(model) is model
    first, second = decoder_for(model, 1), decoder_for(model, 1)
    assert first.w is second.w is model.ready.weights
    assert decoder_for(model, 2).w is model.ready.weights
    np.testing.assert_array_equal(first.read(ids[:1]), fresh.read(ids[:1]))
    assert all(not name.startswith("ready") for name in model.state_dict())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_of_another_precision_are_read_in_float32(layout, dtype):
    model, ids = made(layout).to(dtype), torch.from_numpy(prompts(2, 5))
    single = copy.deepcopy(model).float()
    for texts in (1, 2):
        with torch.no_grad():
            expected = single(ids[:texts])[0][:, -1].numpy()
        np.testing.assert_allclose(decoder_for(model, texts).read(ids[:texts].numpy()), expected, atol=1e-3)
        assert next(model.parameters()).dtype is dtype


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_that_is_being_trained_writes_with_its_newest_weights(layout):
    model, ids = made(layout), torch.from_numpy(prompts(2, T))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    for _ in range(2):
        for texts in (1, 2):
            with torch.no_grad():
                expected = model(ids[:texts])[0][:, -1].numpy()
            np.testing.assert_allclose(decoder_for(model, texts).read(ids[:texts].numpy()), expected, atol=1e-4)
        model(ids, ids)[1].backward()
        optimizer.step()


# --- threads -------------------------------------------------------------------------------------------------------


def reads(threads: Threads, seconds: dict[int, float], count: int) -> list[int]:
    """Return the thread count used by each of `count` reads, given the seconds a read takes with each thread count."""
    used = []
    for _ in range(count):
        used.append(threads.now)
        threads.learn(seconds[threads.now])
    return used


def two_threads() -> Threads:
    return Threads(lambda: 2, lambda threads: None, 2)


def test_all_threads_are_used_where_they_are_faster():
    threads = two_threads()
    assert reads(threads, {1: 1.0, 2: 0.6}, 8) == [1, 1, 1, 1, 2, 2, 2, 2]
    assert reads(threads, {1: 1.0, 2: 0.6}, 1000).count(1) < 100  # one thread is still tried now and then
    assert reads(threads, {1: 1.0, 2: 8.0}, 1000)[-500:].count(2) < 10  # a trainer has started


def test_one_thread_is_used_where_all_are_in_each_others_way():
    threads = two_threads()
    used = reads(threads, {1: 1.0, 2: 9.0}, 1000)
    assert used.count(2) <= 8  # one read per trial, and trials become rarer
    assert reads(threads, {1: 1.0, 2: 0.5}, 1000)[-300:].count(1) < 60  # the trainer has ended, noticed eventually


def test_one_slow_read_does_not_make_one_thread_of_many_for_long():
    threads = two_threads()
    reads(threads, {1: 1.0, 2: 0.6}, 200)
    until(lambda: threads.now == threads.usual == 2, wait=lambda: threads.learn({1: 1.0, 2: 0.6}[threads.now]))
    threads.learn(9.0)  # a single slow read: something else used the CPU
    assert reads(threads, {1: 1.0, 2: 0.6}, 100).count(2) > 80


def test_the_first_layer_is_computed_in_advance_where_it_depends_on_the_token_alone(monkeypatch):
    assert Weights(made("classic")).first is None
    w = Weights(made("modern"))
    assert w.first.shape == (V, 3 * SHAPES[0]["n_embd"])
    decoder = FastDecoder(Ready(made("modern")))
    before = w.first.copy()
    decoder.read(prompts(1, 1)), decoder.read(prompts(1, 1))
    assert np.array_equal(decoder.w.first, before)  # rotations happen in a copy
    monkeypatch.setattr(weights, "MOST", V - 1)
    assert Weights(made("modern")).first is None


def test_how_many_threads_others_have_is_left_as_it_was():
    get, switch = openblas()
    before = get()
    try:
        for threads in (1, 2):
            switch(threads)
            there = get()
            FastDecoder(Ready(made("classic"))).read(prompts(1, 5))
            assert get() == there
    finally:
        switch(before)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_text_is_the_same_to_the_bit_whatever_the_threads(layout):
    shape = dict(n_layer=1, n_head=2, n_embd=256)  # large enough for OpenBLAS to use several threads
    results = []
    for threads in (1, 2):
        decoder = FastDecoder(Ready(made(layout, noise=0.02, **shape)))
        if decoder.threads.most < threads:
            pytest.skip("this NumPy has no OpenBLAS whose threads could be set, or there is only one core")
        decoder.threads.now = threads
        results.append([decoder.read(prompts(1, 9)), *(decoder.read(prompts(1, 1)) for _ in range(3))])
    assert all(np.array_equal(a, b) for a, b in zip(*results))


def test_sampling_leaves_the_number_of_torch_s_threads_as_the_program_sets_it():
    before, threads = torch.get_num_threads(), Threads(usual_threads, torch.set_num_threads, 2)
    try:
        for number in (3, 1):
            torch.set_num_threads(number)
            with threads.chosen():
                assert torch.get_num_threads() == threads.now
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(before)
    assert torch_threads().get is usual_threads


def test_a_thread_that_starts_while_another_has_chosen_one_knows_of_all(monkeypatch):
    all_threads.cache_clear()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    first, found = torch_threads(), []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # as it would be within `first.chosen()`
    thread = threading.Thread(target=lambda: found.extend([torch_threads().most, usual_threads()]))
    thread.start()
    thread.join()
    all_threads.cache_clear()
    assert found == [first.most, 2]


def test_two_threads_at_once_leave_openblas_as_it_was(monkeypatch):
    number, entered, left = [2], threading.Event(), threading.Event()
    monkeypatch.setattr(fast_threads, "openblas", lambda: (lambda: number[0], lambda n: number.__setitem__(0, n)))
    all_threads.cache_clear()
    first = fast_threads.blas_threads()

    def second() -> None:
        with fast_threads.one_blas_thread():  # begins while the first one has chosen one thread
            entered.set()
            left.wait(60)

    thread = threading.Thread(target=second)
    with first.chosen():
        thread.start()
        entered.wait(60)
    left.set()
    thread.join()
    all_threads.cache_clear()
    assert number == [2]


def test_two_threads_that_learn_at_once_do_not_end_the_trials():
    threads = two_threads()
    threads.left = 0  # the other has counted, too
    assert reads(threads, {1: 1.0, 2: 0.6}, 100).count(2) > 50
