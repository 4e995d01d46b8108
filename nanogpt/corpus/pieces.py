"""Read files piece by piece: decode each piece and clean it up, so that a text of any size takes little memory.

A file of up to WHOLE bytes is one piece, so that everything about it is looked at together. A larger one is cut at line
ends, and each piece is decoded and cleaned up like a file of its own.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from ..config import NanoGPTError
from .decoding import Decoded, certain, decode, is_utf8
from .encoding import codec_of
from .repairs import WHOLE_FILE, Repaired, repair, together

WHOLE = 20_000_000  # bytes of a file, or of a text, that is read at once
PIECE = 4_000_000  # bytes: a piece of a larger file, and its copies, take about 40 MB of memory


class File(Protocol):
    """A file to read: on disk, or in an archive."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    def open(self) -> BinaryIO: ...


@dataclass(frozen=True)
class OnDisk:
    """A file on disk."""

    path: Path
    name: str
    size: int  # in bytes

    def open(self) -> BinaryIO:
        """Open the file to read its bytes."""
        return self.path.open("rb")


@dataclass(frozen=True)
class InMemory:
    """A file whose bytes have been read."""

    name: str
    data: bytes

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return len(self.data)

    def open(self) -> BinaryIO:
        """Return the bytes as an open file."""
        return io.BytesIO(self.data)


class Pieces:
    """The text of some files, one after another, as decoded and cleaned-up pieces, and what was found on the way."""

    def __init__(self, files: Iterable[File], encoding: str | None, decline: Collection[str], accept: Collection[str]):
        self.files, self.wanted, self.decline, self.accept = files, encoding, decline, accept
        self.read = 0  # bytes so far
        self.names: list[str] = []
        self.notes: list[str] = []
        self._encodings: list[str] = []
        self.found: list[list[Repaired]] = []

    def __iter__(self) -> Iterator[str]:
        """Yield the pieces. A file that doesn't end with a newline gets one if another file follows."""
        last = "\n"
        for file in self.files:
            if last != "\n":
                yield "\n"
            last = ""
            for text in self.texts(file):
                last = text[-1:] or last
                yield text
            last = last or "\n"

    def texts(self, file: File) -> Iterator[str]:
        """Yield the pieces of one file."""
        whole: Decoded | None = None
        for data, decoded in decoded_pieces(file, self.wanted):
            at_once = whole is None and len(data) == file.size
            decline = self.decline if at_once else {*self.decline, *WHOLE_FILE}
            text, repaired = repair(decoded.text, decline, self.accept if at_once else {*self.accept} - {*WHOLE_FILE})
            whole = decoded if whole is None else joined(whole, decoded)
            self.found.append(repaired)
            self.read += len(data)
            yield text
        assert whole is not None
        self.names.append(file.name)
        self.notes += notes(file.name[:80], whole)
        self._encodings.append(whole.encoding)

    @property
    def title(self) -> str:
        """A name for the text, from those of its files."""
        more = len(self.names) - 1
        return Path(self.names[0]).stem + (f" + {more} more file{'s' * (more > 1)}" if more else "")

    @property
    def source(self) -> str:
        """Where the text comes from."""
        return "files: " + ", ".join(self.names[:20]) + (", …" if len(self.names) > 20 else "")

    @property
    def encoding(self) -> str:
        """The labels of the encodings of the files."""
        return ", ".join(dict.fromkeys(self._encodings))

    @property
    def repairs(self) -> tuple[Repaired, ...]:
        """The clean-ups that found something, whether they were applied or declined."""
        return together(self.found)


def decoded_pieces(file: File, encoding: str | None) -> Iterator[tuple[bytes, Decoded]]:
    """Yield the bytes and the text of each piece of a file.

    What the encoding is, is decided on each piece, because most have too few letters to be in doubt about. An older
    encoding that was found once is kept wherever a piece isn't UTF-8, so that a file isn't guessed at differently.
    """
    name, kept = file.name[:80], encoding
    with readable(), file.open() as content:
        for data in cut(content, file.size, encoding):
            wide = str(kept).startswith(("utf-16", "utf-32"))
            decoded = decode(data, name, kept if encoding or wide or not is_utf8(data) else None)
            kept = encoding or (decoded.codec if decoded.codec != "utf-8" else kept)
            yield data, decoded


def cut(content: BinaryIO, size: int, encoding: str | None, piece: int = PIECE) -> Iterator[bytes]:
    """Yield the bytes of a file: whole if it is small, else in pieces that end where a line does."""
    if size <= WHOLE:
        yield content.read()
        return
    rest, newline = b"", b""
    while data := content.read(piece):
        newline = newline or newline_in(data, encoding)
        data = rest + data
        end = end_of_lines(data, newline)
        rest = data[end:]
        yield data[:end]
    if rest:
        yield rest


def newline_in(start: bytes, encoding: str | None) -> bytes:
    """Return a newline in the encoding of a file that begins with `start`."""
    codec = codec_of(encoding) if encoding else ""
    if encoding is None or codec in ("utf-16", "utf-32"):
        codec = certain(start) or (codec + "-le" if codec else "")
    return "\n".encode(codec) if codec.startswith(("utf-16-", "utf-32-")) else b"\n"


def end_of_lines(data: bytes, newline: bytes) -> int:
    """Return where the last whole line ends, or the last whole character if there is no newline at all."""
    width, at = len(newline), data.rfind(newline)
    while at % width:  # not a newline, but parts of two characters
        at = data.rfind(newline, 0, at + width - 1)
    if at >= 0:
        return at + width
    end = len(data) - len(data) % max(2, width)
    while end > len(data) - 4 and width == 1 and data[end : end + 1] and 0x80 <= data[end] < 0xC0:
        end -= 1
    return end


def joined(one: Decoded, other: Decoded) -> Decoded:
    """Return what is to be said about two pieces of a file, one after the other."""
    return dataclasses.replace(
        one if one.codec != "utf-8" else other,
        text="…",
        guessed=one.guessed or other.guessed,
        broken=one.broken + other.broken,
        cut=other.cut,
        others=one.others + other.others,
        other=one.other or other.other,
    )


def notes(name: str, decoded: Decoded) -> Iterator[str]:
    """Yield what a reader should know about how a file was decoded, one sentence each."""
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
    if decoded.cut:
        yield f"{name} ends in the middle of a character, which was left out."
    if decoded.broken:
        s = "" if decoded.broken == 1 else "s"
        yield f"{name} has {decoded.broken:,} place{s} that can't be read as {decoded.encoding}, shown as �."


@contextmanager
def readable() -> Iterator[None]:
    """Raise NanoGPTError if a file can't be read."""
    try:
        yield
    except OSError as error:
        name = printable(Path(error.filename or "file").name)[:80]
        raise NanoGPTError(f"{name} can't be read ({error.strerror}). Choose a text file.") from None


def printable(name: str) -> str:
    """Return a file's name with � for bytes that aren't UTF-8, which could be neither stored nor printed."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
