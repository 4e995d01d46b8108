"""The GPT: the lecture's model, made fast. Same classes, same names, and with the same weights the same numbers.

To be fast, it departs from `lecture.py` in four places: one `qkv` matrix computes all heads of a layer together,
torch's fused attention replaces the lecture's four lines (kept as `attention_by_hand`, which the tests compare it
with), attention has no dropout on a CPU or an Apple GPU, and sampling can pass a key-value cache through. And it
follows GPT-2 in two: queries, keys and values have biases, and the weights start small (`init_weights`).

Architectures differ only in the config's `features` (layout.py). `transformers` opens both named ones as they are
saved: the classic layout as a GPT-2 with the lecture's ReLU; the modern one as a nanochat, with rotary positions, norms
without weights, ReLU squared and no biases. Print the parameters of both: `python -m nanogpt.model`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
import torch.nn as nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .config import ModelConfig
from .layout import LAYOUTS, ROPE_THETA


def attention_by_hand(q, k, v):
    """Compute attention with the lecture's four lines. q, k and v are (B, nh, T, hs); return the output and weights."""
    T, hs = q.shape[-2:]
    wei = q @ k.transpose(-2, -1) * hs**-0.5  # (B, nh, T, hs) @ (B, nh, hs, T) -> (B, nh, T, T)
    wei = wei.masked_fill(torch.ones(T, T, device=q.device).tril() == 0, float("-inf"))  # no looking ahead
    wei = F.softmax(wei, dim=-1)  # (B, nh, T, T)
    return wei @ v, wei  # (B, nh, T, T) @ (B, nh, T, hs) -> (B, nh, T, hs)


class RMSNorm(nn.Module):
    """Divide each embedding by its root mean square: LayerNorm without the mean, gain and bias."""

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), eps=1e-6)


def make_norm(config: ModelConfig) -> nn.Module:
    """Return the norm used before attention, before the feed-forward layer, and before the output head."""
    return RMSNorm() if config.features.plain_norms else nn.LayerNorm(config.n_embd)


class ReLUSquared(nn.Module):
    """ReLU, squared (So et al., 2021)."""

    def forward(self, x):
        return F.relu(x).square()


def rotate(x, cos, sin):
    """Apply rotary positions (Su et al., 2021): rotate each pair of numbers by an angle that grows with the position.

    x is (B, nh, T, hs); cos and sin are (T, hs / 2). The dot product of a query and a key then depends on the distance
    between them, not on their absolute positions.
    """
    a, b = x.chunk(2, dim=-1)  # two of (B, nh, T, hs / 2)
    return torch.cat([a * cos + b * sin, b * cos - a * sin], dim=-1)  # (B, nh, T, hs)


