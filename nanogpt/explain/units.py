"""A unit for it: the single unit of a model that best predicts a feature of the text, such as "in capitals".

A unit is one of the 4 C numbers inside the feed-forward layer of a block, after its ReLU. How well it predicts a
feature is its AUC: the chance that it is larger at a place that has the feature than at one that doesn't. 1 is always,
0.5 is chance. The best of thousands looks good by luck, too, so it is chosen on one half of the windows and judged on
the other. Karpathy et al. (2015) found such units first: one cell of theirs measured the length of the line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from ..config import NanoGPTError
from ..model import GPT
from ..tokenizer import token_lengths
from . import cache
from .features import FEATURES
from .opened import Opened
from .passages import Windows, first_counted, to_measure

VIEW = "units"
MEASURED = 9000  # tokens, in at least two windows
LITTLE = 1000  # tokens that a model writes to show strong places
FEW = 10  # places with the feature, or without it, below which nothing can be said
STRONGEST = 5
AROUND = 24  # tokens before and after a strong place


@dataclass(frozen=True)
class Unit:
    """A unit of a block; both count from 0."""

    block: int
    number: int

    def __str__(self) -> str:
        """Return the name for people, who count from 1: "block 4, unit 17"."""
        return f"block {self.block + 1}, unit {self.number + 1}"


@torch.no_grad()
def activations(model: GPT, idx: torch.Tensor) -> Iterator[np.ndarray]:
    """Yield what the units of each block are at every place of idx (B, T): (B, T, 4 C)."""
    x, rotary = model.embed(idx, slice(0, idx.shape[1]))  # (B, T, C)
    for block in model.blocks:
        x = x + block.sa(block.ln1(x), None, rotary)  # (B, T, C)
        hidden = block.ffwd.net[1](block.ffwd.net[0](block.ln2(x)))  # (B, T, 4 C)
        yield hidden.float().cpu().numpy()
        x = x + block.ffwd.net[2](hidden)  # (B, T, C)


def values_of(model: GPT, idx: torch.Tensor, unit: Unit) -> np.ndarray:
    """Return what one unit is at every place of idx (B, T): (B, T)."""
    for block, values in enumerate(activations(model, idx)):
        if block == unit.block:
            return values[..., unit.number]
    raise NanoGPTError(f"This model has no {unit}.")


def auc(values: np.ndarray, has: np.ndarray) -> np.ndarray:
    """Return the AUC of each unit, (U,), from its values (N, U) and which places have the feature, (N,) of bool.

    It is the share of pairs, of a place with the feature and one without, in which the first value is larger; equal
    values count half.
    """
    with_it = torch.from_numpy(np.ascontiguousarray(values[has].T))  # (U, P)
    rest = torch.from_numpy(np.ascontiguousarray(values[~has].T)).sort(dim=1).values  # (U, N - P)
    below = torch.searchsorted(rest, with_it, side="left").double().mean(dim=1)  # (U,)
    not_above = torch.searchsorted(rest, with_it, side="right").double().mean(dim=1)  # (U,)
    return ((below + not_above) / 2 / rest.shape[1]).numpy()


def best_unit(model: GPT, idx: torch.Tensor, has: np.ndarray) -> tuple[Unit, float]:
    """Return the unit that best predicts which places of idx (B, T) have a feature, `has` (B, T), and its AUC there."""
    best, unit, first = -1.0, Unit(0, 0), first_counted(idx.shape[1])
    for block, values in enumerate(activations(model, idx)):
        scores = auc(values[:, first:].reshape(-1, values.shape[-1]), has[:, first:].flatten())
        if scores.max() > best:
            best, unit = float(scores.max()), Unit(block, int(scores.argmax()))
    return unit, best


def check_enough(*parts: np.ndarray) -> None:
    """Raise NanoGPTError if too few places have a feature, or lack it, in any of these parts of a text."""
    if any(min(part.sum(), (~part).sum()) < FEW for part in parts):
        raise NanoGPTError(f"Too few characters have (or lack) this feature: at least {2 * FEW} are needed.")


# ---- of a run --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def windows(opened: Opened, tokens: int) -> tuple[Windows, str]:
    """Return windows of held-out text or, if it isn't here, of text that the model writes, and which it is."""
    return to_measure(opened, tokens, 2)


def places(opened: Opened) -> torch.Tensor:
    """Return the tokens (B, T) among which strong places are looked for: few if the model has to write them."""
    return windows(opened, MEASURED if opened.corpus_id else LITTLE)[0].xb


