"""Baselines for a loss: what counting models and compressors reach on the same validation set.

Each is fit to the training set and evaluated on the validation set, as the model is, in nats per character. xz and PPMd
are adaptive: they keep learning as they read the validation set, so they are shown apart. A stored text's results
are kept next to it, as `baselines.json`. `python -m nanogpt.explain.baselines ID` writes that file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import corpus, disk
from ..holdout import train_length
from .adaptive import BYTES, compressed, compressors
from .ngrams import kneser_ney

MOST = 20_000_000  # characters; of longer texts, a part around the split is used
LARGE = 5_000_000  # characters of a text that isn't in memory, because counting takes 60 bytes for each
ORDERS = (5, 7)
VERSION = 2  # of the stored results: increase it when the compressors read a text in another way


@dataclass(frozen=True)
class Baseline:
    """How to show a baseline."""

    label: str
    short: str  # for the end of a line
    knows: str  # completes "It ..."
    passed: str  # completes "Now better than ..."
    adaptive: bool = False
    counts_bytes: bool = False  # of which a character has several if the alphabet is large

    def knows_of(self, losses: dict[str, float]) -> str:
        """Return what it knows of a text with these losses, which tell the size of the alphabet."""
        large = losses.get("uniform", 0.0) > math.log(BYTES + 0.5)
        return self.knows.replace("characters", "bytes") if large and self.counts_bytes else self.knows


BASELINES = {
    "uniform": Baseline("Uniform", "uniform", "knows only the alphabet", "guessing"),
    "unigram": Baseline(
        "Unigram", "unigram", "knows how often each character occurs",
        "knowing how often each character occurs",
    ),
    "bigram": Baseline("Bigram", "bigram", "knows the previous character", "knowing the previous character"),
    "5-gram": Baseline("5-gram", "5-gram", "knows the previous 4 characters", "knowing the previous four characters"),
    "7-gram": Baseline("7-gram", "7-gram", "knows the previous 6 characters", "knowing the previous six characters"),
    "xz": Baseline(
        "xz (compressor)", "xz", "copies passages that it has met before", "xz, which keeps learning as it reads",
        adaptive=True,
    ),
    "ppmd": Baseline(
        "PPMd (compressor)", "PPMd", "knows the previous 6 characters, and more of the text the further it reads",
        "PPMd, which keeps learning as it reads", adaptive=True, counts_bytes=True,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Counted:
    """The baselines of a text."""

    losses: dict[str, float]  # nats per character, by the keys of BASELINES
    characters: int  # of the text, or of the part of it that was counted

    def missing(self) -> list[str]:
        """Return the baselines that are not computed yet and that this installation can compute."""
        able = {key for key, here in compressors().items() if here}
        return [key for key, one in BASELINES.items() if key not in self.losses and (not one.adaptive or key in able)]


def count(text: str, known: Counted | None = None, vocab_size: int | None = None) -> Iterator[Counted]:
    """Compute the baselines of a text that are missing in `known`. Yield the result so far after each kind of them.

    `vocab_size` is the size of the alphabet, by default that of the text: give it if this is a part of a longer one.
    """
    part, vocab_size = part_of(text), vocab_size or len(set(text))
    found = known or Counted({}, len(part))
    missing = found.missing()
    if any(not BASELINES[key].adaptive for key in missing):
        found = Counted({**counted(part, vocab_size), **found.losses}, len(part))
        yield found
    cut = train_length(len(part))
    for key in missing:
        if BASELINES[key].adaptive:
            found = Counted({**found.losses, key: compressed(key, part[:cut], part[cut:])}, len(part))
            yield found


def part_of(text: str) -> str:
    """Return the text, or if it is longer than MOST, a part of that length that is split at the same character."""
    if len(text) <= MOST:
        return text
    start = train_length(len(text)) - train_length(MOST)
    return text[start : start + MOST]


def counted(text: str, vocab_size: int | None = None) -> dict[str, float]:
    """Return the losses of the counting models on a text's characters, whatever tokenizer a model uses.

    `vocab_size` is the size of the alphabet, by default that of the text.
    """
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")  # (N,) code points
    known = np.flatnonzero(np.bincount(points))  # (V,) code points that occur, sorted
    numbers = np.zeros(int(known[-1]) + 1, dtype=np.int32)
    numbers[known] = np.arange(len(known))
    ids, vocab_size = numbers[points], vocab_size or len(known)  # (N,)
    longer = kneser_ney(ids, train_length(len(ids)), vocab_size, ORDERS)
    return baselines(ids, vocab_size) | {f"{n}-gram": float(-np.log(p).mean()) for n, p in longer.items()}


def baselines(tokens: np.ndarray, vocab_size: int) -> dict[str, float]:
    """Return losses in nats per character, {"uniform", "unigram", "bigram"}. `tokens` (N,) has one id per character."""
    n = train_length(len(tokens))
    train, val = tokens[:n].astype(np.int64), tokens[n:].astype(np.int64)
    # count every character once more than it occurs, so that none has probability 0
    counts = np.bincount(train, minlength=vocab_size)  # (V,)
    frequent = (counts + 1) / (n + vocab_size)  # (V,)
    before, after = val[:-1], val[1:]
    # for each character, the counts of its followers, with the frequencies above as one more observation
    pairs, times = np.unique(train[:-1] * vocab_size + train[1:], return_counts=True)
    wanted = before * vocab_size + after
    at = np.searchsorted(pairs, wanted).clip(max=len(pairs) - 1)
    seen = np.where(pairs[at] == wanted, times[at], 0)
    followed = np.bincount(train[:-1], minlength=vocab_size)  # (V,)
    likely = (seen + frequent[after]) / (followed[before] + 1)
    return {
        "uniform": math.log(vocab_size),
        "unigram": float(-np.log(frequent[after]).mean()),
        "bigram": float(-np.log(likely).mean()),
    }


# ---- kept next to the text ---------------------------------------------------------------------------------------


def from_stored(found: dict[str, Any]) -> Counted:
    """Return what was stored, without what is computed in another way now. Raise KeyError etc. if it is damaged."""
    same = found.get("version", 1) == VERSION
    keys = [key for key, one in BASELINES.items() if key in found["losses"] and (same or not one.adaptive)]
    return Counted({key: float(found["losses"][key]) for key in keys}, int(found["characters"]))


def kept(text: corpus.Corpus) -> Counted | None:
    """Return what is kept for a stored text, or None. It may be incomplete, because it is written step by step."""
    try:
        found: dict[str, Any] = disk.from_json(disk.read(text.folder / "baselines.json"))
        if found["sha256"] != text.sha256:
            return None
        stored = from_stored(found)
        if "uniform" in stored.losses:  # an earlier version took the alphabet of the part that was counted
            stored.losses["uniform"] = math.log(len(text.chars))
        return stored
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none yet, or damaged: it can be computed again
        return None


def keep(text: corpus.Corpus) -> Counted:
    """Compute what isn't kept yet for a stored text, keep it, and return it.

    Raise NanoGPTError if the text is damaged, and OSError if the disk is full or the text was deleted meanwhile.
    """
    found = kept(text)
    if found and not found.missing():
        return found
    for result in count(to_count(text), found, len(text.chars)):
        store(text, result)
    return result


def keep_counted(text: corpus.Corpus) -> Counted:
    """Return what is kept for a stored text; if there is nothing yet, fit the counting models, and keep that.

    It takes a second for each 3 million characters. Raise NanoGPTError if the text is damaged.
    """
    if found := kept(text):
        return found
    result = next(count(to_count(text), vocab_size=len(text.chars)))
    if found := kept(text):  # counted in the background meanwhile, and with more models
        return found
    with suppress(OSError):  # the disk is full, or the text was deleted meanwhile: then it is counted again
        store(text, result)
    return result


def to_count(text: corpus.Corpus) -> str:
    """Return a stored text, or the part of it that is counted. Raise NanoGPTError if it is damaged."""
    return "".join(text.part(LARGE if text.large else MOST))


def store(text: corpus.Corpus, found: Counted) -> None:
    """Write what was found next to a stored text."""
    about = dict(version=VERSION, sha256=text.sha256, characters=found.characters, losses=found.losses)
    disk.write_whole(text.folder / "baselines.json", json.dumps(about, indent=1))


if __name__ == "__main__":
    import os
    import sys

    if hasattr(os, "nice"):  # not on Windows
        os.nice(19)  # only as much of the processor as nothing else needs
    keep(corpus.load(sys.argv[1]))
