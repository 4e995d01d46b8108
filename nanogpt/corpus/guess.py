"""Guess the encoding of bytes that are not Unicode.

For Latin script we score how well the letters fit the languages that use them; for everything else we ask
charset-normalizer.
"""

from __future__ import annotations

from .encoding import ENCODINGS, codec_of
from .japanese import text_of

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
CLEAR = 0.8  # a fit above which there is no doubt
INSIDE = frozenset("’–—…")  # marks that may also occur between letters
MARKS = INSIDE | frozenset("‘‚“”„«»‹›°€£§•©®™½¼±×†‡¶")
JAPANESE = ("cp932", "euc-jp")
EASTERN = (
    *JAPANESE,
    "gb18030",
    "cp950",
    "big5hkscs",
    "cp949",
)  # of two bytes per letter, some of which also are letters in UTF-8
OTHERS = [codec for codec in ENCODINGS if codec not in LATIN and not codec.startswith(("utf", "latin-1", "iso2022"))]


def confident(data: bytes) -> str:
    """Return the one of ENCODINGS that clearly fits bytes that are not Unicode, or "" if none does."""
    codec = guess(data)
    if codec not in LATIN:
        return codec
    return codec if _latin_fits(data[:10_000])[codec] >= CLEAR else ""


def is_east_asian(text: str) -> bool:
    """Return True if nearly all characters are those of Chinese, Japanese or Korean texts."""
    letters = sum("\u3000" <= ch <= "\u30ff" or "\u4e00" <= ch <= "\u9fff" or "가" <= ch <= "힣" for ch in text)
    others = sum(ch in "\n\r\t" or " " <= ch <= "~" or "！" <= ch <= "～" or ch in MARKS for ch in text)
    return letters > 0.5 * len(text) and letters + others > 0.97 * len(text)


def guess(data: bytes) -> str:
    """Return the most likely of ENCODINGS for bytes that are not Unicode."""
    lines = [line for line in data.splitlines() if not line.isascii()][:SAMPLE_LINES]  # ASCII lines tell us nothing
    sample = b"\n".join(lines[:: len(lines) // 100 + 1])[:10_000]
    for codec in JAPANESE:
        if is_japanese(text_of(sample, codec, "replace")):
            return codec
    fits = _latin_fits(sample)
    likeliest = max(fits, key=fits.__getitem__)  # on a tie, the first
    if fits[likeliest] >= CLEAR:
        return likeliest
    return _other_script(lines) or (likeliest if fits[likeliest] > 0.4 else "cp1252")


def is_japanese(text: str) -> bool:
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
