"""Causal attention and its backward pass on a CPU, a few queries at a time: for the training step in `block.py`.

torch's own fused attention gains nothing from bfloat16: its backward pass takes twice as long as in float32. Here all
that takes time is batched products. Both functions are TorchScript as well; see block.py.
"""

import torch
from torch import Tensor

ROWS = 128  # queries at a time: few enough to skip most masked scores, enough for efficient products


def attend(q: Tensor, k: Tensor, v: Tensor, rows: int = ROWS) -> tuple[Tensor, list[Tensor]]:
    """Compute causal attention of q, k and v (G, T, hs), one of each per head and text, `rows` queries at a time.

    Return the output (G, T, hs) and the attention weights in parts, for the backward pass. Most masked scores are never
    computed, because each group of queries only meets the keys up to its last query.
    """
    T, hs = q.shape[1:]
    out = torch.empty_like(q)
    parts: list[Tensor] = []
    for i in range(0, T, rows):
        e = min(T, i + rows)
        mask = torch.full([e - i, e], float("-inf"), dtype=q.dtype).triu_(1 + i)  # no looking ahead
        wei = torch.baddbmm(mask, q[:, i:e], k[:, :e].mT, alpha=hs**-0.5).softmax(-1)  # (G, e - i, e)
        torch.bmm(wei, v[:, :e], out=out[:, i:e])
        parts.append(wei)
    return out, parts


def attend_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, parts: list[Tensor]) -> Tensor:
    """Return the gradients of q, k and v (3, G, T, hs), given that of the output (G, T, hs)."""
    G, T, hs = q.shape
    dqkv = torch.empty([3, G, T, hs], dtype=q.dtype)
    dq, dk, dv = dqkv.unbind()
    for n in range(len(parts)):
        wei = parts[-1 - n]  # the last queries see all keys, so they initialize every sum
        e = wei.shape[2]
        i = e - wei.shape[1]
        dwei = torch._softmax_backward_data(torch.bmm(grad[:, i:e], v[:, :e].mT), wei, -1, q.dtype)  # (G, e - i, e)
        before = 0 if n == 0 else 1  # the first part overwrites, the others add
        torch.baddbmm(dq[:, i:e], dwei, k[:, :e], beta=0, alpha=hs**-0.5, out=dq[:, i:e])
        torch.baddbmm(dk[:, :e], dwei.mT, q[:, i:e], beta=before, alpha=hs**-0.5, out=dk[:, :e])
        torch.baddbmm(dv[:, :e], wei.mT, grad[:, i:e], beta=before, out=dv[:, :e])
    return dqkv
