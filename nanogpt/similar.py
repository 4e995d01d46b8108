"""Suggest the closest existing name for a misspelled one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

LONGEST = 80  # characters of a wanted name that are compared, because a program may send any
LEAST = 0.75  # of difflib's ratio: "context" has 0.73 with "text", "trian" 0.8 with "train"


def similar(wanted: str, names: Iterable[str]) -> list[str]:
    """Return the one or two names that are most like a wanted one. Case, hyphens and underscores don't count.

    "--lr" stands for "--learning-rate", and a beginning or a whole word of a name for the name.
    """
    one, words = "".join(words_of(wanted[:LONGEST])), {name: words_of(name) for name in names}
    for fits in (is_same, is_part):
        if found := [name for name in words if fits(one, words[name])]:
            return found if len(found) <= 2 else []
    closest = difflib.get_close_matches(one, map("".join, words.values()), 1, LEAST)
    return [name for name in words if "".join(words[name]) in closest]


def did_you_mean(wanted: str, names: Iterable[str]) -> str:
    """Return "did you mean ...?", or "" if no name is really like the wanted one."""
    found = similar(wanted, names)
    return f"did you mean {' or '.join(found)}?" if found else ""


def is_same(one: str, words: list[str]) -> bool:
    """Return True if `one` is a name's words, or the initials of several: "lr" for "learning", "rate"."""
    return one == "".join(words) or (len(words) > 1 and one == "".join(word[0] for word in words))


def is_part(one: str, words: list[str]) -> bool:
    """Return True if `one` begins a name or is one of its words. Fewer than three letters may do so by chance."""
    return len(one) > 2 and (one in words or "".join(words).startswith(one))


def words_of(name: str) -> list[str]:
    """Return the words of a name, in lower case: "--max-iters" -> "max", "iters"."""
    return re.findall(r"[^\W_]+", name.lower()) or [name]
