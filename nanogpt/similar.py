"""Suggest the name that was meant by one that doesn't exist: of a flag, a command, a run, a text or hardware."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from os.path import commonprefix

LONGEST = 80  # characters of a wanted name that are compared, because a program may send any
LEAST = 0.75  # of difflib's ratio: "fo" has 0.5 with "on", "context" 0.73 with "text", "trian" 0.8 with "train"


def similar(wanted: str, names: Iterable[str]) -> list[str]:
    """Return the one or two names that are most like a wanted one, or none if no name is really like it."""
    scores = {name: likeness(wanted[:LONGEST], name) for name in names}
    best = max(scores.values(), default=0.0)
    found = [name for name, score in scores.items() if score == best]
    return found if best >= LEAST and len(found) <= 2 else []


def did_you_mean(wanted: str, names: Iterable[str]) -> str:
    """Return "did you mean ...?", or "" if no name is really like the wanted one."""
    found = similar(wanted, names)
    return f"did you mean {' or '.join(found)}?" if found else ""


def likeness(wanted: str, name: str) -> float:
    """Return how much two names are alike, from 0 to 1. Case, hyphens and underscores don't count.

    "--lr" stands for "--learning-rate", and a beginning or a whole word of a name for the name.
    """
    words, others = words_of(wanted), words_of(name)
    one, other = "".join(words), "".join(others)
    if one in (other, initials(others)):
        return 1.0
    if len(one) < 3 or len(other) < 2:  # too short for anything else to be told from chance
        return 0.0
    if is_part(one, other) or one in others or other in words:
        return 0.95
    return max(LEAST * is_related(one, other), *(ratio(one, part) for part in (other, *others)))


def initials(words: list[str]) -> str:
    """Return the first letters of several words: "lr" for "learning", "rate"."""
    return "".join(word[0] for word in words) if len(words) > 1 else words[0]


def is_part(one: str, other: str) -> bool:
    """Return True if a word begins the other one: "temp" for "temperature", or "evaluate" for "eval"."""
    return other.startswith(one) or (len(other) > 3 and one.startswith(other))


def is_related(one: str, other: str) -> bool:
    """Return True if all but the end of `one` begins the other, as "copy" and "copies" do."""
    same = len(commonprefix([one, other]))
    return same >= 3 and same >= LEAST * len(one)


def ratio(one: str, other: str) -> float:
    """Return difflib's similarity."""
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()


def words_of(name: str) -> list[str]:
    """Return the words of a name, in lower case: "--max-iters" -> "max", "iters"."""
    return re.findall(r"[^\W_]+", name.lower()) or [name]
