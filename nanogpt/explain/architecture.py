"""The architecture as a picture: every part of a model in order, with its shapes, parameters and operations.

Each part is named as in lecture.py, and `code_of` returns the lines there that do it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..config import ModelConfig

LECTURE = Path(__file__).parent.parent / "lecture.py"


@dataclass(frozen=True)
class Box:
    """A part of the model. Its parameters are counted once; a part of a block occurs in each of the blocks."""

    name: str
    does: str
    shape: str  # of what comes out
    parameters: int
    operations: int  # multiplications per character, forward
    code: str  # the name in lecture.py of what does it
    in_block: bool = False


def boxes(config: ModelConfig) -> list[Box]:
    """Return the parts of a model, in the order in which a character passes through them.

    In shapes, B is the batch size, T the context length, C the width (n_embd) and V the size of the alphabet.
    """
    V, C, T, layout = config.vocab_size, config.n_embd, config.block_size, config.features
    hs = C // config.n_head
    bias = 1 if layout.biases else 0
    norm = "RMS norm" if layout.plain_norms else "LayerNorm"
    normed = 0 if layout.plain_norms else 2 * C
    x = f"(B, {T}, {C})"
    relu = "ReLU, squared" if layout.relu_squared else "ReLU"
    scale = "Give every embedding the same size, so that the next part gets numbers in a known range."
    first = [
        Box("Token embedding", f"Look up {C} numbers for each character in a table.", x, V * C, 0, "OneHead"),
        Box("Position embedding", "Add a learned vector for each position.", x, T * C, 0, "OneHead"),
    ]
    if layout.rotary:
        what = "Rotate queries and keys by their position, so that only distances count. Nothing is learned."
        first[1] = Box("Rotary positions", what, x, 0, 2 * C * config.n_layer, "OneHead")
    gather = (
        f"{config.n_head} heads of width {hs}: each character looks at the ones before it and adds up what it finds. "
        f"The attention of a head is a ({T}, {T}) matrix."
    )
    compute = f"Every character on its own: {C} numbers become {4 * C}, {relu}, and {C} again."
    block = [
        Box(norm, scale, x, normed, C, "Block", True),
        Box("Multi-head attention", gather, x, 4 * C * C + bias * 4 * C, 4 * C * C + T * C, "MultiHeadAttention", True),
        Box(norm, scale, x, normed, C, "Block", True),
        Box("Feed-forward", compute, x, 8 * C * C + bias * 5 * C, 8 * C * C, "FeedForward", True),
    ]
    scores = f"Turn each embedding into {V} scores, one for each character of the alphabet."
    last = [
        Box(norm, scale, x, normed, C, "GPT"),
        Box("Output head", scores, f"(B, {T}, {V})", C * V, C * V, "GPT"),
    ]
    return [*first, *block, *last]


def totals(config: ModelConfig) -> tuple[int, int]:
    """Return a model's parameters, and its multiplications per character in a forward pass."""
    times = lambda box: config.n_layer if box.in_block else 1
    found = boxes(config)
    return sum(times(box) * box.parameters for box in found), sum(times(box) * box.operations for box in found)


@lru_cache(maxsize=32)
def code_of(name: str) -> tuple[str, int]:
    """Return the source of a class in lecture.py, and its first line there.

    `inspect` would parse the whole file, which fails in Python 3.11 if two threads do so at the same moment.
    """
    source = LECTURE.read_text(encoding="utf-8")
    found = re.search(rf"^class {name}\b.*\n(?:(?: .*)?\n)*", source, re.MULTILINE)  # and all indented lines after it
    assert found, f"lecture.py has no class {name}"
    return found[0].rstrip() + "\n", source.count("\n", 0, found.start()) + 1
