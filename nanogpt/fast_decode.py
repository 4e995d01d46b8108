"""The cached decoder in NumPy: what `sample.Decoder` does, near the speed at which a CPU reads the weights.

A character needs every weight once and next to no arithmetic, so what counts is how fast the weights stream past and
how little stands between them. NumPy's `dot` reads a matrix about twice as fast as torch's does, and a call costs
0.5 us instead of 3. Everything that does not depend on the text is folded into the weights first (`Weights`).

The numbers are those of `model.py` but for rounding; tests/test_fast_decode.py holds them to it.
"""

from __future__ import annotations

import ctypes
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .model import GPT

F32 = np.float32
SCORES = 1 << 20  # attention scores held at a time: 4 MB, so that they stay in the cache
SHARED = 1 << 23  # multiplications worth waking another thread for: about 0.1 ms


class Weights:
    """A model's weights as one character after another wants them: (in, out), C-contiguous, and fewer steps between.

    - LayerNorm takes the mean away, divides by the spread, applies gain and bias. Gain and bias go into the matrix
      behind it. The mean goes, too: where all that is added to the residual path sums to zero, so does the path, and
      LayerNorm is RMS norm. So the embeddings and what a layer adds are centred here, once.
    - RMS norm divides by sqrt(sum / C); the sqrt(C) of it goes into the matrix behind, too.
    - A bias is one more row of its matrix, which meets a one at the end of the input.
    - The 1 / sqrt(hs) of attention goes into the queries.
    - Rotating a pair of numbers is one product of complex numbers when the two stand side by side.
    """

    def __init__(self, model: GPT):
        c = model.config
        self.classic = c.layout == "classic"
        self.nh, self.hs = c.n_head, c.n_embd // c.n_head
        self.eps = F32(c.n_embd * (1e-5 if self.classic else 1e-6))
        wte = array(model.token_embedding_table.weight)  # (vocab_size, C)
        if self.classic:
            self.wte, self.wpe = centred(wte), centred(array(model.position_embedding_table.weight))
        else:
            self.wte = wte / np.sqrt((wte**2).mean(axis=1, keepdims=True) + F32(1e-6))
            cos, sin = array(model.rotary).astype(np.float64)  # (block_size, hs / 2) each
            # q and k are brought to length 1 in `Decoder`; their product is to be sqrt(hs) times as large
            self.turn = ((cos - 1j * sin) * self.hs**0.25).astype(np.complex64)
        *packed, self.head = side_by_side(  # the head: (C + 1, vocab_size); modern: (C, vocab_size)
            [W for block in model.blocks for W in self.layer(block)] + [self.after_norm(model.lm_head, model.ln_f)]
        )
        self.layers = [packed[i : i + 4] for i in range(0, len(packed), 4)]

    def layer(self, block) -> tuple[np.ndarray, ...]:
        """qkv, proj and the two of the MLP, each (in + 1, out); modern: (in, out)."""
        C = self.nh * self.hs
        qkv = self.after_norm(block.sa.qkv, block.ln1)
        if self.classic:
            qkv[:, :C] *= F32(self.hs**-0.5)
        else:  # the two of a pair, which stand hs / 2 apart, side by side
            halves = qkv[:, : 2 * C].reshape(-1, 2 * self.nh, 2, self.hs // 2)
            qkv[:, : 2 * C] = halves.swapaxes(2, 3).reshape(-1, 2 * C)
        up = self.after_norm(block.ffwd.net[0], block.ln2)
        return qkv, self.matrix(block.sa.proj), up, self.matrix(block.ffwd.net[2])

    def after_norm(self, linear, norm) -> np.ndarray:
        """The matrix behind a norm, which then has only to divide by the root of the sum of squares."""
        W = array(linear.weight).T * F32(math.sqrt(linear.in_features))  # (in, out)
        if not self.classic:
            return np.ascontiguousarray(W)
        b = array(norm.bias) @ array(linear.weight).T  # (out,)
        if linear.bias is not None:
            b += array(linear.bias)
        return np.vstack([array(norm.weight)[:, None] * W, b])

    def matrix(self, linear) -> np.ndarray:
        """A matrix whose result is added to the residual path."""
        if not self.classic:
            return np.ascontiguousarray(array(linear.weight).T)
        return centred(np.vstack([array(linear.weight).T, array(linear.bias)]))


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


class Rows:
    """Where R characters are worked on at once. Plain vectors for R = 1, which NumPy multiplies with less ado."""

    def __init__(self, R: int, w: Weights, dot: Callable | None = None):
        C, one = w.nh * w.hs, int(w.classic)
        shape = (R,) if R > 1 else ()
        self.dot = dot or (np.matmul if R > 1 else np.dot)
        self.h, self.gathered, self.hidden = (np.ones((*shape, n + one), F32) for n in (C, C, 4 * C))
        self.h_C, self.gathered_C, self.hidden_4C = (
            z[..., : z.shape[-1] - one] for z in (self.h, self.gathered, self.hidden)
        )
        self.qkv, self.out = np.empty((*shape, 3 * C), F32), np.empty((*shape, C), F32)
        self.zero = np.zeros(self.hidden_4C.shape[-1], F32)  # an array is compared with faster than a number
        self.eps = w.eps
        self.norm = self.norm_many if R > 1 else self.norm_one

    def norm_one(self, x: np.ndarray) -> np.ndarray:
        np.multiply(x, 1.0 / math.sqrt(x.dot(x) + self.eps), out=self.h_C)
        return self.h

    def norm_many(self, x: np.ndarray) -> np.ndarray:
        size = np.sqrt(np.vecdot(x, x) + self.eps)  # (R,)
        np.divide(x, size[:, None], out=self.h_C)
        return self.h


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
        if self.now > 1 and seconds > 2 * min(self.times[1]):  # somebody else wants the processor
            self.use(1, wait=min(512, 2 * self.patience))
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


class FastDecoder:
    """Reads `texts` texts side by side and tells the scores of what comes next: see `sample.Decoder`."""

    def __init__(self, model: GPT, texts: int = 1):
        self.w = w = Weights(model)
        self.block_size, self.length = model.config.block_size, 0
        # Keys and values of each layer. Behind each value stands a one: a weighted sum of values sums the weights, too.
        self.kv = list(np.ones((len(w.layers), 2, texts, w.nh, self.block_size, w.hs + 1), F32))
        self.rows = Rows(texts, w)
        self.threads = Threads()
        self.helper = ThreadPoolExecutor(1) if self.threads.most > 1 else None  # its thread starts when first needed

    def restart(self) -> None:
        """Forget what was read."""
        self.length = 0

    def keep(self, texts: list[int]) -> None:
        """Go on with some of the texts only."""
        self.kv = [kv[:, texts] for kv in self.kv]
        self.rows = Rows(len(texts), self.w)

    def read(self, ids: np.ndarray) -> np.ndarray:
        """The scores after the newest characters: (B, T) -> (B, vocab_size)."""
        threads = self.threads
        if threads.most == 1:
            return self.forward(ids)
        before = threads.get()
        # OpenBLAS's products of a single character come out the same to the bit on any number of threads, longer ones
        # do not. Those are shared out by `halves`, so that a text alone is the same to the bit every time.
        threads.set(threads.now if ids.shape[1] == 1 else 1)
        began = time.perf_counter()
        try:
            return self.forward(ids)
        finally:
            threads.set(before)
            if ids.shape[1] == 1:
                threads.learn(time.perf_counter() - began)

    def forward(self, ids: np.ndarray) -> np.ndarray:
        """`read`, on as many threads as are set."""
        w, (B, T), start = self.w, ids.shape, self.length
        self.length += T
        rows = self.rows if T == 1 else Rows(B * T, w, self.dot_by_halves)
        x = w.wte[ids]  # (B, T, C)
        if w.classic:
            x += w.wpe[start : start + T]
        x = x.reshape(rows.out.shape)  # (B * T, C), or (C,) for a single character
        attend = self.attend_one if B * T == 1 else self.attend_many if B == 1 else self.attend_by_halves
        for i, (qkv, proj, up, down) in enumerate(w.layers, 1):
            rows.dot(rows.norm(x), qkv, out=rows.qkv)
            whole = rows
            if i == len(w.layers) and T > 1:  # after the last layer's attention, only the last place is asked for
                rows = self.rows
                x = x[T - 1 :: T].reshape(rows.out.shape)
            attend(self.kv[i - 1], whole.qkv, rows.gathered_C, start, B, T)
            x += rows.dot(rows.gathered, proj, out=rows.out)
            rows.dot(rows.norm(x), up, out=rows.hidden_4C)
            np.maximum(rows.hidden_4C, rows.zero, out=rows.hidden_4C)
            if not w.classic:
                np.multiply(rows.hidden, rows.hidden, out=rows.hidden)
            x += rows.dot(rows.hidden, down, out=rows.out)
        return rows.dot(rows.norm(x), w.head).reshape(B, -1)  # (B, vocab_size)

    def halves(self, work: Callable, first: tuple, second: tuple) -> None:
        """Do two halves of some work, the one in another thread: NumPy lets go of Python's lock while it counts.

        Nothing in them waits for the other, so a busy second core costs no more than its half.
        """
        other = self.helper.submit(work, *first) if self.helper else None
        work(*second)
        if other:
            other.result()
        else:
            work(*first)

    def dot_by_halves(self, x: np.ndarray, W: np.ndarray, out: np.ndarray) -> np.ndarray:
        """x @ W, the rows of x shared out: the same numbers whoever does them."""
        if x.size * W.shape[1] < SHARED:
            return np.matmul(x, W, out=out)
        h = len(x) // 2
        self.halves(np.matmul, (x[:h], W, out[:h]), (x[h:], W, out[h:]))
        return out

    def attend_by_halves(self, kv, qkv, gathered, start: int, B: int, T: int) -> None:
        """`attend_many`, the texts shared out."""
        if T * kv[0, :, :, : start + T].size < SHARED // 16:  # reading the keys takes longer than multiplying
            return self.attend_many(kv, qkv, gathered, start, B, T)
        h = B // 2
        q, g = h * T, h * (len(gathered) // B)  # rows of the first half
        first = (kv[:, :h], qkv[:q], gathered[:g], start, h, T)
        return self.halves(self.attend_many, first, (kv[:, h:], qkv[q:], gathered[g:], start, B - h, T))

    def attend_one(self, kv, qkv, gathered, t: int, B: int, T: int) -> None:
        """Attention of the character at place t, in the fewest calls."""
        w, kv = self.w, kv[:, 0]
        z = qkv.reshape(3, w.nh, w.hs)
        if not w.classic:
            self.rotate(z[:2], w.turn[t])
        kv[:, :, t, :-1] = z[1:]
        wei = z[0][:, None] @ kv[0, :, : t + 1, :-1].swapaxes(1, 2)  # (nh, 1, hs) @ (nh, hs, t + 1) -> (nh, 1, t + 1)
        flat = wei[:, 0]  # (nh, t + 1)
        if w.classic:  # the modern layout's scores are at most sqrt(hs), which exp can take
            np.subtract(flat, np.maximum.reduce(flat, axis=1, keepdims=True), out=flat)
        np.exp(flat, out=flat)
        out = wei @ kv[1, :, : t + 1]  # (nh, 1, t + 1) @ (nh, t + 1, hs + 1) -> (nh, 1, hs + 1)
        np.divide(out[:, 0, :-1], out[:, 0, -1:], out=gathered.reshape(w.nh, w.hs))

    def attend_many(self, kv, qkv, gathered, start: int, B: int, T: int) -> None:
        """Attention of T characters of each of B texts, or of the last of them where `gathered` has room for one."""
        w, end = self.w, start + T
        z = qkv.reshape(B, T, 3, w.nh, w.hs)
        if not w.classic:
            self.rotate(z[:, :, :2], w.turn[start:end, None, None])
        kv[:, :, :, start:end, :-1] = z[:, :, 1:].transpose(2, 0, 3, 1, 4)  # (2, B, nh, T, hs)
        gathered = gathered.reshape(B, -1, w.nh, w.hs).swapaxes(1, 2)  # (B, nh, T or 1, hs)
        first = T - gathered.shape[2]
        q = z[:, :, 0].swapaxes(1, 2)  # (B, nh, T, hs)
        piece = max(1, SCORES // (B * w.nh * end))
        for a in range(first, T, piece):
            b = min(T, a + piece)
            k, v = kv[0, :, :, : start + b, :-1], kv[1, :, :, : start + b]
            wei = q[:, :, a:b] @ k.swapaxes(2, 3)  # (B, nh, b - a, hs) @ (B, nh, hs, start + b)
            if b - a > 1:  # no looking ahead
                wei[..., start + a :] += np.triu(np.full((b - a, b - a), -np.inf, F32), 1)
            if w.classic:
                wei -= wei.max(axis=-1, keepdims=True)
            np.exp(wei, out=wei)
            out = wei @ v  # (B, nh, b - a, hs + 1)
            np.divide(out[..., :-1], out[..., -1:], out=gathered[:, :, a - first : b - first])

    def rotate(self, qk, turn) -> None:
        """Queries and keys turned by their place, and brought to one length; in place. Their scores stay bounded."""
        size = np.sqrt(np.vecdot(qk, qk) + F32(self.w.hs * 1e-6))
        qk.view(np.complex64)[...] *= turn
        qk /= size[..., None]
