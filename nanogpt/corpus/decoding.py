"""Decode the bytes of a file: detect the encoding, and reject files that are not text.

Byte-order marks and strict UTF-8 are tried first, because they give no false positives. Older encodings can only be
guessed; see guess.py.
"""

from __future__ import annotations

import codecs
import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass

from ..config import NanoGPTError
from .encoding import codec_of, is_utf8, label
from .guess import EASTERN, JAPANESE, confident, guess, is_japanese
from .japanese import has_other_codes, put_back, set_aside, text_of
from .wide import START, parts_of, unmarked_utf16

BOMS = {  # UTF-32-LE first: its mark starts with that of UTF-16-LE
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}

TERMINAL = (b"\a", b"\x0e", b"\x0f")  # the bell, which also ends a window's title, and changes of the alphabet
CONTROLS = re.compile("[\0-\b\x0e-\x1a\x1c-\x1f\x7f-\x9f]")
WORD = "open it in its own program and save it as plain text (.txt)"
KINDS = [  # first bytes -> (what the file is, what to do about it)
    (b"PK\x03\x04", "a zip archive", "unpack it and add the text files inside"),
    (b"%PDF-", "a PDF", "open it, copy the text and paste it here"),
    (b"\xd0\xcf\x11\xe0", "an old Office document", WORD),
    (b"{\\rtf", "a rich-text document", WORD),
    (b"\x89PNG", "an image (PNG)", "add the text itself"),
    (b"\xff\xd8\xff", "an image (JPEG)", "add the text itself"),
    (b"GIF8", "an image (GIF)", "add the text itself"),
    (b"RIFF", "an audio, video or image file", "add the text itself"),
    (b"ID3", "an audio file (MP3)", "add the text itself"),
    (b"\x1f\x8b", "a gzip archive", "unpack it and add the text file inside"),
    (b"BZh91AY&SY", "a bzip2 archive", "unpack it and add the text file inside"),
    (b"\xfd7zXZ", "an xz archive", "unpack it and add the text file inside"),
    (b"(\xb5/\xfd", "a zstd archive", "unpack it and add the text file inside"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "unpack it and add the text files inside"),
    (b"Rar!", "a RAR archive", "unpack it and add the text files inside"),
    (b"SQLite format 3", "a database", "export its text and add that"),
    (b"\x7fELF", "a program", "add a text file instead"),
]
ZIPPED = [  # a member near the start of a zip archive -> the kind of file it really is
    (b"word/", "a Word document (docx)"),
    (b"xl/", "an Excel sheet (xlsx)"),
    (b"ppt/", "a presentation (pptx)"),
    (b"application/epub+zip", "an e-book (EPUB)"),
    (b"application/vnd.oasis", "an OpenDocument file (odt)"),
]


class NotText(NanoGPTError):
    """Raised for a file that is not text, or not in the encoding that was asked for."""


@dataclass(frozen=True)
class Decoded:
    """A file's text, the encoding it was read in, and how many bytes could not be decoded (each is � in the text)."""

    text: str
    codec: str
    guessed: bool = False
    broken: int = 0
    cut: bool = False  # the file ended in the middle of a character, which was left out
    headless: bool = False  # it began in the middle of one
    others: int = 0  # lines in another encoding than `codec`, if one of the two is UTF-8
    other: str = ""  # that encoding
    parts: tuple[str, ...] = ()  # the labels of its encodings, if files of different kinds were joined in it

    @property
    def encoding(self) -> str:
        """The label of the encoding, one of the values of ENCODINGS, or those of its parts."""
        return ", ".join(self.parts) or label(self.codec)


def decode(data: bytes, name: str, encoding: str | None = None, earlier: str | None = None) -> Decoded:
    """Decode the bytes of a file; `name` is for error messages. Keep byte-order marks, so that `repair` can count them.

    The bytes may be a later piece of a file: then `earlier` is the codec of the pieces before, or "" if that is still
    open. Raise NotText if the file is not text, or can't be decoded in the requested `encoding`. A few invalid bytes,
    as in a file cut off in the middle of a character, are accepted and counted.
    """
    if earlier is None:
        _refuse_other_kinds(data, name)
    if earlier is None and not encoding:  # a later piece is whole, and of one kind
        if len(parts := parts_of(data)) > 1:
            return _together([decode(part, name, earlier="") for part in parts])
        if is_headless(data):
            return dataclasses.replace(decode(data[1:], name), headless=True)
    return _of_one_kind(data, name, encoding, earlier)


