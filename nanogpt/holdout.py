"""Which part of a text trains the model, which part judges it, and how often the first part is read.

As in the lecture, the first nine tenths are the training set, and the last tenth is held out as the validation set.
These facts stand here alone, because the report on a text, the plan of a run, the trainer, the page and the exported
program must agree on them. No torch, so that reading a text or listing runs stays instant.
"""

from __future__ import annotations

import numpy as np

TRAIN_SHARE = 0.9


def train_length(n: int) -> int:
    """Return how many of a text's `n` characters are in the training set. The others are held out."""
    return int(TRAIN_SHARE * n)


def train_tokens(tokens: np.ndarray, lengths: np.ndarray) -> int:
    """Return how many of a text's ids are in the training set: those that end in its first `train_length` characters.

    `tokens` (N,) are the ids of the whole text, `lengths` (vocab_size,) the characters of each token. So every
    tokenizer holds out the same characters, and losses per character can be compared.
    """
    ends = np.cumsum(lengths[tokens], dtype=np.int64)  # (N,) characters up to the end of each token
    return int(np.searchsorted(ends, train_length(int(ends[-1])), side="right"))


def epochs(read: float, n: int) -> float:
    """Return how often a text's training set has been read: `read` of `n` tokens, or both in characters."""
    return read / max(1, train_length(n))
