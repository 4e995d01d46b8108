"""Time machine: what a run wrote at about 20 moments of its training, and what it had learned by then.

The texts come from the run's snapshots, or, if it kept none, from the samples of its evaluations. A milestone is a rule
about one of these texts, compared with the training text. Its step is that of the first text for which it holds, if it
also holds for most of the later ones: 200 characters are few, so it may hold once by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from ..config import NanoGPTError, SampleConfig
from ..errors import shortages
from ..runs import History, kept_step, snapshots
from . import cache
from .features import words
from .opened import Opened

LENGTH = 200  # characters that each snapshot writes
SEED = 1337
VIEW = "timemachine"
REAL = 4  # letters: shorter words turn up by chance all the time
COUNTED = 3  # letters of the words of which half must be real
FEW = 5  # words; half of fewer says nothing
SPACED = 0.05  # the share of spaces from which on a script separates words; without them, a "word" is a whole clause
ALIKE = 2.0  # a share is "as often" as another within this factor
MOST = 0.75  # of the later texts, for which a rule must hold, too


@dataclass(frozen=True)
class Written:
    """What a run wrote at a step."""

    step: int
    text: str


@dataclass(frozen=True)
class Milestone:
    """What a run had learned by a step, as a sentence. `at` is the number of the text, from 0."""

    step: int
    at: int
    says: str


@dataclass(frozen=True)
class Measure:
    """What texts are compared with: the shares of spaces and of line breaks, and the words in lower case."""

    spaces: float
    breaks: float
    words: frozenset[str]  # empty if the training text isn't here

    @property
    def known(self) -> frozenset[str]:
        """Return the words that tell real ones: none in a script that doesn't separate words."""
        return self.words if self.spaces >= SPACED else frozenset()


# ---- rules about texts -----------------------------------------------------------------------------------------------


def measure(text: str, with_words: bool = True) -> Measure:
    """Return the measure of a text."""
    known = frozenset(found.group().lower() for found in words(text)) if with_words else frozenset[str]()
    return Measure(share(text, " "), share(text, "\n"), known)


def share(text: str, character: str) -> float:
    """Return the share of a text that is one character."""
    return text.count(character) / max(1, len(text))


def alike(one: float, other: float) -> bool:
    """Return True if two shares are within a factor of ALIKE."""
    return other / ALIKE <= one <= other * ALIKE


def words_of(text: str) -> list[str]:
    """Return the whole words of a text in lower case: the first and the last may be cut off."""
    return [found.group().lower() for found in words(text) if found.start() > 0 and found.end() < len(text)]


def real_words(text: str, known: frozenset[str]) -> list[str]:
    """Return the first two words of four letters or more that are `known` and not the same; [] if there are fewer.

    One alone is no sign of learning: random letters spell a word of four letters in about one text of four.
    """
    found = list(dict.fromkeys(word for word in words_of(text) if len(word) >= REAL and word in known))
    return found[:2] if len(found) >= 2 else []


def half_real(text: str, known: frozenset[str]) -> bool:
    """Return True if at least half of the words of three letters or more are `known`, and there are enough of them."""
    counted = [word for word in words_of(text) if len(word) >= COUNTED]
    return len(counted) >= FEW and 2 * sum(word in known for word in counted) >= len(counted)


def first_from(holds: Sequence[bool]) -> int | None:
    """Return the first place from which a rule holds, there and for most of the later texts; None if it never does."""
    for i, here in enumerate(holds):
        if here and sum(holds[i:]) >= MOST * len(holds[i:]):
            return i
    return None


def rules(like: Measure, than: str) -> Iterator[tuple[str, Callable[[str], bool]]]:
    """Yield the rules about shares and words that fit texts like these: a sentence and a function of a text."""
    if like.spaces >= SPACED:
        yield f"Spaces about as often as {than}", lambda text: alike(share(text, " "), like.spaces)
    if like.breaks * LENGTH >= 2:  # with fewer, one more or less says nothing
        yield f"Line breaks about as often as {than}", lambda text: alike(share(text, "\n"), like.breaks)
    if like.known:
        yield "Half of the words are real", lambda text: half_real(text, like.known)