def _of_one_kind(data: bytes, name: str, encoding: str | None, earlier: str | None) -> Decoded:
    """Decode bytes that are all in one encoding, with the arguments of `decode`."""
    codec = earlier or (_with_byte_order(data, codec_of(encoding)) if encoding else certain(data))
    wide = str(codec).startswith(("utf-16", "utf-32"))  # zero bytes are normal in these
    if not wide:
        refuse_binary(data, name)
    read = _decoded if encoding else _likely
    alone = codec if wide or codec == "iso2022-jp" else None  # no mail could be told from these
    decoded = read(data, alone) if alone else _around_mail(data, codec, read)
    if decoded is None:
        raise NotText(
            f"{name} can't be read as {label(str(codec))}. Choose another encoding, or save the file as UTF-8."
        )
    if wide:
        refuse_binary(decoded.text.encode("utf-8"), name)
    return decoded


def _around_mail(data: bytes, codec: str | None, read: Callable[[bytes, str], Decoded | None]) -> Decoded | None:
    """Decode the ISO-2022-JP in the bytes as that, and `read` the rest with the codec, if it is known."""
    rest, mail = set_aside(data)
    decoded = read(rest, codec) if codec else _undeclared(rest)
    if decoded is None or not mail:
        return decoded
    parts = (label(decoded.codec), label("iso2022-jp"))
    return dataclasses.replace(decoded, text=put_back(decoded.text, mail), parts=parts)


def _together(parts: list[Decoded]) -> Decoded:
    """Return the text of the parts of a file, one after another."""
    telling = next((part for part in parts if part.guessed), parts[0])
    return Decoded(
        "".join(part.text for part in parts),
        telling.codec,
        telling.guessed,
        broken=sum(part.broken for part in parts),
        cut=parts[-1].cut,
        others=sum(part.others for part in parts),
        other=next((part.other for part in parts if part.other), ""),
        parts=tuple(dict.fromkeys(part.encoding for part in parts)),
    )


def _undeclared(data: bytes) -> Decoded:
    return _mixed(data) or _decoded(data, "utf-8") or _guessed(data)


def _refuse_other_kinds(data: bytes, name: str) -> None:
    for begin, kind, remedy in KINDS:
        could_be_text = len(begin) < 5 and begin.isascii() and b"\0" not in data[:4096]
        if data.startswith(begin) and not could_be_text:
            for inside, real in ZIPPED if begin == b"PK\x03\x04" else []:
                if inside in data[:4096] or inside in data[-8192:]:  # a zip archive lists its members at the end
                    kind, remedy = real, WORD
            raise NotText(f"{name} is {kind}, not a text file; {remedy}.")


def refuse_binary(data: bytes, name: str) -> None:
    """Raise NanoGPTError if there are more null or control characters in the data than in any text."""
    usual = b"\b\t\n\v\f\r\x1b"
    if 0 < sum(map(data.count, TERMINAL)) <= data.count(b"\x1b"):  # in a program's output, these belong to its codes
        usual += b"".join(TERMINAL)
    odd = len(data) - len(data.translate(None, bytes(set(range(32)) - set(usual))))
    if data.count(0) * 1000 > len(data) or odd * 50 > len(data):
        raise NotText(
            f"{name} is not plain text: it contains {odd:,} bytes that never occur in text files. "
            "Save it as plain text (.txt)."
        )


def _with_byte_order(data: bytes, codec: str) -> str:
    """Name the byte order of UTF-16 and UTF-32 explicitly, so that decoding keeps the byte-order mark."""
    if codec not in ("utf-16", "utf-32"):
        return codec
    found = certain(data) or ""
    return found if found.startswith(codec) else codec + "-le"


def certain(data: bytes) -> str | None:
    """Return the codec if the bytes leave no doubt about it, else None."""
    for bom, codec in BOMS.items():
        if data.startswith(bom):
            return codec
    if codec := unmarked_utf16(data):
        return codec
    if data.isascii() and (b"\x1b$B" in data or b"\x1b$@" in data) and not has_other_codes(data):
        return "iso2022-jp"
    return "utf-8" if is_utf8(data) else None


