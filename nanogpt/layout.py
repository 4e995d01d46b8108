"""Architectures as data: the features that tell one GPT from another.

A `Layout` is a set of features, and `LAYOUTS` names the ones you can choose: `classic` is the lecture's model with
GPT-2's biases and initialization, `modern` learns faster. The rungs between the two (rungs.py) are Layouts as well.
Code checks features, never names. Code that can't handle a combination raises a NanoGPTError, or leaves it to the plain
code. To add an architecture, add a value to `LAYOUTS`; to add a feature, add a field here and read it in model.py. Then
tests/test_layout.py fails for everything else that must know it, such as the training step in fast/.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """The features of a GPT. The defaults are the lecture's choices; biases and initialization are GPT-2's."""

    rotary: bool = False  # rotate queries and keys by an angle that grows with the position; else a learned table
    plain_norms: bool = False  # RMS norm without weights, plus one after the embedding; else LayerNorm
    qk_norm: bool = False  # normalize queries and keys, which bounds the attention scores
    relu_squared: bool = False  # square the output of the ReLU
    biases: bool = True  # in the linear layers of the blocks; the output head never has one
    zero_init: bool = False  # blocks start by adding nothing and all logits are 0; else GPT-2's small random weights

    def has(self, **features: bool) -> bool:
        """Return True if these features are set as given. The others don't matter."""
        return all(getattr(self, name) is value for name, value in features.items())

    def __str__(self) -> str:
        """Return the features in words, for error messages."""
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


def shape(n_layer: int, n_head: int, n_embd: int) -> str:
    """Return the size of a model in words: "3 layers, 1 head, width 96"."""
    layers, heads = (f"{n} {word}{'s' * (n != 1)}" for n, word in ((n_layer, "layer"), (n_head, "head")))
    return f"{layers}, {heads}, width {n_embd}"


# For rotary positions: below the usual 10,000, because contexts are short and the slowest pair should turn visibly, too
ROPE_THETA = 1000.0
