"""Baselines for a loss: what three simple counting models reach on the same validation set.

Each is fit to the training set and evaluated on the validation set, as the model is, in nats per character. Try it:
`python -m nanogpt.explain.baselines FILE`.
"""

from __future__ import annotations

import math

import numpy as np

from ..holdout import train_length


def baselines_of(text: str) -> dict[str, float]:
    """Return the `baselines` of a text's characters, whatever tokenizer a model uses."""
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")  # (N,) code points
    known = np.flatnonzero(np.bincount(points))  # (V,) code points that occur, sorted
    ids = np.zeros(int(known[-1]) + 1, dtype=np.int64)
    ids[known] = np.arange(len(known))
    return baselines(ids[points], len(known))


def baselines(tokens: np.ndarray, vocab_size: int) -> dict[str, float]:
    """Return losses in nats per character, {"uniform", "unigram", "bigram"}. `tokens` (N,) has one id per character."""
    n = train_length(len(tokens))
    train, val = tokens[:n].astype(np.int64), tokens[n:].astype(np.int64)
    # count every character once more than it occurs, so that none has probability 0
    counts = np.bincount(train, minlength=vocab_size)  # (V,)
    frequent = (counts + 1) / (n + vocab_size)  # (V,)
    before, after = val[:-1], val[1:]
    # for each character, the counts of its followers, with the frequencies above as one more observation
    pairs, times = np.unique(train[:-1] * vocab_size + train[1:], return_counts=True)
    wanted = before * vocab_size + after
    at = np.searchsorted(pairs, wanted).clip(max=len(pairs) - 1)
    seen = np.where(pairs[at] == wanted, times[at], 0)
    followed = np.bincount(train[:-1], minlength=vocab_size)  # (V,)
    likely = (seen + frequent[after]) / (followed[before] + 1)
    return {
        "uniform": math.log(vocab_size),
        "unigram": float(-np.log(frequent[after]).mean()),
        "bigram": float(-np.log(likely).mean()),
    }


if __name__ == "__main__":
    import sys
    from pathlib import Path

    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    for name, loss in baselines_of(text).items():
        print(f"{name:8} {loss:.4f} nats per character, {loss / math.log(2):.3f} bits")
