"""A block's training step on a CPU, written by hand: model.py's `Block` with fewer passes over memory.

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

from .attention import attend, attend_backward

# A block's parameters, in the order in which these functions take and return them. Those that an architecture doesn't
# have are empty tensors.
PARAMETERS = (
    "ln1.weight", "ln1.bias", "sa.qkv.weight", "sa.qkv.bias", "sa.proj.weight", "sa.proj.bias",
    "ln2.weight", "ln2.bias", "ffwd.net.0.weight", "ffwd.net.0.bias", "ffwd.net.2.weight", "ffwd.net.2.bias",
)  # fmt: skip


class Common(NamedTuple):
    """What all blocks of a model have in common: its features (layout.py), and how to compute them."""

    n_head: int
    plain_norms: bool
    rotary: bool
    qk_norm: bool
    relu_squared: bool
    table: Tensor  # (block_size, hs / 2), the angles of rotary positions as complex numbers
    order: Tensor  # (3C,), an order of the rows of `qkv` that puts the numbers which rotate together side by side
    dtype: torch.dtype  # of the matrix products
    rows: int  # of attention at a time


class Kept(NamedTuple):
    """What a block's backward pass needs of its forward pass; N is B * T. Products' inputs have their dtype."""

    qkv: Tensor  # (3C, C), its rows in `order`
    proj: Tensor  # (C, C)
    fc: Tensor  # (4C, C)
    out: Tensor  # (C, 4C)
    norm1: list[Tensor]  # see `norm`
    h1: Tensor  # (N, C), the normalized inputs
    rq: Tensor  # (2, B nh, T, 1), 1 / the length of each query and key, if they are normalized
    qk: Tensor  # (2, B nh, T, hs)
    v: Tensor  # (B nh, T, hs)
    parts: list[Tensor]  # the attention weights, unless the context is long
    y: Tensor  # (N, C), the heads side by side
    norm2: list[Tensor]
    h2: Tensor  # (N, C)
    a: Tensor  # (N, 4C), after ReLU
    s: Tensor  # (N, 4C), its square, or itself


def rms(x: Tensor) -> Tensor:
    """Return 1 / root mean square over the last dimension: (…, C) -> (…, 1)."""
    return torch.linalg.vector_norm(x, dim=[-1], keepdim=True).square_().div_(x.shape[-1]).add_(1e-6).rsqrt_()


def rms_backward(grad: Tensor, y: Tensor, r: Tensor) -> Tensor:
    """Return the gradient of x for y = x * r, given y's `grad`, which is overwritten. All float32, (…, C).

    A norm doesn't depend on the length of x, so remove the component along y.
    """
    inner = (grad * y).mean(dim=-1, keepdim=True)  # (…, 1)
    return grad.addcmul_(y, inner, value=-1.0).mul_(r)


def norm(x: Tensor, gain: Tensor, bias: Tensor, dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    """Normalize x (N, C), by LayerNorm or, without a gain, by its root mean square.

    Return it in `dtype`, and what the backward pass needs besides it: r (N, 1), or x, its mean and 1 / its deviation.
    """
    if gain.numel() == 0:
        r = rms(x)
        return (x * r).to(dtype), [r]
    h, mean, r = torch.native_layer_norm(x, [x.shape[1]], gain, bias, 1e-5)
    return h.to(dtype), [x, mean, r]


def norm_backward(
    grad: Tensor, h: Tensor, kept: list[Tensor], gain: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x (N, C), gain and bias, given that of the output h (N, C)."""
    if len(kept) == 1:
        return rms_backward(grad.float(), h.float(), kept[0]), gain, bias
    x, mean, r = kept
    return torch.ops.aten.native_layer_norm_backward(
        grad.float(), x, [x.shape[1]], mean, r, gain, bias, [True, True, True]
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute x @ weight.T + bias in x's dtype: (N, C) @ (C, M) -> (N, M). The bias may be empty."""
    if bias.numel() == 0:
        return torch.mm(x, weight.t())
    return torch.addmm(bias.to(x.dtype), x, weight.t())


def add_(x: Tensor, bias: Tensor) -> Tensor:
    """Add a bias (C,), which may be empty, to x (N, C) in place."""
    return x.add_(bias) if bias.numel() else x


def bias_backward(grad: Tensor, bias: Tensor) -> Tensor:
    """Return the gradient of a bias (M,) that was added to rows, given theirs (N, M)."""
    return grad.sum(0).float() if bias.numel() else bias


def in_rotary_order(z: Tensor, common: Common) -> Tensor:
    """Return the rows of `qkv` or the numbers of its bias in the order of the model's `table`."""
    return z[common.order] if common.rotary and z.numel() else z


def back_in_order(z: Tensor, common: Common) -> Tensor:
    """Undo `in_rotary_order`."""
    return torch.empty_like(z).index_copy_(0, common.order, z) if common.rotary and z.numel() else z


def queries_and_keys(z: Tensor, common: Common) -> tuple[Tensor, Tensor]:
    """Rotate and normalize queries and keys z (2, B nh, T, hs). Return them, and 1 / their lengths for `backward`."""
    T, hs = z.shape[2:]
    r = z[:0, :0]
    if not (common.rotary or common.qk_norm):
        return z, r
    x = z.float()
    if common.rotary:
        x = torch.view_as_complex(x.view(2, -1, T, hs // 2, 2)) * common.table[:T]
        x = torch.view_as_real(x).view(2, -1, T, hs)
    if common.qk_norm:
        r = rms(x)  # (2, B nh, T, 1)
        x = x * r
    return x.to(z.dtype), r


def queries_and_keys_backward(grad: Tensor, qk: Tensor, r: Tensor, common: Common) -> None:
    """Replace the gradients of what `queries_and_keys` returned with those of what it was given."""
    T, hs = grad.shape[2:]
    if not (common.rotary or common.qk_norm):
        return
    x = grad.float()
    if common.qk_norm:
        x = rms_backward(x, qk.float(), r)
    if common.rotary:
        x = torch.view_as_complex(x.view(2, -1, T, hs // 2, 2)) * common.table[:T].conj_physical()
        x = torch.view_as_real(x).view(2, -1, T, hs)
    grad.copy_(x)


def forward(x: Tensor, w: list[Tensor], common: Common) -> tuple[Tensor, Kept]:
    """Compute a block: x (B, T, C) and its PARAMETERS to its output (B, T, C), and what `backward` needs."""
    B, T, C = x.shape
    N, nh, hs, dtype = B * T, common.n_head, C // common.n_head, common.dtype
    qkv, proj, fc, out = [each.to(dtype) for each in [in_rotary_order(w[2], common), w[4], w[8], w[10]]]
    x = x.view(N, C)
    # attention
    h1, norm1 = norm(x, w[0], w[1], dtype)  # (N, C)
    z = linear(h1, qkv, in_rotary_order(w[3], common)).view(B, T, 3, nh, hs)
    z = z.permute(2, 0, 3, 1, 4).contiguous().view(3, B * nh, T, hs)
    qk, rq = queries_and_keys(z[:2], common)
    heads, parts = attend(qk[0], qk[1], z[2], common.rows)  # (B nh, T, hs)
    y = heads.view(B, nh, T, hs).transpose(1, 2).reshape(N, C)
    x = add_(x + torch.mm(y, proj.t()), w[5])
    # feed-forward
    h2, norm2 = norm(x, w[6], w[7], dtype)
    a = linear(h2, fc, w[9]).relu_()  # (N, 4C)
    s = a.square() if common.relu_squared else a
    x = add_(x + torch.mm(s, out.t()), w[11]).view(B, T, C)
    return x, Kept(qkv, proj, fc, out, norm1, h1, rq, qk, z[2], parts, y, norm2, h2, a, s)


def backward(grad: Tensor, kept: Kept, w: list[Tensor], common: Common) -> tuple[Tensor, list[Tensor]]:
    """Return the gradient of a block's input and those of its PARAMETERS, given its output's `grad` (B, T, C)."""
    B, T, C = grad.shape
    N, nh, hs, dtype = B * T, common.n_head, C // common.n_head, common.dtype
    grad = grad.view(N, C)
    # feed-forward
    g = grad.to(dtype)
    d_out, d_out_bias = torch.mm(g.t(), kept.s), bias_backward(grad, w[11])
    if common.relu_squared:  # its slope is twice the output of ReLU; there are fewer numbers to double in the matrix
        d_a = torch.mm(g, 2 * kept.out).mul_(kept.a)  # (N, 4C)
    else:
        d_a = torch.ops.aten.threshold_backward(torch.mm(g, kept.out), kept.a, 0)
    d_fc, d_fc_bias = torch.mm(d_a.t(), kept.h2), bias_backward(d_a, w[9])
    dx, d_gain2, d_bias2 = norm_backward(torch.mm(d_a, kept.fc), kept.h2, kept.norm2, w[6], w[7])
    grad = dx.add_(grad)
    # attention
    g = grad.to(dtype)
    d_proj, d_proj_bias = torch.mm(g.t(), kept.y), bias_backward(grad, w[5])
    dy = torch.mm(g, kept.proj).view(B, T, nh, hs).transpose(1, 2).reshape(B * nh, T, hs)
    dz = attend_backward(dy, kept.qk[0], kept.qk[1], kept.v, kept.parts, common.rows)  # (3, B nh, T, hs)
    queries_and_keys_backward(dz[:2], kept.qk, kept.rq, common)
    dz = dz.view(3, B, nh, T, hs).permute(1, 3, 0, 2, 4).reshape(N, 3 * C)
    d_qkv = back_in_order(torch.mm(dz.t(), kept.h1).float(), common)
    d_qkv_bias = back_in_order(bias_backward(dz, w[3]), common)
    if not (common.rotary or common.qk_norm):
        d_qkv_bias[C : 2 * C] = 0  # softmax cancels the keys' bias; what is left is rounding, which Adam would amplify
    dx, d_gain1, d_bias1 = norm_backward(torch.mm(dz, kept.qkv), kept.h1, kept.norm1, w[0], w[1])
    return dx.add_(grad).view(B, T, C), [
        d_gain1, d_bias1, d_qkv, d_qkv_bias, d_proj.float(), d_proj_bias,
        d_gain2, d_bias2, d_fc.float(), d_fc_bias, d_out.float(), d_out_bias,
    ]  # fmt: skip
