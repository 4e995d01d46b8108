"""The lecture's model, made fast: same classes, same names, and for copied weights the same numbers.

Three marked departures from `lecture.py`: the heads of a layer are computed together from one `qkv` matrix, torch's
fused attention takes the place of the lecture's four lines (which stand above it as its judge), and a key-value cache
can be threaded through for sampling. The layout is GPT-2's, so `transformers` opens a saved model as it is.

Print its parts: `python -m nanogpt.model`.
"""

from __future__ import annotations

import math

import torch
import torch.nn as nn
from torch.nn import functional as F

from .config import ModelConfig


def attention_by_hand(q, k, v):
    """The lecture's four lines, for queries, keys and values of shape (B, nh, T, hs): also returns the weights."""
    T, hs = q.shape[-2:]
    wei = q @ k.transpose(-2, -1) * hs**-0.5  # (B, nh, T, hs) @ (B, nh, hs, T) -> (B, nh, T, T)
    wei = wei.masked_fill(torch.ones(T, T, device=q.device).tril() == 0, float("-inf"))  # no looking ahead
    wei = F.softmax(wei, dim=-1)  # (B, nh, T, T)
    return wei @ v, wei  # (B, nh, T, T) @ (B, nh, T, hs) -> (B, nh, T, hs)


class MultiHeadAttention(nn.Module):
    """All heads of self-attention side by side: each character looks back and gathers what it needs."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.n_head = config.n_head
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd)  # query, key and value of all heads in one product
        self.proj = nn.Linear(config.n_embd, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x, cache=None):
        B, T, C = x.shape
        q, k, v = self.qkv(x).split(C, dim=-1)  # three of (B, T, C)
        q, k, v = (z.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for z in (q, k, v))  # (B, nh, T, hs)
        if cache is not None:
            k, v = cache.extend(k, v)  # (B, nh, everything so far, hs)
        # Attention's own dropout only on a GPU: on a CPU it would leave torch's fused path and hold (T, T) weights.
        p = self.dropout.p if self.training and x.is_cuda else 0.0
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=T > 1)  # (B, nh, T, hs)
        out = out.transpose(1, 2).reshape(B, T, C)  # heads side by side again
        return self.dropout(self.proj(out))


class FeedForward(nn.Module):
    """What was gathered is thought over, each character for itself."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(config.n_embd, 4 * config.n_embd),
            nn.ReLU(),
            nn.Linear(4 * config.n_embd, config.n_embd),
            nn.Dropout(config.dropout),
        )

    def forward(self, x):
        return self.net(x)


class Block(nn.Module):
    """Communication followed by computation, each beside a residual path."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.ln1 = nn.LayerNorm(config.n_embd)
        self.sa = MultiHeadAttention(config)
        self.ln2 = nn.LayerNorm(config.n_embd)
        self.ffwd = FeedForward(config)

    def forward(self, x, cache=None):
        x = x + self.sa(self.ln1(x), cache)
        x = x + self.ffwd(self.ln2(x))
        return x


class GPT(nn.Module):
    """Characters in, for each place the scores of the next character out."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.token_embedding_table = nn.Embedding(config.vocab_size, config.n_embd)
        self.position_embedding_table = nn.Embedding(config.block_size, config.n_embd)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.lm_head = nn.Linear(
            config.n_embd, config.vocab_size, bias=False
        )  # GPT-2's head has no bias; the lecture's has
        self.apply(self._init_weights)
        for name, p in self.named_parameters():
            if name.endswith(("proj.weight", "net.2.weight")):  # what each layer adds to the residual path: GPT-2's
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * config.n_layer))  # scaling, so that the sum stays small

    @staticmethod
    def _init_weights(module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, idx, targets=None, cache=None):
        """Logits (B, T, vocab_size) and, where targets are given, the mean cross-entropy in nats a character.

        `idx` and `targets` are (B, T). `cache` is a list with one object a layer that has `.length` and
        `.extend(k, v)`; a piece longer than one character must meet an empty one.
        """
        T = idx.shape[1]
        start = cache[0].length if cache else 0
        assert T == 1 or start == 0, "a piece longer than one character must meet an empty cache"
        pos = torch.arange(start, start + T, device=idx.device)
        x = self.token_embedding_table(idx) + self.position_embedding_table(pos)  # (B, T, C) + (T, C)
        for i, block in enumerate(self.blocks):
            x = block(x, cache[i] if cache else None)  # (B, T, C)
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


if __name__ == "__main__":
    model = GPT(ModelConfig(vocab_size=65))
    for name, p in model.named_parameters():
        print(f"{name:40} {str(tuple(p.shape)):>14} {p.numel():>9,}")
    print(f"{'all':40} {'':>14} {model.count_parameters():>9,}")
