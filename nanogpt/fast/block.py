"""The modern block's training step on a CPU, written by hand: model.py's `Block` with fewer passes over memory.

The forward and backward pass of a block are one function each, with as little as possible between the matrix products:
torch's own backward pass of the norms, the rotation and ReLU squared takes as long as the products. On CPUs with native
bfloat16 (AVX512-BF16: AMD since Zen 4, Intel since Sapphire Rapids) the products run in bfloat16, three to four times
as fast; weights, gradients and the residual path stay float32. Without this file the plain block runs.
"""

from __future__ import annotations

import torch

from ..config import ModelConfig
from ..device import native_bfloat16
from ..model import GPT, Block

EPS = 1e-6
ROWS = 128  # queries per step of attention: few enough to skip most masked scores, enough for efficient products
# The features that this file implements. Initialization doesn't matter here.
FEATURES = dict(rotary=True, plain_norms=True, qk_norm=True, relu_squared=True, biases=False)


def product_dtype(config: ModelConfig, device: str) -> torch.dtype | None:
    """Return the dtype of matrix products if this file can train the model, or None if the plain block must."""
    if not config.features.has(**FEATURES) or config.dropout or device != "cpu":
        return None
    return torch.bfloat16 if native_bfloat16() else torch.float32


def quicken(model: GPT, dtype: torch.dtype | None = None) -> GPT:
    """Make a model's blocks train with this file if possible: with its `FEATURES`, on a CPU, without dropout.

    Evaluation and sampling still run the plain block. `dtype` is that of the matrix products, by default the fastest.
    Return the model.
    """
    usual = product_dtype(model.config, model.device.type)
    if usual:
        for block in model.blocks:
            block.forward = _Chosen(block, *rotation(model), dtype or usual)
    return model


