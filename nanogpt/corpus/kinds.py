"""Recognize texts that are more than text: web pages, subtitles, chat exports, tables, lists. Say what to expect."""

from __future__ import annotations

import re
from collections import Counter

LOOKED_AT = 200_000  # characters, in which the kind of a text shows
TAG = re.compile(
    r"</?(?:a|b|body|br|div|em|font|h[1-6]|head|html|i|img|li|meta|p|pre|span|strong|table|td|tr|ul)\b[^<>]*>", re.I
)
PAGE = re.compile(r"<html|<!doctype html", re.I)
CUE = re.compile(r"^\[?(?:\d{1,3}:)?\d{2}:\d{2}[.,]\d{3}.*-->", re.M)
# "31.12.20, 21:15 - Olga: …", "[12/31/20, 9:15:03 PM] Olga: …", "2020-12-31 21:15 Olga: …", as messengers export them
MESSAGE = re.compile(
    r"^\u200e?\[?\d{1,4}[./-]\d{1,2}[./-]\d{1,4},? \d{1,2}[:.]\d{2}(?:[:.]\d{2})?(?:[ \u202f][AaPp]\.?[Mm]\.?)?\]?",
    re.M,
)


def said(text: str) -> str:
    """Return a sentence about a text that is not just prose or verse, or ""."""
    start = text[:LOOKED_AT]
    lines = [line for line in start.split("\n") if line.strip()]
    return _page(start) or _subtitles(start, lines) or _chat(start, lines) or _table(lines) or _names(lines)


def _page(start: str) -> str:
    tags = len(TAG.findall(start))
    if not PAGE.search(start) and tags * 1000 < 5 * len(start):
        return ""
    return "The text is a web page with HTML tags, and the model will learn them too. Save the page as plain text."


def _subtitles(start: str, lines: list[str]) -> str:
    times = len(CUE.findall(start))
    if times * 10 < len(lines):
        return ""
    return (
        f"{times:,} lines are times of subtitles, and the model will learn them too. Turn on the clean-up that removes "
        "them."
    )


def _chat(start: str, lines: list[str]) -> str:
    messages = len(MESSAGE.findall(start))
    if messages < 10 or messages * 3 < len(lines):
        return ""
    return (
        f"{messages:,} lines begin with a date and a time, as in an exported chat, and the model will learn to write "
        "them too. Delete them with an editor's find and replace if you don't want that."
    )


def _table(lines: list[str]) -> str:
    for mark, name in ((",", "commas"), (";", "semicolons"), ("\t", "tabs")):
        [(columns, rows)] = Counter(line.count(mark) for line in lines).most_common(1) or [(0, 0)]
        spaced = sum(line.count(mark + " ") for line in lines) > 0.5 * columns * len(lines)  # as in prose
        if columns >= 2 and len(lines) >= 10 and 10 * rows > 9 * len(lines) and not spaced:
            return (
                f"The text is a table with {columns + 1} columns divided by {name}. The model will learn to write such "
                "rows; for prose, keep only the column that has it."
            )
    return ""


def _names(lines: list[str]) -> str:
    if len(set("".join(lines))) > 500:  # in Chinese, lines of verse are as short
        return ""
    if len(lines) < 200 or sum(2 <= len(line) <= 30 for line in lines) < 0.98 * len(lines):
        return ""
    if sum(line.strip()[-1] in ".,;:!?…" for line in lines) > 0.1 * len(lines):  # verse
        return ""
    return (
        "The text is a list of short lines, such as names, and the model will make up new ones. If the list is sorted, "
        "shuffle it, so that the end that is held out is like the rest."
    )
