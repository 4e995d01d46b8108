"""The split into training and validation set, and how many epochs a run trains for.

As in the lecture, the first nine tenths of a text are the training set and the last tenth is the validation set. The
split is defined only here, because the text report, the run planner, the trainer, the page and the exported program
must all agree on it. This module imports neither torch nor NumPy, so that listing runs stays instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

TRAIN_SHARE = 0.9


def train_length(n: int) -> int:
    """Return how many of a text's `n` characters are in the training set. The rest is the validation set."""
    return int(TRAIN_SHARE * n)


def train_tokens(tokens: np.ndarray, lengths: np.ndarray) -> int:
    """Return how many of a text's ids are in the training set: those within its first `train_length` characters.
    `tokens` (N,) are the ids of the whole text; `lengths` (vocab_size,) is the number of characters in each token.
    Counting characters gives every tokenizer the same validation text, so that losses per character are comparable.
    """
    import numpy as np

    if (lengths == 1).all():  # without the 8 bytes per token that the sums below take
        return train_length(len(tokens))
    ends = np.cumsum(lengths[tokens], dtype=np.int64)  # (N,) characters up to the end of each token
    return int(np.searchsorted(ends, train_length(int(ends[-1])), side="right"))


def percent_scored(characters: int, n: int) -> int:
    """Return what percentage of the validation set of a text of `n` characters these characters are.

    It is rounded down, so that 100 is all of it, but at least 1.
    """
    held_out = n - train_length(n) - 1  # nothing predicts the first one
    return min(100, max(1, 100 * characters // max(1, held_out)))


def epochs(read: float, n: int) -> float:
    """Return the number of epochs after `read` tokens of a text of `n` tokens (or after as many characters)."""
    return read / max(1, train_length(n))
