"""The modern block's training step on a CPU, written by hand: model.py's `Block` with fewer passes over memory.

There is as little as possible between the matrix products: torch's own backward pass of the norms, the rotation and
ReLU squared takes as long as the products. On CPUs with native bfloat16 (AVX512-BF16: AMD since Zen 4, Intel since
Sapphire Rapids) the products run in bfloat16, three to four times as fast; weights, gradients and the residual path
stay float32. `gradients.py` makes a whole model of this.

All functions here are also TorchScript, which torch runs itself, without Python's lock. So they keep to what it knows:
types are written out, and constants are default values.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..config import ModelConfig
from ..device import native_bfloat16

ROWS = 128  # queries per step of attention: few enough to skip most masked scores, enough for efficient products
# The features that this file implements. Initialization doesn't matter here.
FEATURES = dict(rotary=True, plain_norms=True, qk_norm=True, relu_squared=True, biases=False)


def product_dtype(config: ModelConfig, device: str) -> torch.dtype | None:
    """Return the dtype of matrix products if this file can train the model, or None if the plain block must."""
    if not config.features.has(**FEATURES) or config.dropout or device != "cpu":
        return None
    return torch.bfloat16 if native_bfloat16() else torch.float32


def rms(x: Tensor, eps: float = 1e-6) -> Tensor:
    """Return 1 / root mean square over the last dimension: (…, C) -> (…, 1)."""
    return torch.linalg.vector_norm(x, dim=[-1], keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()


def rms_backward(grad: Tensor, y: Tensor, r: Tensor) -> Tensor:
    """Return the gradient of x for y = x * r, given y's `grad`, which is overwritten. All float32, (…, C).

    A norm doesn't depend on the length of x, so remove the component along y.
    """
    inner = (grad * y).mean(dim=-1, keepdim=True)  # (…, 1)
    return grad.addcmul_(y, inner, value=-1.0).mul_(r)


def attend(q: Tensor, k: Tensor, v: Tensor, rows: int = ROWS) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Compute causal attention of q, k and v (G, T, hs), one row per head and text, `rows` queries at a time.

    Return the output (G, T, hs), 1 / the sum of each query's weights (G, T, 1), and the weights in parts, for backward.
    Normalized queries and keys have length sqrt(hs), so scores are at most sqrt(hs) and exp can't overflow: softmax
    doesn't need to subtract the maximum. Most masked scores are never computed, because each group of queries only
    meets the keys up to its last query.
    """
    G, T, hs = q.shape
    y, inverse = torch.empty_like(q), torch.empty([G, T, 1], dtype=q.dtype)
    parts: list[Tensor] = []
    nothing = torch.empty([1, 1, 1], dtype=q.dtype)  # ignored, because beta=0
    for i in range(0, T, rows):
        e = min(T, i + rows)
        wei = torch.baddbmm(nothing, q[:, i:e], k[:, :e].mT, beta=0, alpha=hs**-0.5).exp_()  # (G, e - i, e)
        wei[:, :, i:].tril_()
        torch.reciprocal(wei.sum([-1], keepdim=True), out=inverse[:, i:e])
        torch.mul(torch.bmm(wei, v[:, :e]), inverse[:, i:e], out=y[:, i:e])
        parts.append(wei)
    return y, inverse, parts


def attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, y: Tensor, inverse: Tensor, parts: list[Tensor]
) -> Tensor:
    """Return the gradients of sqrt(hs) q, sqrt(hs) k and v (3, G, T, hs), given the output's `grad` (G, T, hs)."""
    G, T, hs = q.shape
    grad = grad * inverse
    inner = (grad * y).sum([-1], keepdim=True)  # (G, T, 1): softmax's backward subtracts this from the weights
    dqkv = torch.empty([3, G, T, hs], dtype=q.dtype)
    dq, dk, dv = dqkv.unbind()
    for n in range(len(parts)):
        wei = parts[-1 - n]  # the last queries see all keys, so they initialize every sum
        e = wei.shape[2]
        i = e - wei.shape[1]
        dwei = torch.bmm(grad[:, i:e], v[:, :e].mT).sub_(inner[:, i:e]).mul_(wei)  # (G, e - i, e)
        torch.bmm(dwei, k[:, :e], out=dq[:, i:e])
        before = 0 if n == 0 else 1  # the first part overwrites, the others add
        torch.baddbmm(dk[:, :e], dwei.mT, q[:, i:e], beta=before, out=dk[:, :e])
        torch.baddbmm(dv[:, :e], wei.mT, grad[:, i:e], beta=before, out=dv[:, :e])
    return dqkv


