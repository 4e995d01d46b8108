"""The lecture's model, made fast: same classes, same names, and for copied weights the same numbers.

Three marked departures from `lecture.py`: the heads of a layer are computed together from one `qkv` matrix, torch's
fused attention takes the place of the lecture's four lines (which stand above it as its judge), and a key-value cache
can be threaded through for sampling.

What differs between architectures is a value, the config's `features` (layout.py). `transformers` opens two of them as
they are saved: the classic layout is GPT-2's, as in the lecture; the modern one is nanochat's: rotary positions, norms
without weights, ReLU squared, no biases. Print the parts of both: `python -m nanogpt.model`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn as nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .config import ModelConfig
from .layout import LAYOUTS


def attention_by_hand(q, k, v):
    """The lecture's four lines, for queries, keys and values of shape (B, nh, T, hs): also returns the weights."""
    T, hs = q.shape[-2:]
    wei = q @ k.transpose(-2, -1) * hs**-0.5  # (B, nh, T, hs) @ (B, nh, hs, T) -> (B, nh, T, T)
    wei = wei.masked_fill(torch.ones(T, T, device=q.device).tril() == 0, float("-inf"))  # no looking ahead
    wei = F.softmax(wei, dim=-1)  # (B, nh, T, T)
    return wei @ v, wei  # (B, nh, T, T) @ (B, nh, T, hs) -> (B, nh, T, hs)


class RMSNorm(nn.Module):
    """Divides each character's numbers by their root mean square: LayerNorm without its mean, gain and bias."""

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), eps=1e-6)


def make_norm(config: ModelConfig) -> nn.Module:
    """Return the norm that stands before each part of a block, and before the output head."""
    return RMSNorm() if config.features.plain_norms else nn.LayerNorm(config.n_embd)


class ReLUSquared(nn.Module):
    """ReLU, then the square (So et al., 2021)."""

    def forward(self, x):
        return F.relu(x).square()


def rotate(x, cos, sin):
    """Rotary positions (Su et al., 2021): each pair of numbers is turned by an angle that grows with the place.

    x is (B, nh, T, hs); cos and sin are (T, hs / 2). What a query and a key have in common then depends on how far
    they stand apart, not on where they stand.
    """
    a, b = x.chunk(2, dim=-1)  # two of (B, nh, T, hs / 2)
    return torch.cat([a * cos + b * sin, b * cos - a * sin], dim=-1)  # (B, nh, T, hs)


class MultiHeadAttention(nn.Module):
    """All heads of self-attention side by side: each character looks back and gathers what it needs."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        layout = config.features
        self.n_head, self.qk_norm = config.n_head, layout.qk_norm
        # query, key and value of all heads in one product
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=layout.biases)
        self.proj = nn.Linear(config.n_embd, config.n_embd, bias=layout.biases)
        self.dropout = nn.Dropout(config.dropout)
        self.attend = F.scaled_dot_product_attention  # fast/packed.py has another for a single query

    def forward(self, x, cache=None, rotary=None):
        B, T, C = x.shape
        q, k, v = self.qkv(x).split(C, dim=-1)  # three of (B, T, C)
        q, k, v = (z.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for z in (q, k, v))  # (B, nh, T, hs)
        if rotary is not None:
            q, k = rotate(q, *rotary), rotate(k, *rotary)
        if self.qk_norm:  # all of length sqrt(hs), so that the scores stay bounded
            q, k = (F.rms_norm(z, (C // self.n_head,), eps=1e-6) for z in (q, k))
        if cache is not None:
            k, v = cache.extend(k, v)  # (B, nh, everything so far, hs)
        # Attention's own dropout only on a GPU: on a CPU it would leave torch's fused path and hold (T, T) weights.
        p = self.dropout.p if self.training and x.is_cuda else 0.0
        mask = cache.mask if cache is not None else None
        out = self.attend(q, k, v, mask, p, is_causal=T > 1)  # (B, nh, T, hs)
        out = out.transpose(1, 2).reshape(B, T, C)  # heads side by side again
        return self.dropout(self.proj(out))


class FeedForward(nn.Module):
    """What was gathered is thought over, each character for itself."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        layout = config.features
        self.net = nn.Sequential(
            nn.Linear(config.n_embd, 4 * config.n_embd, bias=layout.biases),
            ReLUSquared() if layout.relu_squared else nn.ReLU(),
            nn.Linear(4 * config.n_embd, config.n_embd, bias=layout.biases),
            nn.Dropout(config.dropout),
        )

    def forward(self, x):
        return self.net(x)


