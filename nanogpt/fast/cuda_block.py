"""The modern model's forward and backward pass on an NVIDIA GPU, with elementwise operations fused in Triton.

A step at the lecture's size is 1.1 trillion operations, which a large GPU can do in under 2 ms. The plain step takes
five times as long, and spends nearly all of it on norms, rotations, ReLU squared and residual sums, each of which reads
and writes whole activations. Here each of those is a single kernel, forward and backward, and everything between the
matrix products is bfloat16. The products and attention are torch's. `tests/fast/test_cuda_block.py` compares every
kernel with the plain operation. Without this file, or without Triton, model.py's plain forward pass runs.

Method: kernel fusion as in Liger Kernel (Hsu et al., 2024, arXiv 2410.10989), written from scratch for this model.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch.nn import functional as F

from ..model import GPT

EPS = 1e-6  # of model.py's RMSNorm
LARGEST = 2**31  # the kernels index elements with 32 bits
ROWS = 4  # rows of activations per program: enough work to hide the latency of a load
RESIDUAL = torch.bfloat16  # dtype of the residual path and its gradient


def fits(model: GPT, B: int, T: int) -> bool:
    """Return True if this file can train the model on batches of shape (B, T)."""
    config = model.config
    block = config.features.has(rotary=True, plain_norms=True, qk_norm=True, relu_squared=True, biases=False)
    return block and config.n_embd <= 4096 and B * T * 4 * config.n_embd < LARGEST


def loss_of(model: GPT, rotary, xb, yb, dropout: float, seed):
    """Return the mean loss in nats per token, as `model(xb, yb)` does.

    `model` has bfloat16 weights; `rotary` (2, block_size, hs / 2) comes from the float32 model. `xb` and `yb` are
    (B, T). `seed`, int64 and (1,), seeds dropout: it must differ from step to step, but not between a step's forward
    and backward pass.
    """
    config = model.config
    B, T = xb.shape
    rotary = rotary[:, :T].contiguous()  # (2, T, hs / 2)
    x = F.rms_norm(embed(model.token_embedding_table.weight, xb.reshape(-1)), (config.n_embd,), eps=EPS)  # (N, C)
    x, h = x.to(RESIDUAL), F.rms_norm(x, (config.n_embd,), eps=EPS)  # (N, C), (N, C)
    for i, block in enumerate(model.blocks):
        y = Attention.apply(F.linear(h, block.sa.qkv.weight), rotary, B, config.n_head, dropout)  # (N, C)
        x, h = AddNorm.apply(x, F.linear(y, block.sa.proj.weight), seed, 2 * i, dropout)
        s = ReLUSquared.apply(F.linear(h, block.ffwd.net[0].weight))  # (N, 4C)
        x, h = AddNorm.apply(x, F.linear(s, block.ffwd.net[2].weight), seed, 2 * i + 1, dropout)
    # Pad the vocabulary, say from 65 to 72: tensor cores need a multiple of 8, and other sizes are slow.
    head = F.pad(model.lm_head.weight, (0, 0, 0, -config.vocab_size % 8))
    logits = F.linear(h, head)[:, : config.vocab_size]  # (N, vocab_size)
    return F.cross_entropy(logits.float(), yb.reshape(-1))


def embed(table, idx):
    """Return the rows `idx` (N,) of a table (vocab_size, C): (N, C).

    For a small vocabulary, multiply by one-hot rows, so that the backward pass is a matrix product instead of a sort.
    """
    V = len(table)
    if V > 1024:
        return F.embedding(idx, table)
    padded = V + -V % 8
    one_hot = (idx[:, None] == torch.arange(padded, device=idx.device)).to(table.dtype)  # (N, padded)
    return one_hot @ F.pad(table, (0, 0, 0, padded - V))


# --- residual sum, dropout and RMS norm -------------------------------------------------------------------------------


@triton.jit(do_not_specialize=["salt"])
def add_norm_kernel(
    x, branch, seed, out, h, r, N, C, p, salt,
    DROP: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, EPS: tl.constexpr,
):  # fmt: skip
    rows, cols = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK)
    at = rows[:, None] * C + cols[None, :]  # (ROWS, BLOCK)
    inside = (rows < N)[:, None] & (cols < C)[None, :]
    b = tl.load(branch + at, inside, 0.0).to(tl.float32)
    if DROP:
        b = tl.where(tl.rand(tl.load(seed) + salt, at) >= p, b / (1 - p), 0.0)
    v = tl.load(x + at, inside, 0.0).to(tl.float32) + b
    inverse = tl.rsqrt(tl.sum(v * v, 1) / C + EPS)  # (ROWS,)
    tl.store(out + at, v, inside)
    tl.store(h + at, v * inverse[:, None], inside)
    tl.store(r + rows, inverse, rows < N)


@triton.jit(do_not_specialize=["salt"])
def add_norm_backward_kernel(
    dx, dh, h, r, seed, grad, grad_branch, N, C, p, salt,
    DROP: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    rows, cols = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK)
    at = rows[:, None] * C + cols[None, :]  # (ROWS, BLOCK)
    inside = (rows < N)[:, None] & (cols < C)[None, :]
    dy = tl.load(dh + at, inside, 0.0).to(tl.float32)
    y = tl.load(h + at, inside, 0.0).to(tl.float32)
    inverse = tl.load(r + rows, rows < N, 0.0)
    inner = tl.sum(dy * y, 1) / C  # (ROWS,): the norm removes a row's length, so remove the gradient along it
    g = tl.load(dx + at, inside, 0.0).to(tl.float32) + (dy - y * inner[:, None]) * inverse[:, None]
    tl.store(grad + at, g, inside)
    if DROP:
        g = tl.where(tl.rand(tl.load(seed) + salt, at) >= p, g / (1 - p), 0.0)  # the same draws as in the forward pass
    tl.store(grad_branch + at, g, inside)


class AddNorm(torch.autograd.Function):
    """x + dropout(branch), and the RMS norm of that sum: two of (N, C) to two of (N, C).

    `salt` is different for each dropout layer in a step.
    """

    @staticmethod
    def forward(ctx, x, branch, seed, salt: int, p: float):
        N, C = x.shape
        out, h, r = torch.empty_like(x), torch.empty_like(branch), torch.empty(N, device=x.device)
        add_norm_kernel[(triton.cdiv(N, ROWS),)](
            x, branch, seed, out, h, r, N, C, p, salt,
            DROP=p > 0, ROWS=ROWS, BLOCK=triton.next_power_of_2(C), EPS=EPS,
        )  # fmt: skip
        ctx.save_for_backward(h, r, seed)
        ctx.salt, ctx.p = salt, p
        return out, h

    @staticmethod
    def backward(ctx, dx, dh):
        h, r, seed = ctx.saved_tensors
        N, C = h.shape
        grad, grad_branch = torch.empty_like(dx), torch.empty_like(h)
        add_norm_backward_kernel[(triton.cdiv(N, ROWS),)](
            dx.contiguous(), dh.contiguous(), h, r, seed, grad, grad_branch, N, C, ctx.p, ctx.salt,
            DROP=ctx.p > 0, ROWS=ROWS, BLOCK=triton.next_power_of_2(C),
        )  # fmt: skip
        return grad, grad_branch, None, None, None


# --- rotation, the norm of queries and keys, attention ----------------------------------------------------------------


@triton.jit
def rotate_kernel(
    z, cos, sin, qk, r, T, hs, HEADS: tl.constexpr, PADDED: tl.constexpr, HALF: tl.constexpr, EPS: tl.constexpr
):
    """Rotate and normalize the queries and keys (HEADS in all) in one row of `qkv`'s output."""
    row = tl.program_id(0)
    half = hs // 2
    head, i = tl.arange(0, PADDED), tl.arange(0, HALF)
    inside = (head < HEADS)[:, None] & (i < half)[None, :]
    first = head[:, None] * hs + i[None, :]  # (PADDED, HALF): the first of each pair; the second is `half` later
    angle = (row % T) * half + i
    c = tl.load(cos + angle, i < half, 0.0)[None, :]
    s = tl.load(sin + angle, i < half, 0.0)[None, :]
    start = z + row * (HEADS // 2 * 3) * hs
    a = tl.load(start + first, inside, 0.0).to(tl.float32)
    b = tl.load(start + half + first, inside, 0.0).to(tl.float32)
    a, b = a * c + b * s, b * c - a * s
    inverse = tl.rsqrt((tl.sum(a * a, 1) + tl.sum(b * b, 1)) / hs + EPS)  # (PADDED,)
    out = qk + row * HEADS * hs
    tl.store(out + first, a * inverse[:, None], inside)
    tl.store(out + half + first, b * inverse[:, None], inside)
    tl.store(r + row * HEADS + head, inverse, head < HEADS)


@triton.jit
def rotate_backward_kernel(
    dq, dk, dv, qk, r, cos, sin, dz, T, hs,
    q_b, q_h, q_t, k_b, k_h, k_t, v_b, v_h, v_t,
    H: tl.constexpr, PADDED: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """Compute one row of the gradient of `qkv`'s output from the gradients of q, k and v, each with its strides."""
    row = tl.program_id(0)
    b, t, half = row // T, row % T, hs // 2
    head, i = tl.arange(0, PADDED)[:, None], tl.arange(0, HALF)[None, :]
    inside = (head < H) & (i < half)
    c, s = tl.load(cos + t * half + i, i < half, 0.0), tl.load(sin + t * half + i, i < half, 0.0)
    out, place = dz + row * 3 * H * hs, head * hs + i
    for part in tl.static_range(2):  # the queries, then the keys
        if part == 0:  # noqa: SIM108, Triton has no conditional expressions for pointers
            g = dq + b * q_b + t * q_t + head * q_h + i
        else:
            g = dk + b * k_b + t * k_t + head * k_h + i
        y = qk + row * 2 * H * hs + part * H * hs + place
        ga, gb = tl.load(g, inside, 0.0).to(tl.float32), tl.load(g + half, inside, 0.0).to(tl.float32)
        ya, yb = tl.load(y, inside, 0.0).to(tl.float32), tl.load(y + half, inside, 0.0).to(tl.float32)
        inverse = tl.load(r + row * 2 * H + part * H + head, head < H, 0.0)  # (PADDED, 1)
        inner = ((tl.sum(ga * ya, 1) + tl.sum(gb * yb, 1)) / hs)[:, None]
        ga, gb = (ga - ya * inner) * inverse, (gb - yb * inner) * inverse
        tl.store(out + part * H * hs + place, ga * c - gb * s, inside)
        tl.store(out + part * H * hs + half + place, ga * s + gb * c, inside)
    g = dv + b * v_b + t * v_t + head * v_h + i
    tl.store(out + 2 * H * hs + place, tl.load(g, inside, 0.0), inside)
    tl.store(out + 2 * H * hs + half + place, tl.load(g + half, inside, 0.0), inside)


class Attention(torch.autograd.Function):
    """Attention from `qkv`'s output (N, 3C) to the concatenated heads (N, C); `rotary` is (2, T, hs / 2)."""

    @staticmethod
    def forward(ctx, z, rotary, B: int, n_head: int, p: float):
        N, C = z.shape[0], z.shape[1] // 3
        T, hs = N // B, C // n_head
        qk, r = z.new_empty(B, T, 2, n_head, hs), torch.empty(N, 2 * n_head, device=z.device)
        rotate_kernel[(N,)](
            z, rotary[0], rotary[1], qk, r, T, hs,
            HEADS=2 * n_head, PADDED=triton.next_power_of_2(2 * n_head), HALF=triton.next_power_of_2(hs // 2), EPS=EPS,
        )  # fmt: skip
        q, k = qk.unbind(2)
        v = z.view(B, T, 3, n_head, hs)[:, :, 2]
        with torch.enable_grad():  # torch's attention saves what its own backward pass needs
            leaves = q, k, v = [
                z.transpose(1, 2).detach().requires_grad_() for z in (q, k, v)
            ]  # three of (B, nh, T, hs)
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)  # (B, nh, T, hs)
        ctx.leaves, ctx.y = leaves, y
        ctx.save_for_backward(qk, r, rotary)
        return y.detach().transpose(1, 2).reshape(N, C)

    @staticmethod
    def backward(ctx, grad):
        qk, r, rotary = ctx.saved_tensors
        B, T, _, H, hs = qk.shape
        grads = torch.autograd.grad(ctx.y, ctx.leaves, grad.view(B, T, H, hs).transpose(1, 2))
        ctx.leaves = ctx.y = None
        dq, dk, dv = (g if g.stride(-1) == 1 else g.contiguous() for g in grads)
        dz = grad.new_empty(B * T, 3 * H * hs)
        rotate_backward_kernel[(B * T,)](
            dq, dk, dv, qk, r, rotary[0], rotary[1], dz, T, hs, *dq.stride()[:3], *dk.stride()[:3], *dv.stride()[:3],
            H=H, PADDED=triton.next_power_of_2(H), HALF=triton.next_power_of_2(hs // 2),
        )  # fmt: skip
        return dz, None, None, None, None


# --- ReLU squared -----------------------------------------------------------------------------------------------------


@triton.jit
def relu_squared_kernel(z, s, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a = tl.maximum(tl.load(z + at, at < n, 0.0).to(tl.float32), 0.0)
    tl.store(s + at, a * a, at < n)


@triton.jit
def relu_squared_backward_kernel(z, ds, dz, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a = tl.maximum(tl.load(z + at, at < n, 0.0).to(tl.float32), 0.0)
    tl.store(dz + at, 2 * a * tl.load(ds + at, at < n, 0.0).to(tl.float32), at < n)


class ReLUSquared(torch.autograd.Function):
    """ReLU, squared. Any shape to the same."""

    @staticmethod
    def forward(ctx, z):
        s, n = torch.empty_like(z), z.numel()
        relu_squared_kernel[(triton.cdiv(n, 1024),)](z, s, n, BLOCK=1024)
        ctx.save_for_backward(z)
        return s

    @staticmethod
    def backward(ctx, ds):
        (z,) = ctx.saved_tensors
        dz, n = torch.empty_like(z), z.numel()
        relu_squared_backward_kernel[(triton.cdiv(n, 1024),)](z, ds.contiguous(), dz, n, BLOCK=1024)
        return dz
