"""Causal attention and its backward pass on a CPU, a few queries at a time: for the training step in `block.py`.

torch's own fused attention gains nothing from bfloat16: its backward pass takes twice as long as in float32. Here all
that takes time is batched products. The functions are TorchScript as well; see block.py.
"""

import torch
from torch import Tensor

ROWS = 128  # queries at a time: few enough to skip most masked scores, enough for efficient products
KEEP = 512  # characters of context; the attention weights of longer ones aren't kept, but computed once more


def weights(q: Tensor, k: Tensor, i: int, e: int) -> Tensor:
    """Return the attention weights (G, e - i, e) of the queries from i to e, of q and k (G, T, hs)."""
    mask = torch.full([e - i, e], float("-inf"), dtype=q.dtype).triu_(1 + i)  # no looking ahead
    return torch.baddbmm(mask, q[:, i:e], k[:, :e].mT, alpha=q.shape[2] ** -0.5).softmax(-1)


def attend(q: Tensor, k: Tensor, v: Tensor, rows: int = ROWS, keep: int = KEEP) -> tuple[Tensor, list[Tensor]]:
    """Compute causal attention of q, k and v (G, T, hs), one of each per head and text, `rows` queries at a time.

    Return the output (G, T, hs), and the weights in parts for the backward pass: none if T is more than `keep`. Most
    masked scores are never computed, because each group of queries only meets the keys up to its last query.
    """
    T = q.shape[1]
    out = torch.empty_like(q)
    parts: list[Tensor] = []
    for i in range(0, T, rows):
        e = min(T, i + rows)
        wei = weights(q, k, i, e)
        torch.bmm(wei, v[:, :e], out=out[:, i:e])
        if keep >= T:
            parts.append(wei)
    return out, parts


def attend_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, parts: list[Tensor], rows: int = ROWS) -> Tensor:
    """Return the gradients of q, k and v (3, G, T, hs), given that of the output (G, T, hs)."""
    G, T, hs = q.shape
    dqkv = torch.empty([3, G, T, hs], dtype=q.dtype)
    dq, dk, dv = dqkv.unbind()
    last = (T - 1) // rows
    for n in range(last, -1, -1):  # the last queries see all keys, so they initialize every sum
        i, e = n * rows, min(T, (n + 1) * rows)
        wei = parts[n] if len(parts) else weights(q, k, i, e)
        dwei = torch._softmax_backward_data(torch.bmm(grad[:, i:e], v[:, :e].mT), wei, -1, q.dtype)  # (G, e - i, e)
        before = 0 if n == last else 1  # the first part overwrites, the others add
        torch.baddbmm(dq[:, i:e], dwei, k[:, :e], beta=0, alpha=hs**-0.5, out=dq[:, i:e])
        torch.baddbmm(dk[:, :e], dwei.mT, q[:, i:e], beta=before, alpha=hs**-0.5, out=dk[:, :e])
        torch.baddbmm(dv[:, :e], wei.mT, grad[:, i:e], beta=before, out=dv[:, :e])
    return dqkv
