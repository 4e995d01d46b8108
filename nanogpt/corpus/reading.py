"""Read files or a pasted text into one text to train on, and record every guess and clean-up made on the way."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import NanoGPTError
from ..limits import limit
from .cutting import WHOLE
from .decoding import refuse_binary
from .files import File, InMemory, files_at, printable
from .pieces import Pieces, listed
from .repairs import Repaired, repair, successful
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
    source: Source, encoding: str | None = None, decline: Collection[str] = (), accept: Collection[str] = (),
    field: str | None = None,
) -> Reading:  # fmt: skip
    """Read a text from a string (pasted), the bytes of a file, or file paths, which are joined in the given order.

    `encoding` is one of ENCODINGS, or None to detect it. `decline` names REPAIRS to skip, `accept` ones to add that are
    off by default. `field` is a field of .jsonl files, or a column of .csv files, to read instead of all of them. Raise
    NanoGPTError if the text is too short, too large or not plain text.
    """
    if isinstance(source, str):
        reading = _from_paste(source, decline, accept)
    else:
        files = files_of(source)
        check_size(sum(file.size for file in files), at_once=True)  # before anything is loaded into memory
        reading = _joined(Pieces(files, encoding, decline, accept, field, source_title(source)))
    check(reading.text)
    return reading


def files_of(source: bytes | Sequence[str | os.PathLike[str]]) -> list[File]:
    """Return the files of a source. Raise NanoGPTError if one can't be read."""
    if isinstance(source, bytes):
        return [InMemory("text", source)]
    return files_at([Path(path) for path in source])


def source_title(source: bytes | Sequence[str | os.PathLike[str]]) -> str:
    """Return the name of a folder or of an archive, if that is all there is to read; else "", to go by the files."""
    paths = [] if isinstance(source, bytes) else [Path(path) for path in source]
    if len(paths) != 1 or not (paths[0].is_dir() or paths[0].suffix.lower() == ".zip"):
        return ""
    return printable(paths[0].resolve().stem)


def _joined(pieces: Pieces) -> Reading:
    return reading_of("".join(pieces), pieces)


def reading_of(text: str, pieces: Pieces) -> Reading:
    """Return a text, or a sample of a large one, with what was found in its pieces. They must have been read."""
    if not pieces.names:
        if pieces.field and pieces.refusal:
            raise pieces.refusal
        raise NanoGPTError(f"None of the files is text: {listed(pieces.left_out, 5)}. Add plain text files.")
    return Reading(text, pieces.title, pieces.source, pieces.encoding, pieces.notes, pieces.repairs)


def read_start(source: Sequence[str | os.PathLike[str]], encoding: str | None = None) -> tuple[str, bool]:
    """Return the text of files, however short, with the default repairs, and whether it is all of it.

    Of files too large to be read at once, it is the start: the first WHOLE characters, up to the end of a piece. Raise
    NanoGPTError as `read` does.
    """
    files = files_of(source)
    size = sum(file.size for file in files)
    check_size(size)
    pieces, texts, characters, is_all = Pieces(files, encoding), list[str](), 0, True
    coming = iter(pieces)
    for text in coming:
        texts.append(text)
        characters += len(text)
        if size > WHOLE and characters >= WHOLE:  # the size is in bytes
            is_all = next(coming, None) is None
            break
    if not characters:
        raise NanoGPTError(f"{reading_of('', pieces).name} is empty; choose a file with text in it.")
    return "".join(texts), is_all


def _from_paste(pasted: str, decline: Collection[str], accept: Collection[str]) -> Reading:
    data = utf8(pasted)
    check_size(len(data), at_once=True)
    check_nulls(pasted)  # before the clean-up deletes them: the same text as a file is refused, too
    refuse_binary(data, "The text")
    text, found = repair(pasted, decline, accept)
    return Reading(text, "Pasted text", "pasted", "Unicode", repairs=successful(found))


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
    most = max_bytes()
    if size > most:
        raise NanoGPTError(
            f"The text is {size / 1e6:,.1f} MB; at most {most / 1e6:,.1f} MB is allowed. Use a part of it."
        )
    if at_once and size > WHOLE:
        raise NanoGPTError(
            f"The text is {size / 1e6:,.1f} MB; at most {WHOLE / 1e6:,.1f} MB can be read at once here. Use a part of "
            "it, or add it as a file, to train on."
        )


def size_of(source: Source) -> int:
    """Return the size of a text in bytes, before it is read."""
    if isinstance(source, str):
        return len(utf8(source))
    return sum(file.size for file in files_of(source))


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
