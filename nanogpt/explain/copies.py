"""Did it copy? The stretches of a text that appear word for word in the training text.

Every maximal match of at least `shortest` characters is found, as in OLMoTrace (Liu et al., 2025): the training text is
indexed by a hash of the characters at each place, once, and each hit is then compared and extended character by
character. Some repetition is normal: the held-out text, which the model has never seen, shows how much.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..config import NanoGPTError, SampleConfig
from . import cache
from .opened import Opened

INDEXED = 20_000_000  # characters of the training text that are searched
MOST = 1000  # places of one match that are compared
SAMPLE = 2000  # characters that a model writes to be judged
PASSAGES = 10  # of held-out text to compare with; more if they are shorter than a sample
BASE = 0x9E3779B97F4A7C15  # of the hash; odd, and without a pattern
VIEW = "copies"


@dataclass(frozen=True)
class Span:
    """A stretch of a text that also stands in the training text."""

    start: int
    length: int
    times: int  # in the training text, MOST if more often
    at: int  # its first place there


class Index:
    """A training text and the hash of the `shortest` characters at each of its places."""

    def __init__(self, text: str):
        self.codes = codes_of(text[:INDEXED])  # (N,)
        self.shortest = 20 if len(np.unique(self.codes)) <= 500 else 8  # characters; a Chinese one says more
        self.hashes = hashes(self.codes, self.shortest)  # (N - shortest + 1,) uint32

    def places(self, wanted: np.ndarray) -> np.ndarray:
        """Return the places whose hash is one of `wanted`, (M,) in order."""
        bits = np.zeros(1 << 20, dtype=bool)  # a look here excludes nearly all places
        bits[wanted & 0xFFFFF] = True
        near = np.flatnonzero(bits[self.hashes & 0xFFFFF])
        return near[np.isin(self.hashes[near], wanted)]

    def spans(self, text: str) -> list[Span]:
        """Return the maximal matches of a text, in order. One within another is left out."""
        query, k = codes_of(text), self.shortest
        if len(query) < k or len(self.codes) < k:
            return []
        own = hashes(query, k)
        places = self.places(np.unique(own))
        at, there, last = pairs(own, self.hashes[places], places)
        # Keep matches that don't also match one character earlier: those are part of a longer one, unless that one was
        # left out because its beginning is too frequent. A hash may collide.
        first = (at == 0) | (there == 0)
        first |= (query[at - 1] != self.codes[there - 1]) | (there - 1 > last[at - 1])
        at, there = at[first], there[first]
        back = self.lengths(query, at - 1, there - 1, -1)
        at, there = np.unique([at - back, there - back], axis=1)
        long = self.lengths(query, at, there)
        kept = long >= k
        return longest(at[kept], there[kept], long[kept])

    def lengths(self, query: np.ndarray, at: np.ndarray, there: np.ndarray, way: int = 1) -> np.ndarray:
        """Return how many characters match from each pair of places on, forward or (-1) back: (P,) from two (P,)."""
        long = np.zeros(len(at), dtype=np.int64)
        alive = np.arange(len(at))
        while len(alive):
            a, b = at[alive] + way * long[alive], there[alive] + way * long[alive]
            inside = (np.minimum(a, b) >= 0) & (a < len(query)) & (b < len(self.codes))
            alive, a, b = alive[inside], a[inside], b[inside]
            alive = alive[query[a] == self.codes[b]]
            long[alive] += 1
        return long


def codes_of(text: str) -> np.ndarray:
    """Return the code points of a text, (N,), in the smallest dtype that holds them."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    highest = int(codes.max()) if len(codes) else 0
    return codes.astype(np.uint8 if highest < 1 << 8 else np.uint16 if highest < 1 << 16 else np.uint32)


def hashes(codes: np.ndarray, length: int) -> np.ndarray:
    """Return a hash of the `length` characters at each place: (N,) -> (N - length + 1,) uint32.

    A polynomial modulo 2**64, of which the upper half is kept. It is put together from hashes of 1, 2, 4, ...
    characters, so that a text takes few passes, piece by piece to stay in the processor's cache.
    """
    n = max(0, len(codes) - length + 1)
    found, piece = np.empty(n, dtype=np.uint32), 1 << 16
    for start in range(0, n, piece):
        part = codes[start : start + piece + length - 1].astype(np.uint64) + np.uint64(1)
        mixed = _hash(part, length) * np.uint64(BASE)  # or the last character would stay in the lower half
        found[start : start + piece] = (mixed >> np.uint64(32)).astype(np.uint32)[: n - start]
    return found


def _hash(part: np.ndarray, length: int) -> np.ndarray:
    """Return the polynomials of the `length` numbers at each place of `part`, (N,) -> (N - length + 1,) uint64."""
    whole, done, power, size = None, 0, part, 1
    while size <= length:
        if length & size:  # put the next `size` numbers behind the `done` ones before them
            behind = power[done:]
            before = 0 if whole is None else whole[: len(behind)] * np.uint64(pow(BASE, size, 2**64))
            whole = before + behind
            done += size
        if 2 * size <= length:
            power = power[: len(power) - size] * np.uint64(pow(BASE, size, 2**64)) + power[size:]
        size *= 2
    assert whole is not None
    return whole


