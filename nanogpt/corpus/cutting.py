"""Cut a large file into pieces where its lines end, whatever its encoding. A small one stays whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from .decoding import certain, is_headless
from .encoding import codec_of

WHOLE = 20_000_000  # bytes of a file, or of a text, that is read at once
PIECE = 4_000_000  # bytes: a piece of a larger file, and its copies, take about 40 MB of memory


def cut(content: BinaryIO, size: int, encoding: str | None) -> Iterator[bytes]:
    """Yield the bytes of a file: whole if it is small, else in pieces of about PIECE bytes, cut where lines end."""
    if size <= WHOLE:
        yield content.read(WHOLE)  # not all there is: an archive may hold gigabytes where it says that it is small
        return
    rest, newline = b"", b""
    while data := content.read(PIECE):
        half = not newline and encoding is None and is_headless(data)  # its first byte is left out by `decode`
        newline = newline or newline_in(data[half:], encoding)
        data = rest + data
        end = half + end_of_lines(data[half:], newline)
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
    while at >= 0 and at % width:  # not a newline, but parts of two characters
        at = data.rfind(newline, 0, at + width - 1)
    if at >= 0:
        return at + width
    return end_of_characters(data, newline)


def end_of_characters(data: bytes, newline: bytes) -> int:
    """Return where the last whole character ends, in UTF-16, UTF-32, UTF-8, or any encoding of a byte per character."""
    width, end = len(newline), len(data)
    if width > 1:
        end -= end % 4
        first_half = width == 2 and 0xD8 <= data[end - (1 if newline[0] else 2)] < 0xDC  # of a surrogate pair
        return end - 2 if first_half else end
    while end > max(1, len(data) - 3) and 0x80 <= data[end - 1] < 0xC0:  # the later bytes of a character in UTF-8
        end -= 1
    return end - 1 if data[end - 1] >= 0xC0 else len(data)  # its first byte
