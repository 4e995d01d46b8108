"""Decode the bytes of a file: detect the encoding, and reject files that are not text.

Byte-order marks and strict UTF-8 are tried first, because they give no false positives. Older encodings can only be
guessed: for Latin script we score how well the letters fit the languages that use them, and for everything else we ask
charset-normalizer.
"""

from __future__ import annotations

import codecs
import dataclasses
from dataclasses import dataclass

from ..config import NanoGPTError

# Python's codec -> its label for users. A codec also stands for the smaller encodings it includes; see SAME.
ENCODINGS = {
    "utf-8": "UTF-8",
    "utf-16": "UTF-16",
    "utf-32": "UTF-32",
    "cp1252": "Western European (Windows-1252)",
    "latin-1": "Western European (Latin-1)",
    "mac-roman": "Western European (old Macintosh)",
    "cp850": "Western European (DOS)",
    "cp1250": "Central European (Windows-1250)",
    "iso8859-2": "Central European (Latin-2)",
    "cp1257": "Baltic (Windows-1257)",
    "cp1254": "Turkish (Windows-1254)",
    "cp1251": "Cyrillic (Windows-1251)",
    "koi8-r": "Russian (KOI8-R)",
    "koi8-u": "Ukrainian (KOI8-U)",
    "cp866": "Cyrillic (DOS)",
    "iso8859-5": "Cyrillic (ISO 8859-5)",
    "mac-cyrillic": "Cyrillic (old Macintosh)",
    "cp1253": "Greek (Windows-1253)",
    "iso8859-7": "Greek (ISO 8859-7)",
    "cp1255": "Hebrew (Windows-1255)",
    "cp1256": "Arabic (Windows-1256)",
    "cp874": "Thai (Windows-874)",
    "cp1258": "Vietnamese (Windows-1258)",
    "cp932": "Japanese (Shift-JIS)",
    "euc-jp": "Japanese (EUC-JP)",
    "iso2022-jp": "Japanese (ISO-2022-JP)",
    "gb18030": "Chinese, simplified (GB18030)",
    "cp950": "Chinese, traditional (Big5)",
    "big5hkscs": "Chinese, traditional (Big5, Hong Kong)",
    "cp949": "Korean (EUC-KR)",
}
# An encoding -> its superset, which is what files declared in that encoding really use.
SAME = {
    "shift_jis": "cp932",
    "gbk": "gb18030",
    "gb2312": "gb18030",
    "big5": "cp950",
    "euc_kr": "cp949",
    "tis-620": "cp874",
}
BOMS = {  # UTF-32-LE first: its mark starts with that of UTF-16-LE
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}

# The non-ASCII letters of languages in Latin script. Western languages share their encodings. If two encodings fit
# equally well, the first in LATIN wins: Windows-1252 is by far the most common.
WEST = [
    "äöüß",  # German
    "àâæçéèêëîïôœùûü",  # French
    "áéíñóúü¿¡ªº",  # Spanish
    "ãõáâàçéêíóôúü",  # Portuguese
    "àèéìíòóùú",  # Italian
    "åäöé",  # Swedish, Finnish
    "æøåéô",  # Danish, Norwegian
    "áðéíóúýþæö",  # Icelandic
    "äöõüšž",  # Estonian
    "áàéèíïóòúüç·",  # Catalan
]
CENTRE = [
    "ąćęłńóśźż",  # Polish
    "áčďéěíňóřšťúůýž",  # Czech
    "áäčďéíĺľňóôŕšťúýž",  # Slovak
    "áéíóöőúüű",  # Hungarian
    "ăâîşţ",  # Romanian
    "čćđšž",  # Croatian, Slovene
    "ëç",  # Albanian
]
LATIN = {
    "cp1252": WEST,
    "cp1250": CENTRE,
    "iso8859-2": CENTRE,
    "cp1254": ["çğıöşüâîû"],  # Turkish
    "cp1257": ["ąčęėįšųūž", "āčēģīķļņšūž"],  # Lithuanian, Latvian
    "mac-roman": WEST,
    "cp850": WEST,
}
SAMPLE_LINES = 5_000
INSIDE = frozenset("’–—…")  # marks that may also occur between letters
MARKS = INSIDE | frozenset("‘‚“”„«»‹›°€£§•©®™½¼±×†‡¶")
OTHERS = [codec for codec in ENCODINGS if codec not in LATIN and not codec.startswith(("utf", "latin-1", "iso2022"))]

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


