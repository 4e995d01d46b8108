"""Character by character: how well a model predicts each character of any text, and what else it expected there.

Every character is predicted from those before it, at most `block_size` of them; the first one follows a line break, as
an empty prompt does. Coloring a text by its probabilities is from GLTR (Gehrmann et al., 2019).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from ..config import SampleConfig
from ..errors import shortages
from ..model import GPT
from ..sample import weights
from ..tokenizer import Tokenizer

BARS = 5  # likeliest tokens that are shown


@dataclass(frozen=True)
class Read:
    """What a model made of a text of N tokens."""

    tokens: list[str]
    bits: np.ndarray  # (N,) bits that each token costs: -log2 of its probability
    ranks: np.ndarray  # (N,) 1 if the token was the likeliest, 2 if the second likeliest, ...; 0 if it shares its place


def context_start(i: int, block_size: int) -> int:
    """Return where the context of position `i` begins: up to `block_size` back, moving on in steps of half of that.

    Every window is read once, and after the first window no position has less than half a context.
    """
    half = max(1, block_size // 2)
    return max(0, (i - block_size) // half + 1) * half if i >= block_size else 0


@shortages()
@torch.inference_mode()
def read(model: GPT, tokenizer: Tokenizer, text: str) -> Read:
    """Read a text in the model's alphabet (see `Tokenizer.fit`), and return the bits and rank of each token."""
    ids = tokenizer.encode(text)
    sequence = torch.tensor([start_token(tokenizer), *ids])  # (N + 1,)
    bits, ranks = np.zeros(len(ids)), np.zeros(len(ids), dtype=int)
    block_size, i = model.config.block_size, 0
    while i < len(ids):  # position i is predicted from sequence[start : i + 1]
        start = context_start(i, block_size)
        end = min(start + block_size, len(ids))
        window = sequence[start:end].to(model.device)
        log_p = F.log_softmax(model(window[None])[0][0, i - start :].float(), dim=-1).cpu()  # (end - i, vocab_size)
        own = log_p.gather(1, sequence[i + 1 : end + 1, None])  # (end - i, 1)
        bits[i:end] = (-own[:, 0] / math.log(2)).numpy()
        shared = (log_p == own).sum(dim=1) > 1  # as all places are in an untrained model
        ranks[i:end] = (1 + (log_p > own).sum(dim=1)).where(~shared, 0).numpy()
        i = end
    return Read([tokenizer.itos[i] for i in ids], bits, ranks)


@shortages()
@torch.inference_mode()
def logits_at(model: GPT, tokenizer: Tokenizer, text: str, i: int) -> np.ndarray:
    """Return the logits (vocab_size,) of the token at position `i`, from the same context as `read` uses."""
    sequence = [start_token(tokenizer), *tokenizer.encode(text)]
    idx = torch.tensor([sequence[context_start(i, model.config.block_size) : i + 1]], device=model.device)  # (1, T)
    return model(idx)[0][0, -1].float().cpu().numpy()


def judged(logits: np.ndarray, id: int) -> tuple[float, int]:
    """Return the bits that a token costs, and its rank, as `read` does, from the logits (vocab_size,) at its place."""
    above = logits.astype(float) - logits[id]
    shared = (above == 0).sum() > 1
    return float(np.logaddexp.reduce(above)) / math.log(2), 0 if shared else 1 + int((above > 0).sum())


def likeliest(logits: np.ndarray, tokenizer: Tokenizer, config: SampleConfig) -> list[dict]:
    """Return the BARS likeliest next tokens, each with its probability, and with the one it has when sampling.

    `p` is the model's own; `drawn` is after the temperature, top-k and top-p of `config`.
    """
    own, drawn = weights(logits, SampleConfig(temperature=1.0)), weights(logits, config)
    own, drawn = own / own.sum(), drawn / drawn.sum()
    order = np.argsort(-own, kind="stable")[:BARS]
    return [dict(token=tokenizer.itos[int(i)], p=float(own[i]), drawn=float(drawn[i])) for i in order]


def start_token(tokenizer: Tokenizer) -> int:
    """Return the id that stands before a text: a line break, as when sampling without a prompt."""
    return tokenizer.stoi.get("\n", 0)
