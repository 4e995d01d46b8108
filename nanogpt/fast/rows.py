"""A cached decoder for several texts on a CPU, each at a position of its own.

Each matrix is read once for all of them (several.py). Texts come and go between two characters, and each may restart
its context when it has to: `join` reads prompts into new rows, `keep` drops rows. All rows compute attention as far as
the longest one reaches, with a mask.

The results equal those of `model.py` up to rounding, as tests/fast/test_rows.py checks.
"""

from __future__ import annotations

import numpy as np
import torch

from .ready import Ready
from .several import Newest
from .threads import one_blas_thread, torch_threads
from .weights import F32


class Rows:
    """A cache with a row for each text. It has `sample.Decoder`'s interface, too, for texts of equal length."""

    def __init__(self, ready: Ready, most: int):
        """Make room for `most` texts. A row takes up memory only once it is used."""
        w = self.w = ready.weights
        self.ready, self.block_size, self.most = ready, ready.model.config.block_size, most
        self.texts, self.at = 0, np.zeros(most, int)  # how many texts there are, and how many tokens each has
        # keys and values of each layer; each value ends with a 1, so that a weighted sum also sums the weights
        self.kv = [np.zeros((2, most, w.nh, self.block_size, w.hs + 1), F32) for _ in w.layers]
        self.threads = torch_threads()

    # ---- texts come and go -------------------------------------------------------------------------------------------

    def join(self, ids: np.ndarray) -> None:
        """Read the tokens (N, T) of N more texts into new rows after the others. T may be 0."""
        N, T = ids.shape
        new = slice(self.texts, self.texts + N)
        self.texts, self.at[new] = new.stop, T
        if T:
            self.ready.read(ids, [kv[:, new] for kv in self.kv])

    def keep(self, rows: list[int]) -> None:
        """Drop all texts but these. Row i is from then on what row rows[i] was; rows[i] is at least i."""
        for row, old in enumerate(rows):
            if row != old:
                T = self.at[row] = self.at[old]
                for kv in self.kv:
                    kv[:, row, :, :T] = kv[:, old, :, :T]
        self.texts = len(rows)

    @property
    def length(self) -> int:
        """Return how many tokens of the first text are in the cache."""
        return int(self.at[0]) if self.texts else 0

    def restart(self) -> None:
        """Empty the cache."""
        self.texts = 0

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Append tokens `ids` (B, T), one each unless the cache is empty. Return the next logits, (B, vocab_size)."""
        if not self.texts:
            self.join(ids[:, :-1])
        return self.step(ids[:, -1])

    # ---- a character -------------------------------------------------------------------------------------------------

    def step(self, ids: np.ndarray) -> np.ndarray:
        """Append a token to each text, `ids` (B,), and return the logits of the next one, (B, vocab_size)."""
        try:
            with torch.inference_mode(), one_blas_thread(), self.threads.chosen(self.texts + 12.0):
                return self.ready.several.forward(ids, Newest(self.w, self.at[: self.texts]), self.kv)
        finally:
            self.at[: self.texts] += 1
