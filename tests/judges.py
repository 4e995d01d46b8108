"""What several tests judge sampling by: the distribution a draw comes from, and what the plain decoder writes."""

from __future__ import annotations

import dataclasses

import numpy as np

from nanogpt.config import SampleConfig
from nanogpt.model import GPT
from nanogpt.sample import Decoder, generate_many, weights


def probabilities(logits: np.ndarray, config: SampleConfig) -> np.ndarray:
    """Return the distribution that the next character is drawn from: logits (vocab_size,) -> (vocab_size,), sum 1."""
    p = weights(logits, config)
    return p / p.sum()


def plainly_generated(model: GPT, ids: list[int], config: SampleConfig) -> list[int]:
    """Return the ids of one text from the plain decoder."""
    config = dataclasses.replace(config, num_samples=1)
    return [i for [piece] in generate_many(Decoder(model), ids, config) for i in piece]
