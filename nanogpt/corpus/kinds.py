"""Recognize texts that are more than text: web pages, subtitles, chat exports, tables, lists. Say what to expect."""

from __future__ import annotations

import re
from collections import Counter

from .subtitles import CUE

LOOKED_AT = 200_000  # characters, in which the kind of a text shows
TAG = re.compile(
    r"</?(?:a|b|body|br|div|em|font|h[1-6]|head|html|i|img|li|meta|p|pre|span|strong|table|td|tr|ul)\b[^<>]*>", re.I
)
PAGE = re.compile(r"<html|<!doctype html", re.I)
ANY_TAG = re.compile(r"</[A-Za-z][\w:.-]*>")
KEY = re.compile(r'"[^"\n]{1,60}"\s*:')
TIME = r"\d{1,2}[:.]\d{2}(?:[:.]\d{2})?(?:[ \u202f][AaPp]\.?[Mm]\.?)?"
MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
DATE = rf"\d{{1,4}}[./-](?:\d{{1,2}}|{MONTH})[./-]\d{{1,4}}"
# "31.12.20, 21:15 - Olga: …", "[12/31/20, 9:15:03 PM] Olga: …", "2020-12-31T21:15 Olga: …", "[21:15] <olga> …",
# "Olga — 12/31/2020 9:15 PM" and "Olga  9:15 PM", as messengers export them; "Dec 31 21:15:03 host …" and
# "::1 - - [31/Dec/2020:21:15:03 …", as servers log them
MESSAGE = re.compile(
    rf"^\u200e?(?:\[?{DATE}(?:,? |T){TIME}|\[{TIME}\] |{TIME} <[^<>\n]{{1,40}}>|[^\n]{{1,40}} — {DATE},? {TIME}$"
    rf"|[^\n]{{1,40}}  {TIME}$|{MONTH} +\d{{1,2}} {TIME} |[^\n\[]{{1,60}}\[{DATE}:{TIME})",
    re.M,
)
HEADER = re.compile(
    r"^(?:Received|Return-Path|Message-ID|Date|From|To|Subject|MIME-Version|Content-Type|Content-Transfer-Encoding): ",
    re.M | re.I,
)
CODED = re.compile(r"=[0-9A-F]{2}")  # "quoted-printable"
ENTITY = re.compile(r"&(?:[A-Za-z]{2,8}|#\d{2,6}|#x[0-9A-Fa-f]{2,6});")
ASSIGNED = re.compile(r"\s*(?:[A-Za-z_$][\w.$]{0,80} = )?[\[{]")  # JSON, or a script that is JSON after its first words
QUOTED = re.compile(r'(?<![^,;\t|\n])"(?:[^"]|"")*"(?![^,;\t|\n])')  # a field of a table that may hold anything


def sentence(text: str) -> str:
    """Return a sentence about a text that is not just prose or verse, or ""."""
    start = text[:LOOKED_AT]
    lines = [line for line in start.split("\n") if line.strip()]
    kinds = (
        _subtitles(start, lines), _mail(start, lines), _page(start), _json(start), _chat(start, lines), _codes(start),
        _table(start), _names(lines),
    )  # fmt: skip
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
    if not ASSIGNED.match(start) or keys < 10 or keys * 200 < len(start):
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


def _mail(start: str, lines: list[str]) -> str:
    headers = HEADER.findall(start)
    if len(set(map(str.lower, headers))) < 3 or len(headers) * 50 < len(lines) or not HEADER.search(start[:1000]):
        return ""
    return (
        "The text is e-mail as programs store it, and the model will learn its headers and codes too. To learn only "
        "what people wrote, save that as plain text first."
    )


def _codes(start: str) -> str:
    """Return a sentence about letters that are written as codes, as in e-mail and on web pages."""
    for codes in (CODED.findall(start), ENTITY.findall(start)):
        if len(codes) >= 10 and len(codes) * 500 >= len(start):
            return (
                f"The text has letters written as codes such as {codes[0]}, and the model will learn those too. Open "
                "it in its own program and save it as plain text."
            )
    return ""


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
