"""The decoder with a static cache against the plain one: the same results on any device, CUDA graphs only on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nanogpt.config import ModelConfig, SampleConfig
from nanogpt.fast import cuda_decode
from nanogpt.fast.cuda_decode import StaticDecoder
from nanogpt.model import GPT
from nanogpt.sample import Decoder, Draws, generate, generate_many

layouts = pytest.mark.parametrize("layout", ["classic", "modern"])


def a_model(layout: str, block_size: int = 12) -> GPT:
    torch.manual_seed(0)
    model = GPT(ModelConfig(vocab_size=11, layout=layout, n_layer=2, n_head=2, n_embd=16, block_size=block_size)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.5)
    return model


@layouts
def test_a_static_cache_gives_the_plain_decoders_scores(layout):
    plain, static = Decoder(a_model(layout), 3), StaticDecoder(a_model(layout), 3)
    rng = np.random.default_rng(0)
    for _ in range(2):  # the second time after a restart, with stale entries in the cache
        for length in (4, 1, 1, 1, 1):
            ids = rng.integers(0, 11, (3, length))
            np.testing.assert_allclose(static.read(ids), plain.read(ids), atol=1e-4)
        assert static.length == plain.length == 8
        plain.restart()
        static.restart()


@layouts
def test_texts_that_have_ended_are_left_out(layout):
    plain, static = Decoder(a_model(layout), 3), StaticDecoder(a_model(layout), 3)
    for decoder in (plain, static):
        decoder.read(np.array([[1, 2], [3, 4], [5, 6]]))
        decoder.keep([0, 2])
        decoder.read(np.array([[7], [8]]))
        decoder.keep([1])
    np.testing.assert_allclose(static.read(np.array([[9]])), plain.read(np.array([[9]])), atol=1e-4)
    for decoder in (plain, static):
        decoder.restart()
    ids = np.array([[1, 2, 3]])
    np.testing.assert_allclose(static.read(ids), plain.read(ids), atol=1e-4)


@layouts
def test_its_texts_are_the_lectures_within_the_window(layout):
    model, config = a_model(layout), SampleConfig(length=10, seed=3)
    found = [i for [piece] in generate_many(StaticDecoder(model), [1], config) for i in piece]
    assert found == generate(model, [1], config)


@layouts
def test_a_decoder_can_be_used_for_another_batch(layout):
    model, config = a_model(layout), SampleConfig(length=20, num_samples=3)
    plain, static = Decoder(model, 3), StaticDecoder(model, 3)
    for seed in (3, 4):
        found = []
        for decoder in (plain, static):
            texts = [Draws(seed + i, length) for i, length in enumerate((20, 4, 9))]  # the first ends last, alone
            for _ in generate_many(decoder, [1, 2], config, texts):
                pass
            found.append([text.new for text in texts])
        assert found[0] == found[1]
        assert found[0][0][:11] == generate(model, [1, 2], SampleConfig(length=11, seed=seed))


@pytest.mark.parametrize("kind", [Decoder, StaticDecoder])
def test_sampling_from_a_model_in_training_has_no_dropout(kind):
    config = ModelConfig(vocab_size=11, n_layer=2, n_head=2, n_embd=16, block_size=12, dropout=0.5)
    model, read = GPT(config).eval(), lambda decoder: [decoder.read(np.array([ids])) for ids in ([1, 2, 3], [4])]
    expected = read(kind(model))
    model.train()
    np.testing.assert_array_equal(read(kind(model)), expected)
    assert all(part.training for part in model.modules())


def test_it_works_on_the_models_gpu(monkeypatch):
    used, decoder = [], StaticDecoder(a_model("classic"))
    on = torch.cuda.device_of
    monkeypatch.setattr(torch.cuda, "device_of", lambda tensor: used.append(tensor) or on(tensor))
    decoder.read(np.array([[1, 2]]))
    decoder.draw(np.array([[3]]), np.array([[0.5]]), 1.0)
    assert len(used) == 2
    assert all(tensor is decoder.idx for tensor in used)


def test_after_a_recording_failed_the_scores_are_not_those_of_an_earlier_one(monkeypatch):
    for name in ("current_stream", "current_device"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: None)
    monkeypatch.setattr(cuda_decode, "recording_stream", lambda use, gpu: None)  # fails where it is used
    plain, static = Decoder(a_model("classic")), StaticDecoder(a_model("classic"))
    static.refused, static.scores_of = False, {1: torch.zeros(1, 11)}  # single characters were recorded before
    for ids in (np.arange(6)[None], np.array([[7]])):  # first the half context, whose recording fails
        np.testing.assert_allclose(static.read(ids), plain.read(ids), atol=1e-4)
    assert static.refused


@pytest.mark.gpu
@layouts
def test_a_replayed_character_has_the_plain_scores(layout):
    model = a_model(layout).to("cuda")
    plain, static = Decoder(model, 2), StaticDecoder(model, 2)
    rng = np.random.default_rng(0)
    for length in (3, 1, 1, 1, 1, 1):
        ids = rng.integers(0, 11, (2, length))
        np.testing.assert_allclose(static.read(ids), plain.read(ids), atol=1e-3)
    assert list(static.graphs) == [1]


def check_draws(device: str) -> None:
    """Check drawing several characters at once, past the context length and with one of two texts ending early."""
    for layout in ("classic", "modern"):
        model = a_model(layout, block_size=40).to(device)
        config = SampleConfig(length=100, seed=3, num_samples=2)
        found = []
        for decoder in (StaticDecoder(model, 2), Decoder(model, 2)):
            texts = [Draws(3, 100), Draws(4, 23)]
            for _ in generate_many(decoder, [1], config, texts):
                pass
            found.append([text.new for text in texts])
        assert found[0] == found[1]
        assert [len(ids) for ids in found[0]] == [100, 23]
        assert found[0][0][:38] == generate(model, [1], SampleConfig(length=38, seed=3))


def test_characters_drawn_ahead_are_those_of_the_plain_decoder():
    check_draws("cpu")


@pytest.mark.gpu
def test_characters_drawn_ahead_on_a_gpu():
    check_draws("cuda")


@pytest.mark.gpu
def test_the_kernels_are_taken_and_32_characters_recorded():
    model = a_model("modern", block_size=64).to("cuda")
    static = StaticDecoder(model, 1)
    for _ in generate_many(static, [1], SampleConfig(length=50)):
        pass
    assert static.character is not None
    assert 32 in static.graphs
