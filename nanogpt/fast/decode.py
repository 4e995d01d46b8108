"""A cached decoder for one text on a CPU, in NumPy: `sample.Decoder`, close to the speed of reading the weights.

Each character reads every weight once and does little arithmetic, so speed depends on memory bandwidth and on the
overhead between matrix products. NumPy's `dot` reads a matrix about twice as fast as torch does, and a call costs
0.5 us instead of 3. Everything that doesn't depend on the text is folded into the weights first (weights.py). Prompts
of several characters are read by ready.py.

The results equal those of `model.py` up to rounding, as tests/fast/test_decode.py checks.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .ready import Ready
from .threads import blas_threads
from .weights import F32, Weights


class FastDecoder:
    """A decoder for a single text, with the interface of `sample.Decoder`.

    A character takes as long as a hundred calls of NumPy, so whatever can be made before is: each `Layer` has views of
    its cache, and the vectors between the products stay where they are.
    """

    def __init__(self, ready: Ready):
        w = self.w = ready.weights
        self.ready = ready
        self.block_size, self.length = ready.model.config.block_size, 0
        # Keys and values of each layer. Each value ends with a 1, so that a weighted sum also sums the weights.
        self.kv = list(np.ones((len(w.layers), 2, w.nh, self.block_size, w.hs + 1), F32))
        self.layers = [Layer(w, number, kv) for number, kv in enumerate(self.kv)]
        C, one = w.nh * w.hs, int(w.bias_rows)  # inputs end with a 1, which multiplies the bias row
        self.normed, self.gathered, self.hidden = (np.ones(n + one, F32) for n in (C, C, 4 * C))
        # the same without the 1: (C,), (nh, hs), (4C,)
        self.unit, self.heads, self.inner = self.normed[:C], self.gathered[:C].reshape(w.nh, w.hs), self.hidden[: 4 * C]
        self.qkv, self.out = np.empty(3 * C, F32), np.empty(C, F32)
        z = self.qkv.reshape(3, w.nh, w.hs)
        self.query, self.key_and_value = z[0][:, None], z[1:]  # (nh, 1, hs), (2, nh, hs)
        self.query_and_key, self.sizes = z[:2], np.empty((2, w.nh, 1), F32)
        self.pairs: Any = z[:2].view(np.complex64) if w.layout.rotary else None  # (2, nh, hs / 2)
        self.sums = np.empty((w.nh, 1, w.hs + 1), F32)  # of weighted values, and of the weights:
        self.sum, self.total = self.sums[:, 0, :-1], self.sums[:, 0, -1:]  # (nh, hs), (nh, 1)
        self.rotary = w.layout.rotary
        self.eps = float(w.eps)  # adding a float is faster than adding a NumPy scalar
        self.zero = np.zeros(4 * C, F32)  # np.maximum is faster with an array than with a scalar
        self.threads = blas_threads()

    def restart(self) -> None:
        """Empty the cache."""
        self.length = 0

    def keep(self, texts: list[int]) -> None:
        """Do nothing, because there is only one text."""

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Append tokens `ids` (1, T) and return the logits of the next one, (1, vocab_size)."""
        start = self.length
        self.length += ids.shape[1]
        if ids.shape[1] > 1:
            return self.ready.read(ids, [kv[:, None] for kv in self.kv])
        with self.threads.chosen():  # doesn't change the results: products are the same to the bit
            return self.read_one(ids, start)

    def read_one(self, ids: np.ndarray, t: int) -> np.ndarray:
        """Read the token at position t: (1, 1) -> (1, vocab_size)."""
        w, dot, add, out, inner = self.w, np.dot, np.add, self.out, self.inner
        x = self.embed(ids[0, 0], t)  # (C,)
        for layer in self.layers:
            if layer.known is not None:
                self.qkv[:] = layer.known[ids[0, 0]]
            else:
                dot(self.norm(x), layer.qkv, out=self.qkv)
                self.size()
            add(x, dot(self.attend(layer, t), layer.proj, out=out), out=x)
            if layer.idle:
                continue
            dot(self.norm(x), layer.up, out=inner)
            np.maximum(inner, self.zero, out=inner)
            if w.layout.relu_squared:
                np.multiply(inner, inner, out=inner)
            add(x, dot(self.hidden, layer.down, out=out), out=x)
        return dot(self.norm(x), w.head)[None]  # (1, vocab_size)

    def embed(self, id: int, t: int) -> np.ndarray:
        """Return the input of the first block for a token at position t: (C,)."""
        w = self.w
        if self.rotary:
            return w.wte[id].copy()
        x = w.wte[id] + w.wpe[t]
        return x * F32(1.0 / math.sqrt(x.dot(x) / x.size + 1e-6)) if w.layout.plain_norms else x

    def norm(self, x: np.ndarray) -> np.ndarray:
        """Return x divided by its length, followed by a 1 if there are bias rows: (C,) -> (C,) or (C + 1,)."""
        np.multiply(x, 1.0 / math.sqrt(x.dot(x) + self.eps), out=self.unit)
        return self.normed

    def attend(self, layer: Layer, t: int) -> np.ndarray:
        """Compute attention for the token at position t from `qkv`. Return the input of `proj`: (C,) or (C + 1,)."""
        if self.rotary:
            np.multiply(self.pairs, self.w.turn[t], out=self.pairs)
        layer.places[t] = self.key_and_value
        wei = np.matmul(self.query, layer.keys[:, :, : t + 1])  # (nh, 1, hs) @ (nh, hs, t + 1) -> (nh, 1, t + 1)
        if not layer.bounded:
            np.subtract(wei, np.maximum.reduce(wei, axis=2, keepdims=True), out=wei)
        np.exp(wei, out=wei)
        np.matmul(wei, layer.values[:, : t + 1], out=self.sums)  # (nh, 1, t + 1) @ (nh, t + 1, hs + 1)
        np.divide(self.sum, self.total, out=self.heads)
        return self.gathered

    def size(self) -> None:
        """Normalize query and key, in place, if the layout does."""
        w, qk, sizes = self.w, self.query_and_key, self.sizes
        if w.layout.qk_norm:
            np.vecdot(qk, qk, out=sizes[..., 0])
            np.add(sizes, w.qk_eps, out=sizes)
            np.divide(qk, np.sqrt(sizes, out=sizes), out=qk)
            if not self.rotary:  # with rotary positions, `turn` includes the scale
                np.multiply(qk, w.scale, out=qk)


class Layer:
    """A layer's matrices, and views of its cache, `kv` (2, nh, block_size, hs + 1)."""

    def __init__(self, w: Weights, number: int, kv: np.ndarray):
        self.qkv, self.proj, self.up, self.down = w.layers[number]
        self.known = w.first if number == 0 else None
        self.idle, self.bounded = w.idle[number], w.bounded[number]
        self.places = kv[..., :-1].transpose(2, 0, 1, 3)  # (block_size, 2, nh, hs): a token's key and value
        self.keys = kv[0, :, :, :-1].swapaxes(1, 2)  # (nh, hs, block_size)
        self.values = kv[1]  # (nh, block_size, hs + 1)
