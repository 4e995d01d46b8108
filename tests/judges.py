"""Reference results for the sampling tests: next-character probabilities, and the plain decoder's output."""

from __future__ import annotations

import dataclasses

import numpy as np

from nanogpt.config import SampleConfig
from nanogpt.model import GPT
from nanogpt.sample import Decoder, generate_many, weights


def probabilities(logits: np.ndarray, config: SampleConfig) -> np.ndarray:
    """Return the next-character probabilities: logits (vocab_size,) -> (vocab_size,), summing to 1."""
    p = weights(logits, config)
    return p / p.sum()


def plainly_generated(model: GPT, ids: list[int], config: SampleConfig) -> list[int]:
    """Return the ids that the plain decoder generates for one sample."""
    config = dataclasses.replace(config, num_samples=1)
    return [i for [piece] in generate_many(Decoder(model), ids, config) for i in piece]
