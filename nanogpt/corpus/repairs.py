"""Clean up a text on import. Each repair has a name, is counted, and can be declined.

Nothing else about a text ever changes: no Unicode normalization, no straightened quotes, no dropped letters.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from ..config import NanoGPTError
from ..similar import did_you_mean
from .books import without_frames
from .places import Place, first_place
from .subtitles import without_times

Fix = Callable[[str], tuple[str, int]]  # text -> (repaired text, number of places repaired)


@dataclass(frozen=True)
class Repair:
    """One clean-up, applied by default or only on request."""

    key: str
    # {n} is the count, {s} the plural s, {d} and {ed} the past tense once it has been applied, {first} what is removed
    says: str
    fix: Fix
    default: bool = True


@dataclass(frozen=True)
class Repaired:
    """What a repair found in a text, and whether it was applied."""

    key: str
    count: int
    applied: bool
    place: Place | None = None  # the first one

    @property
    def label(self) -> str:
        """The repair in one sentence: "Removed 3 ..." if it was applied, "Remove 3 ..." if it was not."""
        past = dict(d="d", ed="ed") if self.applied else dict(d="", ed="")
        first = f", beginning with “{self.place.words}”" if self.place else ""
        return REPAIRS[self.key].says.format(n=f"{self.count:,}", s="" if self.count == 1 else "s", first=first, **past)


def repair(
    text: str, decline: Collection[str] = (), accept: Collection[str] = (), instead: Mapping[str, Fix] | None = None
) -> tuple[str, list[Repaired]]:
    """Apply the default repairs, plus those in `accept`, minus those in `decline`. Return the text and what was found.

    `instead` has other functions for some repairs, by key. Raise NanoGPTError if a name is not a key of REPAIRS.
    """
    check_known(*decline, *accept)
    found = []
    for key, one in REPAIRS.items():
        fixed, count = (instead or {}).get(key, one.fix)(text)
        applied = count > 0 and key not in decline and (one.default or key in accept)
        found.append(_repaired(key, count, applied, text, fixed))
        text = fixed if applied else text
    return text, found


def check_known(*keys: str) -> None:
    """Raise NanoGPTError if one of these is not a key of REPAIRS."""
    if unknown := [key for key in keys if key not in REPAIRS]:
        meant = did_you_mean(str(unknown[0]), REPAIRS) or f"choose from {', '.join(REPAIRS)}."
        raise NanoGPTError(f"There is no clean-up {str(unknown[0])[:40]!r}; {meant}")


def _repaired(key: str, count: int, applied: bool, text: str, fixed: str) -> Repaired:
    return Repaired(key, count, applied, first_place(text, fixed) if count else None)


def together(found: list[Repaired], more: list[Repaired]) -> list[Repaired]:
    """Add what all repairs found in a piece of a text to what they have found before, if anything."""
    return [_sum(*each) for each in zip(found, more)] if found else more


def _sum(one: Repaired, other: Repaired) -> Repaired:
    first = one if one.count else other
    return Repaired(first.key, one.count + other.count, one.applied or other.applied, first.place)


def successful(found: list[Repaired]) -> tuple[Repaired, ...]:
    """Leave out the repairs that found nothing."""
    return tuple(one for one in found if one.count)


def _newlines(text: str) -> tuple[str, int]:
    count = text.count("\r")  # part of CRLF on Windows, alone on old Macs
    return (text.replace("\r\n", "\n").replace("\r", "\n"), count) if count else (text, 0)


def _byte_order_marks(text: str) -> tuple[str, int]:
    return text.replace("\ufeff", ""), text.count("\ufeff")


def _broken(text: str) -> tuple[str, int]:
    return text.replace("\ufffd", ""), text.count("\ufffd")


# What UTF-8 looks like when it is decoded in an older encoding: é, ’ and и, in this order, where they are common
MISREAD = {
    "cp1252": re.compile("[ÃÂÐ]|â€|â\x80"),
    "cp1251": re.compile("Г[\xa0-\xbfЂ-џ‚-™]|вЂ|[РС][Ђ-Џђ-џ°±µ‚-™]"),
    "cp1250": re.compile("[ĂÂÄĹĐ]|â€"),
    "mac-roman": re.compile("√|‚Ä|–[∞-≥æ-ø]"),
    "cp850": re.compile("├|ÔÇ|ð[░▒║╝╗Á]"),
    "cp437": re.compile("├|ΓÇ|╨"),
}

AMBIGUOUS = ("mac-roman", "cp850", "cp437")  # where √, – and ├ may be meant: (–∞, 3) and 2/√π would be UTF-8, too
CERTAIN = re.compile(r"(?<=[^\W\d_])[^\x00-\x7f]|[\u0800-\U0010ffff]")  # within a word, or of three or four bytes


def _table(codec: str) -> dict[int, int]:
    """Return {code point: byte} of an encoding. Bytes that have no letter in it stand for themselves."""
    table = {byte: byte for byte in range(0x80 if codec != "cp1252" else 0xA0)}
    for byte in range(0x80, 0x100):
        table[ord(bytes([byte]).decode(codec, "ignore") or chr(byte))] = byte
    return table


TABLES = {codec: _table(codec) for codec in MISREAD}


def _mojibake(text: str) -> tuple[str, int]:
    """Repair UTF-8 that was decoded in an older encoding (Ã© for é), once or several times, in all lines or in some.

    A line is only repaired if all of its non-ASCII characters are like that: one that was right proves that the others
    were, too.
    """
    if text.isascii() or not any(sign.search(text) for sign in MISREAD.values()):
        return text, 0
    lines, total, certain = text.split("\n"), 0, 0
    for i, line in enumerate(lines):
        if not line.isascii():
            lines[i], count, sure = _mojibake_in_line(line)
            total, certain = total + count, certain + sure
    return ("\n".join(lines), total) if certain >= 5 else (text, 0)  # a few may be intended, as in «CAFÉ»


def _mojibake_in_line(line: str) -> tuple[str, int, int]:
    """Repair a line as often as it can be. Return the number of letters that the first repair left, and of those among
    them that can't have been right before."""
    most = certain = 0
    while found := next(_decoded_rightly(line), None):
        line, codec = found
        letters = len(line) - len(line.encode("ascii", "ignore"))
        most = max(most, letters)
        certain = max(certain, len(CERTAIN.findall(line)) if codec in AMBIGUOUS else letters)
    return line, most, certain


