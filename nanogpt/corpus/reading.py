"""Read files or a pasted text into one text to train on, and record every guess and clean-up made on the way."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import NanoGPTError
from ..limits import limit
from .decoding import refuse_binary
from .pieces import WHOLE, File, InMemory, OnDisk, Pieces, cut, printable, readable
from .repairs import Repaired, repair, together
from .report import Report

MIN_CHARACTERS = 1_000
Source = str | bytes | Sequence[str | os.PathLike[str]]  # a pasted text, the bytes of a file, or file paths


@dataclass(frozen=True)
class Reading:
    """A text with the notes and clean-ups that came out of reading it."""

    text: str
    name: str
    source: str
    encoding: str
    notes: tuple[str, ...] = ()
    repairs: tuple[Repaired, ...] = ()  # everything found, whether it was cleaned up or declined

    @property
    def done(self) -> tuple[str, ...]:
        """The clean-ups that were applied, one sentence each."""
        return tuple(one.label for one in self.repairs if one.applied)

    def report(self) -> Report:
        """Return a report on the text."""
        return Report.of(self.text, self.encoding, self.notes, self.done)


def max_bytes() -> int:
    """Return the size limit of a text in bytes, over all its files. Raise NanoGPTError if it is set to a non-number."""
    return limit("NANOGPT_MAX_BYTES") or sys.maxsize


def read(
    source: Source, encoding: str | None = None, decline: Collection[str] = (), accept: Collection[str] = ()
) -> Reading:
    """Read a text from a string (pasted), the bytes of a file, or file paths, which are joined in the given order.

    `encoding` is one of ENCODINGS, or None to detect it. `decline` names REPAIRS to skip, `accept` ones to add that are
    off by default. Raise NanoGPTError if the text is too short, too large or not plain text.
    """
    if isinstance(source, str):
        reading = _from_paste(source, decline, accept)
    elif isinstance(source, bytes):
        check_size(len(source), at_once=True)
        reading = _from_contents([InMemory("text", source)], encoding, decline, accept)
    else:
        files = files_at([Path(path) for path in source])
        check_size(sum(file.size for file in files), at_once=True)  # before anything is loaded into memory
        reading = _from_contents(files, encoding, decline, accept)
    check(reading.text)
    return reading


def read_text(path: str | os.PathLike[str], encoding: str | None = None) -> str:
    """Return the text of one file, however short, with the default repairs. Raise NanoGPTError as `read` does."""
    file = files_at([Path(path)])[0]
    check_size(file.size, at_once=True)
    return _text_of(file, encoding)


def read_start(path: str | os.PathLike[str]) -> tuple[str, str]:
    """Do what `read_text` does, but of a large file read only the first lines. Return also a sentence that says so."""
    file = files_at([Path(path)])[0]
    if file.size <= WHOLE:
        return _text_of(file), ""
    with readable(), file.open() as content:
        first = InMemory(file.name, next(cut(content, file.size, None, WHOLE)))
    return _text_of(first), f"Only the first {first.size / 1e6:,.1f} MB of {file.name} are used."


def _text_of(file: File, encoding: str | None = None) -> str:
    reading = _from_contents([file], encoding, (), ())
    if not reading.text:
        raise NanoGPTError(f"{reading.name} is empty; choose a file with text in it.")
    return reading.text


def _from_paste(pasted: str, decline: Collection[str], accept: Collection[str]) -> Reading:
    data = utf8(pasted)
    check_size(len(data), at_once=True)
    check_nulls(pasted)  # before the clean-up deletes them: the same text as a file is refused, too
    refuse_binary(data, "The text")
    text, found = repair(pasted, decline, accept)
    return Reading(text, "Pasted text", "pasted", "Unicode", repairs=together([found]))


def _from_contents(
    files: Iterable[File], encoding: str | None, decline: Collection[str], accept: Collection[str]
) -> Reading:
    """Decode and repair each file, and join the results."""
    pieces = Pieces(files, encoding, decline, accept)
    text = "".join(pieces)
    return Reading(text, pieces.title, pieces.source, pieces.encoding, tuple(pieces.notes), pieces.repairs)


def files_at(paths: Sequence[Path]) -> list[File]:
    """Return the files with these paths. Raise NanoGPTError if one can't be read or isn't a regular file."""
    if not paths:
        raise NanoGPTError("No file was given. Add at least one text file.")
    with readable():
        for path in paths:
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode):  # a device or a pipe might never end
                kind = "is a folder" if stat.S_ISDIR(mode) else "isn't a regular file"
                raise NanoGPTError(f"{printable(path.name)[:80]} {kind}. Choose a text file.")
        return [OnDisk(path, printable(path.name), path.stat().st_size) for path in paths]


def utf8(text: str) -> bytes:
    """Encode a text as UTF-8. Raise NanoGPTError if it contains an unpaired surrogate, which has no UTF-8 form."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise NanoGPTError(
            f"The text contains an unpaired surrogate (U+{ord(text[error.start]):04X}) at position {error.start:,}. "
            "Delete it, or copy the text again."
        ) from None


def check_size(size: int, at_once: bool = False) -> None:
    """Raise NanoGPTError if a text of `size` bytes is over the limit, or too long to be read `at_once`."""
    most = min(max_bytes(), WHOLE) if at_once else max_bytes()
    if size > most:
        raise NanoGPTError(
            f"The text is {size / 1e6:,.1f} MB; at most {most / 1e6:,.1f} MB is allowed. Use a part of it."
        )


def size_of(source: Source) -> int:
    """Return the size of a text in bytes, before it is read."""
    if isinstance(source, bytes):
        return len(source)
    if isinstance(source, str):
        return len(utf8(source))
    return sum(path.stat().st_size for path in map(Path, source) if path.is_file())


def check(text: str) -> None:
    """Raise NanoGPTError if a text is empty, too short to train on, or full of null characters."""
    if not text.strip():
        raise NanoGPTError("The text is empty. Paste some text, or choose a file with text in it.")
    if len(text) < MIN_CHARACTERS:
        raise NanoGPTError(
            f"The text has only {len(text):,} characters. Add more: at least {MIN_CHARACTERS:,} are needed, and "
            "100,000 or more is better."
        )
    check_nulls(text)


def check_nulls(text: str) -> None:
    """Raise NanoGPTError if a text is full of null characters."""
    if text.count("\0") * 1000 > len(text):
        raise NanoGPTError("The text is full of null characters, so it isn't plain text. Save it as plain text (.txt).")
