"""A cached decoder for one text on a CPU, in NumPy: `sample.Decoder`, close to the speed of reading the weights.

Each character reads every weight once and does little arithmetic, so speed depends on memory bandwidth and on the
overhead between matrix products. NumPy's `dot` reads a matrix about twice as fast as torch does, and a call costs
0.5 us instead of 3. Everything that doesn't depend on the text is folded into the weights first (`Weights`). Prompts of
several characters go through the packed model of packed.py.

The results equal those of `model.py` up to rounding, as tests/fast/test_decode.py checks.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import torch

from ..model import GPT
from .packed import packed
from .threads import Threads, blas_threads, torch_threads

F32 = np.float32


class Weights:
    """A model's weights prepared for decoding: matrices are (in, out) and C-contiguous, and constants are folded in.

    - LayerNorm's gain and bias are folded into the following matrix. Its mean disappears, too: the embeddings and
      everything a layer adds are centered here once, so the residual path always has mean zero, and LayerNorm becomes
      RMS norm.
    - RMS norm divides by sqrt(sum / C); the factor sqrt(C) is folded into the following matrix.
    - A bias becomes an extra row of its matrix, which is multiplied by a 1 at the end of the input.
    - Attention's 1 / sqrt(hs) is folded into the queries.
    - The two numbers of a rotated pair are stored side by side, so that a rotation is one complex product.

    The layout's features decide which of these apply.
    """

    def __init__(self, model: GPT):
        c = model.config
        layout = self.layout = c.features
        self.nh, self.hs = c.n_head, c.n_embd // c.n_head
        self.bias_rows = layout.biases or not layout.plain_norms
        self.eps = F32(c.n_embd * (1e-6 if layout.plain_norms else 1e-5))
        self.wte = self.added(array(model.token_embedding_table.weight))  # (vocab_size, C)
        # QK norm: the decoder scales q and k to length 1, but their product should be sqrt(hs) times that
        self.scale = self.hs**0.25 if layout.qk_norm else 1.0
        if layout.rotary:
            if layout.plain_norms:  # the norm after the embedding
                self.wte = self.wte / np.sqrt((self.wte**2).mean(axis=1, keepdims=True) + F32(1e-6))
            cos, sin = array(model.rotary).astype(np.float64)  # (block_size, hs / 2) each
            self.turn = ((cos - 1j * sin) * self.scale).astype(np.complex64)
        else:
            self.wpe = self.added(array(model.position_embedding_table.weight))  # (block_size, C)
        *inner, self.head = side_by_side(  # head: (C + 1, vocab_size), or (C, vocab_size) without bias rows
            [W for block in model.blocks for W in self.layer(block)] + [self.after_norm(model.lm_head, model.ln_f)]
        )
        self.layers = [inner[i : i + 4] for i in range(0, len(inner), 4)]
        self.idle = [not down.any() for *_, down in self.layers]  # feed-forward layers left out, as 0

    def layer(self, block) -> tuple[np.ndarray, ...]:
        """Return a block's matrices (qkv, proj, MLP up and down), each (in + 1, out), or (in, out) without biases."""
        C = self.nh * self.hs
        qkv = self.after_norm(block.sa.qkv, block.ln1)
        if not self.layout.qk_norm:
            qkv[:, :C] *= F32(self.hs**-0.5)
        if self.layout.rotary:  # a pair's numbers are hs / 2 apart; put them side by side
            halves = qkv[:, : 2 * C].reshape(-1, 2 * self.nh, 2, self.hs // 2)
            qkv[:, : 2 * C] = halves.swapaxes(2, 3).reshape(-1, 2 * C)
        up = self.after_norm(block.ffwd.net[0], block.ln2)
        return qkv, self.matrix(block.sa.proj), up, self.matrix(block.ffwd.net[2])

    def after_norm(self, linear, norm) -> np.ndarray:
        """Return the matrix after a norm, with the norm's constants folded in: only dividing by |x| is left to do."""
        W, b = array(linear.weight).T * F32(math.sqrt(linear.in_features)), self.bias(linear)  # (in, out), (out,)
        if not self.layout.plain_norms:
            W, b = array(norm.weight)[:, None] * W, array(norm.bias) @ array(linear.weight).T + b
        return np.vstack([W, b]) if self.bias_rows else np.ascontiguousarray(W)

    def matrix(self, linear) -> np.ndarray:
        """Return a matrix whose output is added to the residual path."""
        W = array(linear.weight).T
        return self.added(np.vstack([W, self.bias(linear)]) if self.bias_rows else np.ascontiguousarray(W))

    def bias(self, linear) -> np.ndarray:
        """Return the bias of a linear layer, (out,), or zeros if it has none."""
        return np.zeros(linear.out_features, F32) if linear.bias is None else array(linear.bias)

    def added(self, W: np.ndarray) -> np.ndarray:
        """Return a matrix whose rows are added to the residual path, centered if LayerNorm would subtract the mean."""
        return W if self.layout.plain_norms else centered(W)


def array(tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()


def centered(W: np.ndarray) -> np.ndarray:
    """Subtract the mean from each row."""
    return W - W.mean(axis=1, keepdims=True, dtype=np.float64).astype(F32)


def side_by_side(matrices: list[np.ndarray]) -> list[np.ndarray]:
    """Copy the matrices into one block of memory, each starting at a cache line.

    NumPy asks Linux for huge pages if a block has 4 MB or more: reading 42 MB of weights then takes a fifth less time.
    """
    line = 16  # floats
    sizes = [-(-W.size // line) * line for W in matrices]
    memory = np.empty(sum(sizes) + line, F32)
    place = -memory.ctypes.data // 4 % line
    packed = []
    for W, size in zip(matrices, sizes):
        packed.append(memory[place : place + W.size].reshape(W.shape))
        packed[-1][...] = W
        place += size
    return packed


class Ready:
    """A model's weights prepared for decoding one text and several texts, each on first use."""

    def __init__(self, model: GPT):
        self.model = model

    @cached_property
    def weights(self) -> Weights:
        return Weights(self.model)

    @cached_property
    def packed(self) -> GPT:
        return packed(self.model)

    @cached_property
    def threads(self) -> Threads:
        return torch_threads()

    def read(self, ids: np.ndarray, cache: list[Keeper]) -> np.ndarray:
        """Read several tokens of several texts with the packed model: (B, T) -> (B, vocab_size)."""
        with torch.inference_mode(), self.threads.chosen(ids.size + 32.0):
            logits, _ = self.packed(torch.from_numpy(ids), cache=cache)  # (B, 1, vocab_size)
            return logits[:, -1].numpy()


class FastDecoder:
    """A decoder for a single text, with the interface of `sample.Decoder`."""

    def __init__(self, ready: Ready):
        w = self.w = ready.weights
        self.ready = ready
        self.block_size, self.length = ready.model.config.block_size, 0
        # Keys and values of each layer. Each value ends with a 1, so that a weighted sum also sums the weights.
        self.kv = list(np.ones((len(w.layers), 2, w.nh, self.block_size, w.hs + 1), F32))
        C, one = w.nh * w.hs, int(w.bias_rows)  # inputs end with a 1, which multiplies the bias row
        self.h, self.gathered, self.hidden = (np.ones(n + one, F32) for n in (C, C, 4 * C))
        self.qkv, self.out = np.empty(3 * C, F32), np.empty(C, F32)
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
            return self.ready.read(ids, [Keeper(self.w, kv[:, None], start) for kv in self.kv])
        with self.threads.chosen():  # doesn't change the results: products are the same to the bit
            return self.read_one(ids, start)

    def read_one(self, ids: np.ndarray, t: int) -> np.ndarray:
        """Read the token at position t: (1, 1) -> (1, vocab_size)."""
        w, C, dot, add = self.w, self.out.size, np.dot, np.add
        x = self.embed(ids[0, 0], t)  # (C,)
        for kv, (qkv, proj, up, down), idle in zip(self.kv, w.layers, w.idle):
            self.attend(kv, dot(self.norm(x), qkv, out=self.qkv), t)
            add(x, dot(self.gathered, proj, out=self.out), out=x)
            if idle:
                continue
            hidden = self.hidden[: 4 * C]
            dot(self.norm(x), up, out=hidden)
            np.maximum(hidden, self.zero, out=hidden)
            if w.layout.relu_squared:
                np.multiply(hidden, hidden, out=hidden)
            add(x, dot(self.hidden, down, out=self.out), out=x)
        return dot(self.norm(x), w.head)[None]  # (1, vocab_size)

    def embed(self, id: int, t: int) -> np.ndarray:
        """Return the input of the first block for a token at position t: (C,)."""
        w = self.w
        if w.layout.rotary:
            return w.wte[id].copy()
        x = w.wte[id] + w.wpe[t]
        return x * F32(1.0 / math.sqrt(x.dot(x) / x.size + 1e-6)) if w.layout.plain_norms else x

    def norm(self, x: np.ndarray) -> np.ndarray:
        """Return x divided by its length, followed by a 1 if there are bias rows: (C,) -> (C,) or (C + 1,)."""
        np.multiply(x, 1.0 / math.sqrt(x.dot(x) + self.w.eps), out=self.h[: x.size])
        return self.h

    def attend(self, kv, qkv, t: int) -> None:
        """Compute attention for the token at position t from its qkv (3C,), and write the result to `gathered`."""
        w = self.w
        z = qkv.reshape(3, w.nh, w.hs)
        self.place(z[:2], t)
        kv[:, :, t, :-1] = z[1:]
        wei = z[0][:, None] @ kv[0, :, : t + 1, :-1].swapaxes(1, 2)  # (nh, 1, hs) @ (nh, hs, t + 1) -> (nh, 1, t + 1)
        flat = wei[:, 0]  # (nh, t + 1)
        if not w.layout.qk_norm:  # with QK norm, scores are at most sqrt(hs), so exp can't overflow
            np.subtract(flat, np.maximum.reduce(flat, axis=1, keepdims=True), out=flat)
        np.exp(flat, out=flat)
        out = wei @ kv[1, :, : t + 1]  # (nh, 1, t + 1) @ (nh, t + 1, hs + 1) -> (nh, 1, hs + 1)
        np.divide(out[:, 0, :-1], out[:, 0, -1:], out=self.gathered[: self.out.size].reshape(w.nh, w.hs))

    def place(self, qk, t: int) -> None:
        """Rotate query and key (2, nh, hs) to position t and normalize them, in place."""
        w = self.w
        if w.layout.qk_norm:
            size = np.sqrt(np.vecdot(qk, qk) + F32(w.hs * 1e-6))
        if w.layout.rotary:
            qk.view(np.complex64)[...] *= w.turn[t]
        if w.layout.qk_norm:
            qk /= size[..., None]
            if not w.layout.rotary:
                qk *= w.scale  # with rotary positions, `turn` includes it


class Keeper:
    """A layer's cache for the packed model. Stores the keys and values of prompts for the tokens that follow them."""

    mask = None

    def __init__(self, w: Weights, kv: np.ndarray, start: int = 0):
        self.w, self.kv, self.length = w, kv, start  # kv is (2, B, nh, block_size, hs + 1)

    def extend(self, k, v):
        """Store keys and values (B, nh, T, hs) and return them, as `sample.LayerCache` does."""
        w, T = self.w, k.shape[2]
        keys = k.numpy()
        if w.layout.rotary:  # put the numbers of each pair side by side
            keys = keys.reshape(*keys.shape[:3], 2, w.hs // 2).swapaxes(3, 4).reshape(keys.shape)
        if w.layout.qk_norm:  # from the model's length sqrt(hs) to the length used in `Weights`
            keys = keys * F32(w.hs**-0.25)
        self.kv[0, :, :, :T, :-1], self.kv[1, :, :, :T, :-1], self.kv[1, :, :, :T, -1] = keys, v.numpy(), 1
        return k, v
