"""Remove Project Gutenberg's headers and footers, of each book in a file, which may be read in pieces."""

from __future__ import annotations

import re

# As written since the 1990s. A title may run over several lines.
START = re.compile(
    r"(?:\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG[^*]{0,300}\*\*\*|\*END[* ]{1,3}THE SMALL PRINT!)"
    r"[^\r\n]*[\r\n]*"
)
END = re.compile(
    r"^(?:\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG|End of (?:the |The |this )?Project Gutenberg)", re.MULTILINE
)
LONGEST = 40_000  # characters of a header, or of a license and the next book's header; those of the 1990s have 13,000
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
    """Keeps what is between header and footer, for every book in a file, which may come in pieces cut at line ends.

    It removes at most LONGEST characters at a time: what is longer is no header or license but a text of your own, as
    when files were joined, and is kept.
    """

    def __init__(self) -> None:
        self.first = True  # until there was a header or footer
        self.inside = True  # a book; else after a footer
        self.passed = 0  # characters so far, before the first header or since a footer

    def fix(self, text: str) -> tuple[str, int]:
        """Return a piece without headers and footers, and how many characters are gone."""
        if self.inside and not is_named(text):
            self.passed += len(text)
            return text, 0
        kept: list[str] = []
        at = 0  # the begin of what is looked at: a part of a book, or of what is between two
        for start, end, is_header in marks(text):
            if start < at or (not is_header and not self.inside):
                continue
            self.close(kept, text[at:start], is_header)
            self.inside, self.first, self.passed, at = is_header, False, 0, end
        self.close(kept, text[at:])
        self.passed += len(text) - at
        self.inside = self.inside or self.passed > LONGEST
        body = "".join(kept)
        gone = len(text) - len(body)
        return (body, gone) if gone > 0 else (text, 0)  # else only the space between two parts would change

    def close(self, kept: list[str], part: str, by_header: bool | None = None) -> None:
        """Keep a part, unless it is a header or a license. It ends with a mark, which is a header or a footer."""
        size = self.passed + len(part)
        is_before_the_first = self.first and by_header and size <= LONGEST
        is_between = not self.inside and size <= LONGEST
        if part and not is_before_the_first and not is_between:
            kept.append(part if by_header is None else part.rstrip("\r\n") + BETWEEN)


def marks(text: str) -> list[tuple[int, int, bool]]:
    """Return the headers and footers in order: begin, end (a footer's is its begin), and whether it is a header."""
    headers = [(found.start(), found.end(), True) for found in START.finditer(text)]
    footers = [(found.start(), found.start(), False) for found in END.finditer(text)]
    return sorted(headers + footers)
