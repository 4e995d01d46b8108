"""The forward pass in NumPy for several tokens at once: the newest of several texts, or all of their first ones.

It does for several tokens what decode.py does for one, with the same weights. Which tokens these are, and what each may
look at, is in `Newest` and `Beginnings`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from .packed import has_onednn
from .weights import F32, WIDE, Weights

# oneDNN's packed products are fast on every CPU, but slow to call: they pay for wide matrices, or for this many rows.
# OpenBLAS multiplies the rest, on one thread.
MANY = 32


class Several:
    """A model that computes N tokens at once."""

    def __init__(self, w: Weights):
        self.w = w
        self.layers = [[product(W) for W in layer] for layer in w.layers]
        self.head = product(w.head)

    def forward(self, ids: np.ndarray, places: Newest | Beginnings, cache: Sequence[np.ndarray]) -> np.ndarray:
        """Read the tokens `ids` (N,) at their places. Return the next logits of each of B texts, (B, vocab_size)."""
        w, last = self.w, len(self.layers) - 1
        x = self.embed(ids, places)  # (N, C)
        for number, (qkv, proj, up, down) in enumerate(self.layers):
            z = w.first[ids] if number == 0 and w.first is not None else w.sized(qkv(w.normed(x)))  # (N, 3C)
            q, k, v = self.attended(z, places, cache[number])
            if number == last:  # only keys and values of the other tokens are still needed
                q, x = places.newest(q, x)
            x = x + proj(self.gathered(q, k, v, places, w.bounded[number]))
            if w.idle[number]:
                continue
            hidden = up(w.normed(x))  # (N, 4C)
            np.maximum(hidden, F32(0), out=hidden)
            if w.layout.relu_squared:
                np.multiply(hidden, hidden, out=hidden)
            x += down(w.with_one(hidden))
        return self.head(w.normed(x))

    def embed(self, ids: np.ndarray, places: Newest | Beginnings) -> np.ndarray:
        """Return the inputs of the first block: (N,) -> (N, C)."""
        w = self.w
        if w.layout.rotary:
            return w.wte[ids]
        x = w.wte[ids] + w.wpe[places.at]
        return x / np.sqrt(np.vecdot(x, x) / F32(x.shape[1]) + F32(1e-6))[:, None] if w.layout.plain_norms else x

    def attended(self, qkv: np.ndarray, places: Newest | Beginnings, kv: np.ndarray) -> tuple:
        """Put keys and values of `qkv` (N, 3C) into a layer's cache. Return the queries, and what they may look at.

        These are (B, nh, T, hs) and twice (B, nh, all so far, hs + 1).
        """
        z = qkv.reshape(-1, 3, self.w.nh, self.w.hs)
        if self.w.layout.rotary:
            z[:, :2].view(np.complex64)[...] *= places.turn
        return places.store(z, kv)

    def gathered(self, q, k, v, places: Newest | Beginnings, bounded: bool) -> np.ndarray:
        """Return the input of `proj` for these queries: (B, nh, T, hs) -> (B * T, C or C + 1)."""
        wei = q @ k[..., :-1].swapaxes(2, 3)  # (B, nh, T, hs) @ (B, nh, hs, most) -> (B, nh, T, most)
        if places.mask is not None:
            wei += places.mask[..., -q.shape[2] :, :]
        if not bounded:
            wei -= wei.max(axis=3, keepdims=True)
        np.exp(wei, out=wei)
        out = (wei @ v).swapaxes(1, 2)  # (B, nh, T, most) @ (B, nh, most, hs + 1) -> (B, T, nh, hs + 1)
        return self.w.with_one((out[..., :-1] / out[..., -1:]).reshape(len(q) * q.shape[2], -1))


class Newest:
    """One token of each of B texts: its place `at` (B,) in the text."""

    def __init__(self, w: Weights, at: np.ndarray):
        self.at, self.rows, self.most = at, np.arange(len(at)), int(at.max()) + 1  # (B,), (B,)
        self.turn = w.turn[at][:, None, None] if w.layout.rotary else F32(1)  # (B, 1, 1, hs / 2)
        self.mask = None  # (B, 1, 1, most): -inf after the newest token
        if at.min() + 1 < self.most:
            after = np.arange(self.most) > at[:, None]
            self.mask = np.where(after, F32(-np.inf), F32(0))[:, None, None]

    def store(self, z: np.ndarray, kv: np.ndarray) -> tuple:
        """Put the keys and values of z (B, 3, nh, hs) into a layer's cache. Return queries, keys and values."""
        kv[:, self.rows, :, self.at, :-1] = z[:, 1:]
        kv[1, self.rows, :, self.at, -1] = 1
        return z[:, 0, :, None], *kv[:, : len(z), :, : self.most]

    def newest(self, q, x) -> tuple:
        """Return the queries and rows whose logits are wanted: all."""
        return q, x


class Beginnings:
    """The first T tokens of each of B texts, whose cache is empty."""

    def __init__(self, w: Weights, B: int, T: int):
        self.shape = B, T
        self.at = np.tile(np.arange(T), B)  # (B * T,)
        self.turn = w.turn[self.at][:, None, None] if w.layout.rotary else F32(1)  # (B * T, 1, 1, hs / 2)
        self.mask = np.triu(np.full((T, T), -np.inf, F32), 1)  # of each token's later ones

    def store(self, z: np.ndarray, kv: np.ndarray) -> tuple:
        """Put the keys and values of z (B * T, 3, nh, hs) into a layer's cache. Return queries, keys and values."""
        (B, T), (_, *part) = self.shape, z.shape
        z = z.reshape(B, T, *part).transpose(2, 0, 3, 1, 4)  # (3, B, nh, T, hs)
        kv[:, :, :, :T, :-1], kv[1, :, :, :T, -1] = z[1:], 1
        return z[0], *kv[:, :, :, :T]

    def newest(self, q, x) -> tuple:
        """Return the queries (B, nh, 1, hs) and rows (B, C) of each text's last token."""
        B, T = self.shape
        return q[:, :, -1:], x.reshape(B, T, -1)[:, -1]


def product(W: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that multiplies rows by a matrix W (in, out): (B, in) -> (B, out)."""
    matrix, few = torch.from_numpy(W), MANY if min(W.shape) < WIDE else 0
    if not has_onednn():
        return lambda x: x @ W if len(x) < few else torch.mm(torch.from_numpy(x), matrix).numpy()
    packed = torch.ops.mkldnn._reorder_linear_weight(matrix.T.contiguous())
    by_onednn = lambda x: torch.ops.mkldnn._linear_pointwise(torch.from_numpy(x), packed, None, "none", [], "").numpy()
    return lambda x: x @ W if len(x) < few else by_onednn(x)
