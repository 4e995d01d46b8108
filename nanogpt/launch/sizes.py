"""The models that a time budget on a CPU chooses from, and the validation loss that each reaches in so many steps.

How many steps fit into a budget depends on the machine, and is measured; what loss they reach depends only on the text.
So the best choice on a machine is the model whose curve is lowest at the number of steps that fit. This module imports
no torch, so that the page can update its forecast cheaply.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..formats import read_config
from ..runs import Run

MEASURED_LAYOUT = "modern"  # the curves were measured with it, so it is the default for time budgets
GUESSED = 20_000  # characters; a model memorizes a shorter text, so no loss is promised for it
EPOCHS = 15.0  # as many as were measured; no loss is promised for more
MEMORIZED = 100_000  # tokens; training on a shorter text ends by `patience`, not after a number of epochs
TRIAL_PREDICTIONS = 16_000_000  # of a step of a trial at most, each a number that is copied a few times
TRIAL_FLOPS = 2e10  # operations per step of a trial at most: a fifth of a second on a slow machine
TRIAL_BYTES = 1e9  # of memory that a trial takes at most; also at most half of what is free
SLOW = 2e10  # operations per second to assume where nothing can be measured
# Beyond the sizes measured, a step of ten times the operations takes 10 ** SLOPE times as long. HOPED decides what to
# measure next: the time per step can grow as slowly as that, and a size that may be the best shouldn't be missed. Even
# between two sizes, a guess may be too high, and DOUBT times it may be right.
SLOPE, HOPED, DOUBT = 0.9, 0.5, 0.9
SHAPE = ("n_layer", "n_head", "n_embd", "block_size", "batch_size")


@dataclass(frozen=True)
class Size:
    """A model and batch size, and the validation loss on Tiny Shakespeare by the number of steps."""

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    batch_size: int
    curve: tuple[tuple[float, float], ...]  # (steps, nats per character), each point a run with a schedule of its own
    most: float = math.inf  # epochs after which it only overfits

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings among the fields."""
        return {name: getattr(self, name) for name in SHAPE}

    @property
    def tokens(self) -> int:
        """Return the tokens per step."""
        return self.batch_size * self.block_size

    def loss(self, steps: float) -> float:
        """Return the validation loss after a run of so many steps, interpolated over the logarithm of the steps.

        Before the first point the curve keeps its slope, up to the loss of guessing; after the last point it is flat.
        """
        if steps >= self.curve[-1][0]:
            return self.curve[-1][1]
        (before, high), (after, low) = next(
            (pair for pair in pairwise(self.curve) if steps <= pair[1][0]), self.curve[:2]
        )
        share = math.log(max(1.0, steps) / before) / math.log(after / before)
        return min(UNTRAINED, high + share * (low - high))


UNTRAINED = math.log(65)  # nats per character of guessing among the 65 characters of Tiny Shakespeare

# From small to large. The points are runs by the clock on an Intel Xeon and on an AMD EPYC (benchmarks/README.md), and
# on a GPU for the last size; those marked so are guesses.
SIZES = (
    Size(2, 2, 64, 64, 8, ((60, 2.42), (130, 2.23), (480, 1.95), (1450, 1.76), (3900, 1.675))),
    Size(2, 2, 64, 64, 16, ((112, 2.18), (360, 1.905), (1200, 1.724), (2800, 1.644))),
    Size(2, 2, 64, 128, 8, ((118, 2.21), (360, 1.92), (1150, 1.721), (2700, 1.639))),
    Size(3, 3, 96, 64, 16, ((59, 2.31), (210, 1.92), (400, 1.78), (660, 1.70), (1320, 1.622), (8500, 1.498))),
    Size(3, 3, 96, 128, 8, ((56, 2.36), (200, 1.96), (660, 1.70), (1260, 1.601), (8200, 1.477))),
    Size(4, 4, 128, 128, 8, (
        (30, 2.51), (130, 2.04), (370, 1.75), (610, 1.651), (2500, 1.506), (4300, 1.463),
        (8000, 1.44),  # a guess
    )),
    Size(4, 4, 128, 256, 4, (
        (28, 2.53), (115, 2.14), (374, 1.79), (494, 1.704), (2200, 1.515), (4100, 1.459), (7500, 1.43),
    )),
    Size(6, 4, 128, 128, 8, (
        (22, 2.56), (81, 2.19), (287, 1.81), (382, 1.76), (1700, 1.50), (2900, 1.458), (5700, 1.434),
    )),
    Size(
        5, 6, 192, 512, 8, (
            (300, 1.72), (1000, 1.48),  # guesses
            (2450, 1.392), (3680, 1.384),
        ), most=15.0,
    ),
)  # fmt: skip


