"""From the bytes of a file to its text: what is no text at all, and which encoding it is in.

Byte-order marks and strict UTF-8 come first, for they are never wrong. An older encoding can only be guessed: where the
letters are Latin we count how well they fit the languages written with them, for the rest we ask charset-normalizer.
"""

from __future__ import annotations

import codecs
import dataclasses
from dataclasses import dataclass

from ..config import NanoGPTError

# Python's codec -> what the reader calls it. A codec here stands for its smaller relatives, see SAME.
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
# An encoding -> the larger one that holds it and that files under its name are really in.
SAME = {
    "shift_jis": "cp932",
    "gbk": "gb18030",
    "gb2312": "gb18030",
    "big5": "cp950",
    "euc_kr": "cp949",
    "tis-620": "cp874",
}
BOMS = {  # UTF-32's little-endian mark begins with UTF-16's, so it is tried first
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}

# The letters beyond ASCII of languages in Latin script. Western ones share their encodings, and the order of LATIN
# decides where two fit equally well: Windows-1252 is by far the commonest.
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
INSIDE = frozenset("’–—…")  # marks that stand between letters, too
MARKS = INSIDE | frozenset("‘‚“”„«»‹›°€£§•©®™½¼±×†‡¶")
OTHERS = [codec for codec in ENCODINGS if codec not in LATIN and not codec.startswith(("utf", "latin-1", "iso2022"))]

WORD = "open it in its program and save it as plain text (.txt)"
KINDS = [  # how a file begins -> what it is, and what to do
    (b"PK\x03\x04", "a zip archive", "unpack it and add the text files in it"),
    (b"%PDF-", "a PDF", "open it, copy its text and paste that here"),
    (b"\xd0\xcf\x11\xe0", "an old Office document", WORD),
    (b"{\\rtf", "a rich-text document", WORD),
    (b"\x89PNG", "a picture (PNG)", "add the text itself"),
    (b"\xff\xd8\xff", "a picture (JPEG)", "add the text itself"),
    (b"GIF8", "a picture (GIF)", "add the text itself"),
    (b"RIFF", "a sound, film or picture", "add the text itself"),
    (b"ID3", "a sound (MP3)", "add the text itself"),
    (b"\x1f\x8b", "a gzip archive", "unpack it and add the text file in it"),
    (b"BZh91AY&SY", "a bzip2 archive", "unpack it and add the text file in it"),
    (b"\xfd7zXZ", "an xz archive", "unpack it and add the text file in it"),
    (b"(\xb5/\xfd", "a zstd archive", "unpack it and add the text file in it"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "unpack it and add the text files in it"),
    (b"Rar!", "a RAR archive", "unpack it and add the text files in it"),
    (b"SQLite format 3", "a database", "export its text and add that"),
    (b"\x7fELF", "a program", "add a text instead"),
]
ZIPPED = [  # what the zip archive holds -> what it really is; each is a zip with such a member near its beginning
    (b"word/", "a Word document (docx)"),
    (b"xl/", "an Excel sheet (xlsx)"),
    (b"ppt/", "a presentation (pptx)"),
    (b"application/epub+zip", "an e-book (EPUB)"),
    (b"application/vnd.oasis", "an OpenDocument file (odt)"),
]


@dataclass(frozen=True)
class Decoded:
    """A file's text, the encoding it was read in, and how many bytes did not fit (they are � in the text)."""

    text: str
    codec: str
    guessed: bool = False
    broken: int = 0

    @property
    def encoding(self) -> str:
        return _label(self.codec)


def _label(codec: str) -> str:
    return ENCODINGS[codec.removesuffix("-le").removesuffix("-be")]


def codec_of(encoding: str) -> str:
    """The key in ENCODINGS for a name or label as a reader writes it. NanoGPTError where it is none of them."""
    for codec, label in ENCODINGS.items():
        if str(encoding).lower() in (codec, label.lower()):
            return codec
    try:
        name = codecs.lookup(str(encoding)).name
    except (LookupError, ValueError):
        name = ""
    offered = {codecs.lookup(codec).name: codec for codec in ENCODINGS} | SAME
    if name not in offered:
        raise NanoGPTError(f"The encoding was {str(encoding)[:40]!r}; it must be one of: {', '.join(ENCODINGS)}.")
    return offered[name]


def decode(data: bytes, name: str, encoding: str | None = None) -> Decoded:
    """The text of a file called `name` in sentences. A byte-order mark stays in it, for the repairs to find.

    NanoGPTError where it is not a text, or does not fit the `encoding` that was asked for. A few broken bytes, as in a
    file cut off in the middle of a letter, are let through and counted.
    """
    _refuse_other_kinds(data, name)
    asked = codec_of(encoding) if encoding else None
    codec = _with_byte_order(data, asked) if asked else _certain(data)
    wide = str(codec).startswith(("utf-16", "utf-32"))  # where zero bytes belong to the letters
    if not wide:
        _refuse_binary(data, name)
    decoded = _decoded(data, codec) if codec else _guessed(data)
    if decoded is None:
        raise NanoGPTError(
            f"{name} cannot be read as {_label(str(codec))}; choose another encoding, or save it as UTF-8."
        )
    if wide:
        _refuse_binary(decoded.text.encode("utf-8"), name)
    return decoded


