"""Remove from subtitles what isn't speech: their times and numbers, their headings, and their formatting."""

from __future__ import annotations

import re

# Times, and what stands between them: the numbers and names of SubRip and WebVTT files, and the fields of others
TIME = r"(?:\d{1,3}:)?\d{2}:\d{2}[.,]\d{3}"
LONG_TIME = r"\d{1,2}:\d{2}:\d{2}\.\d{3}"
# What subtitles have, each after a character of it that most texts don't have and that is found twenty times as fast
SIGNS = ((">", " --> "), ("0", ":00:"), ("D", "\nDialogue: "), ("}", "}{"), ("[", "\n[0"))
CUE = re.compile(
    rf"(?:^\d+[ \t]*\n|(?<=\n\n)[^\n]+\n)?^{TIME} --> {TIME}[^\n]*\n"
    rf"|^{LONG_TIME},{LONG_TIME}[ \t]*\n"  # YouTube's
    r"|^Dialogue: (?:[^,\n]*,){9}|^\{\d+\}\{\d+\}|^\[\d{1,3}:\d{2}\.\d{2,3}\]",  # SubStation Alpha, MicroDVD, lyrics
    re.MULTILINE,
)
HEADINGS = re.compile(
    r"\AWEBVTT[^\n]*\n(?:[^\n]+\n)*|\A\[Script Info\].*?(?=^Dialogue: )|^(?:NOTE|STYLE)\b[^\n]*\n(?:[^\n]+\n)*",
    re.MULTILINE | re.DOTALL,
)
FORMATTING = re.compile(  # <i>, <v Olga>, <c.yellow>, the times of single words, and {\i1} of SubStation Alpha
    r"</?(?:[bciuv]|font|ruby|rt|lang)\b[^<>\n]{0,200}>|<(?:\d{1,3}:)?\d{2}:\d{2}\.\d{2,3}>|\{\\[^{}\n]{0,200}\}"
)


def without_times(text: str) -> tuple[str, int]:
    """Return the speech of subtitles, and the number of times that were removed from them; any other text as it is."""
    if not any(rare in text and sign in text for rare, sign in SIGNS):
        return text, 0
    headed = text.startswith(("WEBVTT", "[Script Info]"))
    fixed, count = CUE.subn("", HEADINGS.sub("\n", text) if headed else text)
    if not count:
        return text, 0
    breaks = "\\N" if text.startswith("[Script Info]") else "|" if text.startswith("{") else ""
    fixed = fixed.replace(breaks, "\n") if breaks else fixed
    return FORMATTING.sub("", fixed).lstrip("\n"), count