class Kept(NamedTuple):
    """What a block's backward pass needs of its forward pass; N is B * T. Products' inputs have their dtype."""

    qkv: Tensor  # (3C, C), with the rows of queries and keys in the order of `rotation`
    proj: Tensor  # (C, C)
    fc: Tensor  # (4C, C)
    out: Tensor  # (C, 4C)
    r1: Tensor  # (N, 1), 1 / the length of each input
    h1: Tensor  # (N, C), the normalized inputs
    rq: Tensor  # (2, B nh, T, 1), 1 / the length of each query and key
    qk: Tensor  # (2, B nh, T, hs)
    v: Tensor  # (B nh, T, hs)
    heads: Tensor  # (B nh, T, hs), what attention returns
    inverse: Tensor  # (B nh, T, 1)
    parts: list[Tensor]
    y: Tensor  # (N, C), the heads side by side
    r2: Tensor  # (N, 1)
    h2: Tensor  # (N, C)
    a: Tensor  # (N, 4C), after ReLU
    s: Tensor  # (N, 4C), its square


def forward(
    x: Tensor, weights: list[Tensor], n_head: int, table: Tensor, order: Tensor, dtype: torch.dtype, rows: int = ROWS
) -> tuple[Tensor, Kept]:
    """Compute a block: x (B, T, C) and its four weights to its output (B, T, C), and what `backward` needs.

    `table` and `order` are those of `gradients.rotation`; `dtype` is that of the matrix products.
    """
    B, T, C = x.shape
    N, hs = B * T, C // n_head
    qkv, proj, fc, out = [weight.to(dtype) for weight in [weights[0][order]] + weights[1:]]
    # attention
    x = x.view(N, C)
    r1 = rms(x)  # (N, 1)
    h1 = (x * r1).to(dtype)  # (N, C)
    z = torch.mm(h1, qkv.t()).view(B, T, 3, n_head, hs).permute(2, 0, 3, 1, 4).contiguous()  # (3, B, nh, T, hs)
    turned = torch.view_as_complex(z[:2].float().view(2, B, n_head, T, hs // 2, 2)) * table[:T]
    turned = torch.view_as_real(turned).view(2, B * n_head, T, hs)
    rq = rms(turned)  # (2, B nh, T, 1)
    qk = (turned * rq).to(dtype)  # (2, B nh, T, hs)
    q, k = qk.unbind()
    v = z[2].view(B * n_head, T, hs)
    heads, inverse, parts = attend(q, k, v, rows)  # (B nh, T, hs)
    y = heads.view(B, n_head, T, hs).transpose(1, 2).reshape(N, C)
    x = x + torch.mm(y, proj.t())
    # feed-forward
    r2 = rms(x)
    h2 = (x * r2).to(dtype)
    a = torch.mm(h2, fc.t()).relu_()  # (N, 4C)
    s = a.square()
    x = (x + torch.mm(s, out.t())).view(B, T, C)
    return x, Kept(qkv, proj, fc, out, r1, h1, rq, qk, v, heads, inverse, parts, y, r2, h2, a, s)


def backward(grad: Tensor, kept: Kept, n_head: int, table: Tensor, order: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the gradient of a block's input and those of its four weights, given its output's `grad` (B, T, C)."""
    B, T, C = grad.shape
    N, hs, dtype = B * T, C // n_head, kept.h1.dtype
    grad = grad.view(N, C)
    # feed-forward
    g = grad.to(dtype)
    d_out = torch.mm(g.t(), kept.s)
    # half the gradient before ReLU, which is doubled only after the products, where there are fewer numbers
    half = torch.mm(g, kept.out).mul_(kept.a)  # (N, 4C)
    d_fc = torch.mm(half.t(), kept.h2).float().mul_(2)
    grad = grad + rms_backward(torch.mm(half, kept.fc).float(), kept.h2.float(), 2 * kept.r2)
    # attention
    g = grad.to(dtype)
    d_proj = torch.mm(g.t(), kept.y)
    dy = torch.mm(g, kept.proj).view(B, T, n_head, hs).transpose(1, 2).reshape(B * n_head, T, hs)
    q, k = kept.qk.unbind()
    dz = attend_backward(dy, q, k, kept.v, kept.heads, kept.inverse, kept.parts)  # (3, B nh, T, hs)
    turned = rms_backward(dz[:2].float(), kept.qk.float(), kept.rq * hs**-0.5)
    back = torch.view_as_complex(turned.view(2, B, n_head, T, hs // 2, 2)) * table[:T].conj_physical()
    dz[:2] = torch.view_as_real(back).view(2, B * n_head, T, hs)
    dz = dz.view(3, B, n_head, T, hs).permute(1, 3, 0, 2, 4).reshape(N, 3 * C)
    d_qkv = torch.empty([3 * C, C])
    d_qkv[order] = torch.mm(dz.t(), kept.h1).float()
    grad = grad + rms_backward(torch.mm(dz, kept.qkv).float(), kept.h1.float(), kept.r1)
    return grad.view(B, T, C), [d_qkv, d_proj.float(), d_fc, d_out.float()]
