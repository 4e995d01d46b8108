"""The decoder of several texts at their own positions, against the whole model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nanogpt.config import ModelConfig
from nanogpt.fast import several, weights
from nanogpt.fast.packed import has_onednn
from nanogpt.fast.ready import Ready
from nanogpt.fast.rows import Rows
from nanogpt.layout import LAYOUTS, Layout
from nanogpt.model import GPT

V, T = 11, 16
MIXED = {
    **LAYOUTS,
    "rotary, with gains": Layout(rotary=True, relu_squared=True),
    "learned, with QK norm": Layout(plain_norms=True, qk_norm=True, biases=False),
}


def made(layout: Layout, **shape) -> GPT:
    torch.manual_seed(0)
    model = GPT(ModelConfig(vocab_size=V, layout=layout, block_size=T, **shape)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model


def expected(model: GPT, texts: list[list[int]]) -> np.ndarray:
    """Return the logits after each text, from the whole model: (B, vocab_size)."""
    with torch.no_grad():
        return np.array([model(torch.tensor([ids]))[0][0, -1].numpy() for ids in texts])


@pytest.mark.parametrize("most", [0, 1024])  # tokens for which the first layer is computed in advance
@pytest.mark.parametrize("wide", [1, 1000])  # oneDNN's products for all matrices, and for none
@pytest.mark.parametrize("layout", MIXED)
def test_texts_join_and_leave_at_any_position(layout, wide, most, monkeypatch):
    monkeypatch.setattr(weights, "MOST", most)
    for module in (several, weights):  # which then also read prompts by torch, and by NumPy
        monkeypatch.setattr(module, "WIDE", wide)
    model, rng = made(MIXED[layout], n_layer=2, n_head=2, n_embd=16), np.random.default_rng(1)
    rows, texts = Rows(Ready(model), 4), list[list[int]]()

    def join(count: int, length: int) -> None:
        new = rng.integers(0, V, (count, length))
        rows.join(new)
        texts.extend(new.tolist())

    def go_on(characters: int) -> None:
        for _ in range(characters):
            ids = rng.integers(0, V, len(texts))
            for text, i in zip(texts, ids.tolist()):
                text.append(i)
            np.testing.assert_allclose(rows.step(ids), expected(model, texts), atol=3e-5)

    join(1, 0)
    go_on(3)
    join(2, 9)
    join(1, 12)
    go_on(4)  # the last one is full now
    assert rows.at.tolist() == [7, 13, 13, T]
    rows.keep([0, 2])
    texts[:] = texts[0], texts[2]
    join(1, 2)  # into rows that were used before, by longer texts
    go_on(3)
    assert rows.at[:3].tolist() == [10, T, 5]
    rows.keep([2])  # the last text into the first row, which was longer
    texts[:] = texts[2:]
    go_on(5)
    rows.keep([])
    texts.clear()
    join(4, 1)
    go_on(T - 1)


@pytest.mark.skipif(not has_onednn(), reason="needs oneDNN")
def test_wide_matrices_and_many_rows_are_packed_and_others_are_not(monkeypatch):
    W, calls = np.arange(20, dtype=np.float32).reshape(4, 5), []
    packed = torch.ops.mkldnn._linear_pointwise
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", lambda *a: calls.append(1) or packed(*a))
    for wide, rows, expected in ((256, 3, []), (256, 32, [1]), (4, 3, [1, 1])):
        monkeypatch.setattr(several, "WIDE", wide)
        x = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
        np.testing.assert_allclose(several.product(W)(x), x @ W)
        assert calls == expected


def test_without_onednn_torch_multiplies_wide_matrices(monkeypatch):
    monkeypatch.setattr(several, "has_onednn", lambda: False)
    monkeypatch.setattr(several, "WIDE", 4)
    W, x = np.arange(20, dtype=np.float32).reshape(4, 5), np.ones((3, 4), np.float32)
    np.testing.assert_allclose(several.product(W)(x), x @ W)


@pytest.mark.skipif(not has_onednn(), reason="needs oneDNN")
def test_several_texts_are_the_same_to_the_bit_whatever_the_threads():
    before = torch.get_num_threads()
    ready, results = Ready(made(LAYOUTS["modern"], n_layer=1, n_head=2, n_embd=256)), []
    ids = np.random.default_rng(1).integers(0, V, (40, T))
    try:
        for threads in (1, 2):
            torch.set_num_threads(2)
            rows = Rows(ready, 40)
            ready.threads.now = rows.threads.now = threads
            results.append([rows.read(ids[:, :8]), *(rows.read(ids[:, t : t + 1]) for t in range(8, T))])
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert all(np.array_equal(a, b) for a, b in zip(*results))
