"""Features of a text that can be computed: which of its characters are in capitals, start a word, and so on.

Without NumPy, because the command line lists them, and it should start at once.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

LATE = 0.75  # of all places, those further from the start of their line than this share are late

QUOTES = {
    '"': '"”', "“": '”"', "„": '“”"', "”": "”", "«": "»", "»": "«»", "‘": "’", "‚": "‘’", "‹": "›", "›": "‹›",
    "「": "」", "『": "』",
}  # fmt: skip  # opening mark -> the marks that may close it


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
    """Return for each character whether it stands between quotes of some language, but straight single ones, in the
    same line."""
    closing, found = "", []
    for before, ch, after in zip(f" {text}", text, f"{text[1:]} "):
        begins = not closing and opens_quotes(before, ch, after)
        if begins:
            closing = QUOTES[ch]
        elif ch == "\n" or (ch in closing and not (ch == "’" and is_letter(after))):  # there it is an apostrophe
            closing = ""
        found.append(bool(closing) and not begins)
    return found


def opens_quotes(before: str, ch: str, after: str) -> bool:
    """Return True if a character opens quotes, given those around it.

    Some marks open quotes in one language and close them in another, perhaps those that began in an earlier line.
    """
    if ch in "”»›":
        return after.isalnum() and not before.isalnum()
    if ch == "“":
        return not after.isspace() and after not in ",;:!?)"
    return ch in QUOTES and not (ch == "‘" and before.isalnum())


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
