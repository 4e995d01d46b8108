"""Letters' neighbors: which characters a model treats alike, and how its map of them took shape.

Each character of the alphabet has an embedding, a row of learned numbers. What all rows have in common is subtracted,
because it says nothing about any of them; then rows that point the same way are neighbors (cosine). The map shows the
two directions in which they differ most (principal components). A map can be turned and mirrored without changing what
it says, so each earlier one is turned to fit the last (Procrustes: Schönemann, 1966).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..model import GPT
from ..runs import kept_step, snapshots
from ..tokenizer import Tokenizer
from .opened import Opened

NEAREST = 5
SAMPLED = 300  # rows that tell how alike all are
MARGIN = 0.1  # by which a cosine has to be above what is usual by chance
LEAST = 7  # rows: seen from their mean, a few must point apart, so that their likeness says little


def rows_of(model: GPT) -> np.ndarray:
    """Return the embedding of each token: (vocab_size, C)."""
    return model.token_embedding_table.weight.detach().float().cpu().numpy()


def directions(rows: np.ndarray) -> np.ndarray:
    """Return where each row (V, C) points, seen from the mean of all: (V, C), of length 1."""
    centered = rows - rows.mean(axis=0)
    return centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-12)


def cosines(rows: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Return the cosines of the angles between the rows `of`, (N,), and all of them, seen from their mean.

    (V, C) -> (N, V). Of a row with itself, it is -2, so that no row is its own neighbor.
    """
    unit = directions(rows)
    alike = unit[of] @ unit.T
    alike[np.arange(len(of)), of] = -2.0
    return alike


def nearest(rows: np.ndarray, tokenizer: Tokenizer, of: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """Return {"token", "near": [{"token", "cosine"}, ...]} for the tokens `of`, by default all, the nearest first."""
    of = range(len(rows)) if of is None else of
    alike, most = cosines(rows, np.asarray(of)), min(NEAREST, len(rows) - 1)
    found = np.sort(np.argpartition(-alike, max(0, most - 1), axis=1)[:, :most], axis=1)  # (N, most)
    order = np.argsort(-np.take_along_axis(alike, found, axis=1), axis=1, kind="stable")
    name = lambda i: tokenizer.itos[int(i)]
    return [
        dict(token=name(i), near=[dict(token=name(j), cosine=round(float(cosine[j]), 3)) for j in near])
        for i, cosine, near in zip(of, alike, np.take_along_axis(found, order, axis=1))
    ]


def likeness(rows: np.ndarray) -> float:
    """Return how alike the nearest neighbors are: the median, over rows (V, C), of the cosine with the nearest.

    Of many rows, SAMPLED of them are compared with all.
    """
    of = np.random.default_rng(0).permutation(len(rows))[:SAMPLED]
    return float(np.median(cosines(rows, of).max(axis=1)))


@lru_cache(maxsize=8)
def by_chance(vocab_size: int, width: int) -> float:
    """Return the greatest likeness of rows that were drawn at random, as an untrained model has them.

    The fewer the rows, the more it depends on luck, and the more often they are drawn.
    """
    rng, size = np.random.default_rng(0), (vocab_size, width)
    return max(likeness(rng.normal(size=size)) for _ in range(1 + 1000 // vocab_size))


def learned(rows: np.ndarray) -> bool | None:
    """Return True if rows are clearly more alike than as many random ones.

    Return None if there are too few rows to tell.
    """
    if len(rows) < LEAST:
        return None
    return likeness(rows) > by_chance(*rows.shape) + MARGIN


def flat(rows: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the map of rows (V, C), (V, 2) around zero, and the share of the variance that it holds."""
    centered = rows - rows.mean(axis=0)
    u, s, _ = np.linalg.svd(centered, full_matrices=False)
    return u[:, :2] * s[:2], float((s[:2] ** 2).sum() / max(1e-12, (s**2).sum()))


def turned(points: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return a map (V, 2), turned, mirrored and scaled so that its points are as near as possible to another one's."""
    u, s, vt = np.linalg.svd(points.T @ like)
    return points @ (u @ vt) * s.sum() / max(1e-12, (points**2).sum())


def unmoved(near: list[dict[str, Any]], rows: np.ndarray) -> list[bool]:
    """Return for each token whether even the nearest of its `near` ones is no more alike than by chance.

    `rows` are (V, C). Of a character that hardly occurs in the training text, the row stays where it started.
    """
    if len(rows) < LEAST:
        return [False] * len(near)
    return [one["near"][0]["cosine"] <= by_chance(*rows.shape) + MARGIN for one in near]


# ---- of a run --------------------------------------------------------------------------------------------------------


def maps(opened: Opened, of: Sequence[int]) -> dict[str, Any]:
    """Return {"tokens", "near", "unmoved", "maps": [{"step", "points", "share"}, ...], "learned"} of the tokens `of`:
    the neighbors of each, whether they mean nothing, and a map per snapshot.

    Neighbors may be any tokens, and a map is fitted to all. The last map is that of the model itself; earlier ones are
    turned to fit it. A run without snapshots has one.
    """
    rows = rows_of(opened.model)
    last, share = flat(directions(rows))
    placed = lambda points, share: _placed(points, share, last, of)
    found = [dict(step=step, **placed(*flat(directions(earlier)))) for step, earlier in _snapshots(opened)]
    own = dict(step=kept_step(opened.run.history()), **placed(last, share))
    near = nearest(rows, opened.tokenizer, of)
    return dict(
        tokens=[one["token"] for one in near],
        near=[one["near"] for one in near],
        unmoved=unmoved(near, rows),
        maps=[*(one for one in found if one["step"] < own["step"]), own],
        learned=learned(rows),
    )


def counts(opened: Opened) -> np.ndarray | None:
    """Return how often each token occurs in the training text, (vocab_size,), or None if the text isn't here.

    Of a large text, only the end is counted.
    """
    text, tokenizer = opened.training_text(), opened.tokenizer
    return None if text is None else np.bincount(tokenizer.encode_array(text), minlength=tokenizer.vocab_size)


def _snapshots(opened: Opened) -> Iterator[tuple[int, np.ndarray]]:
    for step in snapshots.steps_in(opened.run.folder):
        yield step, rows_of(snapshots.load(opened.run.folder, step))


def _placed(points: np.ndarray, share: float, like: np.ndarray, of: Sequence[int]) -> dict[str, Any]:
    most = np.abs(like).max() or 1.0
    placed = turned(points, like)[np.asarray(of)] / most
    return dict(points=np.round(placed, 3).tolist(), share=round(share, 3))