def _decoded_rightly(line: str) -> Iterator[tuple[str, str]]:
    """Yield the line as it was meant, and its wrong encoding, if all of it was UTF-8 in one of those in MISREAD."""
    for codec, sign in MISREAD.items():
        if sign.search(line):
            with suppress(UnicodeError):
                fixed = codecs.charmap_encode(line.removeprefix("\ufeff"), "strict", TABLES[codec])[0].decode("utf-8")
                if len(fixed) < len(line):
                    yield fixed, codec


# What programs send to a terminal: colors and cursor moves, titles and links, and the rest (ECMA-48, xterm). A string
# has an end (ST or BEL), or is cut off soon at the end of a line; anything else is text that happens to follow. The
# short forms (C1) are left alone after what may be the start of a mis-encoded letter, of which they are a part there.
INSIDE = r"[^\x07\x1b\x90-\x9f\n]"
ENDED = rf"{INSIDE}{{0,4000}}(?:\x07|\x1b\\|\x9c)"
CUT = rf"{INSIDE}{{0,200}}(?=[\x1b\n]|\Z)"
C1 = "(?<![\x80-\x9b\x9d-\xbf\u00c2-\u00f4\u20ac])"
ESCAPES = re.compile(
    rf"(?:\x1b\[|{C1}\x9b)[0-?]*[ -/]*[@-~]"  # CSI
    rf"|\x1b[\]PX^_](?:{ENDED}|{CUT})|{C1}[\x90\x98\x9d-\x9f]{ENDED}"  # OSC, DCS, SOS, PM and APC
    r"|\x1b(?:[ -/]*[0-~])?"
)
STARTS = "\x1b\b\x90\x98\x9b\x9d\x9e\x9f"
STRUCK = re.compile("[^\n\b]?\b")  # a letter that is typed over with the next, for bold and underlined manual pages


