"""A cached decoder for several texts on a CPU, each at a position of its own.

It does for several texts what decode.py does for one, with the same weights, so that each matrix is read once for all
of them. Texts come and go between two characters, and each may restart its context when it has to: `join` reads prompts
into new rows, `keep` drops rows. All rows compute attention as far as the longest one reaches, with a mask.

The results equal those of `model.py` up to rounding, as tests/fast/test_rows.py checks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from .decode import F32, Keeper, Ready, Weights
from .packed import has_onednn
from .threads import openblas, torch_threads

# oneDNN's packed products are fast on every CPU, but slow to call: they pay for matrices of this width, or for this
# many rows. OpenBLAS multiplies the rest, on one thread.
WIDE, MANY = 256, 32


class Rows:
    """A cache with a row for each text. It has `sample.Decoder`'s interface, too, for texts of equal length."""

    def __init__(self, ready: Ready, most: int):
        """Make room for `most` texts. A row takes up memory only once it is used."""
        w = self.w = ready.weights
        self.ready, self.block_size, self.most = ready, ready.model.config.block_size, most
        self.texts, self.at = 0, np.zeros(most, int)  # how many texts there are, and how many tokens each has
        # keys and values of each layer; each value ends with a 1, so that a weighted sum also sums the weights
        self.kv = [np.zeros((2, most, w.nh, self.block_size, w.hs + 1), F32) for _ in w.layers]
        self.layers = [[product(W) for W in layer] for layer in w.layers]
        self.head = product(w.head)
        self.threads_of_blas, self.set_threads_of_blas = openblas()
        self.threads = torch_threads()

    # ---- texts come and go -------------------------------------------------------------------------------------------

    def join(self, ids: np.ndarray) -> None:
        """Read the tokens (N, T) of N more texts into new rows after the others. T may be 0."""
        N, T = ids.shape
        new = slice(self.texts, self.texts + N)
        self.texts, self.at[new] = new.stop, T
        if T:
            self.ready.read(ids, [Keeper(self.w, kv[:, new]) for kv in self.kv])

    def keep(self, rows: list[int]) -> None:
        """Drop all texts but these. Row i is from then on what row rows[i] was; rows[i] is at least i."""
        for row, old in enumerate(rows):
            if row != old:
                T = self.at[row] = self.at[old]
                for kv in self.kv:
                    kv[:, row, :, :T] = kv[:, old, :, :T]
        self.texts = len(rows)

    @property
    def length(self) -> int:
        """Return how many tokens of the first text are in the cache."""
        return int(self.at[0]) if self.texts else 0

    def restart(self) -> None:
        """Empty the cache."""
        self.texts = 0

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Append tokens `ids` (B, T), one each unless the cache is empty. Return the next logits, (B, vocab_size)."""
        if not self.texts:
            self.join(ids[:, :-1])
        return self.step(ids[:, -1])

    # ---- a character -------------------------------------------------------------------------------------------------

    def step(self, ids: np.ndarray) -> np.ndarray:
        """Append a token to each text, `ids` (B,), and return the logits of the next one, (B, vocab_size)."""
        before = self.threads_of_blas()
        self.set_threads_of_blas(1)  # attention's products are too small for several
        try:
            with torch.inference_mode(), self.threads.chosen(self.texts + 12.0):
                return self.forward(ids, Positions(self.w, self.at[: self.texts]))
        finally:
            self.set_threads_of_blas(before)
            self.at[: self.texts] += 1

    def forward(self, ids: np.ndarray, places: Positions) -> np.ndarray:
        """Run the model for a token of each text: (B,) -> (B, vocab_size)."""
        w = self.w
        x = self.embed(ids, places)  # (B, C)
        for kv, (qkv, proj, up, down), idle in zip(self.kv, self.layers, w.idle):
            x += proj(self.attend(kv, qkv(self.norm(x)), places))
            if idle:
                continue
            hidden = up(self.norm(x))  # (B, 4C)
            np.maximum(hidden, F32(0), out=hidden)
            if w.layout.relu_squared:
                np.multiply(hidden, hidden, out=hidden)
            x += down(self.with_one(hidden))
        return self.head(self.norm(x))

    def embed(self, ids: np.ndarray, places: Positions) -> np.ndarray:
        """Return the inputs of the first block: (B,) -> (B, C)."""
        w = self.w
        if w.layout.rotary:
            return w.wte[ids]
        x = w.wte[ids] + w.wpe[places.at]
        return x / np.sqrt(np.vecdot(x, x) / F32(x.shape[1]) + F32(1e-6))[:, None] if w.layout.plain_norms else x

    def norm(self, x: np.ndarray) -> np.ndarray:
        """Return each row divided by its length, followed by a 1 if there are bias rows: (B, C) -> (B, C or C + 1)."""
        return self.with_one(x / np.sqrt(np.vecdot(x, x) + self.w.eps)[:, None])

    def with_one(self, x: np.ndarray) -> np.ndarray:
        """Return rows followed by a 1, which multiplies the bias row; or just the rows, if there are no biases."""
        return np.concatenate([x, np.ones((len(x), 1), F32)], axis=1) if self.w.bias_rows else x

    def attend(self, kv: np.ndarray, qkv: np.ndarray, places: Positions) -> np.ndarray:
        """Compute attention for the newest token of each text from its qkv (B, 3C). Return the input of `proj`."""
        w, B = self.w, len(qkv)
        z = qkv.reshape(B, 3, w.nh, w.hs)
        self.place(z[:, :2], places)
        kv[:, places.rows, :, places.at, :-1] = z[:, 1:]
        kv[1, places.rows, :, places.at, -1] = 1
        k, v = kv[:, :B, :, : places.most]  # (B, nh, most, hs + 1) each
        wei = z[:, 0, :, None] @ k[..., :-1].swapaxes(2, 3)  # (B, nh, 1, hs) @ (B, nh, hs, most) -> (B, nh, 1, most)
        if places.mask is not None:
            wei += places.mask
        if not w.layout.qk_norm:  # with QK norm, scores are at most sqrt(hs), so exp can't overflow
            wei -= wei.max(axis=3, keepdims=True)
        np.exp(wei, out=wei)
        out = (wei @ v)[:, :, 0]  # (B, nh, 1, most) @ (B, nh, most, hs + 1) -> (B, nh, hs + 1)
        return self.with_one((out[..., :-1] / out[..., -1:]).reshape(B, -1))

    def place(self, qk: np.ndarray, places: Positions) -> None:
        """Rotate queries and keys (B, 2, nh, hs) to their positions and normalize them, in place."""
        w = self.w
        if w.layout.qk_norm:
            size = np.sqrt(np.vecdot(qk, qk) + F32(w.hs * 1e-6))
        if w.layout.rotary:
            qk.view(np.complex64)[...] *= places.turn
        if w.layout.qk_norm:
            qk /= size[..., None]
            if not w.layout.rotary:
                qk *= F32(w.scale)  # with rotary positions, `turn` includes it


class Positions:
    """Where the newest token of each text goes, and what all layers need to know about that."""

    def __init__(self, w: Weights, at: np.ndarray):
        self.at, self.rows, self.most = at, np.arange(len(at)), int(at.max()) + 1  # (B,), (B,)
        self.turn = w.turn[at][:, None, None] if w.layout.rotary else F32(1)  # (B, 1, 1, hs / 2)
        self.mask = None  # (B, 1, 1, most): -inf after the newest token
        if at.min() + 1 < self.most:
            after = np.arange(self.most) > at[:, None]
            self.mask = np.where(after, F32(-np.inf), F32(0))[:, None, None]


def product(W: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that multiplies rows by a matrix W (in, out): (B, in) -> (B, out)."""
    matrix, few = torch.from_numpy(W), MANY if min(W.shape) < WIDE else 0
    if not has_onednn():
        return lambda x: x @ W if len(x) < few else torch.mm(torch.from_numpy(x), matrix).numpy()
    packed = torch.ops.mkldnn._reorder_linear_weight(matrix.T.contiguous())
    by_onednn = lambda x: torch.ops.mkldnn._linear_pointwise(torch.from_numpy(x), packed, None, "none", [], "").numpy()
    return lambda x: x @ W if len(x) < few else by_onednn(x)