def pairs(own: np.ndarray, other: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all pairs of a place in `own` and one of `places` with the same hash, the first MOST for each of `own`.

    They are two arrays, (P,). The third has the last of the `places` that were kept for each of `own`, (Q,), or a
    higher number than any if none was left out.
    """
    order = np.argsort(other, kind="stable")
    left, right = (np.searchsorted(other[order], own, side=side) for side in ("left", "right"))  # (Q,)
    counts = np.minimum(right - left, MOST)
    at = np.repeat(np.arange(len(own)), counts)  # (P,)
    number = np.arange(len(at)) - np.repeat(np.cumsum(counts) - counts, counts)  # 0, 1, ... within each of `own`
    there = places[order[np.repeat(left, counts) + number]]
    last = np.full(len(own), np.iinfo(np.int64).max)
    full = right - left > MOST
    last[full] = places[order[left[full] + MOST - 1]]
    return at, there, last


def longest(at: np.ndarray, there: np.ndarray, long: np.ndarray) -> list[Span]:
    """Return the longest match at each place, without those that lie within another."""
    spans, end = [], 0
    for place in np.unique(at):
        here = at == place
        most = int(long[here].max())
        if place + most > end:
            same = there[here][long[here] == most]
            spans.append(Span(int(place), most, len(same), int(same.min())))
            end = place + most
    return spans


@lru_cache(maxsize=1)
def _index(corpus_id: str, text: str) -> Index:
    return Index(text)


# ---- of a run ------------------------------------------------------------------------------------------------------


def index_of(opened: Opened) -> Index:
    """Return the index of a run's training text. Raise NanoGPTError if the text isn't here."""
    text = opened.training_text()
    if text is None:
        raise NanoGPTError(
            "The text this model was trained on isn't here, so copies can't be found. Add the same text to search it."
        )
    return _index(str(opened.corpus_id), text)


def share(spans: list[Span], length: int) -> float:
    """Return the share of a text of `length` characters that lies within one of the spans."""
    covered = np.zeros(length, dtype=bool)
    for span in spans:
        covered[span.start : span.start + span.length] = True
    return float(covered.mean()) if length else 0.0


def yardstick(opened: Opened, length: int) -> dict[str, float]:
    """Return {"share", "longest"} of held-out text, which the model hasn't seen: the mean share, and the median of the
    longest spans, of evenly spaced passages of `length` characters."""
    index, text = index_of(opened), opened.held_out_text() or ""
    size = max(1, min(length, len(text)))
    count = max(1, min(max(PASSAGES, PASSAGES * SAMPLE // size), len(text) // size))
    starts = np.linspace(0, len(text) - size, count).astype(int)
    spans = index.spans("\0".join(text[start : start + size] for start in starts))  # one search for all of them
    each = [[span for span in spans if span.start // (size + 1) == i] for i in range(count)]
    covered = share(spans, count * (size + 1)) * (count * (size + 1))  # spans may overlap by some characters
    longest = [max((span.length for span in found), default=0) for found in each]
    return dict(share=covered / (count * size), longest=int(np.median(longest)))


def checked(opened: Opened, text: str) -> dict[str, Any]:
    """Return {"share", "longest", "shortest", "spans", "held_out"} of a text, the longest and rarest spans first."""
    index = index_of(opened)
    spans = index.spans(text)
    ranked = sorted(spans, key=lambda span: (-span.length, span.times, span.start))
    return dict(
        share=round(share(spans, len(text)), 4),
        longest=max((span.length for span in spans), default=0),
        shortest=index.shortest,
        searched=opened.looked_at(),
        spans=[asdict(span) for span in ranked],
        held_out=yardstick(opened, len(text)),
    )


def verdict(found: dict[str, Any]) -> str:
    """Return what was found in a sentence, with the held-out text to compare it with."""
    held_out = found["held_out"]
    part = f" {found['searched']}" if found.get("searched") else ""
    new = f"Held-out text, which the model hasn't seen, has {held_out['share']:.1%}"
    new += f", usually up to {held_out['longest']} characters in a row." if held_out["longest"] else "."
    long = f"{found['shortest']} characters or more"
    if not found["longest"]:
        return f"Nothing of {long} is copied from the training text. {new}{part}"
    copied = f"{found['share']:.1%} lies in stretches of {long} that appear word for word in the training text"
    return f"{copied}, at most {found['longest']} in a row. {new}{part}"


def of_a_sample(opened: Opened) -> dict[str, Any]:
    """Return what `checked` does for a text that the model writes, as numbers only, and keep it in the run's folder."""
    if kept := cache.load(opened, VIEW):
        return kept
    index_of(opened)  # raises if there is no text to compare with
    config = SampleConfig(length=SAMPLE)
    found = checked(opened, opened.write(config))
    del found["spans"]
    cache.keep(opened, VIEW, found)
    return found
