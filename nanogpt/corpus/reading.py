"""From files or a pasted text to one text that can be trained on, with what was assumed and repaired on the way."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import NanoGPTError
from ..limits import limit
from .encoding import Decoded, decode
from .repairs import Repaired, repair, together
from .report import Report

MIN_CHARACTERS = 1_000
Source = str | bytes | Sequence[str | os.PathLike[str]]  # a pasted text, a file's content, or paths of files


@dataclass(frozen=True)
class Reading:
    """A text as it was read: what was assumed about it, and what there was to repair."""

    text: str
    name: str
    source: str
    encoding: str
    notes: tuple[str, ...] = ()
    repairs: tuple[Repaired, ...] = ()  # what there was to repair, whether done or declined

    @property
    def done(self) -> tuple[str, ...]:
        return tuple(one.label for one in self.repairs if one.applied)

    def report(self) -> Report:
        return Report.of(self.text, self.encoding, self.notes, self.done)


def max_bytes() -> int:
    """The most bytes that a text may have, all its files together. NanoGPTError where the limit is not a number."""
    return limit("NANOGPT_MAX_BYTES") or sys.maxsize


def read(
    source: Source, encoding: str | None = None, decline: Collection[str] = (), accept: Collection[str] = ()
) -> Reading:
    """Read one text from a pasted text (str), the bytes of a file, or files (paths), joined in the given order.

    `encoding` is one of ENCODINGS, None to detect it. `decline` and `accept` name REPAIRS not to do, or to do although
    they are off by default. Raise NanoGPTError for too little text, too much, or something that is not plain text.
    """
    if isinstance(source, str):
        reading = _from_paste(source, decline, accept)
    elif isinstance(source, bytes):
        check_size(len(source))
        reading = _from_contents([("text", source)], encoding, decline, accept)
    else:
        reading = _from_files([Path(path) for path in source], encoding, decline, accept)
    check(reading.text)
    return reading


def read_text(path: str | os.PathLike[str], encoding: str | None = None) -> str:
    """Return the text of one file of any length, with the usual repairs. Raise NanoGPTError as `read` does."""
    reading = _from_files([Path(path)], encoding, (), ())
    if not reading.text:
        raise NanoGPTError(f"{reading.name} is empty; give a file with text in it.")
    return reading.text


def _from_paste(pasted: str, decline: Collection[str], accept: Collection[str]) -> Reading:
    check_size(len(utf8(pasted)))
    text, found = repair(pasted, decline, accept)
    return Reading(text, "Pasted text", "pasted", "Unicode", repairs=together([found]))


def _from_files(paths: list[Path], encoding: str | None, decline: Collection[str], accept: Collection[str]) -> Reading:
    if not paths:
        raise NanoGPTError("No file was given; add at least one text file.")
    return _from_contents(_contents(paths), encoding, decline, accept)


def _from_contents(
    contents: Iterable[tuple[str, bytes]], encoding: str | None, decline: Collection[str], accept: Collection[str]
) -> Reading:
    """Decode and repair the content of each file, and join them. Names are for the notes."""
    names: list[str] = []
    texts: list[str] = []
    found: list[list[Repaired]] = []
    notes: list[str] = []
    encodings: list[str] = []
    for name, data in contents:
        decoded = decode(data, name[:80], encoding)
        text, repaired = repair(decoded.text, decline, accept)  # each file by itself: each has its own header
        notes += _notes(name[:80], decoded)
        names.append(name)
        texts.append(text)
        found.append(repaired)
        encodings.append(decoded.encoding)
    joined = "".join(text if text.endswith("\n") or not text else text + "\n" for text in texts[:-1]) + texts[-1]
    title = Path(names[0]).stem + (f" and {len(names) - 1} more" if len(names) > 1 else "")
    source = "files: " + ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    return Reading(joined, title, source, ", ".join(dict.fromkeys(encodings)), tuple(notes), together(found))


def _contents(paths: list[Path]) -> Iterator[tuple[str, bytes]]:
    try:
        check_size(sum(path.stat().st_size for path in paths))  # before a byte of it is in memory
        for path in paths:
            yield path.name, path.read_bytes()
    except OSError as error:
        name = Path(error.filename or "file").name[:80]
        raise NanoGPTError(f"{name} could not be read ({error.strerror}); choose a text file.") from None


def _notes(name: str, decoded: Decoded) -> Iterator[str]:
    if not decoded.text:
        yield f"{name} is empty."
    if decoded.guessed:
        yield (
            f"{name} is not in UTF-8; it was read as {decoded.encoding}, which is a guess. "
            "Look at the first lines, and choose another encoding where letters are wrong."
        )
    elif decoded.codec != "utf-8":
        yield f"{name} was read as {decoded.encoding}."
    if decoded.broken:
        s = "" if decoded.broken == 1 else "s"
        yield f"{name} has {decoded.broken:,} place{s} that cannot be read as {decoded.encoding}; � stands there."


def utf8(text: str) -> bytes:
    """The text as it is stored. NanoGPTError for a lone surrogate, which no file can hold."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise NanoGPTError(
            f"The text has half a character in it (U+{ord(text[error.start]):04X}, a lone surrogate, at position "
            f"{error.start:,}); delete it, or copy the text from its source again."
        ) from None


def check_size(size: int) -> None:
    """NanoGPTError for more bytes than are allowed."""
    if size > max_bytes():
        raise NanoGPTError(
            f"The text has {size / 1e6:,.1f} MB; at most {max_bytes() / 1e6:,.1f} MB are allowed. Take a part of it."
        )


def check(text: str) -> None:
    """NanoGPTError for a text that nothing can be learned from."""
    if not text.strip():
        raise NanoGPTError("The text is empty; paste some text or choose a file with text in it.")
    if len(text) < MIN_CHARACTERS:
        raise NanoGPTError(
            f"The text has {len(text):,} characters; a model needs {MIN_CHARACTERS:,}, better 100,000. Add more."
        )
    if text.count("\0") * 1000 > len(text):
        raise NanoGPTError("The text is full of null characters, so it is no plain text; save it as plain text (.txt).")