def rotation(model: GPT):
    """Return the angles as complex numbers (T, 2 nh hs/2), and a row order of `qkv` that puts each pair side by side.

    Reordering queries and keys in the same way doesn't change the attention scores.
    """
    config = model.config
    hs = config.n_embd // config.n_head
    cos, sin = model.rotary  # two of (T, hs / 2)
    table = torch.complex(cos, -sin).repeat(1, 2 * config.n_head)  # (T, 2 nh hs/2)
    pairs = torch.arange(hs).view(2, hs // 2).t().reshape(-1)  # 0, hs/2, 1, hs/2 + 1, …
    heads = torch.arange(0, 2 * config.n_embd, hs)[:, None] + pairs  # (2 nh, hs)
    return table, torch.cat([heads.reshape(-1), torch.arange(2 * config.n_embd, 3 * config.n_embd)])


class _Chosen:
    """A block's `forward` that runs `ByHand` in training and model.py's forward in evaluation."""

    def __init__(self, block: Block, *how):
        self.block, self.how = block, how

    def __call__(self, x, cache=None, rotary=None):
        block = self.block
        if not (block.training and torch.is_grad_enabled()) or cache is not None:
            return type(block).forward(block, x, cache, rotary)
        weights = block.sa.qkv.weight, block.sa.proj.weight, block.ffwd.net[0].weight, block.ffwd.net[2].weight
        return ByHand.apply(x, *weights, block.sa.n_head, *self.how)


def rms(x):
    """Return 1 / root mean square over the last dimension: (…, C) -> (…, 1)."""
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(EPS).rsqrt_()


def rms_backward(grad, y, r):
    """Return the gradient of x for y = x * r, given y's `grad`, which is overwritten. All float32, (…, C).

    A norm doesn't depend on the length of x, so remove the component along y.
    """
    inner = (grad * y).mean(dim=-1, keepdim=True)  # (…, 1)
    return grad.addcmul_(y, inner, value=-1.0).mul_(r)


def attend(q, k, v):
    """Compute causal attention of q, k and v (G, T, hs), one row per head and text.

    Return the output (G, T, hs), 1 / the sum of each query's weights (G, T, 1), and the weights in parts, for backward.
    Normalized queries and keys have length sqrt(hs), so scores are at most sqrt(hs) and exp can't overflow: softmax
    doesn't need to subtract the maximum. Most masked scores are never computed, because each group of `ROWS` queries
    only meets the keys up to its last query.
    """
    G, T, hs = q.shape
    y, parts = torch.empty_like(q), []
    inverse = q.new_empty(G, T, 1)
    for i in range(0, T, ROWS):
        e = min(T, i + ROWS)
        nothing = q.new_empty(1, 1, 1)  # ignored, because beta=0
        wei = torch.baddbmm(nothing, q[:, i:e], k[:, :e].mT, beta=0, alpha=hs**-0.5).exp_()  # (G, e - i, e)
        wei[:, :, i:].tril_()
        torch.reciprocal(wei.sum(-1, keepdim=True), out=inverse[:, i:e])
        torch.mul(wei @ v[:, :e], inverse[:, i:e], out=y[:, i:e])
        parts.append(wei)
    return y, inverse, parts


def attend_backward(grad, q, k, v, y, inverse, parts):
    """Return the gradients of sqrt(hs) q, sqrt(hs) k and v, given the output's `grad`, all (G, T, hs)."""
    grad = grad * inverse
    inner = (grad * y).sum(-1, keepdim=True)  # (G, T, 1): softmax's backward subtracts this from each query's weights
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    for wei in reversed(parts):  # the last queries see all keys, so they initialize every sum
        e = wei.shape[2]
        i = e - wei.shape[1]
        dwei = torch.bmm(grad[:, i:e], v[:, :e].mT).sub_(inner[:, i:e]).mul_(wei)  # (G, e - i, e)
        torch.bmm(dwei, k[:, :e], out=dq[:, i:e])
        for total, weights, rows in ((dk, dwei, q), (dv, wei, grad)):
            before = 0.0 if e == q.shape[1] else 1.0  # the first part overwrites, the others add
            torch.baddbmm(total[:, :e], weights.mT, rows[:, i:e], beta=before, out=total[:, :e])
    return dq, dk, dv


class ByHand(torch.autograd.Function):
    """One modern block, forward and backward: x (B, T, C) and the block's four weights to its output (B, T, C)."""

    @staticmethod
    def forward(ctx, x, qkv, proj, fc, out, n_head, table, order, dtype):
        B, T, C = x.shape
        N, hs = B * T, C // n_head
        qkv, proj, fc, out = qkv[order].to(dtype), proj.to(dtype), fc.to(dtype), out.to(dtype)
        # attention
        r1 = rms(x.view(N, C))  # (N, 1)
        h1 = (x.view(N, C) * r1).to(dtype)  # (N, C)
        z = h1 @ qkv.t()  # (N, 3C)
        turned = torch.view_as_complex(z[:, : 2 * C].float().view(B, T, C, 2)) * table[:T]
        turned = torch.view_as_real(turned).view(B, T, 2, n_head, hs)
        rq = rms(turned)  # (B, T, 2, nh, 1)
        qk = torch.empty(2, B, n_head, T, hs, dtype=dtype)
        torch.mul(turned, rq, out=qk.permute(1, 3, 0, 2, 4))
        q, k = qk.view(2, B * n_head, T, hs)
        v = z[:, 2 * C :].view(B, T, n_head, hs).transpose(1, 2).reshape(B * n_head, T, hs)
        heads, inverse, parts = attend(q, k, v)  # (B nh, T, hs)
        y = heads.view(B, n_head, T, hs).transpose(1, 2).reshape(N, C)
        x = x.view(N, C) + y @ proj.t()
        # feed-forward
        r2 = rms(x)
        h2 = (x * r2).to(dtype)
        a = (h2 @ fc.t()).relu_()  # (N, 4C)
        s = a * a
        own = qkv, proj, fc, out, r1, h1, rq, qk, v, y, r2, h2, a, s, table, order
        ctx.save_for_backward(*own, heads, inverse, *parts)
        return (x + s @ out.t()).view(B, T, C)

    @staticmethod
    def backward(ctx, grad):
        qkv, proj, fc, out, r1, h1, rq, qk, v, y, r2, h2, a, s, table, order, heads, inverse, *parts = ctx.saved_tensors
        B, T, C = grad.shape
        n_head, hs = qk.shape[2], qk.shape[4]
        N, dtype = B * T, h1.dtype
        grad = grad.reshape(N, C)
        # feed-forward
        g = grad.to(dtype)
        d_out = g.t() @ s
        da = (g @ out).mul_(a).mul_(2)  # (N, 4C)
        d_fc = da.t() @ h2
        grad = grad + rms_backward((da @ fc).float(), h2.float(), r2)
        # attention
        g = grad.to(dtype)
        d_proj = g.t() @ y
        dy = (g @ proj).view(B, T, n_head, hs).transpose(1, 2).reshape(B * n_head, T, hs)
        q, k = qk.view(2, B * n_head, T, hs)
        dq, dk, dv = attend_backward(dy, q, k, v, heads, inverse, parts)
        dz = torch.empty(B, T, 3, n_head, hs, dtype=dtype)
        dz[:, :, 2] = dv.view(B, n_head, T, hs).transpose(1, 2)
        dqk = torch.stack([dq, dk]).view(2, B, n_head, T, hs).permute(1, 3, 0, 2, 4)
        turned = rms_backward(dqk.float().contiguous(), qk.permute(1, 3, 0, 2, 4).float(), rq * hs**-0.5)
        back = torch.view_as_complex(turned.view(B, T, C, 2)) * table[:T].conj()
        dz[:, :, :2] = torch.view_as_real(back).view(B, T, 2, n_head, hs)
        dz = dz.view(N, 3 * C)
        d_qkv = torch.empty(3 * C, C)
        d_qkv[order] = (dz.t() @ h1).float()
        grad = grad + rms_backward((dz @ qkv).float(), h1.float(), r1)
        return grad.view(B, T, C), d_qkv, d_proj.float(), d_fc.float(), d_out.float(), None, None, None, None