def has_feature(opened: Opened, found: Windows, name: str) -> np.ndarray:
    """Return which tokens of windows have a feature: those whose first character has it, (B, T) of bool.

    It is computed on the whole text: a window doesn't show in which column it begins, or whether within quotes.
    """
    lengths = token_lengths(opened.tokenizer)[opened.tokenizer.encode_array(found.text)]  # (N,)
    has = np.array(FEATURES[name][1](found.text))[np.cumsum(lengths) - lengths]  # (N,)
    return has[found.starts.numpy()[:, None] + np.arange(found.xb.shape[1])]


def of_feature(opened: Opened, name: str) -> dict[str, Any]:
    """Return {"feature", "block", "number", "auc", "on"} of the unit that best predicts a feature, and "strongest",
    the places where it is largest.

    All but these, which quote the text, is kept in the run's folder. Raise NanoGPTError for an unknown feature, or one
    that the text hardly has.
    """
    if name not in FEATURES:
        raise NanoGPTError(f"There is no feature {str(name)[:40]!r}. Choose {', '.join(FEATURES)}.")
    kept = {key: one for key, one in (cache.load(opened, VIEW) or {}).items() if cache.is_current(opened, one["on"])}
    if is_new := name not in kept:
        kept |= {name: measured(opened, name)}
        cache.keep(opened, VIEW, kept)
    found, idx = kept[name], windows(opened, MEASURED)[0].xb if is_new else places(opened)
    return found | dict(strongest=strongest(opened, Unit(found["block"], found["number"]), idx))


def measured(opened: Opened, name: str) -> dict[str, Any]:
    """Return {"feature", "block", "number", "auc", "on"}: chosen on one half of the windows, judged on the other."""
    where, on = windows(opened, MEASURED)
    idx, has = where.xb, has_feature(opened, where, name)
    half, first = (len(idx) + 1) // 2, first_counted(idx.shape[1])
    check_enough(has[:half, first:], has[half:, first:])
    unit, _ = best_unit(opened.model, idx[:half], has[:half])
    values = values_of(opened.model, idx[half:], unit)[:, first:]
    score = float(auc(values.reshape(-1, 1), has[half:, first:].flatten())[0])
    return dict(feature=name, block=unit.block, number=unit.number, auc=round(score, 4), on=on)


def of_selection(opened: Opened, ids: Sequence[int], start: int, end: int) -> dict[str, Any]:
    """Return {"block", "number", "auc", "strongest"} of the unit that best tells tokens from `start` to `end` apart.

    It is chosen and judged on this text alone. Raise NanoGPTError if nothing, or all of it, is selected.
    """
    has = np.zeros((1, len(ids)), dtype=bool)
    has[0, start:end] = True
    first = first_counted(len(ids))
    if not has[:, first:].any() or has[:, first:].all():
        raise NanoGPTError(f"Select a part of the text, after its first {first} characters.")
    unit, score = best_unit(opened.model, torch.tensor([ids], device=opened.model.device), has)
    found = strongest(opened, unit, places(opened))
    return dict(block=unit.block, number=unit.number, auc=round(score, 4), strongest=found)


def strongest(opened: Opened, unit: Unit, idx: torch.Tensor) -> list[dict[str, Any]]:
    """Return the places in idx (B, T) where a unit is largest, apart: {"before", "here", "after", "value"} of each."""
    values = values_of(opened.model, idx, unit)
    values[:, : first_counted(idx.shape[1])] = -np.inf
    say = lambda ids: "".join(opened.tokenizer.itos[int(i)] for i in ids)
    found = []
    for _ in range(STRONGEST):
        row, at = np.unravel_index(int(values.argmax()), values.shape)
        value, ids = float(values[row, at]), idx[row]
        if value <= 0:
            break
        before, after = ids[max(0, at - AROUND) : at], ids[at + 1 : at + 1 + AROUND]
        found.append(dict(before=say(before), here=say(ids[at : at + 1]), after=say(after), value=round(value, 3)))
        values[row, max(0, at - AROUND) : at + AROUND] = -np.inf
    return found


def words(found: dict[str, Any]) -> str:
    """Return how well the unit of a feature predicts it, in a sentence."""
    unit, score = Unit(found["block"], found["number"]), found["auc"]
    if score < 0.7:
        return f"No single unit knows this. The best is {unit}: on {found['on']}, {pairs(score)}."
    how = "almost alone" if score >= 0.95 else "well" if score >= 0.85 else "in part"
    return f"{str(unit).capitalize()} predicts it {how}: on {found['on']}, {pairs(score)}."


def pairs(score: float, one: str = "has the feature", other: str = "lacks it") -> str:
    """Return what an AUC says, in words."""
    return (
        f"it is higher at a character that {one} than at one that {other} in {score:.0%} of cases (AUC {score:.2f}; "
        "chance is 50%)"
    )
