"""Read files or a pasted text into one text to train on, and record every guess and clean-up made on the way."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import NanoGPTError
from ..limits import limit
from .decoding import Decoded, decode, refuse_binary
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
        check_size(len(source))
        reading = _from_contents([("text", source)], encoding, decline, accept)
    else:
        reading = _from_files([Path(path) for path in source], encoding, decline, accept)
    check(reading.text)
    return reading


def read_text(path: str | os.PathLike[str], encoding: str | None = None) -> str:
    """Return the text of one file, however short, with the default repairs. Raise NanoGPTError as `read` does."""
    reading = _from_files([Path(path)], encoding, (), ())
    if not reading.text:
        raise NanoGPTError(f"{reading.name} is empty; choose a file with text in it.")
    return reading.text


def _from_paste(pasted: str, decline: Collection[str], accept: Collection[str]) -> Reading:
    data = utf8(pasted)
    check_size(len(data))
    check_nulls(pasted)  # before the clean-up deletes them: the same text as a file is refused, too
    refuse_binary(data, "The text")
    text, found = repair(pasted, decline, accept)
    return Reading(text, "Pasted text", "pasted", "Unicode", repairs=together([found]))


def _from_files(paths: list[Path], encoding: str | None, decline: Collection[str], accept: Collection[str]) -> Reading:
    if not paths:
        raise NanoGPTError("No file was given. Add at least one text file.")
    return _from_contents(_contents(paths), encoding, decline, accept)


def _from_contents(
    contents: Iterable[tuple[str, bytes]], encoding: str | None, decline: Collection[str], accept: Collection[str]
) -> Reading:
    """Decode and repair the content of each file, and join the results. The names go into the notes."""
    names: list[str] = []
    texts: list[str] = []
    found: list[list[Repaired]] = []
    notes: list[str] = []
    encodings: list[str] = []
    for name, data in contents:
        decoded = decode(data, name[:80], encoding)
        text, repaired = repair(decoded.text, decline, accept)  # one file at a time: each may have its own header
        notes += _notes(name[:80], decoded)
        names.append(name)
        texts.append(text)
        found.append(repaired)
        encodings.append(decoded.encoding)
    joined = "".join(text if text.endswith("\n") or not text else text + "\n" for text in texts[:-1]) + texts[-1]
    title = Path(names[0]).stem + _more_files(len(names) - 1)
    source = "files: " + ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    return Reading(joined, title, source, ", ".join(dict.fromkeys(encodings)), tuple(notes), together(found))


def _more_files(count: int) -> str:
    """Return how the title of a text ends if it was made from more than one file."""
    return f" + {count} more file{'s' * (count > 1)}" if count else ""


def _contents(paths: list[Path]) -> Iterator[tuple[str, bytes]]:
    try:
        for path in paths:
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode):  # a device or a pipe might never end
                kind = "is a folder" if stat.S_ISDIR(mode) else "isn't a regular file"
                raise NanoGPTError(f"{printable(path.name)[:80]} {kind}. Choose a text file.")
        check_size(sum(path.stat().st_size for path in paths))  # before anything is loaded into memory
        for path in paths:
            yield printable(path.name), path.read_bytes()
    except OSError as error:
        name = printable(Path(error.filename or "file").name)[:80]
        raise NanoGPTError(f"{name} can't be read ({error.strerror}). Choose a text file.") from None


def printable(name: str) -> str:
    """Return a file's name with � for bytes that aren't UTF-8, which could be neither stored nor printed."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _notes(name: str, decoded: Decoded) -> Iterator[str]:
    if not decoded.text:
        yield f"{name} is empty."
    if decoded.guessed:
        yield (
            f"{name} is not UTF-8. Our best guess is {decoded.encoding}; if letters in the preview look wrong, "
            "choose another encoding."
        )
    elif decoded.codec != "utf-8":
        yield f"{name} was read as {decoded.encoding}."
    if decoded.others:
        s = "" if decoded.others == 1 else "s"
        yield f"{name} is UTF-8, except for {decoded.others:,} line{s}, which we read as {decoded.other}."
    if decoded.headless:
        yield f"{name} begins in the middle of a character, which was left out."
    if decoded.cut:
        yield f"{name} ends in the middle of a character, which was left out."
    if decoded.broken:
        s = "" if decoded.broken == 1 else "s"
        yield f"{name} has {decoded.broken:,} place{s} that can't be read as {decoded.encoding}, shown as �."


def utf8(text: str) -> bytes:
    """Encode a text as UTF-8. Raise NanoGPTError if it contains an unpaired surrogate, which has no UTF-8 form."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise NanoGPTError(
            f"The text contains an unpaired surrogate (U+{ord(text[error.start]):04X}) at position {error.start:,}. "
            "Delete it, or copy the text again."
        ) from None


def check_size(size: int) -> None:
    """Raise NanoGPTError if a text of `size` bytes is over the limit."""
    if size > max_bytes():
        raise NanoGPTError(
            f"The text is {size / 1e6:,.1f} MB; at most {max_bytes() / 1e6:,.1f} MB is allowed. Use a part of it."
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
