"""The forward pass for one new character on an NVIDIA GPU, in five Triton kernels per block.

With torch's own operations a character takes about two hundred kernels, each of which only waits for the one before.
Here a norm is computed inside the product that follows it, activations and residual sums inside the product before
them, and rotation, cache and attention are a single kernel. Everything is float32, as in the plain decoder.
`cuda_decode.py` records these kernels in a CUDA graph; without this file or Triton it records torch's operations.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..model import GPT

RMS, LAYER = 1, 2  # norms
RELU, RELU_SQUARED = 1, 2  # activations
# Programs per product, and warps per program. Characters per second for 6 layers of width 384 on an H200: with 4 warps,
# 7,850 for 132 programs and 8,380 for 528; with 528 programs, 8,410 for 2 warps and 8,940 for 1.
SPREAD, WARPS = 528, 1


class Character:
    """The model's forward pass for the newest character of each text, and the draw of the next one.

    These tensors are on the GPU: `at` (1,) is the position of the first character of a chunk, `idx` (texts, 1) the
    newest character of each text. `cache` has one layer per block, whose `k` and `v` are (texts, nh, block_size, hs).
    """

    def __init__(self, model: GPT, idx, at, cache: list):
        config = model.config
        self.model, self.idx, self.at, self.cache = model, idx, at, cache
        self.texts, self.layout = len(idx), config.features
        new = lambda n: torch.empty(self.texts, n, device=idx.device)
        C = config.n_embd
        self.x, self.z, self.y, self.s = new(C), new(3 * C), new(C), new(4 * C)
        self.logits = new(config.vocab_size)

    def forward(self, offset: int):
        """Process the character at position `at + offset`. Return the logits of the next one, (texts, vocab_size)."""
        self.embed(offset)
        for block, layer in zip(self.model.blocks, self.cache):
            self.project(self.x, block.sa.qkv, self.z, norm=block.ln1)
            self.attend(layer.k, layer.v, offset)
            self.project(self.y, block.sa.proj, self.x, add=True)
            activation = RELU_SQUARED if self.layout.relu_squared else RELU
            self.project(self.x, block.ffwd.net[0], self.s, norm=block.ln2, activation=activation)
            self.project(self.s, block.ffwd.net[2], self.x, add=True)
        self.project(self.x, self.model.lm_head, self.logits, norm=self.model.ln_f)
        return self.logits

    def embed(self, offset: int) -> None:
        """Write the embedding of the newest character into `x`."""
        table, C = self.model.token_embedding_table.weight, self.model.config.n_embd
        places = table if self.layout.rotary else self.model.position_embedding_table.weight
        embed_kernel[(self.texts,)](
            self.idx, self.at, table, places, self.x, C, offset,
            PLACES=not self.layout.rotary, NORM=self.layout.plain_norms, BLOCK=triton.next_power_of_2(C), EPS=1e-6,
        )  # fmt: skip

    def project(self, x, layer, out, norm=None, activation: int = 0, add: bool = False) -> None:
        """Apply a linear layer to x (texts, K) after a norm, and write it, activated or added, to out (texts, N)."""
        N, K = layer.weight.shape
        layer_norm = not self.layout.plain_norms
        gain = norm is not None and layer_norm
        rows = triton.next_power_of_2(max(1, N // SPREAD))  # of the weights, per program
        kind = 0 if norm is None else LAYER if layer_norm else RMS
        project_kernel[(triton.cdiv(N, rows), self.texts)](
            x, layer.weight, layer.bias if layer.bias is not None else x, norm.weight if gain else x,
            norm.bias if gain else x, out, N, K,
            NORM=kind, EPS=1e-5 if layer_norm else 1e-6, BIAS=layer.bias is not None, ACTIVATION=activation, ADD=add,
            ROWS=rows, BLOCK=min(512, triton.next_power_of_2(K)), num_warps=WARPS,
        )  # fmt: skip

    def attend(self, k, v, offset: int) -> None:
        """Rotate query and key, store key and value in the cache, and write the heads' output to `y`."""
        config = self.model.config
        H, hs = config.n_head, config.n_embd // config.n_head
        rotary = self.model.rotary if self.layout.rotary else self.at  # (2, block_size, hs / 2), or a dummy
        block = min(256, triton.next_power_of_2(config.block_size))
        attend_kernel[(H, self.texts)](
            self.z, rotary, k, v, self.at, self.y, hs**-0.5, offset, config.block_size, H, hs,
            ROTARY=self.layout.rotary, NORM=self.layout.qk_norm, HS=triton.next_power_of_2(hs), BLOCK=block, EPS=1e-6,
            num_warps=8 if block * hs >= 4096 else 4,
        )  # fmt: skip

    def draw(self, uniforms, temperature, drawn, i: int) -> None:
        """Draw the next character of each text, using row i of `uniforms`. Write it to `idx` and to row i of `drawn`.

        `drawn` is (n, texts); `uniforms` is (n, texts), float64, from 0 to 1; `temperature` is (1,), float64, positive.
        The result is the same as from `sample.pick`.
        """
        V = self.model.config.vocab_size
        draw_kernel[(self.texts,)](
            self.logits, uniforms, temperature, self.idx, drawn, V, i * self.texts, BLOCK=triton.next_power_of_2(V)
        )