class MultiHeadAttention(nn.Module):
    """Multi-head causal self-attention: each character looks back and gathers what it needs."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        layout = config.features
        self.n_head, self.qk_norm = config.n_head, layout.qk_norm
        # query, key and value of all heads in one matrix
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=layout.biases)
        self.proj = nn.Linear(config.n_embd, config.n_embd, bias=layout.biases)
        self.dropout = nn.Dropout(config.dropout)
        self.attend = F.scaled_dot_product_attention  # fast/packed.py replaces it for single queries

    def forward(self, x, cache=None, rotary=None):
        B, T, C = x.shape
        q, k, v = self.qkv(x).split(C, dim=-1)  # three of (B, T, C)
        q, k, v = (z.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for z in (q, k, v))  # (B, nh, T, hs)
        if rotary is not None:
            q, k = rotate(q, *rotary), rotate(k, *rotary)
        if self.qk_norm:  # every length becomes sqrt(hs), which keeps the scores bounded
            q, k = (F.rms_norm(z, (C // self.n_head,), eps=1e-6) for z in (q, k))
        if cache is not None:
            k, v = cache.extend(k, v)  # (B, nh, all so far, hs)
        # Attention dropout only on an NVIDIA GPU: on a CPU it would leave torch's fused kernel and materialize (T, T)
        # weights.
        p = self.dropout.p if self.training and x.is_cuda else 0.0
        mask = cache.mask if cache is not None else None
        out = self.attend(q, k, v, mask, p, is_causal=T > 1)  # (B, nh, T, hs)
        out = out.transpose(1, 2).reshape(B, T, C)  # concatenate the heads
        return self.dropout(self.proj(out))


class FeedForward(nn.Module):
    """The feed-forward layer: each character processes what it gathered, on its own."""

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
    """A Transformer block: communication followed by computation, each with a residual connection."""

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
    """A GPT: characters in, and at every position the scores of the next character out."""

    ready: Any = None  # weights prepared for sampling; set by `sample.keep_ready`

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config, layout = config, config.features
        self.token_embedding_table = nn.Embedding(config.vocab_size, config.n_embd)
        if layout.rotary:
            # cos and sin of the angle at each position; not saved, because they can be computed from the config
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
        """Initialize the weights. Layers that add to the residual path start small, or at 0 with `zero_init`."""
        zero_init = self.config.features.zero_init
        for name, p in self.named_parameters():
            adds = name.endswith(("proj.weight", "net.2.weight"))
            if p.dim() < 2:
                p.fill_(1.0 if "ln" in name and name.endswith("weight") else 0.0)
            elif not zero_init:  # GPT-2's initialization
                p.normal_(std=0.02 / math.sqrt(2 * self.config.n_layer) if adds else 0.02)
            elif name == "token_embedding_table.weight":
                p.normal_(std=1.0)
            elif adds or name == "lm_head.weight":
                p.zero_()
            else:
                p.normal_(std=self.config.n_embd**-0.5)

    def embed(self, idx, places):
        """Return the embeddings (B, T, C) of `idx` (B, T), and cos and sin (2, T, hs / 2) of their positions.

        `places` is a slice or a tensor of T positions. With learned positions there is no rotation, so return None.
        """
        x = self.token_embedding_table(idx)  # (B, T, C)
        if self.config.features.rotary:
            return self.norm_in(x), self.rotary[:, places]
        x = x + self.position_embedding_table.weight[places]  # (B, T, C) + (T, C)
        return self.norm_in(x), None

    def forward(self, idx, targets=None, cache=None):
        """Return logits (B, T, vocab_size) and the mean cross-entropy in nats per token, or None without targets.

        `idx` and `targets` are (B, T). `cache` is a list of one object per layer with `.length`, `.extend(k, v)` and
        `.mask`, the attention mask for a single character (None if all keys count). It must be empty if T > 1. With
        those in the cache, there may be at most `block_size` tokens.
        """
        T = idx.shape[1]
        start = cache[0].length if cache else 0
        assert T == 1 or start == 0, "the cache must be empty unless T is 1"
        assert start + T <= self.config.block_size, f"{start + T} tokens, but block_size is {self.config.block_size}"
        x, rotary = self.embed(idx, slice(start, start + T))  # (B, T, C), (2, T, hs / 2)
        for i, block in enumerate(self.blocks):
            x = block(x, cache[i] if cache else None, rotary)  # (B, T, C)
        logits = self.lm_head(self.ln_f(x))  # (B, T, vocab_size)
        if targets is None:
            return logits, None
        loss = F.cross_entropy(logits.float().view(-1, logits.shape[-1]), targets.reshape(-1))
        return logits, loss

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickle contains: all but the prepared weights, because it can be changed or moved."""
        return {**self.__dict__, "ready": None}

    @property
    def device(self) -> torch.device:
        return self.lm_head.weight.device

    def count_parameters(self) -> int:
        """Return the number of trainable parameters."""
        return sum(p.numel() for p in self.parameters())

    def largest_weight(self) -> float:
        """Return the largest absolute value of a weight, NaN if one is NaN."""
        return float(nn.utils.get_total_norm(self.parameters(), math.inf))


@contextmanager
def without_dropout(model: GPT) -> Iterator[None]:
    """Switch a model's dropout off in the block, and on again afterwards if it was on."""
    training = model.training
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


class ShapesOnly(TorchFunctionMode):
    """Build models without allocating weights, on the meta device: `with ShapesOnly(): GPT(config)`.

    Skip initialization, because random numbers on the meta device import torch's compiler, which takes seconds.
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


@lru_cache(maxsize=1024)
def count_parameters(config: ModelConfig) -> int:
    """Return the number of trainable parameters of a config, without allocating the model. It takes milliseconds."""
    with ShapesOnly():
        return GPT(config).count_parameters()


def rotary_table(config: ModelConfig) -> torch.Tensor:
    """Return cos and sin of the angles at each position: (2, block_size, hs / 2)."""
    hs = config.n_embd // config.n_head
    numbers = lambda *range: torch.arange(*range, dtype=torch.float32, device="cpu")  # real even within ShapesOnly
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
