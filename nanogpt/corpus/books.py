"""Remove Project Gutenberg's headers and footers, of each book in a file, which may be read in pieces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

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
    r"^[ \t*_\ufeff]*(?:(?:This is )?(?:(?:the|a|copyrighted|\d+th Etext file presented by) )*Project Gutenberg"
    r"(?:['’]s|™|\(tm\)|-tm)?(?: e-?(?:text|book)\b|/| [^\n]{1,200},\s+by )"
    r"|Welcome To The World of Free Plain Vanilla Electronic Texts)",
    re.MULTILINE | re.IGNORECASE,
)
# A license ends with one of these lines, since the 2000s.
LICENSE_END = re.compile(
    r"(?:newsletter\s+to\s+hear\s+about\s+new\s+e-?books|\*\*\* ?END: FULL LICENSE)[^\r\n]*[\r\n]*", re.IGNORECASE
)
# Words in the paragraphs of headers and licenses, to recognize those that lack these lines.
THEIRS = re.compile(
    r"gutenberg|\be-?(?:text|book)s?(?:\b|\d)|electronic works?\b|pglaf|small print|full licen[sc]e|this agreement"
    r"|public domain|updated editions will replace|before you distribute|replacement or refund|implied\s+warranties"
    r"|copyright laws are changing|information in this header|books one month in advance|our newsletters|1971 July"
    r"|information by email|email fails|(?:michael s\.|prof\.) hart|contact michael hart|plain vanilla|50 states"
    r"|wire transfer|your state\b|\bsolicit(?:ed|ation)?\b|(?:your|international) donations|^1\.[A-F]\.|^produced by "
    r"|^(?:title|author|editor|translator|illustrator|release date|posting date|language|credits|original publication"
    r"|character set encoding|most recently updated): ",
    re.MULTILINE | re.IGNORECASE,
)
TITLE = re.compile(r"(?:[^\n]{0,79}[^\n.!?])?")  # a line that isn't a sentence, as of a book's title or author
NAMED = re.compile("project gutenberg|welcome to the world of free plain vanilla", re.IGNORECASE)
LONGEST = 40_000  # characters of a header or a license; those of the 1990s have 13,000, today's license 18,000
LONG = 3_000  # characters: in a paragraph that is longer than any of theirs, each line is looked at
TITLES = 200  # characters of a book's title, author and edition in a row, among the paragraphs of a header
OTHER = 1_000  # characters of other paragraphs in a row, between the first line of a header and its end
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
    """Keeps all but headers and licenses, for every book in a file, which may come in pieces (cut by `uncut`).

    A text of your own before a header or after a license is kept: a header begins with its own first line, and a
    license ends with its own last one. One that lacks this line is recognized by words in its paragraphs, and ends
    where a paragraph lacks them. At most LONGEST characters are removed at a time.
    """

    def __init__(self) -> None:
        self.inside = True  # a book or another text; else a license, after a footer
        self.passed = 0  # characters of the license so far

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
            self.inside, self.passed, at = is_header, 0, end if is_header else start
        kept.append(self.kept(text[at:]))
        body = "".join(kept)
        gone = len(text) - len(body)
        return (body, gone) if gone > 0 else (text, 0)  # else only the space between two parts would change

    def kept(self, part: str, before_header: bool = False) -> str:
        """Return what is kept of the text up to the next mark, which may be the end of a header."""
        part = part if self.inside else self.after_license(part)
        return without_header(part) if before_header else part

    def after_license(self, part: str) -> str:
        """Return what comes after a license, given all that comes after its begin."""
        most = max(0, LONGEST - self.passed)
        if ends := list(LICENSE_END.finditer(part, 0, most)):
            self.inside = True
            return part[ends[-1].end() :].lstrip("\r\n")
        end = theirs(paragraphs(part[:most]))
        self.passed += end
        self.inside = bool(part[end:].strip())
        return part[end:].lstrip("\r\n")


def without_header(part: str) -> str:
    """Return what comes before a header, given all that comes before the end of it."""
    backward = list(paragraphs(part[-LONGEST:]))[::-1]
    return part[: len(part) - (from_first_line(backward) or theirs(backward))]


def from_first_line(backward: list[str]) -> int:
    """Return how many characters a header has from its first line on, given the paragraphs from its end; else 0.

    It begins with the last BEGIN, or with one shortly before that, as there may be two around the title.
    """
    size = at = last = others = 0
    for paragraph in backward:
        at += len(paragraph)
        others = 0 if THEIRS.search(paragraph) else others + weight(paragraph)
        if others > (TITLES if last else OTHER) or (last and at > last + LONG):
            break
        if found := BEGIN.search(paragraph):
            size, last = at - found.start(), last or at
    return size


def theirs(each: Iterable[str]) -> int:
    """Return how many characters of paragraphs, up to the first other one, are of a header or license."""
    size = at = others = 0
    for paragraph in each:
        at += len(paragraph)
        if THEIRS.search(paragraph):
            size, others = at, 0
        elif (others := others + weight(paragraph)) > TITLES:
            break
    return size


def weight(paragraph: str) -> int:
    """Return the characters of a paragraph that has no words of theirs: more than TITLES unless it may be a title."""
    line = paragraph.strip()
    return len(line) + (0 if TITLE.fullmatch(line) else TITLES)


def paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a text, and the empty lines between them; of long ones, the lines."""
    for part in re.split(r"(\n[ \t\r]*\n\s*)", text):
        yield from [part] if len(part) <= LONG else part.splitlines(keepends=True)


def marks(text: str) -> list[tuple[int, int, bool]]:
    """Return the headers and footers in order: begin, end (a footer's is its begin), and whether it is a header."""
    headers = [(found.start(), found.end(), True) for found in START.finditer(text)]
    footers = [(found.start(), found.start(), False) for found in END.finditer(text)]
    return sorted(headers + footers)


def uncut(pieces: Iterable[str]) -> Iterator[str]:
    """Yield the pieces of a text, cut elsewhere, so that each header or license is whole in one of them.

    What comes from the first line on that names Project Gutenberg, near the end of a piece, goes to the next one. Only
    of a header that begins without its name, the lines before that may be cut off, and stay.
    """
    held = ""
    for piece in pieces:
        text = held + piece
        near = max(0, len(text) - LONGEST)
        found = NAMED.search(text, near)
        cut = max(near, text.rfind("\n", near, found.start()) + 1) if found else len(text)
        yield text[:cut]
        held = text[cut:]
    if held:
        yield held
