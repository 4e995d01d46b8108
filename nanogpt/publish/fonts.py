"""Find a font on this machine that has a text's letters. Pillow reads font files but doesn't look for them."""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont, features

Font = ImageFont.FreeTypeFont
ENOUGH = 0.98  # share of a text that a font must have; what is missing appears as the font's box
# Fonts in order of preference, by file name: monospaced ones, Chinese and Japanese ones, those with many scripts.
MONOSPACED = (
    "DejaVuSansMono.ttf", "LiberationMono-Regular.ttf", "NotoSansMono-Regular.ttf", "Menlo.ttc", "consola.ttf",
    "SFNSMono.ttf", "UbuntuMono-R.ttf", "FreeMono.ttf", "cour.ttf", "NotoSansMonoCJK-Regular.ttc",
    "NotoSansCJK-Regular.ttc", "SourceHanSans-Regular.ttc",
)  # fmt: skip
CHINESE = ("wqy-microhei.ttc", "wqy-zenhei.ttc", "PingFang.ttc", "Hiragino Sans GB.ttc", "msyh.ttc")
JAPANESE = ("ipag.ttf", "ヒラギノ角ゴシック W3.ttc", "YuGothR.ttc", "meiryo.ttc", "msgothic.ttc")
OTHERS = (
    "AppleSDGothicNeo.ttc", "malgun.ttf", "DejaVuSans.ttf", "NotoSans-Regular.ttf", "segoeui.ttf", "Arial Unicode.ttf",
    "unifont.otf", "unifont.ttf",
)  # fmt: skip
KANA = re.compile("[ぁ-ゖァ-ヺ]")
STYLED = re.compile(r"bold|italic|oblique|black|light|thin|emoji|symbol|lastresort|blank", re.I)
MISSING = "\U0010ffff"  # never a letter, so it shows what a font draws for letters that it doesn't have


def font_for(text: str, size: int) -> Font | None:
    """Return a font of `size` pixels that has at least ENOUGH of the text's letters, or None if there is none.

    The `preferred` fonts come first, then all others on this machine, then the one that Pillow contains. Letters that
    change with their neighbors or run from right to left need Pillow's Raqm layout; without it no font can show them.
    """
    letters = Counter(letter for letter in text if not letter.isspace())
    shapes = features.check_feature("raqm") and features.check_feature("fribidi")
    if not shapes and any(map(is_shaped, letters)):
        return None
    return next((font for font in candidates(size, preferred(text)) if share_shown(font, letters) >= ENOUGH), None)


def preferred(text: str) -> tuple[str, ...]:
    """Return the file names of fonts in the order in which to try them for a text.

    Chinese fonts have Japanese letters, too, but draw the characters of both languages in the Chinese way.
    """
    both = (*JAPANESE, *CHINESE) if KANA.search(text) else (*CHINESE, *JAPANESE)
    return (*MONOSPACED, *both, *OTHERS)


def candidates(size: int, first: tuple[str, ...]) -> Iterator[Font]:
    """Yield the fonts of this machine in the order in which to try them, except bold and slanted ones.

    Those whose file names are in `first` come first, in that order.
    """
    named = lambda path: unicodedata.normalize("NFC", path.name)  # macOS may split ギ into two characters
    found = {named(path): path for path in reversed(fonts())}  # the first of a name counts
    others = [name for name in sorted(found) if name not in first and not STYLED.search(name)]
    for name in (*first, *others):
        with suppress(KeyError, OSError, ValueError):  # not here, unreadable, or a format that FreeType doesn't know
            yield ImageFont.truetype(str(found[name]), size)
    own = ImageFont.load_default(size)
    if isinstance(own, Font):
        yield own


def is_shaped(letter: str) -> bool:
    """Return True for a letter that runs from right to left, or a mark that is placed by the letters around it."""
    return unicodedata.bidirectional(letter) in ("R", "AL") or unicodedata.category(letter) in ("Mn", "Mc")


def share_shown(font: Font, letters: Counter[str]) -> float:
    """Return the share of the letters, by count, that a font has: 1 if there are none, 0 for a damaged font."""
    try:
        missing = drawn(font, MISSING)
        number = sum(count for letter, count in letters.items() if drawn(font, letter) != missing)
    except OSError:
        return 0.0
    return number / letters.total() if letters else 1.0


def drawn(font: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    """Return the size and the pixels of a letter."""
    mask = font.getmask(letter, "L")
    return mask.size, bytes(mask)


@lru_cache(maxsize=1)
def fonts() -> list[Path]:
    """Return all font files of this machine."""
    files: list[Path] = []
    for folder in dict.fromkeys(folders()):
        for above, _, names in os.walk(folder):
            files += [Path(above, name) for name in sorted(names) if name.lower().endswith((".ttf", ".otf", ".ttc"))]
    return files


def folders() -> Iterator[Path]:
    """Yield the folders where this system keeps fonts, some of which may not exist."""
    home = Path(os.path.expanduser("~"))  # unlike Path.home, never raises
    if sys.platform == "win32":
        yield Path(os.environ.get("WINDIR", r"C:\Windows"), "Fonts")
        yield Path(os.environ.get("LOCALAPPDATA", home), "Microsoft", "Windows", "Fonts")
    elif sys.platform == "darwin":
        yield from (home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts"))
    else:
        data = os.environ.get("XDG_DATA_HOME") or home / ".local/share"
        yield from (home / ".fonts", Path(data, "fonts"), Path("/usr/local/share/fonts"), Path("/usr/share/fonts"))
        yield from fontconfig_folders(Path(os.environ.get("FONTCONFIG_FILE") or "/etc/fonts/fonts.conf"))


def fontconfig_folders(path: Path) -> list[Path]:
    """Return the absolute folders that a configuration file of fontconfig names."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [Path(folder.strip()) for folder in re.findall(r"<dir>\s*(/[^<]*)</dir>", text)]
