"""The architecture as a picture: every part of a model in order, with its shapes, parameters and operations.

Each part has the name of the code that does it, in lecture.py or, for what the lecture doesn't have, in model.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from ..config import ModelConfig

PACKAGE = Path(__file__).parent.parent


@dataclass(frozen=True)
class Box:
    """A part of the model. Its parameters are counted once; a part of a block occurs in each of the blocks."""

    name: str
    does: str
    shape: str  # of what comes out
    parameters: int
    operations: int  # multiplications per character, forward
    code: str  # what does it, as "lecture.Head" or "model.rotate"
    in_block: bool = False


def boxes(config: ModelConfig) -> list[Box]:
    """Return the parts of a model, in the order in which a character passes through them.

    In shapes, B is the batch size, T the context length, C the width (n_embd) and V the size of the alphabet.
    """
    V, C, T, layout = config.vocab_size, config.n_embd, config.block_size, config.features
    bias = 1 if layout.biases else 0
    relu, whose = ("ReLU, squared", "model") if layout.relu_squared else ("ReLU", "lecture")
    compute = f"Every character on its own: {C} numbers become {4 * C}, {relu}, and {C} again."
    mlp = Box(
        "Feed-forward", compute, embedded(config), 8 * C * C + bias * 5 * C, 8 * C * C, f"{whose}.FeedForward", True
    )
    scores = f"Turn each embedding into {V} scores, one for each character of the alphabet."
    head = Box("Output head", scores, f"(B, {T}, {V})", C * V, C * V, "lecture.GPT")
    before = replace(norm(config, "lecture.Block"), in_block=True)
    return [*first(config), before, *attention(config), before, mlp, norm(config, "lecture.GPT"), head]


def embedded(config: ModelConfig) -> str:
    """Return the shape of what flows from part to part."""
    return f"(B, {config.block_size}, {config.n_embd})"


def norm(config: ModelConfig, code: str) -> Box:
    """Return a norm. `code` is where the lecture has one at this place."""
    C = config.n_embd
    does = "Give every embedding the same size, so that the next part gets numbers in a known range."
    if config.features.plain_norms:
        return Box("RMS norm", does, embedded(config), 0, C, "model.RMSNorm")
    return Box("LayerNorm", does, embedded(config), 2 * C, C, code)


def first(config: ModelConfig) -> list[Box]:
    """Return what makes the input of the first block."""
    C, x = config.n_embd, embedded(config)
    look_up = f"Look up {C} numbers for each character in a table."
    found = [Box("Token embedding", look_up, x, config.vocab_size * C, 0, "lecture.OneHead")]
    if not config.features.rotary:
        add = "Add a learned vector for each position."
        found.append(Box("Position embedding", add, x, config.block_size * C, 0, "lecture.OneHead"))
    return [*found, norm(config, "")] if config.features.plain_norms else found


def attention(config: ModelConfig) -> list[Box]:
    """Return attention, and before it what happens to its queries and keys."""
    C, T, layout, x = config.n_embd, config.block_size, config.features, embedded(config)
    found = []
    if layout.rotary:
        turn = (
            "Attention begins with this: rotate queries and keys by their position, so that only distances count. "
            "Nothing is learned."
        )
        found.append(Box("Rotary positions", turn, x, 0, 4 * C, "model.rotate", True))
    equal, more = (" Queries and keys are first normalized to the same length.", 2 * C) if layout.qk_norm else ("", 0)
    gather = (
        f"{config.n_head} heads of width {C // config.n_head}: each character looks at the ones before it and adds up "
        f"what it finds. The attention of a head is a ({T}, {T}) matrix.{equal}"
    )
    parameters = 4 * C * C + (4 * C if layout.biases else 0)
    whose = "model" if layout.rotary or layout.qk_norm else "lecture"
    if whose == "lecture" and layout.biases:
        gather += f" Queries, keys and values have {3 * C} biases, as in GPT-2; the lecture's have none."
    code = f"{whose}.MultiHeadAttention"
    return [*found, Box("Multi-head attention", gather, x, parameters, 4 * C * C + T * C + more, code, True)]


def totals(config: ModelConfig) -> tuple[int, int]:
    """Return a model's parameters, and its multiplications per character in a forward pass."""
    times = lambda box: config.n_layer if box.in_block else 1
    found = boxes(config)
    return sum(times(box) * box.parameters for box in found), sum(times(box) * box.operations for box in found)


@lru_cache(maxsize=32)
def code_of(name: str) -> tuple[str, int]:
    """Return the source of a class or function such as "lecture.Head", and its first line in that file.

    `inspect` would parse the whole file, which fails in Python 3.11 if two threads do so at the same moment.
    """
    module, _, inside = name.partition(".")
    source = (PACKAGE / f"{module}.py").read_text(encoding="utf-8")
    # and all indented lines after it
    found = re.search(rf"^(?:class|def) {inside}\b.*\n(?:(?: .*)?\n)*", source, re.MULTILINE)
    assert found, f"{module}.py has no {inside}"
    return found[0].rstrip() + "\n", source.count("\n", 0, found.start()) + 1
