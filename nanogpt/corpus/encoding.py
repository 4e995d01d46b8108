"""The encodings that a text may be in: Python's codecs, and what we call them."""

from __future__ import annotations

import codecs

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


def label(codec: str) -> str:
    """Return the label of a codec, with or without a byte order."""
    return ENCODINGS[codec.removesuffix("-le").removesuffix("-be")]


def is_utf8(data: bytes) -> bool:
    """Return True if all of the bytes are UTF-8."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


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
