"""Add a text: read it, clean it up, check it and store it, in one call or in steps that can be shown and stopped."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Generator
from datetime import UTC, datetime

from .. import disk
from ..config import NanoGPTError
from .cutting import WHOLE
from .large import check_room, finished, scaled, write_text, write_tokens
from .pieces import Pieces
from .reading import Source, check, check_size, files_of, read, reading_of, size_of, source_title
from .report import Report
from .store import Corpus, corpora, id_of, keep, load, placed, title_of, titled, write_about

READING = 0.8  # of the time that storing a large text takes; the rest is writing its tokens


def add(
    source: Source,
    name: str = "",
    encoding: str | None = None,
    decline: Collection[str] = (),
    accept: Collection[str] = (),
    owner: str | None = None,
    field: str | None = None,
) -> Corpus:
    """Read, repair and store a text: a string (pasted), the bytes of a file, or a list of paths.

    `encoding`, `decline`, `accept` and `field` are as in `reading.read`. The result's `reading` has the notes and the
    repairs. Raise NanoGPTError if the text can't be trained on. This is for users from Python; the page and the
    commands show how far `adding` is.
    """
    return finished(adding(source, name, encoding, decline, accept, owner, field))


def adding(
    source: Source,
    name: str = "",
    encoding: str | None = None,
    decline: Collection[str] = (),
    accept: Collection[str] = (),
    owner: str | None = None,
    field: str | None = None,
) -> Generator[float, None, Corpus]:
    """Do what `add` does. Yield how much of a large text is done, from 0 to 1. Closing the generator stops it."""
    if isinstance(source, str | bytes) or size_of(source) <= WHOLE:
        return keep(read(source, encoding, decline, accept, field), name, owner)
    pieces = Pieces(files_of(source), encoding, decline, accept, field, source_title(source))
    size = sum(file.size for file in pieces.files)
    check_size(size)
    return (yield from _adding_large(pieces, size, name, owner))


def _adding_large(pieces: Pieces, size: int, name: str, owner: str | None) -> Generator[float, None, Corpus]:
    """Store a text of `size` bytes piece by piece: its characters, then its tokens. Yield how much is done."""
    with disk.unfinished(corpora()) as folder:
        if not (pieces.field or any(file.optional for file in pieces.files)):  # some of those may be left out
            check_room(folder, size // 2)  # whatever its encoding, it takes as much
        written = yield from scaled(write_text(folder / "text.txt", pieces, size), 0, READING)
        reading = reading_of(written.sample, pieces)
        check(reading.text)
        id, title = id_of(written.sha256, owner), title_of(name) or title_of(reading.name) or "Untitled"
        try:
            stored = load(id)
        except NanoGPTError:
            stored = Corpus(
                id, title, written.sha256, sum(written.counts.values()), datetime.now(UTC).isoformat(), reading.source,
                reading.encoding, reading.done, chars="".join(written.counts), owner=owner, large=True,
                guesses=reading.notes,
            )  # fmt: skip
            tokens = write_tokens(folder / "tokens.npy", folder / "text.txt", stored.tokenizer(), stored.characters)
            yield from scaled(tokens, READING, 1)
            report = Report.of(reading.text, reading.encoding, reading.notes, reading.done, written.counts)
            disk.write_whole(folder / "report.json", json.dumps(dataclasses.asdict(report), ensure_ascii=False))
            write_about(stored, folder)
            stored = placed(stored, folder)
    return dataclasses.replace(titled(stored, title), reading=reading)