@triton.jit(do_not_specialize=["offset"])
def embed_kernel(
    idx, at, table, places, x, C, offset,
    PLACES: tl.constexpr, NORM: tl.constexpr, BLOCK: tl.constexpr, EPS: tl.constexpr,
):  # fmt: skip
    text, c = tl.program_id(0), tl.arange(0, BLOCK)
    v = tl.load(table + tl.load(idx + text) * C + c, c < C, 0.0)
    if PLACES:
        v += tl.load(places + (tl.load(at) + offset) * C + c, c < C, 0.0)
    if NORM:
        v *= tl.rsqrt(tl.sum(v * v, 0) / C + EPS)
    tl.store(x + text * C + c, v, c < C)


@triton.jit
def project_kernel(  # noqa: C901, the branches are resolved at compile time
    x, w, bias, gain, shift, out, N: tl.constexpr, K: tl.constexpr,
    NORM: tl.constexpr, EPS: tl.constexpr, BIAS: tl.constexpr, ACTIVATION: tl.constexpr, ADD: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Multiply ROWS rows of the weights (N, K) by a text's x (K,) in one pass. A norm scales and shifts the sums."""
    n, k = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK)
    x += tl.program_id(1) * K
    sums, squares, total = tl.zeros((ROWS, BLOCK), tl.float32), tl.zeros((BLOCK,), tl.float32), 0.0
    if NORM == 2:
        means, shifts = tl.zeros((ROWS, BLOCK), tl.float32), tl.zeros((ROWS, BLOCK), tl.float32)
    for start in range(0, K, BLOCK):
        inside = start + k < K
        weights = tl.load(w + n[:, None] * K + (start + k)[None, :], (n < N)[:, None] & inside[None, :], 0.0)
        a = tl.load(x + start + k, inside, 0.0)
        if NORM:
            squares += a * a
        if NORM == 2:
            total += tl.sum(a, 0)
            shifts += weights * tl.load(shift + start + k, inside, 0.0)[None, :]
            weights *= tl.load(gain + start + k, inside, 0.0)[None, :]
            means += weights
        sums += weights * a[None, :]
    y = tl.sum(sums, 1)  # (ROWS,)
    if NORM == 1:  # RMS
        y *= tl.rsqrt(tl.sum(squares, 0) / K + EPS)
    if NORM == 2:  # LayerNorm
        mean = total / K
        y = (y - mean * tl.sum(means, 1)) * tl.rsqrt(tl.sum(squares, 0) / K - mean * mean + EPS) + tl.sum(shifts, 1)
    if BIAS:
        y += tl.load(bias + n, n < N, 0.0)
    if ACTIVATION:
        y = tl.maximum(y, 0.0)
    if ACTIVATION == 2:  # ReLU squared
        y = y * y
    out += tl.program_id(1) * N + n
    if ADD:
        y += tl.load(out, n < N, 0.0)
    tl.store(out, y, n < N)