@dataclass(frozen=True)
class Decoded:
    """A file's text, the encoding it was read in, and how many bytes could not be decoded (each is � in the text)."""

    text: str
    codec: str
    guessed: bool = False
    broken: int = 0

    @property
    def encoding(self) -> str:
        """The label of the encoding, one of the values of ENCODINGS."""
        return _label(self.codec)


def _label(codec: str) -> str:
    return ENCODINGS[codec.removesuffix("-le").removesuffix("-be")]


def codec_of(encoding: str) -> str:
    """Return the key in ENCODINGS for an encoding's name or label. Raise NanoGPTError if it is not one of them."""
    for codec, label in ENCODINGS.items():
        if str(encoding).lower() in (codec, label.lower()):
            return codec
    try:
        name = codecs.lookup(str(encoding)).name
    except (LookupError, ValueError):
        name = ""
    offered = {codecs.lookup(codec).name: codec for codec in ENCODINGS} | SAME
    if name not in offered:
        raise NanoGPTError(f"Unknown encoding {str(encoding)[:40]!r}; it must be one of: {', '.join(ENCODINGS)}.")
    return offered[name]


def decode(data: bytes, name: str, encoding: str | None = None) -> Decoded:
    """Decode the bytes of a file; `name` is for error messages. Keep byte-order marks, so that `repair` can count them.

    Raise NanoGPTError if the file is not text, or can't be decoded in the requested `encoding`. A few invalid bytes,
    as in a file cut off in the middle of a character, are accepted and counted.
    """
    _refuse_other_kinds(data, name)
    asked = codec_of(encoding) if encoding else None
    codec = _with_byte_order(data, asked) if asked else _certain(data)
    wide = str(codec).startswith(("utf-16", "utf-32"))  # zero bytes are normal in these
    if not wide:
        refuse_binary(data, name)
    decoded = _decoded(data, codec) if codec else _guessed(data)
    if decoded is None:
        raise NanoGPTError(
            f"{name} can't be read as {_label(str(codec))}. Choose another encoding, or save the file as UTF-8."
        )
    if wide:
        refuse_binary(decoded.text.encode("utf-8"), name)
    return decoded


def _refuse_other_kinds(data: bytes, name: str) -> None:
    for begin, kind, remedy in KINDS:
        could_be_text = len(begin) < 5 and begin.isascii() and b"\0" not in data[:4096]
        if data.startswith(begin) and not could_be_text:
            for inside, real in ZIPPED if begin == b"PK\x03\x04" else []:
                if inside in data[:4096] or inside in data[-8192:]:  # a zip archive lists its members at the end
                    kind, remedy = real, WORD
            raise NanoGPTError(f"{name} is {kind}, not a text file; {remedy}.")


def refuse_binary(data: bytes, name: str) -> None:
    """Raise NanoGPTError if there are more null or control characters in the data than in any text."""
    odd = len(data) - len(data.translate(None, bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))))
    if data.count(0) * 1000 > len(data) or odd * 50 > len(data):
        raise NanoGPTError(
            f"{name} is not plain text: it contains {odd:,} bytes that never occur in text files. "
            "Save it as plain text (.txt)."
        )


def _with_byte_order(data: bytes, codec: str) -> str:
    """Name the byte order of UTF-16 and UTF-32 explicitly, so that decoding keeps the byte-order mark."""
    if codec not in ("utf-16", "utf-32"):
        return codec
    found = _certain(data) or ""
    return found if found.startswith(codec) else codec + "-le"


def _certain(data: bytes) -> str | None:
    """Return the codec if the bytes leave no doubt about it, else None."""
    for bom, codec in BOMS.items():
        if data.startswith(bom):
            return codec
    if b"\0" in data and (codec := _unmarked_utf16(data)):
        return codec
    # ISO-2022-JP, from old Japanese e-mail, is all ASCII bytes and switches alphabets with these sequences
    if data.isascii() and (b"\x1b$B" in data or b"\x1b$@" in data):
        return "iso2022-jp"
    return "utf-8" if _decoded(data, "utf-8") else None


def _unmarked_utf16(data: bytes) -> str:
    """Return the codec of UTF-16 without a byte-order mark, or "": in Western text every other byte is zero."""
    first, second = (data[i::2].count(0) / (len(data) / 2) for i in (0, 1))
    if max(first, second) <= 0.2 or min(first, second) >= 0.01:
        return ""
    return "utf-16-be" if first > second else "utf-16-le"


