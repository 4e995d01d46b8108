"""Recognize texts that are more than text: web pages, subtitles, chat exports, tables, lists. Say what to expect."""

from __future__ import annotations

import re
from collections import Counter

LOOKED_AT = 200_000  # characters, in which the kind of a text shows
TAG = re.compile(
    r"</?(?:a|b|body|br|div|em|font|h[1-6]|head|html|i|img|li|meta|p|pre|span|strong|table|td|tr|ul)\b[^<>]*>", re.I
)
PAGE = re.compile(r"<html|<!doctype html", re.I)
ANY_TAG = re.compile(r"</[A-Za-z][\w:.-]*>")
KEY = re.compile(r'"[^"\n]{1,60}"\s*:')
CUE = re.compile(  # SubRip and WebVTT, SubStation Alpha, MicroDVD, lyrics
    r"^(?:\[?(?:\d{1,3}:)?\d{2}:\d{2}[.,]\d{3}.*-->|Dialogue: |\{\d+\}\{\d+\}|\[\d{1,3}:\d{2}\.\d{2,3}\])", re.M
)
TIME = r"\d{1,2}[:.]\d{2}(?:[:.]\d{2})?(?:[ \u202f][AaPp]\.?[Mm]\.?)?"
DATE = r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}"
# "31.12.20, 21:15 - Olga: …", "[12/31/20, 9:15:03 PM] Olga: …", "2020-12-31T21:15 Olga: …", "[21:15] <olga> …" and
# "Olga — 12/31/2020 9:15 PM", as messengers export them
MESSAGE = re.compile(
    rf"^\u200e?(?:\[?{DATE}(?:,? |T){TIME}|\[{TIME}\] |{TIME} <[^<>\n]{{1,40}}>|[^\n]{{1,40}} — {DATE},? {TIME}$)", re.M
)
QUOTED = re.compile(r'(?<![^,;\t|\n])"(?:[^"]|"")*"(?![^,;\t|\n])')  # a field of a table that may hold anything


def said(text: str) -> str:
    """Return a sentence about a text that is not just prose or verse, or ""."""
    start = text[:LOOKED_AT]
    lines = [line for line in start.split("\n") if line.strip()]
    kinds = (_page(start), _json(start), _subtitles(start, lines), _chat(start, lines), _table(start), _names(lines))
    return next(filter(None, kinds), "")


def _page(start: str) -> str:
    tags = len(TAG.findall(start))
    if PAGE.search(start) or tags * 1000 >= 5 * len(start):
        return "The text is a web page with HTML tags, and the model will learn them too. Save the page as plain text."
    others = ANY_TAG.findall(start)
    if len(others) < 10 or len(others) * 1000 < 3 * len(start):
        return ""
    return f"The text has tags such as {others[0][:40]}, and the model will learn them too. Save it as plain text."


def _json(start: str) -> str:
    keys = len(KEY.findall(start))
    if start.lstrip()[:1] not in ("{", "[") or keys < 10 or keys * 200 < len(start):
        return ""
    return (
        "The text is JSON, as programs store data, and the model will learn its names and brackets too. To learn only "
        "what people wrote, save that as plain text first."
    )


def _subtitles(start: str, lines: list[str]) -> str:
    times = len(CUE.findall(start))
    if times * 10 < len(lines) or not times:
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
        f"{messages:,} lines have the date or time of a message, as in an exported chat, and the model will learn to "
        "write them too. Delete them with an editor's find and replace if you don't want that."
    )


def _table(start: str) -> str:
    lines = [line for line in QUOTED.sub("", start).split("\n") if line.strip()]
    for mark, name, least in ((",", "commas", 2), (";", "semicolons", 1), ("\t", "tabs", 1), ("|", "bars", 1)):
        if (marks := _marks_per_line(lines, mark)) >= least:
            return (
                f"The text is a table with {marks + 1} columns divided by {name}. The model will learn to write such "
                "rows; for prose, keep only the column that has it."
            )
    return ""


def _marks_per_line(lines: list[str], mark: str) -> int:
    """Return how many of these marks nearly all lines have, 0 if that differs or a space follows, as in prose."""
    if len(lines) < 10:
        return 0
    [(marks, rows)] = Counter(line.count(mark) for line in lines).most_common(1)
    spaced = sum(line.count(mark + " ") for line in lines) > 0.5 * marks * len(lines)
    return marks if 10 * rows > 9 * len(lines) and not spaced else 0


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
