"""Recognize UTF-16 where nothing says so: without a byte-order mark, or joined with text in another encoding.

Files are joined by `cat a.txt b.txt`, and by `>>` in PowerShell, which appends UTF-16 to any file.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import Counter
from itertools import pairwise

import numpy as np

from .encoding import is_utf8
from .guess import is_east_asian

MARKS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
MARK = re.compile(rb"\xff\xfe|\xfe\xff")
UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
START = 20_000  # bytes in which a script shows
DENSE = 0.25  # zero bytes in Western text in UTF-16, at the least
SHORT, LONG = 16, 200  # bytes without a zero that can't be UTF-16: in Western text, and in any
WIDE = 32  # bytes of UTF-16 without a mark, at the least
VARIED = 8  # different bytes in such text: a line of many "═" has only two
UNUSUAL = bytes(set(range(32)) - set(b"\t\n\f\r\x1b"))
PLAIN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \n\r"


def unmarked_utf16(data: bytes) -> str:
    """Return the codec of UTF-16 without a byte-order mark, or "".

    In Western text every other byte is zero. In others only those of newlines and spaces are, but nearly all pairs of
    bytes are letters of Chinese, Japanese or Korean, or of one other script.
    """
    if b"\0" not in data:
        return ""
    first, second = (data[i::2].count(0) / (len(data) / 2) for i in (0, 1))
    at_both_ends = b"\0" in data[:LONG] and b"\0" in data[-LONG:]
    if max(first, second) > 0.2 and min(first, second) < 0.01 and at_both_ends:
        return "utf-16-be" if first > second else "utf-16-le"
    start = data[: min(START, len(data) - len(data) % 2)]
    return next((codec for codec in MARKS.values() if _is_text(start, codec)), "")


def _is_text(data: bytes, codec: str) -> bool:
    """Return True if UTF-16 is text in one script."""
    text = data.decode(codec, "replace")
    blocks = Counter(ord(ch) >> 8 for ch in text).most_common(3)  # Latin with its marks, and another script
    odd = sum(unicodedata.category(ch) in ("Cc", "Cn", "Co") and ch not in "\t\n\r" for ch in text)
    one = sum(count for _, count in blocks) >= 0.95 * len(text) and odd <= 0.01 * len(text)
    return one or is_east_asian(text)


def parts_of(data: bytes) -> list[bytes]:
    """Return the parts of a file in which UTF-16 was joined with other text, or with UTF-16 of the other byte order.

    Return all of it as one part if it is of one kind, or is no text.
    """
    if b"\0" not in data or data.startswith(UTF32):
        return [data]
    narrow = _narrow_in(data)
    cuts = sorted({0, len(data), *(place for part in narrow for place in part)})
    parts = []
    for start, end in pairwise(cuts):
        codec = "" if (start, end) in narrow else _codec_of(data[start:end], start == 0)
        if codec is None:
            return [data]
        parts += orders(data[start:end], codec)
    return parts


def _codec_of(part: bytes, first: bool) -> str | None:
    """Return the codec of a part that is not narrow, or None if it isn't UTF-16.

    Without a mark, what was appended is little-endian, as PowerShell writes it.
    """
    codec = MARKS.get(part[:2]) or (unmarked_utf16(part) if len(part) >= WIDE else None)
    guessed = not first and part[:2] not in MARKS
    return None if guessed and codec == "utf-16-be" else codec or None


def _narrow_in(data: bytes) -> list[tuple[int, int]]:
    """Return where parts that aren't UTF-16 start and end: text without zero bytes for longer than UTF-16 can be."""
    zeros = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == 0)  # (N,)
    places = np.concatenate([[-1], zeros, [len(data)]])
    lengths = np.diff(places) - 1
    least = SHORT if len(zeros) > DENSE * (len(data) - lengths[lengths >= LONG].sum()) else LONG
    found: list[tuple[int, int]] = []
    begin = 0  # of the UTF-16 before
    for i in np.flatnonzero(lengths >= least):
        start, end = int(places[i]) + 1, int(places[i + 1])
        start += (start - begin) % 2  # big-endian UTF-16 ends after a byte that is not zero
        end = _end_of_narrow(data, start, end)
        start = _start_of_narrow(data, start, end) if begin < start else start
        if end - start >= least and is_narrow(data[start:end]):
            found.append((start, end))
            begin = end
    return found


def _start_of_narrow(data: bytes, start: int, end: int) -> int:
    """Return where UTF-16 ends whose last zero byte is before `start`: its last characters may have none."""
    mark = data.find(codecs.BOM_UTF8, start, min(end, start + LONG))
    places = [mark] if mark >= 0 else range(start, min(end, start + LONG), 2)
    return next((place for place in places if is_narrow(data[place : _after(data, place + LONG, end)])), start)


def _after(data: bytes, place: int, end: int) -> int:
    """Return the end of the character of UTF-8 that is at a place."""
    while place < end and data[place] & 0xC0 == 0x80:
        place += 1
    return min(place, end)


def _end_of_narrow(data: bytes, start: int, end: int) -> int:
    """Return where UTF-16 begins after a part that isn't: with its mark, or else with its first character.

    Without a mark it is little-endian, as PowerShell writes it. Its first characters may have no zero byte.
    """
    if (mark := MARK.search(data, start, end)) or end == len(data):
        return mark.start() if mark else end
    in_utf8 = is_utf8(data[start : _after(data, start + LONG, end)])

    def ends_here(place: int) -> bool:
        tail = data[_after(data, place - SHORT, place) : place]
        return len(tail.translate(None, UNUSUAL)) == len(tail) and (is_utf8(tail) or not in_utf8)

    return next(filter(ends_here, range(end - 1, max(start, end - LONG), -2)), end - 1)


def is_narrow(part: bytes) -> bool:
    """Return True for text that can't be UTF-16, because it is UTF-8, or lacks control characters for too long.

    In UTF-16, one of the bytes of a letter is one in most scripts, and in some letters of all others.
    """
    if len(part.translate(None, UNUSUAL)) < len(part) or len(set(part[:1000])) < VARIED:
        return False
    plain = len(part) - len(part.translate(None, PLAIN))
    return len(part) >= LONG or is_utf8(part) and (plain > 0.6 * len(part) or not part.isascii())


def orders(part: bytes, codec: str) -> list[bytes]:
    """Divide UTF-16 where the mark of the other byte order stands, which is no character in its own."""
    parts, begin, at = [], 0, 0
    if codec in MARKS.values():
        while (at := part.find(_other(codec), at)) >= 0:
            if (at - begin) % 2 == 0:
                parts.append(part[begin:at])
                begin, codec = at, MARKS[_other(codec)]
            at += 1
    return [*parts, part[begin:]]


def _other(codec: str) -> bytes:
    """Return the mark of the other byte order of UTF-16."""
    return next(mark for mark in MARKS if MARKS[mark] != codec)