def _refuse_other_kinds(data: bytes, name: str) -> None:
    for begin, kind, remedy in KINDS:
        could_be_text = len(begin) < 5 and begin.isascii() and b"\0" not in data[:4096]
        if data.startswith(begin) and not could_be_text:
            for inside, real in ZIPPED if begin == b"PK\x03\x04" else []:
                if inside in data[:4096] or inside in data[-8192:]:  # the directory of a zip stands at its end
                    kind, remedy = real, WORD
            raise NanoGPTError(f"{name} is {kind}, not plain text; {remedy}.")


def _refuse_binary(data: bytes, name: str) -> None:
    odd = len(data) - len(data.translate(None, bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))))
    if data.count(0) * 1000 > len(data) or odd * 50 > len(data):
        raise NanoGPTError(
            f"{name} is not plain text ({odd:,} of its bytes are in no text); save it as plain text (.txt)."
        )


def _with_byte_order(data: bytes, codec: str) -> str:
    """UTF-16 and UTF-32 with their byte order spelled out, so that the mark stays in the text like any other's."""
    if codec not in ("utf-16", "utf-32"):
        return codec
    found = _certain(data) or ""
    return found if found.startswith(codec) else codec + "-le"


def _certain(data: bytes) -> str | None:
    """The codec, where the bytes leave no doubt."""
    for bom, codec in BOMS.items():
        if data.startswith(bom):
            return codec
    zeros = [data[i::2].count(0) / (len(data) / 2) for i in (0, 1)] if b"\0" in data else [0, 0]
    if max(zeros) > 0.2 and min(zeros) < 0.01:  # Western text in UTF-16 without its mark: every other byte is zero
        return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    if data.isascii() and (
        b"\x1b$B" in data or b"\x1b$@" in data
    ):  # old Japanese mail: only ASCII bytes, and these to switch
        return "iso2022-jp"
    return "utf-8" if _decoded(data, "utf-8") else None


def _decoded(data: bytes, codec: str) -> Decoded | None:
    """The text in that encoding; None where more than a few bytes do not fit."""
    try:
        return Decoded(data.decode(codec), codec)
    except UnicodeDecodeError as error:
        _, broken, good = _with_broken(data[error.start : error.start + 10_000], codec)
        if broken > max(20, good):  # another encoding altogether; all of a large file would take a second
            return None
    text, broken, good = _with_broken(data, codec)
    return Decoded(text, codec, broken=broken) if broken * 5 <= good else None


def _with_broken(data: bytes, codec: str) -> tuple[str, int, int]:
    """The text with � where bytes do not fit, how often that is, and how many characters beyond ASCII do fit."""
    text = data.decode(codec, "replace")
    broken = text.count("\ufffd") - (data.count(b"\xef\xbf\xbd") if codec == "utf-8" else 0)
    return text, broken, len(text) - len(text.encode("ascii", "ignore")) - broken


def _guessed(data: bytes) -> Decoded:
    """The text in the likeliest encoding that its bytes fit; every byte is something in Latin-1, if nothing better."""
    fitting = (found for codec in (_guess(data), "cp1252") if (found := _decoded(data, codec)))
    return dataclasses.replace(next(fitting, Decoded(data.decode("latin-1"), "latin-1")), guessed=True)


def _guess(data: bytes) -> str:
    """The likeliest of ENCODINGS for bytes that are not Unicode."""
    from charset_normalizer import from_bytes

    lines = [line for line in data.splitlines() if not line.isascii()][:SAMPLE_LINES]  # the others say nothing
    sample = b"\n".join(lines[:: len(lines) // 100 + 1])[:10_000]
    for codec in ("cp932", "euc-jp"):
        kana = [ch for ch in sample.decode(codec, "replace") if not ch.isascii()]
        hiragana = sum("ぁ" <= ch <= "ん" for ch in kana)
        if hiragana - 2 * kana.count("\ufffd") > 0.2 * len(kana):  # no other language looks like that
            return codec
    fits = _latin_fits(sample)
    likeliest = max(fits, key=fits.__getitem__)  # the first of equals
    if fits[likeliest] >= 0.8:
        return likeliest
    for part in (lines, *(lines[i::8] for i in range(8))):  # a broken byte spoils only its own part
        match = from_bytes(b"\n".join(part), cp_isolation=OTHERS).best()
        if match is not None:
            return codec_of(match.encoding)
    return likeliest if fits[likeliest] > 0.4 else "cp1252"


def _latin_fits(sample: bytes) -> dict[str, float]:
    """How well the bytes fit each encoding of Latin script, read as the language that suits it best: from 0 to 1."""
    texts = {codec: sample.decode(codec, "replace") for codec in LATIN}
    fits = {codec: max(_fit(texts[codec], letters) for letters in LATIN[codec]) for codec in LATIN}
    several = _fit(texts["cp1252"], "".join(WEST))  # several languages in one text; that many letters fit easily
    return {**fits, "cp1252": max(fits["cp1252"], 0.9 * several)}


def _fit(text: str, letters: str) -> float:
    """The share of the characters beyond ASCII that stand where this language's letters, or a mark, would stand."""
    good = total = 0
    for before, ch, after in zip(" " + text, text, text[1:] + " "):
        if ch.isascii():
            continue
        total += 1
        if ch in MARKS:
            good += ch in INSIDE or not (before.isalpha() and after.isalpha())
        elif ch.lower() in letters:
            out_of_place = (ch.isupper() and before.islower()) or (
                before.isalpha() and after.isalpha() and not before.isascii() and not after.isascii()
            )  # a capital inside a word, or three such letters in a row: Cyrillic or Greek read as Latin
            good += not out_of_place
    return good / max(total, 1)
