"""A model for reading several tokens at once on a CPU: a prompt, or the context that a long text continues from.

Here the bottleneck is arithmetic, not memory. oneDNN, which comes with torch, is twice as fast as torch's own products
on AMD CPUs and about as fast on others, if the matrices are stored in its own packed format. The rest is `model.py`.
"""

from __future__ import annotations

import copy
from functools import cache

import torch
import torch.nn as nn
from torch import Tensor

from ..model import GPT, Block


class Packed(nn.Module):
    """A linear layer whose matrix is stored in oneDNN's packed format."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().float())
        self.bias = bias

    def forward(self, x):
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


def attend_one(q, k, v, mask=None, p=0.0, is_causal=False):
    """Compute attention; for a single query use two plain products, which take half as long as torch's fused kernel.

    q is (B, nh, T, hs), k and v are (B, nh, all so far, hs); the result is (B, nh, T, hs).
    """
    if is_causal or mask is not None:
        return nn.functional.scaled_dot_product_attention(q, k, v, mask, p, is_causal)
    return (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(-1) @ v


class LastBlock(Block):
    """The last block. After attention it computes only the newest position, the only one that is needed."""

    def forward(self, x, cache=None, rotary=None):
        x = (x + self.sa(self.ln1(x), cache, rotary))[:, -1:]  # (B, 1, C)
        return x + self.ffwd(self.ln2(x))


@torch.no_grad()
def packed(model: GPT) -> GPT:
    """Return a float32 copy of a model that computes only the newest position's logits, (B, 1, vocab_size).
    Its matrices are packed if this build of torch supports it.
    """
    inside = [m.weight for block in model.blocks for m in block.modules() if isinstance(m, nn.Linear)]
    ours = copy.deepcopy(model, {id(weight): weight for weight in inside}).eval()  # packing will copy these
    can_pack = has_onednn()
    for module in list(ours.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                setattr(module, name, Packed(child.weight, child.bias) if can_pack else copy.deepcopy(child))
    for block in ours.blocks:
        block.sa.attend = attend_one
    ours.blocks[-1].__class__ = LastBlock
    return ours.float()


@cache
def has_onednn() -> bool:
    """Return True if this build of torch can multiply packed matrices, using the functions that its compiler uses."""
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        return Packed(torch.ones(3, 2), torch.ones(3))(torch.ones(1, 2)).shape == (1, 3)
    except (AttributeError, RuntimeError):  # missing in this version of torch, or unsupported on this CPU
        return False
