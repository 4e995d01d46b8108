"""Clean up a text on import. Each repair has a name, is counted, and can be declined.

Nothing else about a text ever changes: no Unicode normalization, no straightened quotes, no dropped letters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from ..config import NanoGPTError

Fix = Callable[[str], tuple[str, int]]  # text -> (repaired text, number of places repaired)


@dataclass(frozen=True)
class Repair:
    """One clean-up, applied by default or only on request."""

    key: str
    says: str  # {n} is the count, {s} the plural s, {d} and {ed} the past tense once it has been applied
    fix: Fix
    default: bool = True


@dataclass(frozen=True)
class Repaired:
    """What a repair found in a text, and whether it was applied."""

    key: str
    count: int
    applied: bool

    @property
    def label(self) -> str:
        """The repair in one sentence: "Removed 3 ..." if it was applied, "Remove 3 ..." if it was not."""
        past = dict(d="d", ed="ed") if self.applied else dict(d="", ed="")
        return REPAIRS[self.key].says.format(n=f"{self.count:,}", s="" if self.count == 1 else "s", **past)


def repair(
    text: str, decline: Collection[str] = (), accept: Collection[str] = (), skip: Collection[str] = ()
) -> tuple[str, list[Repaired]]:
    """Apply the default repairs, plus those in `accept`, minus those in `decline`. Return the text and what was found.

    Repairs in `skip` aren't even looked for. Raise NanoGPTError if a name is not a key of REPAIRS.
    """
    if unknown := [key for key in (*decline, *accept) if key not in REPAIRS]:
        raise NanoGPTError(f"There is no clean-up {str(unknown[0])[:40]!r}; choose from {', '.join(REPAIRS)}.")
    found = []
    for key, one in REPAIRS.items():
        fixed, count = one.fix(text) if key not in skip else (text, 0)
        applied = count > 0 and key not in decline and (one.default or key in accept)
        text = fixed if applied else text
        found.append(Repaired(key, count, applied))
    return text, found


def together(found: list[list[Repaired]]) -> tuple[Repaired, ...]:
    """Add up what was found in several files, leaving out repairs that found nothing."""
    sums = [Repaired(r[0].key, sum(one.count for one in r), any(one.applied for one in r)) for r in zip(*found)]
    return tuple(one for one in sums if one.count)


def _newlines(text: str) -> tuple[str, int]:
    count = text.count("\r")  # part of CRLF on Windows, alone on old Macs
    return (text.replace("\r\n", "\n").replace("\r", "\n"), count) if count else (text, 0)


def _byte_order_marks(text: str) -> tuple[str, int]:
    return text.replace("\ufeff", ""), text.count("\ufeff")


def _broken(text: str) -> tuple[str, int]:
    return text.replace("\ufffd", ""), text.count("\ufffd")


CP1252 = {ord(bytes([b]).decode("cp1252")): b for b in range(0x80, 0xA0) if b not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}


def _mojibake(text: str) -> tuple[str, int]:
    """Repair UTF-8 that was decoded as Windows-1252 (Ã© for é), once or several times."""
    total = 0
    while count := (once := _mojibake_once(text))[1]:
        text, total = once[0], max(total, count)
    return text, total


def _mojibake_once(text: str) -> tuple[str, int]:
    """Undo one such decoding, if all non-ASCII characters are like that."""
    if not any(sign in text for sign in ("Ã", "Â", "â€", "Ð")):
        return text, 0
    try:
        fixed = text.removeprefix("\ufeff").translate(CP1252).encode("latin-1").decode("utf-8")
    except UnicodeError:  # one character that was right proves that the others were, too
        return text, 0
    count = len(fixed) - len(fixed.encode("ascii", "ignore"))
    return (fixed, count) if count >= 5 else (text, 0)  # a few may be intended, as in «CAFÉ»


# Project Gutenberg's header and footer, as written since the 1990s. A title may run over several lines.
START = re.compile(
    r"(?:\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG[^*]{0,300}\*\*\*|\*END[* ]{1,3}THE SMALL PRINT!)"
    r"[^\r\n]*[\r\n]*"
)
END = re.compile(
    r"^(?:\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG|End of (?:the |The |this )?Project Gutenberg)", re.MULTILINE
)


def has_gutenberg_frame(text: str) -> bool:
    """Return True if a text has Project Gutenberg's header or footer."""
    return ("PROJECT GUTENBERG" in text or "Project Gutenberg" in text) and bool(START.search(text) or END.search(text))


def _gutenberg(text: str) -> tuple[str, int]:
    """Keep what is between header and footer, for every book in the file."""
    if not has_gutenberg_frame(text):
        return text, 0
    starts = list(START.finditer(text))
    begins = [start.end() for start in starts] or [0]
    stops = [start.start() for start in starts[1:]] + [len(text)]
    kept = []
    for begin, stop in zip(begins, stops):
        book = text[begin:stop]
        end = END.search(book)
        kept.append((book[: end.start()] if end else book).strip("\r\n"))
    body = "\n\n\n".join(filter(None, kept)) + "\n"
    return (body, len(text) - len(body)) if body.strip() else (text, 0)


# What programs send to a terminal: colors and cursor moves, titles and links, and the rest (ECMA-48, xterm)
ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"  # OSC
    r"|\x1b[PX^_][^\x1b\n]*(?:\x1b\\)?"  # DCS, SOS, PM and APC
    r"|\x1b(?:[ -/]*[0-~])?"
)
STRUCK = re.compile("[^\n\b]?\b")  # a letter that is typed over with the next, for bold and underlined manual pages


def _escapes(text: str) -> tuple[str, int]:
    if "\x1b" not in text and "\x9b" not in text and "\b" not in text:
        return text, 0
    text, escapes = ESCAPES.subn("", text)
    text, struck = STRUCK.subn("", text)
    return text, escapes + struck


# Times, and the numbers and headings between them, in SubRip and WebVTT files
TIME = r"(?:\d{1,3}:)?\d{2}:\d{2}[.,]\d{3}"
CUE = re.compile(rf"(?:^\d+[ \t]*\n)?^{TIME} --> {TIME}[^\n]*\n", re.MULTILINE)


def _subtitles(text: str) -> tuple[str, int]:
    if " --> " not in text:
        return text, 0
    text, count = CUE.subn("", text)
    return text.removeprefix("WEBVTT\n").lstrip("\n") if count else text, count


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
        Repair("gutenberg", "Remove{d} Project Gutenberg's header and footer ({n} character{s}).", _gutenberg),
        Repair("terminal-codes", "Remove{d} {n} terminal code{s}, such as colors.", _escapes),
        Repair("subtitle-times", "Remove{d} {n} subtitle time{s} and their numbers.", _subtitles, default=False),
        Repair(
            "control-characters", "Remove{d} {n} control character{s} and turn{ed} page breaks into newlines.", _control
        ),
        Repair("broken", "Remove{d} {n} unreadable character{s} (�).", _broken, default=False),
        Repair("trailing-spaces", "Remove{d} {n} space{s} at the ends of lines.", _trailing, default=False),
    )
}
WHOLE_FILE = ("gutenberg",)  # what needs all of a file, so pieces of a large one are left as they are
