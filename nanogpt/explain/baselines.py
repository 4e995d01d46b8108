"""What a loss means: the loss of three plain counters on the same held-out tenth.

Each learns from the first nine tenths, as the model does, and is judged as the model is, in nats a character.
Try it: `python -m nanogpt.explain.baselines FILE`.
"""

from __future__ import annotations

import math

import numpy as np


def baselines(tokens: np.ndarray, vocab_size: int) -> dict[str, float]:
    """Losses in nats a character: {"uniform", "unigram", "bigram"}. `tokens` are the ids of the whole text, (N,)."""
    n = int(0.9 * len(tokens))  # as in data.split
    train, val = tokens[:n].astype(np.int64), tokens[n:].astype(np.int64)
    # every character once more than it was seen: none is impossible
    counts = np.bincount(train, minlength=vocab_size)  # (V,)
    frequent = (counts + 1) / (n + vocab_size)  # (V,)
    before, after = val[:-1], val[1:]
    # after each character its followers as counted, with the frequencies above as one more observation
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

    from ..tokenizer import CharTokenizer

    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    tokenizer = CharTokenizer(text)
    for name, loss in baselines(tokenizer.encode_array(text), tokenizer.vocab_size).items():
        print(f"{name:8} {loss:.4f} nats a character, {loss / math.log(2):.3f} bits")
