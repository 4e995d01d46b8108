"""Show what a clean-up does: the first place in a text that it changes, before and after, with what stands around it.

Such a place may be anywhere in the text, and much of what is cleaned up can't be seen, so the preview of a text's
beginning doesn't show it.
"""

from __future__ import annotations

from dataclasses import dataclass

AROUND = 40  # characters of the text shown on each side
LONGEST = 60  # characters shown of what was changed
SAME = 5  # characters that are equal again after the place
REACH = 120  # characters in which that is looked for
BLOCK = 1 << 16  # characters compared at a time
SIGNS = {"\n": "↵", "\t": "⇥", "\r": "[CR]", "\x1b": "[ESC]"}


@dataclass(frozen=True)
class Place:
    """A place in a text. Characters that can't be seen are shown by signs."""

    before: str  # the text before it
    old: str  # what was there
    old_after: str  # and the text after that
    new: str  # what is there now
    new_after: str  # and the text after that

    @property
    def words(self) -> str:
        """Return the old text, with plain spaces."""
        return " ".join(self.old.replace("·", " ").replace(SIGNS["\n"], " ").split())


def first_place(old: str, new: str) -> Place:
    """Return the first place in which two texts differ."""
    start = _differ_at(old, new)
    old_end, new_end = _equal_again(old, new, start)
    before = visible(old[max(0, start - AROUND) : start])
    return Place(before, *_side(old, start, old_end), *_side(new, start, new_end))


def _side(text: str, start: int, end: int) -> tuple[str, str]:
    """Return what is at a place, and the text after that unless it is too far away to be shown."""
    after = text[end : end + AROUND] if end - start <= LONGEST else ""
    return visible(text[start:end], spaces=True), visible(after)


def _differ_at(old: str, new: str) -> int:
    """Return the index of the first difference."""
    start = 0
    while old[start : start + BLOCK] == new[start : start + BLOCK] and start < len(old):
        start += BLOCK
    pairs = zip(old[start : start + BLOCK], new[start : start + BLOCK])
    return start + next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(old), len(new)) - start)


def _equal_again(old: str, new: str, start: int) -> tuple[int, int]:
    """Return where the texts are equal again, in each of them; if not within REACH, as far as a place is shown."""
    for length in range(1, 2 * REACH):
        for more in range(max(0, length - REACH), min(length, REACH) + 1):
            at, there = start + length - more, start + more
            same = old[at : at + SAME]
            if same == new[there : there + SAME] and (len(same) == SAME or at + len(same) == len(old)):
                return at, there
    return start + LONGEST + 1, start + LONGEST + 1


def visible(text: str, spaces: bool = False) -> str:
    """Return a text on one line, with signs for control and invisible characters, and for spaces if asked for."""
    signs = "".join(_sign(ch) for ch in text[:LONGEST])
    return (signs.replace(" ", "·") if spaces else signs) + ("…" if len(text) > LONGEST else "")


def _sign(ch: str) -> str:
    if ch in SIGNS:
        return SIGNS[ch]
    return ch if ch.isprintable() or ch == "\ufffd" else f"[U+{ord(ch):04X}]"
