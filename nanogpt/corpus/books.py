"""Remove Project Gutenberg's headers and footers, of each book in a file, which may be read in pieces."""

from __future__ import annotations

import re
from collections.abc import Iterator

# As written since the 1990s. A title may run over several lines.
START = re.compile(
    r"(?:\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG[^*]{0,300}\*\*\*|\*END[* ]{1,3}THE SMALL PRINT!)"
    r"[^\r\n]*[\r\n]*"
)
END = re.compile(
    r"^(?:\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG"
    r"|End of (?:the |The |this )?Project Gutenberg(?:['’]s |[^\n]{0,4} [Ee]-?(?:[Tt]ext|[Bb]ook)))",
    re.MULTILINE,
)
# A header begins with a line such as "The Project Gutenberg EBook of ..." or "***The Project Gutenberg's Etext of ..."
BEGIN = re.compile(
    r"^[ \t*_\ufeff]*(?:This is )?(?:the |a )?Project Gutenberg(?:['’]s|™|\(tm\)|-tm)?"
    r"(?: e-?(?:text|book)\b|/| [^\n]{1,200},\s+by )",
    re.MULTILINE | re.IGNORECASE,
)
# A license ends with these words, since the 2000s.
LICENSE_END = re.compile(r"newsletter\s+to\s+hear\s+about\s+new\s+e-?books[^\r\n]*[\r\n]*", re.IGNORECASE)
# What the paragraphs of headers and licenses speak of, to tell those that lack these lines from a text of your own.
THEIRS = re.compile(
    r"gutenberg|\be-?(?:text|book)s?\b|electronic works?\b|pglaf|small print|full licen[sc]e|this agreement"
    r"|updated editions will replace|public domain"
    r"|^(?:title|author|editor|translator|illustrator|release date|posting date|language|credits|character set encoding"
    r"|most recently updated): |^produced by ",
    re.MULTILINE | re.IGNORECASE,
)
LONGEST = 40_000  # characters of a header or a license; those of the 1990s have 13,000, today's license 18,000
LONG = 3_000  # characters: in a paragraph that is longer than any of theirs, each line is looked at
OWN = 2_000  # characters that don't speak of it, after which a license is over
BETWEEN = "\n\n\n"


def has_frame(text: str) -> bool:
    """Return True if a text has Project Gutenberg's header or footer, which `without_frames` would remove."""
    return without_frames(text)[1] > 0


def is_named(text: str) -> bool:
    """Return True if a text may have one: nearly all texts don't, and that is found fast."""
    return "PROJECT GUTENBERG" in text or "Project Gutenberg" in text


def without_frames(text: str) -> tuple[str, int]:
    """Return a whole text without the headers and footers of its books, and how many characters are gone.

    Return all of it if there is nothing else in it.
    """
    body, gone = Books().fix(text)
    body = body.strip("\r\n") + "\n" if gone else text
    return (body, len(text) - len(body)) if body.strip() else (text, 0)


class Books:
    """Keeps all but headers and licenses, for every book in a file, which may come in pieces cut at line ends.

    A text of your own before a header or after a license is kept: a header begins with its own first line, and a
    license ends with its own last one. One that lacks them is told by what its paragraphs speak of. Of a header or
    license that is cut in two, a few lines may stay.
    """

    def __init__(self) -> None:
        self.inside = True  # a book or another text; else a license, after a footer
        self.own = 0  # characters since the last paragraph of a license

    def fix(self, text: str) -> tuple[str, int]:
        """Return a piece without headers and footers, and how many characters are gone."""
        if self.inside and not is_named(text):
            return text, 0
        kept: list[str] = []
        at = 0  # the begin of what is looked at: a part of a book, or of what is between two
        for start, end, is_header in marks(text):
            if start < at:
                continue
            part = self.kept(text[at:start], is_header)
            kept.append(part.rstrip("\r\n") + BETWEEN if part.strip() else "")
            self.inside, self.own, at = is_header, 0, end if is_header else start
        kept.append(self.kept(text[at:]))
        body = "".join(kept)
        gone = len(text) - len(body)
        return (body, gone) if gone > 0 else (text, 0)  # else only the space between two parts would change

    def kept(self, part: str, before_header: bool = False) -> str:
        """Return what is kept of the text up to the next mark, which may be the end of a header."""
        if not self.inside and (ends := list(LICENSE_END.finditer(part, 0, LONGEST))):
            self.inside = True
            part = part[ends[-1].end() :].lstrip("\r\n")
        part = without_header(part) if before_header else part
        return part if self.inside else self.after_license(part)

    def after_license(self, part: str) -> str:
        """Return what isn't a paragraph of a license whose last line is missing."""
        kept: list[str] = []
        at = 0
        for paragraph in paragraphs(part):
            at += len(paragraph)
            if THEIRS.search(paragraph):
                self.own = 0
            elif paragraph.strip() or kept:  # no empty lines in place of a license
                self.own += len(paragraph)
                kept.append(paragraph)
            if self.own > OWN:
                self.inside = True
                break
        return "".join(kept) + part[at:]


def without_header(part: str) -> str:
    """Return what comes before a header, given all that comes before the end of it."""
    start = max(0, len(part) - LONGEST)
    if found := BEGIN.search(part, start):
        return part[: found.start()]
    each = list(paragraphs(part[start:]))
    if not start and THEIRS.search(next((one for one in each if one.strip()), "")):
        return ""  # nothing comes before it
    end = len(part)
    for paragraph in reversed(each):
        if paragraph.strip() and not THEIRS.search(paragraph):
            break
        end -= len(paragraph)
    return part[:end]


def paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a text, and the empty lines between them; of long ones, the lines."""
    for part in re.split(r"(\n[ \t\r]*\n\s*)", text):
        yield from [part] if len(part) <= LONG else part.splitlines(keepends=True)


def marks(text: str) -> list[tuple[int, int, bool]]:
    """Return the headers and footers in order: begin, end (a footer's is its begin), and whether it is a header."""
    headers = [(found.start(), found.end(), True) for found in START.finditer(text)]
    footers = [(found.start(), found.start(), False) for found in END.finditer(text)]
    return sorted(headers + footers)
