"""What is put right in a text on its way in: each repair has a name and a count, and can be declined.

Nothing else about a text is ever changed: no normalisation, no folding of quotes, no letters left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from ..config import NanoGPTError

Fix = Callable[[str], tuple[str, int]]  # a text -> the text put right, and how many places that were


@dataclass(frozen=True)
class Repair:
    """One thing that can be put right, by default or only on request."""

    key: str
    says: str  # the sentence, with the count for {n} and the plural's s for {s}
    fix: Fix
    default: bool = True


@dataclass(frozen=True)
class Repaired:
    """What a repair found in a text, and whether it was done."""

    key: str
    count: int
    applied: bool

    @property
    def label(self) -> str:
        return REPAIRS[self.key].says.format(n=f"{self.count:,}", s="" if self.count == 1 else "s")


def repair(text: str, decline: Collection[str] = (), accept: Collection[str] = ()) -> tuple[str, list[Repaired]]:
    """The text with every repair done that is on by default or in `accept`, and not in `decline`; and what was found.

    NanoGPTError where one of the names is not a key of REPAIRS.
    """
    if unknown := [key for key in (*decline, *accept) if key not in REPAIRS]:
        raise NanoGPTError(f"There is no repair {str(unknown[0])[:40]!r}; there are {', '.join(REPAIRS)}.")
    found = []
    for key, one in REPAIRS.items():
        fixed, count = one.fix(text)
        applied = count > 0 and key not in decline and (one.default or key in accept)
        text = fixed if applied else text
        found.append(Repaired(key, count, applied))
    return text, found


def together(found: list[list[Repaired]]) -> tuple[Repaired, ...]:
    """What was found in several files, as if they were one; only what there was to find."""
    sums = [Repaired(r[0].key, sum(one.count for one in r), any(one.applied for one in r)) for r in zip(*found)]
    return tuple(one for one in sums if one.count)


def _newlines(text: str) -> tuple[str, int]:
    count = text.count("\r")  # in Windows' CRLF, or alone as on old Macs
    return (text.replace("\r\n", "\n").replace("\r", "\n"), count) if count else (text, 0)


def _byte_order_marks(text: str) -> tuple[str, int]:
    return text.replace("\ufeff", ""), text.count("\ufeff")


def _broken(text: str) -> tuple[str, int]:
    return text.replace("\ufffd", ""), text.count("\ufffd")


CP1252 = {ord(bytes([b]).decode("cp1252")): b for b in range(0x80, 0xA0) if b not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}


def _mojibake(text: str) -> tuple[str, int]:
    """UTF-8 that was read as Windows-1252 and saved so: Ã© for é. Only where all of the text beyond ASCII is such."""
    if not any(sign in text for sign in ("Ã", "Â", "â€", "Ð")):
        return text, 0
    try:
        fixed = text.removeprefix("\ufeff").translate(CP1252).encode("latin-1").decode("utf-8")
    except UnicodeError:  # a single letter that was right proves that the text was
        return text, 0
    count = len(fixed) - len(fixed.encode("ascii", "ignore"))
    return (fixed, count) if count >= 5 else (text, 0)  # a few might be meant, as in «CAFÉ»


# Project Gutenberg's frame, as it has been written since the nineties; a title may run over several lines.
START = re.compile(
    r"(?:\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG[^*]{0,300}\*\*\*|\*END[* ]{1,3}THE SMALL PRINT!)"
    r"[^\r\n]*[\r\n]*"
)
END = re.compile(
    r"^(?:\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG|End of (?:the |The |this )?Project Gutenberg)", re.MULTILINE
)


def has_gutenberg_frame(text: str) -> bool:
    return ("PROJECT GUTENBERG" in text or "Project Gutenberg" in text) and bool(START.search(text) or END.search(text))


def _gutenberg(text: str) -> tuple[str, int]:
    """What stands between header and footer; of several books in one file, all of them."""
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


BREAKS = "\v\f"  # between paragraphs and pages: a newline may stand for them
UNSEEN = [chr(i) for i in (*range(32), 127) if chr(i) not in "\t\n\r" + BREAKS]


def _control(text: str) -> tuple[str, int]:
    count = 0
    for ch in (*UNSEEN, *BREAKS):
        if found := text.count(ch):
            text, count = text.replace(ch, "\n" if ch in BREAKS else ""), count + found
    return text, count


def _trailing(text: str) -> tuple[str, int]:
    fixed = "\n".join([line.rstrip(" \t") for line in text.split("\n")])
    return fixed, len(text) - len(fixed)


REPAIRS = {
    one.key: one
    for one in (
        Repair("line-endings", "Turn {n} line ending{s} of Windows or old Macs into newlines.", _newlines),
        Repair("mojibake", "Put right {n} letter{s} saved in the wrong encoding, such as Ã© for é.", _mojibake),
        Repair("byte-order-marks", "Leave out {n} invisible byte-order mark{s} (U+FEFF).", _byte_order_marks),
        Repair("gutenberg", "Leave out Project Gutenberg's header and footer ({n} character{s}).", _gutenberg),
        Repair("control-characters", "Leave out {n} control character{s}; page breaks become newlines.", _control),
        Repair(
            "broken",
            "Leave out {n} sign{s} � written for unreadable bytes.",
            _broken,
            default=False,
        ),
        Repair("trailing-spaces", "Leave out {n} space{s} at the ends of lines.", _trailing, default=False),
    )
}
