"""The cached decoder for one text in NumPy: what `sample.Decoder` does, near the speed at which a CPU reads weights.

A character needs every weight once and next to no arithmetic, so what counts is how fast the weights stream past and
how little stands between them. NumPy's `dot` reads a matrix about twice as fast as torch's does, and a call costs
0.5 us instead of 3. Everything that does not depend on the text is folded into the weights first (`Weights`). A piece
of several characters is read by the packed model of packed.py.

The numbers are those of `model.py` but for rounding; tests/test_fast_decode.py holds them to it.
"""

from __future__ import annotations

import ctypes
import math
import time
from collections import deque
from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch

from ..model import GPT
from .packed import packed

F32 = np.float32


class Weights:
    """A model's weights as one character after another wants them: (in, out), C-contiguous, and fewer steps between.

    - LayerNorm takes the mean away, divides by the spread, applies gain and bias. Gain and bias go into the matrix
      behind it. The mean goes, too: where all that is added to the residual path sums to zero, so does the path, and
      LayerNorm is RMS norm. So the embeddings and what a layer adds are centred here, once.
    - RMS norm divides by sqrt(sum / C); the sqrt(C) of it goes into the matrix behind, too.
    - A bias is one more row of its matrix, which meets a one at the end of the input.
    - The 1 / sqrt(hs) of attention goes into the queries.
    - Rotating a pair of numbers is one product of complex numbers when the two stand side by side.

    Which of these apply depends on the features of the model's layout.
    """

    def __init__(self, model: GPT):
        c = model.config
        layout = self.layout = c.features
        self.nh, self.hs = c.n_head, c.n_embd // c.n_head
        self.bias_rows = layout.biases or not layout.plain_norms
        self.eps = F32(c.n_embd * (1e-6 if layout.plain_norms else 1e-5))
        self.wte = self.added(array(model.token_embedding_table.weight))  # (vocab_size, C)
        # `Decoder` brings q and k to length 1 for QK norm; their product is to be sqrt(hs) times as large
        self.scale = self.hs**0.25 if layout.qk_norm else 1.0
        if layout.rotary:
            if layout.plain_norms:  # the norm after the embedding
                self.wte = self.wte / np.sqrt((self.wte**2).mean(axis=1, keepdims=True) + F32(1e-6))
            cos, sin = array(model.rotary).astype(np.float64)  # (block_size, hs / 2) each
            self.turn = ((cos - 1j * sin) * self.scale).astype(np.complex64)
        else:
            self.wpe = self.added(array(model.position_embedding_table.weight))  # (block_size, C)
        *inner, self.head = side_by_side(  # the head: (C + 1, vocab_size), or without bias rows (C, vocab_size)
            [W for block in model.blocks for W in self.layer(block)] + [self.after_norm(model.lm_head, model.ln_f)]
        )
        self.layers = [inner[i : i + 4] for i in range(0, len(inner), 4)]

    def layer(self, block) -> tuple[np.ndarray, ...]:
        """qkv, proj and the two of the MLP, each (in + 1, out), or without bias rows (in, out)."""
        C = self.nh * self.hs
        qkv = self.after_norm(block.sa.qkv, block.ln1)
        if not self.layout.qk_norm:
            qkv[:, :C] *= F32(self.hs**-0.5)
        if self.layout.rotary:  # the two of a pair, which stand hs / 2 apart, side by side
            halves = qkv[:, : 2 * C].reshape(-1, 2 * self.nh, 2, self.hs // 2)
            qkv[:, : 2 * C] = halves.swapaxes(2, 3).reshape(-1, 2 * C)
        up = self.after_norm(block.ffwd.net[0], block.ln2)
        return qkv, self.matrix(block.sa.proj), up, self.matrix(block.ffwd.net[2])

    def after_norm(self, linear, norm) -> np.ndarray:
        """The matrix behind a norm, which then has only to divide by the root of the sum of squares."""
        W, b = array(linear.weight).T * F32(math.sqrt(linear.in_features)), self.bias(linear)  # (in, out), (out,)
        if not self.layout.plain_norms:
            W, b = array(norm.weight)[:, None] * W, array(norm.bias) @ array(linear.weight).T + b
        return np.vstack([W, b]) if self.bias_rows else np.ascontiguousarray(W)

    def matrix(self, linear) -> np.ndarray:
        """A matrix whose result is added to the residual path."""
        W = array(linear.weight).T
        return self.added(np.vstack([W, self.bias(linear)]) if self.bias_rows else np.ascontiguousarray(W))

    def bias(self, linear) -> np.ndarray:
        """The bias of a linear layer, zeros where it has none: (out,)."""
        return np.zeros(linear.out_features, F32) if linear.bias is None else array(linear.bias)

    def added(self, W: np.ndarray) -> np.ndarray:
        """A matrix whose rows are added to the residual path: centred where LayerNorm would take the mean away."""
        return W if self.layout.plain_norms else centred(W)


def array(tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()


def centred(W: np.ndarray) -> np.ndarray:
    """Each row without its mean."""
    return W - W.mean(axis=1, keepdims=True, dtype=np.float64).astype(F32)


def side_by_side(matrices: list[np.ndarray]) -> list[np.ndarray]:
    """The matrices in one piece of memory, each from a cache line's start.

    NumPy asks Linux for large pages where a piece has 4 MB: reading 42 MB of weights then takes a fifth less time.
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


class Threads:
    """One thread of NumPy's OpenBLAS, or all of them: whichever is the faster now.

    All are up to twice as fast on an idle machine. Where a trainer wants the processor, too, OpenBLAS's threads wait
    for each other and are up to ten times slower than one. Nothing tells which it is but trying, now and again.
    """

    def __init__(self):
        self.get, self.set = openblas()
        self.most = self.get()
        self.now, self.usual = 1, 1  # threads of the next read, and those used when nothing is being tried
        self.times = {n: deque([math.inf], maxlen=3) for n in (1, self.most)}  # seconds of the latest reads
        self.left, self.patience = 4, 8  # reads until something changes, and between two trials

    def learn(self, seconds: float) -> None:
        """Take note of how long a read took, and choose for the next."""
        self.times[self.now].append(seconds)
        self.left -= 1
        better = min(self.times[self.now]) < 0.95 * min(self.times[self.usual])
        if self.now > 1 and seconds > 2 * min(self.times[1]):  # somebody else wants the processor, if only for a moment
            self.use(1, wait=min(512, 2 * self.patience) if self.usual == 1 else 8)
        elif self.left == 0 and self.now == self.usual:  # try the other for three reads
            self.now, self.left = self.most + 1 - self.now, 3
            self.times[self.now].clear()
        elif self.left == 0:
            self.use(self.now if better else self.usual, wait=16 if better else min(512, 2 * self.patience))

    def use(self, threads: int, wait: int) -> None:
        """Stay with so many threads for some reads."""
        self.usual = self.now = threads
        self.patience = self.left = wait


def openblas() -> tuple[Callable[[], int], Callable[[int], object]]:
    """How many threads NumPy's own OpenBLAS uses, and its switch; with another library one that does nothing."""
    try:
        library = ctypes.CDLL(np._core._multiarray_umath.__file__)  # type: ignore[attr-defined]
        return library.scipy_openblas_get_num_threads64_, library.scipy_openblas_set_num_threads64_
    except (AttributeError, OSError):
        return lambda: 1, lambda threads: None


class Ready:
    """A model's weights in the form for one text and in that for several, each made when it is first needed."""

    def __init__(self, model: GPT):
        self.model = model

    @cached_property
    def weights(self) -> Weights:
        return Weights(self.model)

    @cached_property
    def packed(self) -> GPT:
        return packed(self.model)


class FastDecoder:
    """Reads one text and tells the scores of what comes next: see `sample.Decoder`."""

    def __init__(self, ready: Ready):
        w = self.w = ready.weights
        self.ready = ready
        self.block_size, self.length = ready.model.config.block_size, 0
        # Keys and values of each layer. Behind each value stands a one: a weighted sum of values sums the weights, too.
        self.kv = list(np.ones((len(w.layers), 2, w.nh, self.block_size, w.hs + 1), F32))
        C, one = w.nh * w.hs, int(w.bias_rows)  # a one at the end of an input meets the bias
        self.h, self.gathered, self.hidden = (np.ones(n + one, F32) for n in (C, C, 4 * C))
        self.qkv, self.out = np.empty(3 * C, F32), np.empty(C, F32)
        self.zero = np.zeros(4 * C, F32)  # an array is compared with faster than a number
        self.threads = Threads()

    def restart(self) -> None:
        """Forget what was read."""
        self.length = 0

    def keep(self, texts: list[int]) -> None:
        """There is but one."""

    def read(self, ids: np.ndarray) -> np.ndarray:
        """The scores after the newest characters: (1, T) -> (1, vocab_size)."""
        start = self.length
        self.length += ids.shape[1]
        if ids.shape[1] > 1:
            return self.read_piece(ids, start)
        threads = self.threads
        if threads.most == 1:
            return self.read_one(ids, start)
        before = threads.get()
        threads.set(threads.now)  # the products come out the same to the bit on any number
        began = time.perf_counter()
        try:
            return self.read_one(ids, start)
        finally:
            threads.set(before)
            threads.learn(time.perf_counter() - began)

    def read_piece(self, ids: np.ndarray, start: int) -> np.ndarray:
        """Several characters, from the packed matrices: (1, T) -> (1, vocab_size)."""
        cache = [Keeper(self, kv, start) for kv in self.kv]
        with torch.inference_mode():
            logits, _ = self.ready.packed(torch.from_numpy(ids), cache=cache)  # (1, 1, vocab_size)
            return logits[:, -1].numpy()

    def read_one(self, ids: np.ndarray, t: int) -> np.ndarray:
        """The character at place t: (1, 1) -> (1, vocab_size)."""
        w, C, dot, add = self.w, self.out.size, np.dot, np.add
        x = self.embed(ids[0, 0], t)  # (C,)
        for kv, (qkv, proj, up, down) in zip(self.kv, w.layers):
            self.attend(kv, dot(self.norm(x), qkv, out=self.qkv), t)
            add(x, dot(self.gathered, proj, out=self.out), out=x)
            hidden = self.hidden[: 4 * C]
            dot(self.norm(x), up, out=hidden)
            np.maximum(hidden, self.zero, out=hidden)
            if w.layout.relu_squared:
                np.multiply(hidden, hidden, out=hidden)
            add(x, dot(self.hidden, down, out=self.out), out=x)
        return dot(self.norm(x), w.head)[None]  # (1, vocab_size)

    def embed(self, id: int, t: int) -> np.ndarray:
        """A character at place t, as it enters the first block: (C,)."""
        w = self.w
        if w.layout.rotary:
            return w.wte[id].copy()
        x = w.wte[id] + w.wpe[t]
        return x * F32(1.0 / math.sqrt(x.dot(x) / x.size + 1e-6)) if w.layout.plain_norms else x

    def norm(self, x: np.ndarray) -> np.ndarray:
        """x by its length: (C,) -> (C,), with a one behind it where there are bias rows."""
        np.multiply(x, 1.0 / math.sqrt(x.dot(x) + self.w.eps), out=self.h[: x.size])
        return self.h

    def attend(self, kv, qkv, t: int) -> None:
        """Attention of the character at place t, from its qkv (3C,) into `gathered`."""
        w = self.w
        z = qkv.reshape(3, w.nh, w.hs)
        self.place(z[:2], t)
        kv[:, :, t, :-1] = z[1:]
        wei = z[0][:, None] @ kv[0, :, : t + 1, :-1].swapaxes(1, 2)  # (nh, 1, hs) @ (nh, hs, t + 1) -> (nh, 1, t + 1)
        flat = wei[:, 0]  # (nh, t + 1)
        if not w.layout.qk_norm:  # with it scores are at most sqrt(hs), which exp can take
            np.subtract(flat, np.maximum.reduce(flat, axis=1, keepdims=True), out=flat)
        np.exp(flat, out=flat)
        out = wei @ kv[1, :, : t + 1]  # (nh, 1, t + 1) @ (nh, t + 1, hs + 1) -> (nh, 1, hs + 1)
        np.divide(out[:, 0, :-1], out[:, 0, -1:], out=self.gathered[: self.out.size].reshape(w.nh, w.hs))

    def place(self, qk, t: int) -> None:
        """Query and key (2, nh, hs), turned by their place t and brought to one length; in place."""
        w = self.w
        if w.layout.qk_norm:
            size = np.sqrt(np.vecdot(qk, qk) + F32(w.hs * 1e-6))
        if w.layout.rotary:
            qk.view(np.complex64)[...] *= w.turn[t]
        if w.layout.qk_norm:
            qk /= size[..., None]
            if not w.layout.rotary:
                qk *= w.scale  # `turn` has it already


class Keeper:
    """Takes down a layer's keys and values of a piece, which the packed model computes, for the characters after it."""

    mask = None

    def __init__(self, decoder: FastDecoder, kv: np.ndarray, start: int):
        self.w, self.kv, self.length = decoder.w, kv, start

    def extend(self, k, v):
        """See `sample.LayerCache`; k and v are (1, nh, T, hs), and so is what comes back."""
        w, T = self.w, k.shape[2]
        keys = k[0].numpy()  # (nh, T, hs)
        if w.layout.rotary:  # pairs side by side
            keys = keys.reshape(w.nh, T, 2, w.hs // 2).swapaxes(2, 3).reshape(w.nh, T, w.hs)
        if w.layout.qk_norm:  # of the length that `Weights` asks for, where the model has sqrt(hs)
            keys = keys * F32(w.hs**-0.25)
        self.kv[0, :, :T, :-1], self.kv[1, :, :T, :-1] = keys, v[0].numpy()
        return k, v