@triton.jit(do_not_specialize=["offset"])
def attend_kernel(
    z, rotary, keys, values, at, y, scale, offset, block_size: tl.constexpr, H: tl.constexpr, hs: tl.constexpr,
    ROTARY: tl.constexpr, NORM: tl.constexpr, HS: tl.constexpr, BLOCK: tl.constexpr, EPS: tl.constexpr,
):  # fmt: skip
    """Compute one head of one text, with an online softmax (Milakov and Gimelshein, 2018)."""
    head, text, d = tl.program_id(0), tl.program_id(1), tl.arange(0, HS)
    place, inside = (tl.load(at) + offset).to(tl.int32), d < hs
    keys += (text * H + head) * block_size * hs
    values += (text * H + head) * block_size * hs
    # load the cache first, because it takes longest to arrive: (BLOCK, HS)
    t = tl.arange(0, BLOCK)
    there, cell = t < place, t[:, None] * hs + d[None, :]
    filled = there[:, None] & inside[None, :]
    first_keys, first_values = tl.load(keys + cell, filled, 0.0), tl.load(values + cell, filled, 0.0)
    z += (text * 3 * H + head) * hs
    q, k = tl.load(z + d, inside, 0.0), tl.load(z + H * hs + d, inside, 0.0)
    v = tl.load(z + 2 * H * hs + d, inside, 0.0)
    if ROTARY:
        half = hs // 2
        other = tl.where(d < half, d + half, d - half)  # the other number of the pair
        angle = rotary + place * half + tl.where(d < half, d, d - half)
        c, s = tl.load(angle, inside, 0.0), tl.load(angle + block_size * half, inside, 0.0)
        s = tl.where(d < half, s, -s)
        q = q * c + tl.load(z + other, inside, 0.0) * s
        k = k * c + tl.load(z + H * hs + other, inside, 0.0) * s
    if NORM:
        q *= tl.rsqrt(tl.sum(q * q, 0) / hs + EPS)
        k *= tl.rsqrt(tl.sum(k * k, 0) / hs + EPS)
    tl.store(keys + place * hs + d, k, inside)
    tl.store(values + place * hs + d, v, inside)
    # the newest character itself, then the cache
    most, total, gathered = tl.sum(q * k, 0) * scale, 1.0, v
    most, total, gathered = gather(q, scale, there, first_keys, first_values, most, total, gathered)
    for start in range(BLOCK, place, BLOCK):
        there = start + t < place
        filled, cell = there[:, None] & inside[None, :], (start + t)[:, None] * hs + d[None, :]
        more_keys, more_values = tl.load(keys + cell, filled, 0.0), tl.load(values + cell, filled, 0.0)
        most, total, gathered = gather(q, scale, there, more_keys, more_values, most, total, gathered)
    tl.store(y + (text * H + head) * hs + d, gathered / total, inside)


@triton.jit
def gather(q, scale, there, keys, values, most, total, gathered):
    """Add a part of the cache, (BLOCK, HS), to an online softmax: its maximum score, sum and weighted sum of values."""
    scores = tl.where(there, tl.sum(keys * q[None, :], 1) * scale, float("-inf"))  # (BLOCK,)
    higher = tl.maximum(most, tl.max(scores, 0))
    shrink, wei = tl.exp(most - higher), tl.exp(scores - higher)
    total = total * shrink + tl.sum(wei, 0)
    return higher, total, gathered * shrink + tl.sum(wei[:, None] * values, 0)


@triton.jit(do_not_specialize=["row"])
def draw_kernel(logits, uniforms, temperature, idx, drawn, V, row, BLOCK: tl.constexpr):
    text, i = tl.program_id(0), tl.arange(0, BLOCK)  # `row` is the offset of this character's row
    scores = tl.load(logits + text * V + i, i < V, float("-inf")).to(tl.float64)
    p = tl.exp((scores - tl.max(scores, 0)) / tl.load(temperature))
    p = tl.where(i < V, p, 0.0)
    cumulative = tl.cumsum(p, 0)
    mark = tl.load(uniforms + row + text) * tl.sum(p, 0)
    new = tl.minimum(tl.sum(((cumulative <= mark) & (i < V)).to(tl.int32), 0), V - 1)
    tl.store(idx + text, new)
    tl.store(drawn + row + text, new)
