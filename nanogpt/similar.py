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
    words = {name: words_of(name) for name in names}
    whole = {name: "".join(parts) for name, parts in words.items()}
    one = "".join(words_of(wanted[:LONGEST]))
    same = [name for name, parts in words.items() if one in (whole[name], initials(parts))]
    begun = [name for name, parts in words.items() if len(one) > 2 and (one in parts or whole[name].startswith(one))]
    if found := same or begun:
        return found if len(found) <= 2 else []
    closest = difflib.get_close_matches(one, whole.values(), 1, LEAST)
    return [name for name in whole if whole[name] in closest]


def did_you_mean(wanted: str, names: Iterable[str]) -> str:
    """Return "did you mean ...?", or "" if no name is really like the wanted one."""
    found = similar(wanted, names)
    return f"did you mean {' or '.join(found)}?" if found else ""


def initials(words: list[str]) -> str:
    """Return the first letters of several words: "lr" for "learning", "rate"."""
    return "".join(word[0] for word in words) if len(words) > 1 else ""


def words_of(name: str) -> list[str]:
    """Return the words of a name, in lower case: "--max-iters" -> "max", "iters"."""
    return re.findall(r"[^\W_]+", name.lower()) or [name]
