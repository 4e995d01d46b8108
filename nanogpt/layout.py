"""Architectures as data: the features in which one GPT differs from another.

A `Layout` is a set of features, and `LAYOUTS` names those you can choose: `classic` is the lecture's model, `modern`
learns faster. The rungs between the two (rungs.py) are values of it as well. Code reads features, never names. A part
that cannot handle a combination of features refuses it with a NanoGPTError; fast/ leaves it to the plain code. To add
an architecture, add a value to `LAYOUTS`; to add a feature, add a field here and read it in model.py.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """The features of a GPT. Every default is the lecture's choice, which is GPT-2's."""

    rotary: bool = False  # rotate queries and keys by an angle that grows with the position; else add a learned table
    plain_norms: bool = False  # RMS norm without weights, one more after the embedding; else LayerNorm
    qk_norm: bool = False  # scale queries and keys to the same length, which bounds the scores of attention
    relu_squared: bool = False  # square the output of the ReLU
    biases: bool = True  # in the linear layers of the blocks; the output head never has one
    zero_init: bool = False  # blocks add nothing at first and all logits are 0; else GPT-2's small random numbers

    def has(self, **features: bool) -> bool:
        """Return whether these features are on and off as given; the others may be either."""
        return all(getattr(self, name) is value for name, value in features.items())

    def __str__(self) -> str:
        """Return the features in words, for messages."""
        words = [
            "rotary positions" if self.rotary else "learned positions",
            "RMS norm" if self.plain_norms else "LayerNorm",
            "QK norm" if self.qk_norm else "",
            "ReLU squared" if self.relu_squared else "ReLU",
            "biases" if self.biases else "no biases",
            "zero init" if self.zero_init else "",
        ]
        return ", ".join(filter(None, words))


LAYOUTS: dict[str, Layout] = {
    "classic": Layout(),
    "modern": Layout(rotary=True, plain_norms=True, qk_norm=True, relu_squared=True, biases=False, zero_init=True),
}