class Block(nn.Module):
    """Communication followed by computation, each beside a residual path."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.ln1 = make_norm(config)
        self.sa = MultiHeadAttention(config)
        self.ln2 = make_norm(config)
        self.ffwd = FeedForward(config)

    def forward(self, x, cache=None, rotary=None):
        x = x + self.sa(self.ln1(x), cache, rotary)
        x = x + self.ffwd(self.ln2(x))
        return x


class GPT(nn.Module):
    """Characters in, for each place the scores of the next character out."""

    ready: Any = None  # what `sample.keep_ready` has made of the weights

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config, layout = config, config.features
        self.token_embedding_table = nn.Embedding(config.vocab_size, config.n_embd)
        if layout.rotary:
            # cos and sin of the angle at each position; not saved, because they follow from the config
            self.register_buffer("rotary", rotary_table(config), persistent=False)  # (2, block_size, hs / 2)
        else:
            self.position_embedding_table = nn.Embedding(config.block_size, config.n_embd)
        self.norm_in = RMSNorm() if layout.plain_norms else nn.Identity()
        self.ln_f = make_norm(config)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)  # the lecture's has a bias, GPT-2's none
        self.init_weights()

    @torch.no_grad()
    def init_weights(self):
        """Draw the first weights. What a layer adds to the residual path starts small, or at 0 with `zero_init`."""
        zero_init = self.config.features.zero_init
        for name, p in self.named_parameters():
            adds = name.endswith(("proj.weight", "net.2.weight"))
            if p.dim() < 2:
                p.fill_(1.0 if "ln" in name and name.endswith("weight") else 0.0)
            elif not zero_init:  # GPT-2's
                p.normal_(std=0.02 / math.sqrt(2 * self.config.n_layer) if adds else 0.02)
            elif name == "token_embedding_table.weight":
                p.normal_(std=1.0)
            elif adds or name == "lm_head.weight":
                p.zero_()
            else:
                p.normal_(std=self.config.n_embd**-0.5)

    def embed(self, idx, places):
        """Return the embeddings (B, T, C) of characters `idx` (B, T), and the rotation (2, T, hs / 2) of their places.

        `places` is a slice or a tensor of T positions. The rotation is None where positions are learned.
        """
        x = self.token_embedding_table(idx)  # (B, T, C)
        if self.config.features.rotary:
            return self.norm_in(x), self.rotary[:, places]
        x = x + self.position_embedding_table.weight[places]  # (B, T, C) + (T, C)
        return self.norm_in(x), None

    def forward(self, idx, targets=None, cache=None):
        """Logits (B, T, vocab_size) and, where targets are given, the mean cross-entropy in nats a character.

        `idx` and `targets` are (B, T). `cache` is a list with one object a layer that has `.length` and
        `.extend(k, v)`, and `.mask` for a single character where not all that it gives back counts; a piece longer than
        one character must meet an empty one.
        """
        T = idx.shape[1]
        start = cache[0].length if cache else 0
        assert T == 1 or start == 0, "a piece longer than one character must meet an empty cache"
        x, rotary = self.embed(idx, slice(start, start + T))  # (B, T, C), (2, T, hs / 2)
        for i, block in enumerate(self.blocks):
            x = block(x, cache[i] if cache else None, rotary)  # (B, T, C)
        logits = self.lm_head(self.ln_f(x))  # (B, T, vocab_size)
        if targets is None:
            return logits, None
        loss = F.cross_entropy(logits.float().view(-1, logits.shape[-1]), targets.reshape(-1))
        return logits, loss

    @property
    def device(self) -> torch.device:
        return self.lm_head.weight.device

    def count_parameters(self) -> int:
        """Numbers that training sets."""
        return sum(p.numel() for p in self.parameters())


class ShapesOnly(TorchFunctionMode):
    """Make models without numbers: `with ShapesOnly(): GPT(config)`, on the meta device.

    Random numbers for that device would be drawn by torch's compiler, whose import takes seconds, so they are left out.
    """

    DRAWS = ("normal_", "uniform_", "kaiming_uniform_", "ones_", "zeros_", "fill_", "zero_")

    def __enter__(self):
        self.place = torch.device("meta")
        self.place.__enter__()
        return super().__enter__()

    def __exit__(self, *problem):
        super().__exit__(*problem)
        self.place.__exit__(*problem)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in self.DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def count_parameters(config: ModelConfig) -> int:
    """Return how many numbers training sets, without making the model."""
    with ShapesOnly():
        return GPT(config).count_parameters()


ROPE_THETA = 1000.0  # windows here are short: the slowest pair should still turn a good way across one


def rotary_table(config: ModelConfig) -> torch.Tensor:
    """cos and sin of each place's angles: (2, block_size, hs / 2)."""
    hs = config.n_embd // config.n_head
    numbers = lambda *range: torch.arange(*range, dtype=torch.float32, device="cpu")  # numbers even within ShapesOnly
    frequency = ROPE_THETA ** (-numbers(0, hs, 2) / hs)  # (hs / 2,)
    angle = torch.outer(numbers(config.block_size), frequency)  # (block_size, hs / 2)
    return torch.stack([angle.cos(), angle.sin()])


if __name__ == "__main__":
    for layout, features in LAYOUTS.items():
        model = GPT(ModelConfig(vocab_size=65, layout=layout))
        print(f"{layout}: {features}")
        for name, p in model.named_parameters():
            print(f"  {name:40} {str(tuple(p.shape)):>14} {p.numel():>9,}")
        print(f"  {'all':40} {'':>14} {model.count_parameters():>9,}")
