"""What the training text has to say about a place: the longest context that occurs in it, and what followed there.

This is the infinity-gram model (Liu et al., "Infini-gram", 2024): a plain search instead of a model, for comparison.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

LONGEST = 256  # characters of a context that are looked for
LOOKED_AT = 10_000  # occurrences whose next character is counted


@dataclass(frozen=True)
class Seen:
    """The longest end of a context that occurs in a text."""

    context: str  # "" if not even its last character occurs
    times: int
    followed: list[tuple[str, int]]  # the characters that came next and how often, the most frequent first


def seen(text: str, context: str) -> Seen:
    """Look for the longest end of `context` in `text`. Where it stands only at the very end, nothing follows it."""
    known, unknown = 0, min(len(context), LONGEST) + 1
    end_of = lambda length: context[len(context) - length :]
    while unknown - known > 1:  # if a context occurs, so do its shorter ends
        length = min(2 * known + 1, (known + unknown) // 2) if known < 16 else (known + unknown) // 2
        known, unknown = (length, unknown) if end_of(length) in text else (known, length)
    if not known:
        return Seen("", 0, [])
    found, at, times, followed = end_of(known), -1, 0, Counter[str]()
    while times < LOOKED_AT and (at := text.find(found, at + 1)) >= 0:
        times += 1
        followed.update(text[at + known : at + known + 1])
    total = times if times < LOOKED_AT else max(times, text.count(found))
    return Seen(found, total, followed.most_common())