def best(seconds: Mapping[Size, float], available: float) -> Size:
    """Return the size that ends with the lowest loss, given its `seconds` per step and the seconds available."""
    return min(seconds, key=lambda size: size.loss(available / seconds[size]))


def search(
    flops: Mapping[Size, float],
    known: Mapping[Size, float],
    best: Callable[[Mapping[Size, float]], Size],
    measure: Callable[[Size], float],
    fits: Callable[[float], bool],
) -> dict[Size, float]:
    """Return the seconds per step of all sizes in `flops`, after measuring as few of them as it takes to choose.

    `known` were measured before, `best` chooses a size given the seconds of all, `measure` returns the seconds of one,
    and `fits` says whether there is time for a trial of so many seconds. If nothing is known, measure the smallest size
    first. Then measure whichever may be the best, of those for which there is time, until that one is known.
    """
    measured = dict(known)
    trial = lambda size: 4 * min(flops[size], TRIAL_FLOPS) / _speed_near(flops, measured, size)  # at least four steps
    if not measured:
        smallest = min(flops, key=flops.__getitem__)
        measured[smallest] = measure(smallest)
    while True:
        guesses = fill(flops, measured, HOPED)
        hoped = {one: s if one in measured else DOUBT * s for one, s in guesses.items()}
        size = best({one: s for one, s in hoped.items() if one in measured or fits(trial(one))})
        if size in measured:
            return fill(flops, measured)
        measured[size] = measure(size)


def _speed_near(flops: Mapping[Size, float], measured: Mapping[Size, float], size: Size) -> float:
    """Return the operations per second of the measured size whose steps are nearest in operations."""
    near = min(measured, key=lambda other: abs(math.log(flops[other] / flops[size])))
    return flops[near] / measured[near]


def fill(flops: Mapping[Size, float], measured: Mapping[Size, float], slope: float = SLOPE) -> dict[Size, float]:
    """Return the seconds per step of all sizes from those `measured`, at least one; `flops` are operations per step.

    Between two measured sizes, the logarithm of the time grows evenly with that of the operations; beyond them, `slope`
    times as fast.
    """
    return {size: measured.get(size) or _guess(flops, measured, size, slope) for size in flops}


def _guess(flops: Mapping[Size, float], measured: Mapping[Size, float], size: Size, slope: float) -> float:
    far = lambda other: math.log(flops[size] / flops[other])  # how many times as many operations
    below = max((one for one in measured if far(one) >= 0), key=flops.__getitem__, default=None)
    above = min((one for one in measured if far(one) < 0), key=flops.__getitem__, default=None)
    near = below or above
    assert near is not None, "nothing was measured"
    if below and above:
        slope = math.log(measured[above] / measured[below]) / math.log(flops[above] / flops[below])
    return measured[near] * math.exp(slope * far(near))


def matching(settings: Mapping[str, Any]) -> Size | None:
    """Return the size with these settings, or None: then nothing is known about the loss."""
    of = lambda size: all(settings.get(name) == value for name, value in size.settings.items())
    return next((size for size in SIZES if of(size)), None)


def forecast(run: Run, steps: int) -> float | None:
    """Return the loss to expect at the end of a timed run of about so many steps, or None if none was promised.

    A text like Tiny Shakespeare gets a promise when its run is created (`settings["promise"]`). It is an easier one if
    that loss has been reached before the end, so nothing is known then.
    """
    settings, reached = run.settings(), run.history().latest("val_loss")
    promise = settings.get("promise")
    if not isinstance(promise, int | float):
        return None
    size = matching({**read_config(run.folder).as_dict(), **settings["train"]})
    loss = size.loss(steps) if size else promise
    return loss if reached is None or loss < reached else None
