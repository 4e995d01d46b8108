"""The rules of the run doctor: what the losses of a run say about it, in plain sentences, each with one thing to do.

Every finding is a rule about the logged rows. The rules and their thresholds were set on recorded curves of real runs,
which are in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..config import TrainConfig, knobs
from ..layout import LAYOUTS, Layout

WORSE = 0.02  # nats above the best by which the validation loss has to rise to call it overfitting
FLAT = 0.03  # nats in the last third of a run: less is no progress
EVENLY = 0.05  # share of the whole fall: if more of it is in the last third, the loss falls evenly
NOTHING = 0.02  # nats: below, nothing is left to learn
FALLING = 0.05  # nats in the last third of a run: more is progress that went on to the end
LEAST = 5  # evaluations before anything can be said
GAP = 0.15  # nats between training and validation loss from which on a model memorizes
CLEARLY = 0.05  # nats below the counting models from which on a model knows more than they do
# Parameters per character of the text, as in Curve. On Tiny Shakespeare (benchmarks/README.md), models with 0.297 get
# below what counting reaches, 1.52, so one that has as many and doesn't lacks training. More than 2 brought nothing:
# 2.0 reached 1.384, and 9.6 reached 1.390.
ABLE, ENOUGH = 0.29, 2.0
MOST_EPOCHS = 15  # as many as were measured there
# Shares of the loss of a guess, below which most texts let a model get: of a guess that knows how often each character
# occurs or, as long as the text hasn't been counted, of a uniform one, ln(vocab_size).
STUCK, STUCK_UNIFORM = 0.92, 0.75


@dataclass(frozen=True)
class Finding:
    """What a rule found: a short name for it, a sentence, and one thing to do."""

    rule: str
    says: str
    do: str
    hidden: bool = False  # whether that is a setting that a time budget chooses, so that the page's form hides it


@dataclass(frozen=True)
class Curve:
    """What the rules look at: the evaluations of a run, (N,) each, and a few facts about it."""

    steps: np.ndarray
    val: np.ndarray  # validation loss in nats per character
    train: np.ndarray  # training loss near the same steps
    ended: bool
    learning_rate: float
    epochs: float
    parameters: int  # without the two tables that grow with the alphabet: token embedding and output head
    characters: int  # of the text
    vocab_size: int
    message: str = ""  # of the last event
    dropout: float = 0.0
    layout: Layout = LAYOUTS["classic"]
    matrix_lr: float | None = None  # Muon's learning rate, None without Muon
    finished: bool = True  # False if it was stopped, or has failed
    timed: bool = False  # whether it has a time budget
    n_layer: int = 2  # any but 1, of which one can't be left out
    counted: float | None = None  # the lowest loss of the counting models, if they have been computed for this text
    unigram: float | None = None  # the loss of the one that knows how often each character occurs, likewise

    @property
    def best(self) -> int:
        """Return the index of the lowest validation loss."""
        return int(self.val.argmin())

    @property
    def guess(self) -> float:
        """Return the loss above which a model is hardly better than guessing.

        It doesn't depend on the alphabet once the text has been counted: rare characters, such as a few emoji, raise
        ln(vocab_size) and hardly change the text.
        """
        return STUCK_UNIFORM * math.log(self.vocab_size) if self.unigram is None else STUCK * self.unigram

    def fall(self) -> float:
        """Return by how much the validation loss fell in the last third of the steps, from means of three.

        The untrained model doesn't count. With fewer than three evaluations in between, nothing can be said: NaN, which
        no comparison holds for.
        """
        third = self.steps >= self.steps[-1] * 2 / 3
        before, after = self.val[~third & (self.steps > 0)][-3:], self.val[-3:]
        return float(before.mean() - after.mean()) if len(before) == 3 else math.nan

    def rates(self, factor: float) -> str:
        """Return the advice to change the learning rate, or both of Muon, by a factor, to what can be set.

        Return "" if nothing further can be set.
        """
        limits = {knob.name: (knob.low or 0.0, knob.high or math.inf) for knob in knobs(TrainConfig)}
        rates = {"learning_rate": self.learning_rate} | ({"matrix_lr": self.matrix_lr} if self.matrix_lr else {})
        to = {name: min(max(rate * factor, limits[name][0]), limits[name][1]) for name, rate in rates.items()}
        changed = [f"{name} to {rate:.2g}" for name, rate in to.items() if rate != rates[name]]
        return f"Set {' and '.join(changed)}." if changed else ""

    def longer(self) -> str:
        """Return the advice to train for longer."""
        button = "Train more for" if self.finished else "Resume"
        return f"Train it for longer, with “{button}” or train --resume."


# ---- the rules -----------------------------------------------------------------------------------------------------


def diverged(curve: Curve) -> Finding | None:
    """The loss became NaN."""
    if "diverged" not in curve.message:
        return None
    return Finding("diverged", "Training diverged: the loss became NaN.", curve.rates(1 / 3))


def stuck(curve: Curve) -> Finding | None:
    """The loss fell at first and then stayed near that of a guess."""
    high = curve.val[-3:].mean() > curve.guess
    if not (high and curve.fall() <= FALLING) or falls_evenly(curve) or nothing_left(curve):
        return None
    says = f"The loss is stuck at {curve.val[-1]:.2f}, hardly better than guessing"
    if curve.counted is None:  # digits of pi would look the same
        return Finding(
            "stuck", f"{says}: the learning rate is too high, or the text has no patterns.", curve.rates(0.1)
        )
    if patternless(curve):
        says += f", and even counting doesn't get below {curve.counted:.2f}: this text has hardly any patterns."
        return Finding("nothing to learn", says, "Choose a text in which the next character can be guessed.")
    return Finding("rate too high", f"{says}: the learning rate is too high.", curve.rates(0.1))


def patternless(curve: Curve) -> bool:
    """Return True if even counting is known not to reach a lower loss."""
    return curve.counted is not None and curve.val[-1] < curve.counted + FLAT


def falls_evenly(curve: Curve) -> bool:
    """Return True if the loss falls, however slowly, as it has from the start, and can fall further."""
    least = min(FLAT, EVENLY * (curve.val[0] - curve.val[-1]))
    return bool(np.all(np.diff(curve.val[-6:]) < 0) and curve.fall() > least) and not patternless(curve)


def rate_too_low(curve: Curve) -> Finding | None:
    """After hundreds of steps the loss is still near that of a guess, and falls evenly."""
    if not (curve.val[-1] > curve.guess and curve.steps[-1] >= 200 and falls_evenly(curve)):
        return None
    says = f"After {curve.steps[-1]:,} steps the loss is still {curve.val[-1]:.2f}: the learning rate is too low."
    return Finding("rate too low", says, curve.rates(10))


def overfitting(curve: Curve) -> Finding | None:
    """The validation loss has risen since its minimum, while the training loss fell, and not in the first epoch."""
    rose = curve.val[-1] - curve.val[curve.best]
    if curve.epochs < 1 or rose < WORSE or curve.train[-1] >= curve.train[curve.best]:
        return None
    says = (
        f"Overfitting since step {curve.steps[curve.best]:,}: the validation loss rose from {curve.val.min():.2f} to "
        f"{curve.val[-1]:.2f}, while the training loss fell. The weights of the best step are kept."
    )
    return Finding("overfitting", says, "Set dropout to 0.2." if curve.dropout < 0.2 else "Add more text.")


def too_little_text(curve: Curve) -> Finding | None:
    """A model with many parameters per character memorizes its text."""
    each = curve.parameters / max(1, curve.characters)
    if each < 5 or curve.val[-1] - curve.train[-1] < 2 * GAP:
        return None
    says = f"The text is too small for this model: it has {each:.0f} parameters per character, enough to memorize it."
    return Finding("too little text", says, "Choose a smaller model: halve n_embd.")


def nothing_left(curve: Curve) -> Finding | None:
    """The model predicts nearly every character, as of a text that repeats itself."""
    if not curve.val[-3:].mean() < NOTHING:
        return None
    says = f"Nothing is left to learn: the validation loss is {curve.val[-1]:.2f}. This text repeats itself."
    return Finding("nothing left", says, "Choose a text that repeats itself less.")


def plateau(curve: Curve) -> Finding | None:
    """Training and validation loss are close, and neither falls any more.

    A larger model is the advice unless it would overfit, or the text or the training limits this one. As long as the
    text hasn't been counted, only a model that is clearly small is told to grow.
    """
    if not is_flat(curve) or overfitting(curve):
        return None
    says = f"Plateau: the validation loss has stopped falling at {curve.val[-1]:.2f}, and so has the training loss"
    each = curve.parameters / max(1, curve.characters)
    if each >= ENOUGH:
        says = f"{says}. With {each:.1f} parameters per character, the text limits it, not its size."
        return Finding("text limits", says, "Add more text.")
    if found := behind_counting(curve, says):
        return replace(found, says=f"{found.says} A larger model isn't the next step.")
    if curve.counted is None and each >= ABLE:
        says = f"{says}. Without the baselines of this text, we can't tell whether a larger model would help."
        return Finding("plateau without baselines", says, "Compute them first: nanogpt baselines FILE.")
    larger = "double n_embd" if 4 * each < ENOUGH else "increase n_embd by half"  # as in the sizes that were measured
    return Finding("plateau", f"{says}.", f"Choose a larger model ({larger}): this one has learned what it can.")


def is_flat(curve: Curve) -> bool:
    """Return True if a run has ended with both losses close and flat, well below that of a guess."""
    close = curve.val[-1] - curve.train[-1] < GAP and curve.val[-1] <= curve.guess and not nothing_left(curve)
    return bool(curve.ended and close and abs(curve.fall()) < FLAT and curve.epochs > 2)


def behind_counting(curve: Curve, says: str) -> Finding | None:
    """Return what to do if counting does about as well as the model, or better though it isn't too small for more."""
    ahead = math.inf if curve.counted is None else curve.counted - curve.val.min()
    small = curve.parameters < ABLE * curve.characters and ahead < -CLEARLY
    if ahead >= CLEARLY or small:
        return None
    if abs(ahead) < CLEARLY:
        says = f"{says}. Counting characters alone does about as well: {curve.counted:.2f}."
    else:
        says = f"{says}, but counting characters alone reaches {curve.counted:.2f}."
    if curve.layout != LAYOUTS["modern"]:
        do = "Choose the modern architecture: at the same size, it gets further on the same text."
    elif curve.epochs < MOST_EPOCHS:
        do = curve.longer()
    else:
        do = "Add more text."
    return Finding("behind counting", says, do)


def too_short(curve: Curve) -> Finding | None:
    """The run ended while the loss was falling, and had not read its text often."""
    falling = curve.ended and curve.fall() > FALLING and curve.epochs < 10
    if not falling or rate_too_low(curve) or nothing_left(curve):
        return None
    says = f"Still improving when it ended: the validation loss fell by {curve.fall():.2f} in the last third."
    return Finding("too short", says, curve.longer())


RULES: Sequence[Callable[[Curve], Finding | None]] = (
    diverged, stuck, rate_too_low, overfitting, too_little_text, nothing_left, plateau, too_short,
)  # fmt: skip


def findings(curve: Curve) -> list[Finding]:
    """Return what the rules find and can advise on. A run with fewer than LEAST evaluations says too little."""
    rules = RULES if len(curve.val) >= LEAST else [diverged]
    return [found for rule in rules if (found := rule(curve)) and found.do]