def _escapes(text: str) -> tuple[str, int]:
    if not any(start in text for start in STARTS):  # ten times as fast as a regular expression
        return text, 0
    text, escapes = ESCAPES.subn("", text)
    text, struck = STRUCK.subn("", text)
    return text, escapes + struck


BREAKS = "\v\f"  # vertical tabs and form feeds separate paragraphs and pages, so they become newlines
UNSEEN = [chr(i) for i in (*range(32), 127) if chr(i) not in "\t\n\r\b\x1b" + BREAKS]


def _control(text: str) -> tuple[str, int]:
    data, count = text.encode("utf-8", "surrogatepass"), 0
    if len(data.translate(None, "".join([*UNSEEN, *BREAKS]).encode())) == len(data):  # 20 times as fast as to count
        return text, 0
    for ch in (*UNSEEN, *BREAKS):
        if found := text.count(ch):
            text, count = text.replace(ch, "\n" if ch in BREAKS else ""), count + found
    return text, count


# Soft hyphens, zero-width spaces, word joiners, and marks and overrides of the direction. Joiners (U+200C, U+200D) are
# letters to Persian and emoji, so they stay.
INVISIBLE = re.compile("[\xad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069]")
SEPARATOR = re.compile("[\x85\u2028\u2029]")  # of lines and paragraphs, as some programs write them
NO_BREAK = re.compile("[\xa0\u202f]")
ACCENTED = re.compile("[A-Za-z\u0370-\u04ff][\u0300-\u036f]+")  # a Latin, Greek or Cyrillic letter and its accents


def _invisible(text: str) -> tuple[str, int]:
    return INVISIBLE.subn("", text) if not text.isascii() else (text, 0)


def _separators(text: str) -> tuple[str, int]:
    return SEPARATOR.subn("\n", text) if not text.isascii() else (text, 0)


def _no_break_spaces(text: str) -> tuple[str, int]:
    return NO_BREAK.subn(" ", text) if not text.isascii() else (text, 0)


def _accents(text: str) -> tuple[str, int]:
    if text.isascii():
        return text, 0
    fixed = ACCENTED.sub(lambda found: unicodedata.normalize("NFC", found[0]), text)
    return fixed, len(text) - len(fixed)


def _trailing(text: str) -> tuple[str, int]:
    if " \n" not in text and "\t\n" not in text and not text.endswith((" ", "\t")):
        return text, 0
    fixed = "\n".join([line.rstrip(" \t") for line in text.split("\n")])
    return fixed, len(text) - len(fixed)


REPAIRS = {
    one.key: one
    for one in (
        Repair("line-endings", "Convert{ed} {n} Windows or old Mac line ending{s}.", _newlines),
        Repair("mojibake", "Fix{ed} {n} mis-encoded letter{s}, such as Ã© for é.", _mojibake),
        Repair("byte-order-marks", "Remove{d} {n} invisible byte-order mark{s} (U+FEFF).", _byte_order_marks),
        Repair(
            "gutenberg", "Remove{d} Project Gutenberg's header and footer ({n} character{s}){first}.", without_frames
        ),
        Repair("terminal-codes", "Remove{d} {n} terminal code{s}, such as colors.", _escapes),
        Repair(
            "subtitle-times",
            "Remove{d} {n} subtitle time{s}, their numbers and formatting.",
            without_times,
            default=False,
        ),
        Repair(
            "control-characters", "Remove{d} {n} control character{s} and turn{ed} page breaks into newlines.", _control
        ),
        Repair("broken", "Remove{d} {n} unreadable character{s} (�).", _broken, default=False),
        Repair(
            "invisible",
            "Remove{d} {n} invisible character{s}, such as soft hyphens and zero-width spaces.",
            _invisible,
            default=False,
        ),
        Repair(
            "separators", "Convert{ed} {n} line separator{s}, such as U+2028, to newlines.", _separators, default=False
        ),
        Repair("no-break-spaces", "Replace{d} {n} no-break space{s} by plain ones.", _no_break_spaces, default=False),
        Repair(
            "accents", "Join{ed} {n} accent{s} with their letters, so that é is one character.", _accents, default=False
        ),
        Repair("trailing-spaces", "Remove{d} {n} space{s} at the ends of lines.", _trailing, default=False),
    )
}
