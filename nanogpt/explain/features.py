"""Features of a text that can be computed: which of its characters are in capitals, start a word, and so on.

Without NumPy, because the command line lists them, and it should start at once.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

LATE = 0.75  # of all places, those further from the start of their line than this share are late


def is_letter(ch: str) -> bool:
    """Return True for a letter, and for a mark that is part of one: a vowel sign, a vowel point, a separate accent."""
    emoji = "\ufe00" <= ch <= "\ufe0f"  # chooses how the symbol before it looks
    return ch.isalpha() or (unicodedata.category(ch) in ("Mn", "Mc") and not emoji)


def is_punctuation(ch: str) -> bool:
    """Return True for punctuation and for symbols."""
    return unicodedata.category(ch)[0] in "PS"


def words(text: str) -> Iterator[re.Match[str]]:
    """Yield the words of a text, each as long as letters follow one another."""
    letters = "".join(sorted(filter(is_letter, set(text))))  # re has no name for letters with their marks
    return re.finditer(f"[{letters}]+", text) if letters else iter(())


def capitals(text: str) -> list[bool]:
    """Return for each character whether it is a capital letter next to another one."""
    upper = [False, *map(str.isupper, text), False]
    return [here and (left or right) for left, here, right in zip(upper, upper[1:], upper[2:])]


def word_start(text: str) -> list[bool]:
    """Return for each character whether it is a letter that no letter precedes."""
    letter = [False, *map(is_letter, text)]
    return [here and not left for left, here in zip(letter, letter[1:])]


def late_in_line(text: str) -> list[bool]:
    """Return for each character whether it is further from the start of its line than three quarters of all are."""
    column = [i for line in text.split("\n") for i in range(len(line) + 1)][: len(text)]
    late = sorted(column)[int(LATE * (len(column) - 1))] if column else 0
    return [i > late for i in column]


def in_quotes(text: str) -> list[bool]:
    """Return for each character whether it stands between double quotes, straight or curly, in the same line."""
    inside, found = False, []
    for ch in text:
        mark = ch in '"“”\n'
        if mark:
            inside = ch == "“" or (ch == '"' and not inside)
        found.append(inside and not mark)
    return found


def digits(text: str) -> list[bool]:
    """Return for each character whether it is a digit."""
    return list(map(str.isdigit, text))


FEATURES: dict[str, tuple[str, Callable[[str], list[bool]]]] = {
    "capitals": ("In capitals", capitals),
    "word-start": ("Start of a word", word_start),
    "late": ("Late in the line", late_in_line),
    "quotes": ("Inside quotes", in_quotes),
    "digits": ("Digits", digits),
}  # name -> (words, function)
