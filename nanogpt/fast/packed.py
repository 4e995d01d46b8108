"""A model for sampling several characters at once on a CPU: several texts side by side, or the beginning of one.

There arithmetic counts. oneDNN, which comes with torch, does twice as much of it as torch's own products on an AMD
processor, and about as much on others, if it may keep the matrices in its own order. Everything else is `model.py`.
"""

from __future__ import annotations

import copy
from functools import cache

import torch
import torch.nn as nn
from torch.nn.utils import skip_init

from ..model import GPT, Block


class Packed(nn.Module):
    """A linear layer whose matrix is in oneDNN's own order."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().float())
        self.bias = linear.bias

    def forward(self, x):
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


def attend_one(q, k, v, mask=None, p=0.0, is_causal=False):
    """torch's fused attention, in two products where there is one query: its kernel takes twice as long for that.

    q is (B, nh, T, hs), k and v (B, nh, everything so far, hs); the result is (B, nh, T, hs).
    """
    if is_causal or mask is not None:
        return nn.functional.scaled_dot_product_attention(q, k, v, mask, p, is_causal)
    return (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(-1) @ v


class LastBlock(Block):
    """The topmost block, of which only the newest place is asked for once attention has looked at all."""

    def forward(self, x, cache=None, rotary=None):
        x = (x + self.sa(self.ln1(x), cache, rotary))[:, -1:]  # (B, 1, C)
        return x + self.ffwd(self.ln2(x))


@torch.no_grad()
def packed(model: GPT) -> GPT:
    """A copy of a model for sampling: its scores are those of the newest place alone, (B, 1, vocab_size), in float32.

    Its matrices are packed where this torch has oneDNN for them.
    """
    inside = [m.weight for block in model.blocks for m in block.modules() if isinstance(m, nn.Linear)]
    instead = {id(weight): weight for weight in inside} | {id(model.ready): None}  # packing will copy the weights
    ours = copy.deepcopy(model, instead).eval()
    pack = Packed if has_onednn() else copy.deepcopy
    for module in list(ours.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                setattr(module, name, pack(child))
    for block in ours.blocks:
        block.sa.attend = attend_one
    ours.blocks[-1].__class__ = LastBlock
    return ours.float()


@cache
def has_onednn() -> bool:
    """Whether this torch multiplies by packed matrices: torch's compiler does it by the same two functions."""
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        return Packed(skip_init(nn.Linear, 2, 3))(torch.ones(1, 2)).shape == (1, 3)  # whose numbers nobody draws
    except (AttributeError, RuntimeError):  # not in this torch, or not on this processor
        return False