def is_headless(data: bytes) -> bool:
    """Return True for UTF-16 whose first byte is missing, as in the end of a longer file.

    Read as it is, its ASCII letters look right in the other byte order, but quotes and dashes are control characters.
    """
    others = {"utf-16-le": "utf-16-be", "utf-16-be": "utf-16-le"}
    as_it_is, without = data[:START], data[1 : START + 1]
    codec = unmarked_utf16(as_it_is)
    if codec not in others or data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return False
    controls = lambda part, codec: len(CONTROLS.findall(part[: len(part) // 2 * 2].decode(codec, "replace")))
    return controls(as_it_is, codec) > 2 * controls(without, others[codec])


def _decoded(data: bytes, codec: str) -> Decoded | None:
    """Decode the bytes with a codec. Return None if more than a few of them are invalid in it."""
    width = 4 if codec.startswith("utf-32") else 2 if codec.startswith("utf-16") else 1  # bytes
    if cut := len(data) % width:
        whole = _decoded(data[:-cut], codec)
        return whole and dataclasses.replace(whole, cut=True)
    try:
        return Decoded(text_of(data, codec), codec)
    except UnicodeDecodeError as error:
        _, broken, good = _with_broken(data[error.start : error.start + 10_000], codec)
        if broken > max(20, good):  # the wrong encoding; decoding all of a large file would take a second
            return None
    text, broken, good = _with_broken(data, codec)
    return Decoded(text, codec, broken=broken) if broken * 5 <= good else None


def _with_broken(data: bytes, codec: str) -> tuple[str, int, int]:
    """Return the text with � for invalid bytes, the number of these, and the number of valid non-ASCII characters."""
    text = text_of(data, codec, "replace")
    broken = text.count("\ufffd") - (data.count(b"\xef\xbf\xbd") if codec == "utf-8" else 0)
    return text, broken, len(text) - len(text.encode("ascii", "ignore")) - broken


def _mixed(data: bytes) -> Decoded | None:
    """Decode UTF-8 that has some lines in an older encoding, as when files from two sources were joined.

    Return None if there are no such lines, more of them than of the others, or no encoding that clearly fits them.
    """
    lines = data.splitlines(keepends=True)
    odd = _odd_lines(lines)
    other = _encoding_of([lines[i] for i in odd]) if odd else ""
    if not other:
        return None
    try:
        fixed = {i: text_of(lines[i], other) for i in odd}
    except UnicodeDecodeError:
        return None
    text = "".join(fixed.get(i) or line.decode("utf-8", "replace") for i, line in enumerate(lines))
    return Decoded(text, "utf-8", broken=int(_is_cut(lines[-1])), others=len(odd), other=label(other))


def _encoding_of(odd: list[bytes]) -> str:
    """Return the encoding of lines that aren't UTF-8, or "" if none clearly fits them, or one of them is damaged."""
    codec = confident(b"".join(odd))
    return "" if codec not in EASTERN and any(_is_damaged(line, 0) for line in odd) else codec


def _odd_lines(lines: list[bytes]) -> list[int]:
    """Return the places of the lines that aren't UTF-8, or nothing if they outnumber the others or are damaged."""
    odd = [i for i, line in enumerate(lines) if not is_utf8(line)]
    if odd and odd[-1] == len(lines) - 1 and _is_cut(lines[-1]):
        odd.pop()
    letters = sum(not line.isascii() for line in lines) - len(odd)
    return [] if len(odd) > letters or _is_damaged(b"".join(lines[i] for i in odd), 1) else odd


def _is_cut(line: bytes) -> bool:
    """Return True if a line is UTF-8 that ends in the middle of a character."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False


def _is_damaged(data: bytes, most: int) -> bool:
    """Return True if data that isn't UTF-8 has more than `most` valid UTF-8 letters for each invalid byte.

    A line in an encoding with a byte per letter has none; in others, up to half of its pairs of bytes may be valid.
    """
    _, broken, good = _with_broken(data, "utf-8")
    return good > most * broken


def _guessed(data: bytes) -> Decoded:
    """Decode the bytes in the most likely encoding that accepts them, or in Latin-1, which accepts everything."""
    odd = b"".join(line for line in data.splitlines(keepends=True) if not is_utf8(line))
    fitting = (found for codec in (guess(odd), "cp1252") if (found := _likely(data, codec)))
    return dataclasses.replace(next(fitting, Decoded(data.decode("latin-1"), "latin-1")), guessed=True)


def _likely(data: bytes, codec: str) -> Decoded | None:
    """Decode the bytes with a codec that was guessed. In Japanese, some lines may be UTF-8, as in joined files."""
    lines = data.splitlines(keepends=True) if codec in JAPANESE else []
    new = _eastern_utf8(lines)
    if not is_japanese("".join(new.values())):
        return _decoded(data, codec)
    old = _decoded(b"".join(line for i, line in enumerate(lines) if i not in new), codec)
    text = "".join(new.get(i) or text_of(line, codec, "replace") for i, line in enumerate(lines))
    return old and dataclasses.replace(old, text=text, others=len(new), other=label("utf-8"))


def _eastern_utf8(lines: list[bytes]) -> dict[int, str]:
    """Return the texts of the lines that are UTF-8, by their places, without those that have only other letters.

    Half-width kana in Shift-JIS may happen to be UTF-8, but for Latin letters.
    """
    found = {i: line.decode("utf-8") for i, line in enumerate(lines) if not line.isascii() and is_utf8(line)}
    return {i: text for i, text in found.items() if max(text) >= "\u3000"}
