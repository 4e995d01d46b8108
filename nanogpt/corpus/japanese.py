"""Decode Japanese text as programs write it: with characters that Python's codecs lack, and as e-mail in other text.

Python's EUC-JP and ISO-2022-JP lack the rows with ①, ㈱ and 髙 that Windows adds to JIS X 0208, but its cp932 has them.
"""

from __future__ import annotations

import codecs
import re

# ISO-2022-JP, from old e-mail, is all ASCII: a switch to another alphabet, its letters, and a switch back. It also ends
# before any other byte, not only at the end of a line: else this would look again and again from each switch
STRETCH = re.compile(rb"\x1b(?:\$[@B]|\(I)[\x1b!-~]*?(?:\x1b\([BJ]|(?=[^\x1b!-~]|\Z))")
PLACE = b"\x1b$B\x1b(B"  # an empty one
REAL = {"euc-jp": "euc-jp", "iso2022-jp": "iso2022_jp_ext"}  # the latter has half-width kana, too


def text_of(data: bytes, codec: str, errors: str = "strict") -> str:
    """Decode bytes as `bytes.decode` does, with the characters that Windows adds to Japanese. `errors` is "strict" or
    "replace"."""
    return data.decode(REAL[codec], f"windows-{errors}") if codec in REAL else data.decode(codec, errors)


def _added(pair: bytes) -> str:
    """Return the character that Windows adds to JIS X 0208 at two bytes, with or without their high bits, or ""."""
    if (pair[0] ^ pair[1]) & 0x80:  # only one of them has it
        return ""
    row, cell = (byte & 0x7F for byte in pair)
    if not (0x21 <= row <= 0x7E and 0x21 <= cell <= 0x7E):
        return ""
    lead = (row + 1) // 2 + (0x70 if row < 0x5F else 0xB0)  # two rows per first byte of Shift-JIS
    trail = cell + (0x1F + (cell >= 0x60) if row % 2 else 0x7E)
    try:
        return bytes([lead, trail]).decode("cp932")
    except UnicodeDecodeError:
        return ""


def _strict(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    pair = error.object[error.start : error.start + 2]
    found = _added(pair) if len(pair) == 2 else ""
    if not found:
        raise error
    return found, error.start + 2


def _replace(error: UnicodeError) -> tuple[str, int]:
    try:
        return _strict(error)
    except UnicodeDecodeError as unknown:
        return "\ufffd", unknown.end


codecs.register_error("windows-strict", _strict)
codecs.register_error("windows-replace", _replace)


def set_aside(data: bytes) -> tuple[bytes, list[str]]:
    """Return bytes in another encoding without the ISO-2022-JP in them, and the texts of that, for `put_back`."""
    found: list[str] = []

    def empty(stretch: re.Match[bytes]) -> bytes:
        try:
            found.append(text_of(stretch[0], "iso2022-jp"))
        except UnicodeDecodeError:
            return stretch[0]
        return PLACE

    return STRETCH.sub(empty, data), found


def has_other_codes(data: bytes) -> bool:
    """Return True if there are escape codes in the bytes that aren't ISO-2022-JP, such as those for colors."""
    return b"\x1b" in set_aside(data)[0].replace(PLACE, b"")


def put_back(text: str, found: list[str]) -> str:
    """Return a text with what was set aside back in its places."""
    coming = iter(found)
    return re.sub(re.escape(PLACE.decode("ascii")), lambda _: next(coming, ""), text)
