"""Openings: short beginnings of paragraphs from a run's text, to click on instead of typing a prompt."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

from .. import corpus
from ..config import NanoGPTError
from ..runs import Run
from .web.visit import visitor

MOST = 6
WORDS, CHARACTERS = 3, 24  # at most
READ = 300_000  # characters of the text to look through


def openings(run: Run) -> list[str]:
    """Return up to six openings from the run's text, the most frequent first; from its newest sample without access.

    Everyone may sample from a public run, but only its owner may read its text.
    """
    about = run.settings()["corpus"]
    try:
        return list(_of_text(visitor().text(about["id"])))
    except NanoGPTError:
        samples = run.history().samples
        return in_text(samples[-1]["text"]) if samples else []


@lru_cache(maxsize=32)
def _of_text(text: corpus.Corpus) -> tuple[str, ...]:
    """Return the openings in a stored text, which never changes."""
    return tuple(in_text(text.between(0, READ)))


def in_text(text: str) -> list[str]:
    """Return the most frequent beginnings of a text's paragraphs, or of its lines if it has no paragraphs."""
    paragraphs = re.split(r"\n\s*\n", text)
    pieces = paragraphs if len(paragraphs) > MOST else text.splitlines()
    return [found for found, _ in Counter(filter(None, map(beginning, pieces))).most_common(MOST)]


def beginning(paragraph: str) -> str:
    """Return the first words of a paragraph's first line; the whole line, with a line break, if it is that short."""
    first = next((line for line in paragraph.splitlines() if line.strip()), "")
    words = first.split()
    if len(first) <= CHARACTERS and len(words) <= WORDS and "\n" in paragraph.strip():
        return first.strip() + "\n"
    cut = " ".join(words[:WORDS])
    if len(cut) > CHARACTERS and " " in cut[: CHARACTERS + 1]:  # end with a whole word, unless there is only one
        return cut[: CHARACTERS + 1].rpartition(" ")[0]
    return cut[:CHARACTERS]