def milestones(texts: Sequence[Written], training: Measure | None) -> list[Milestone]:
    """Return the milestones of a run in order of their steps.

    Without the training text, compare the shares with those of the run's last texts, and say nothing about words.
    """
    like = training or measure("".join(one.text for one in texts[-3:]), with_words=False)
    found = [
        (first_from([rule(one.text) for one in texts]), says)
        for says, rule in rules(like, "in your text" if training else "at the end")
    ]
    real = [real_words(one.text, like.known) for one in texts]
    at = first_from(list(map(bool, real)))
    if at is not None:
        found.append((at, f"First real words: “{real[at][0]}”, “{real[at][1]}”"))
    known = [Milestone(texts[at].step, at, says) for at, says in found if at is not None]
    return sorted(known, key=lambda one: one.at)


# ---- of a run --------------------------------------------------------------------------------------------------------


def from_samples(history: History) -> list[Written]:
    """Return the samples that a run wrote at its evaluations."""
    return [Written(int(row["step"]), row["text"]) for row in history.samples]


def from_snapshots(opened: Opened, prompt: str, seed: int) -> Iterator[Written]:
    """Yield what each snapshot writes, and in the end the model itself if it is of a later step.

    Raise NanoGPTError if a snapshot is broken.
    """
    folder, last = opened.run.folder, kept_step(opened.run.history())
    config, step = SampleConfig(length=LENGTH, seed=seed), -1
    for step in snapshots.steps_in(folder):
        yield Written(step, _text(opened, prompt, config, step))
    if last > step:
        yield Written(last, _text(opened, prompt, config))


@shortages()
def _text(opened: Opened, prompt: str, config: SampleConfig, step: int | None = None) -> str:
    from ..sample import stream  # here, because it imports torch

    model = opened.model if step is None else snapshots.load(opened.run.folder, step)
    return "".join(stream(model, opened.tokenizer, prompt, config))


def count(opened: Opened) -> int:
    """Return how many snapshots a run has kept."""
    return len(snapshots.steps_in(opened.run.folder))


def travel(opened: Opened, prompt: str = "", seed: int = SEED) -> Iterator[dict[str, Any]]:
    """Yield {"texts", "milestones", "prompt", "samples"} as the texts are written, the milestones when all are.

    `samples` is True if the texts are a run's samples, which have no prompt: it kept no snapshots. What is written
    without a prompt and with the usual seed is kept in the run's folder. Raise NanoGPTError if there are no texts.
    """
    steps, usual = snapshots.steps_in(opened.run.folder), not prompt and seed == SEED
    if usual and (kept := _kept(opened, steps)):
        yield kept
        return
    texts: list[Written] = []
    found: dict[str, Any] = dict(prompt=prompt if steps else "", samples=not steps, texts=[], milestones=[])
    for one in _written(opened, prompt, seed, bool(steps)):
        texts.append(one)
        found["texts"] = list(map(asdict, texts))
        yield found
    if not texts:
        raise NanoGPTError("This run has no snapshots and no samples, so there is nothing to show of its training.")
    found = with_milestones(found, opened)
    if usual and steps:
        cache.keep(opened, VIEW, dict(steps=steps, compared=bool(opened.corpus_id), found=found))
    yield found


def _written(opened: Opened, prompt: str, seed: int, has_snapshots: bool) -> Iterator[Written]:
    if has_snapshots:
        yield from from_snapshots(opened, prompt, seed)
    else:
        yield from from_samples(opened.run.history())


def _kept(opened: Opened, steps: list[int]) -> dict[str, Any] | None:
    """Return what was kept of these snapshots, with or without the training text as now; None if it wasn't."""
    kept = cache.load(opened, VIEW) if steps else None
    same = kept is not None and kept["steps"] == steps and kept["compared"] == bool(opened.corpus_id)
    return with_milestones(kept["found"], opened) if kept and same else None


def with_milestones(found: dict[str, Any], opened: Opened) -> dict[str, Any]:
    """Return what was found with the milestones of its texts, by the rules as they are now."""
    texts = [Written(**one) for one in found["texts"]]
    return found | dict(milestones=list(map(asdict, milestones(texts, training_measure(opened)))))


def training_measure(opened: Opened) -> Measure | None:
    """Return the measure of a run's training text, None if the text isn't here."""
    return _measured(opened.corpus_id, opened.training_text() or "") if opened.corpus_id else None


@lru_cache(maxsize=2)
def _measured(corpus_id: str, text: str) -> Measure:
    return measure(text)
