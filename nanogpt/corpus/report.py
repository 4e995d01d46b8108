"""Report what is in a text before you train on it: size, characters, train/validation split, and advice."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..holdout import train_length
from . import kinds
from .books import has_frame

SMALL = 20_000  # characters; a model memorizes anything shorter
MANY = 2_000  # distinct characters; with more, each of them occurs too rarely
RARE = 10  # a character that occurs less often than this is barely learned
PREVIEW_LINES, PREVIEW_CHARACTERS = 20, 1_000
NAMES = {"\n": "newline", "\t": "tab", "\r": "carriage return", "\v": "vertical tab", "\f": "form feed", "\0": "null"}


@dataclass(frozen=True)
class Rare:
    """A character that occurs only a few times."""

    ch: str
    count: int
    name: str


@dataclass(frozen=True)
class Report:
    """Facts about a text as plain data, for the page and the command line to show."""

    characters: int
    lines: int
    distinct: int
    chars: str  # all distinct characters, sorted
    rare: tuple[Rare, ...]  # rarest first
    train_characters: int
    val_characters: int
    first_lines: str
    encoding: str
    notes: tuple[str, ...]  # guesses made while reading
    repairs: tuple[str, ...]  # clean-ups that were applied
    advice: tuple[str, ...]  # things to know or do before training

    @classmethod
    def of(
        cls, text: str, encoding: str = "UTF-8", notes: Iterable[str] = (), repairs: Iterable[str] = (),
        counts: dict[str, int] | None = None,
    ) -> Report:  # fmt: skip
        """Report on a text, which must not be empty; or on the sample of a text in which characters have `counts`."""
        sampled, counts = counts is not None, counts or count_characters(text)
        characters = sum(counts.values())
        train = train_length(characters)
        rare = sorted((count, ch) for ch, count in counts.items() if count < RARE)
        return cls(
            characters=characters,
            lines=counts.get("\n", 0) + (not text.endswith("\n")),
            distinct=len(counts),
            chars="".join(counts),
            rare=tuple(Rare(ch, count, name_of(ch)) for count, ch in rare),
            train_characters=train,
            val_characters=characters - train,
            first_lines="\n".join(text[:PREVIEW_CHARACTERS].split("\n")[:PREVIEW_LINES]),
            encoding=encoding,
            notes=(*notes, *([looked_at(len(text), characters)] if sampled else [])),
            repairs=tuple(repairs),
            advice=tuple(_advice(text, counts, characters)),
        )

    @classmethod
    def restored(cls, about: dict[str, Any]) -> Report:
        """Return the report that `dataclasses.asdict` made this of, even if it has been through JSON."""
        lists = {key: tuple(about[key]) for key in ("notes", "repairs", "advice")}
        return cls(**{**about, **lists, "rare": tuple(Rare(**one) for one in about["rare"])})


def looked_at(characters: int, total: int) -> str:
    """Return the note on the report of a text of which a sample was looked at."""
    return (
        f"Every character was counted; the advice rests on a sample of {characters:,} of the {total:,} characters, "
        "taken from all over the text."
    )


def count_characters(text: str) -> dict[str, int]:
    """Return {character: count} in code point order."""
    return as_counts(count_into(np.zeros(0x110000, dtype=np.int64), text))


def count_into(total: np.ndarray, text: str) -> np.ndarray:
    """Add how often each code point occurs to `total` (0x110000,), and return it. The pieces fit the CPU cache."""
    for start in range(0, len(text), 1 << 18):
        points = np.frombuffer(text[start : start + (1 << 18)].encode("utf-32-le"), dtype="<u4")
        counts = np.bincount(points)
        total[: len(counts)] += counts
    return total


def as_counts(total: np.ndarray) -> dict[str, int]:
    """Return {character: count} in code point order, from the counts of all code points (0x110000,)."""
    return {chr(point): int(total[point]) for point in np.flatnonzero(total)}


def name_of(ch: str) -> str:
    """Return the name of a character: newline, tab, its Unicode name, or U+XXXX if it has no name."""
    return NAMES.get(ch) or unicodedata.name(ch, "").lower() or f"U+{ord(ch):04X}"


def _advice(text: str, counts: dict[str, int], characters: int) -> list[str]:
    """Return the advice on a text, at most one item per check; each says what was found and what to do."""
    questions = (
        _size(characters),
        _variety(counts, characters),
        _many(counts),
        _odd(counts, characters),
        _frame(text),
        kinds.sentence(text),
        _repeated(text),
    )
    return [sentence for sentence in questions if sentence]


def _size(characters: int) -> str:
    if characters >= SMALL:
        return ""
    return (
        f"{characters:,} characters is very little: the model will memorize the text and repeat whole lines instead of "
        "writing new ones. Aim for 100,000 or more of similar text."
    )


def _variety(counts: dict[str, int], characters: int) -> str:
    most_common = max(counts, key=counts.__getitem__)
    share = counts[most_common] / characters
    if share > 0.5:
        return f"{share:.0%} of the text is one character ({name_of(most_common)}). Check that this is the right text."
    if len(counts) < 10:
        return f"The text has only {len(counts)} distinct characters. Check that this is the right text."
    return ""


def _many(counts: dict[str, int]) -> str:
    if len(counts) <= MANY:
        return ""
    return (
        f"The text has {len(counts):,} distinct characters, as Chinese or Japanese does. Each of them is rarer, so use "
        "more text (a million characters or more), a larger n_embd and a longer run."
    )


def _odd(counts: dict[str, int], characters: int) -> str:
    odd = sum(n for ch, n in counts.items() if ch not in "\n\t\r" and unicodedata.category(ch) in ("Cc", "Co", "Cn"))
    odd += counts.get("\ufffd", 0)
    if odd * 1000 <= characters:
        return ""
    return (
        f"{odd:,} characters are control codes, unassigned or unreadable, so the encoding may be wrong or the file may "
        "not be text. If the preview looks wrong, choose another encoding."
    )


def _frame(text: str) -> str:
    if not has_frame(text):
        return ""
    return (
        "The text has Project Gutenberg's header or footer, and the model will learn it too. Turn on the clean-up that "
        "removes it."
    )


def _repeated(text: str) -> str:
    end = text.rfind("\n", 0, train_length(len(text))) + 1
    training = set(text[:end].split("\n"))
    validation = [line for line in text[end:].split("\n") if len(line) >= 20]  # shorter lines often recur by chance
    share = sum(len(line) for line in validation if line in training) / (len(text) - end)
    if share < 0.2:
        return ""
    return (
        f"{share:.0%} of the validation set also appears in the training set, so the validation loss will look better "
        "than it is. Remove duplicate lines if you can."
    )