def _decoded(data: bytes, codec: str) -> Decoded | None:
    """Decode the bytes with a codec. Return None if more than a few of them are invalid in it."""
    try:
        return Decoded(data.decode(codec), codec)
    except UnicodeDecodeError as error:
        _, broken, good = _with_broken(data[error.start : error.start + 10_000], codec)
        if broken > max(20, good):  # the wrong encoding; decoding all of a large file would take a second
            return None
    text, broken, good = _with_broken(data, codec)
    return Decoded(text, codec, broken=broken) if broken * 5 <= good else None


def _with_broken(data: bytes, codec: str) -> tuple[str, int, int]:
    """Return the text with � for invalid bytes, the number of these, and the number of valid non-ASCII characters."""
    text = data.decode(codec, "replace")
    broken = text.count("\ufffd") - (data.count(b"\xef\xbf\xbd") if codec == "utf-8" else 0)
    return text, broken, len(text) - len(text.encode("ascii", "ignore")) - broken


def _guessed(data: bytes) -> Decoded:
    """Decode the bytes in the most likely encoding that accepts them, or in Latin-1, which accepts everything."""
    fitting = (found for codec in (_guess(data), "cp1252") if (found := _decoded(data, codec)))
    return dataclasses.replace(next(fitting, Decoded(data.decode("latin-1"), "latin-1")), guessed=True)


def _guess(data: bytes) -> str:
    """Return the most likely of ENCODINGS for bytes that are not Unicode."""
    lines = [line for line in data.splitlines() if not line.isascii()][:SAMPLE_LINES]  # ASCII lines tell us nothing
    sample = b"\n".join(lines[:: len(lines) // 100 + 1])[:10_000]
    for codec in ("cp932", "euc-jp"):
        if _is_japanese(sample.decode(codec, "replace")):
            return codec
    fits = _latin_fits(sample)
    likeliest = max(fits, key=fits.__getitem__)  # on a tie, the first
    if fits[likeliest] >= 0.8:
        return likeliest
    return _other_script(lines) or (likeliest if fits[likeliest] > 0.4 else "cp1252")


def _is_japanese(text: str) -> bool:
    """Return True if a fifth of the non-ASCII characters are hiragana, as in no other language."""
    kana = [ch for ch in text if not ch.isascii()]
    hiragana = sum("ぁ" <= ch <= "ん" for ch in kana)
    return hiragana - 2 * kana.count("\ufffd") > 0.2 * len(kana)


def _other_script(lines: list[bytes]) -> str:
    """Return charset-normalizer's guess among the encodings that aren't for Latin script, or "" if it has none."""
    from charset_normalizer import from_bytes

    for part in (lines, *(lines[i::8] for i in range(8))):  # in parts, so that an invalid byte spoils only one of them
        match = from_bytes(b"\n".join(part), cp_isolation=OTHERS).best()
        if match is not None:
            return codec_of(match.encoding)
    return ""


def _latin_fits(sample: bytes) -> dict[str, float]:
    """Score each encoding of Latin script from 0 to 1: how well the decoded bytes fit their best-matching language."""
    texts = {codec: sample.decode(codec, "replace") for codec in LATIN}
    fits = {codec: max(_fit(texts[codec], letters) for letters in LATIN[codec]) for codec in LATIN}
    several = _fit(texts["cp1252"], "".join(WEST))  # mixed languages; 0.9, because so many letters fit by chance
    return {**fits, "cp1252": max(fits["cp1252"], 0.9 * several)}


def _fit(text: str, letters: str) -> float:
    """Return the share of the non-ASCII characters that are letters of a language, or marks, in a plausible place."""
    good = total = 0
    for before, ch, after in zip(" " + text, text, text[1:] + " "):
        if ch.isascii():
            continue
        total += 1
        if ch in MARKS:
            good += ch in INSIDE or not (before.isalpha() and after.isalpha())
        elif ch.lower() in letters:
            good += not _out_of_place(before, ch, after)
    return good / max(total, 1)


def _out_of_place(before: str, ch: str, after: str) -> bool:
    """Return True for a letter where Latin script has none, as when Cyrillic or Greek is decoded as Latin."""
    if ch.isupper() and before.islower():  # a capital inside a word
        return True
    return all(one.isalpha() and not one.isascii() for one in (before, after))  # three non-ASCII letters in a row
