"""Passages of a text: one to look at, or many evenly spaced ones to measure a model on.

The text is the run's held-out text or, if that isn't here, one that the model writes itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import torch

from ..config import SampleConfig, knobs
from .opened import HELD_OUT, WRITTEN, Opened

MOST = int(next(knob.high or 1 for knob in knobs(SampleConfig) if knob.name == "length"))  # characters of a sample
NEAR = 200  # characters within which the next line has to begin
FIRST = 8  # positions of a window that lack context


@dataclass(frozen=True, eq=False)
class Windows:
    """Evenly spaced windows of a text, as long as the context: B of T tokens each."""

    text: str
    starts: torch.Tensor  # (B,) where each begins, in tokens of the text
    xb: torch.Tensor  # (B, T)
    yb: torch.Tensor  # (B, T) what follows each token of xb


def windows(opened: Opened, text: str, tokens: int, least: int = 1) -> Windows:
    """Return windows of a text, of about so many tokens in all, and at least `least` of them.

    They don't overlap, so a short text has fewer.
    """
    block_size = opened.model.config.block_size
    ids = torch.from_numpy(opened.tokenizer.encode_array(text).astype("int64"))  # (N,)
    length = min(block_size + 1, len(ids))
    count = min(max(least, tokens // block_size), len(ids) // length)
    # in whole numbers: float32 has too few digits for a place in a long text
    starts = torch.arange(count) * (len(ids) - length) // max(1, count - 1)  # (B,)
    piece = ids[starts[:, None] + torch.arange(length)].to(opened.model.device)  # (B, T + 1)
    return Windows(text, starts, piece[:, :-1], piece[:, 1:])


def to_measure(opened: Opened, tokens: int, least: int = 1) -> tuple[Windows, str]:
    """Return windows as `windows` does, and which text they are of: HELD_OUT, or WRITTEN if that isn't here.

    The model writes at most MOST characters, so a long context has fewer windows.
    """
    text, block_size = opened.held_out_text(), opened.model.config.block_size
    if text is not None:
        return windows(opened, text, tokens, least), HELD_OUT
    length = max(least, tokens // block_size) * (block_size + 1)
    text = opened.write(SampleConfig(temperature=1.0, length=min(MOST, length)))
    return windows(opened, text, tokens, least), WRITTEN


def first_counted(T: int) -> int:
    """Return the first position of a window of T that counts: those before it have too little context."""
    return min(FIRST, T // 2)


def from_a_line(text: str, length: int, dice: Random) -> str:
    """Return so many characters from anywhere in a text, or all of a shorter one.

    They begin with a line if one begins nearby and is followed by enough text.
    """
    last = max(0, len(text) - length)  # from later places on, there is less
    start = dice.randrange(last + 1)
    line_break = text.find("\n", start, min(start + NEAR, last))
    return text[line_break + 1 if line_break >= 0 else start :][:length]
