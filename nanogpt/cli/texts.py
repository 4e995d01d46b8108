"""How `eval`, `ladder` and `baselines` read the text that they measure."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..errors import say


def text_in(files: Sequence[str], encoding: str | None = None) -> str:
    """Return the text of files, or the start of those too large to be read at once, as stderr says."""
    from .. import corpus

    text, is_all = corpus.read_start(files, encoding)
    if not is_all:
        say(f"Only the first {len(text):,} characters are used.", sys.stderr)
    return text
