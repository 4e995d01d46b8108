"""What is in a text, told before anything is trained on it: its size, its characters, its split, and plain advice."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..holdout import train_length
from .repairs import has_gutenberg_frame

SMALL = 20_000  # characters; below, a model learns the text by heart
MANY = 2_000  # distinct characters; above, each is met too seldom
RARE = 10  # a character met less often than this can hardly be learned
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
    """Plain data about a text; the page and the command line only show it."""

    characters: int
    lines: int
    distinct: int
    chars: str  # the alphabet, sorted
    rare: tuple[Rare, ...]  # the rarest first
    train_characters: int
    val_characters: int
    first_lines: str
    encoding: str
    notes: tuple[str, ...]  # what was assumed
    repairs: tuple[str, ...]  # what was put right
    advice: tuple[str, ...]  # what is worth knowing or doing before training

    @classmethod
    def of(cls, text: str, encoding: str = "UTF-8", notes: Iterable[str] = (), repairs: Iterable[str] = ()) -> Report:
        """Look through a text, which must not be empty."""
        counts = count_characters(text)
        train = train_length(len(text))
        rare = sorted((count, ch) for ch, count in counts.items() if count < RARE)
        return cls(
            characters=len(text),
            lines=text.count("\n") + (not text.endswith("\n")),
            distinct=len(counts),
            chars="".join(counts),
            rare=tuple(Rare(ch, count, name_of(ch)) for count, ch in rare),
            train_characters=train,
            val_characters=len(text) - train,
            first_lines="\n".join(text[:PREVIEW_CHARACTERS].split("\n")[:PREVIEW_LINES]),
            encoding=encoding,
            notes=tuple(notes),
            repairs=tuple(repairs),
            advice=tuple(_advice(text, counts)),
        )

    def __str__(self) -> str:
        """The report as lines of text."""
        rare = ", ".join(f"{one.name} ({one.count})" for one in self.rare[:12])
        more = f" and {len(self.rare) - 12:,} more" if len(self.rare) > 12 else ""
        facts = [
            f"{self.characters:,} characters in {self.lines:,} lines, {self.distinct:,} distinct; {self.encoding}",
            f"{self.train_characters:,} to train on, {self.val_characters:,} held out",
            *([f"fewer than {RARE} times: {rare}{more}"] if self.rare else []),
            *(f"note: {note}" for note in self.notes),
            *(f"repair: {repair}" for repair in self.repairs),
            *(f"advice: {advice}" for advice in self.advice),
        ]
        return "\n".join([*facts, "", self.first_lines])


def count_characters(text: str) -> dict[str, int]:
    """{character: how often}, in the order of the code points. A piece at a time, so that it stays in the cache."""
    total = np.zeros(0x110000, dtype=np.int64)
    for start in range(0, len(text), 1 << 18):
        points = np.frombuffer(text[start : start + (1 << 18)].encode("utf-32-le"), dtype="<u4")
        counts = np.bincount(points)
        total[: len(counts)] += counts
    return {chr(point): int(total[point]) for point in np.flatnonzero(total)}


def name_of(ch: str) -> str:
    """What a character is called: newline, tab, or its name in Unicode; its number where it has none."""
    return NAMES.get(ch) or unicodedata.name(ch, "").lower() or f"U+{ord(ch):04X}"


def _advice(text: str, counts: dict[str, int]) -> list[str]:
    """At most one sentence from each question; each says what it is and what to do."""
    questions = (
        _size(text),
        _variety(text, counts),
        _many(counts),
        _odd(text, counts),
        _frame(text),
        _tags(text),
        _repeated(text),
    )
    return [sentence for sentence in questions if sentence]


def _size(text: str) -> str:
    if len(text) >= SMALL:
        return ""
    return (
        f"{len(text):,} characters are few: the model will soon know them by heart and write whole lines of them "
        "instead of new ones. With 100,000 or more of the same kind it has something to learn; add more if you can."
    )


def _variety(text: str, counts: dict[str, int]) -> str:
    commonest = max(counts, key=counts.__getitem__)
    share = counts[commonest] / len(text)
    if share > 0.5:
        return (
            f"{share:.0%} of the text is one character ({name_of(commonest)}); check that this is the text you meant."
        )
    if len(counts) < 10:
        return f"There are only {len(counts)} distinct characters; check that this is the text you meant."
    return ""


def _many(counts: dict[str, int]) -> str:
    if len(counts) <= MANY:
        return ""
    return (
        f"There are {len(counts):,} distinct characters, as in Chinese or Japanese: the model meets each less often, "
        "so it needs more text (a million characters or more), a larger n_embd and a longer run."
    )


def _odd(text: str, counts: dict[str, int]) -> str:
    odd = sum(n for ch, n in counts.items() if ch not in "\n\t\r" and unicodedata.category(ch) in ("Cc", "Co", "Cn"))
    odd += counts.get("\ufffd", 0)
    if odd * 1000 <= len(text):
        return ""
    return (
        f"{odd:,} characters are control codes, unassigned or unreadable: the file may be in another encoding than "
        "assumed, or no text. Look at the first lines, and choose another encoding where they are wrong."
    )


def _frame(text: str) -> str:
    if not has_gutenberg_frame(text):
        return ""
    return "Project Gutenberg's header or footer is in the text, and the model will learn it too; have it left out."


def _tags(text: str) -> str:
    if not re.search(r"<html|<!doctype html", text[:5000], re.IGNORECASE):
        return ""
    return (
        "This is a web page with its tags, and the model will learn them too; save it as plain text to leave them out."
    )


def _repeated(text: str) -> str:
    end = text.rfind("\n", 0, train_length(len(text))) + 1
    learned = set(text[:end].split("\n"))
    held_out = [line for line in text[end:].split("\n") if len(line) >= 20]  # shorter ones may well be written twice
    share = sum(len(line) for line in held_out if line in learned) / (len(text) - end)
    if share < 0.2:
        return ""
    return (
        f"{share:.0%} of the held-out part are lines that also stand in the part to train on: the loss will look "
        "better than it is, for they can be known by heart. Leave out copies if you can."
    )
