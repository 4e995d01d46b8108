"""The view "Embeddings": which characters a model treats alike, and how its map of them took shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from ... import errors, explain
from ..drawn import drawn, said, told
from ..view import View, opened

if TYPE_CHECKING:
    from ...explain.opened import Opened

MOST = 300  # characters on the map
RANDOM = "But in this model neighbors are no more alike than random rows would be, so don't read anything into them."
FEW = "But with so few characters, neighbors say nothing about what the model has learned."
MEANING = {True: "", False: f" {RANDOM}", None: f" {FEW}"}


# ---- handlers ------------------------------------------------------------------------------------------------------


def shown(one: Opened) -> dict[str, Any]:
    """Return the data for neighbors.js: the characters, their neighbors, and the maps. `at` is the selected one."""
    number, counts = one.tokenizer.vocab_size, explain.neighbors.counts(one)
    often = range(number) if counts is None else np.argsort(-counts, kind="stable").tolist()  # most frequent first
    kept = sorted(often[:MOST])
    found = explain.neighbors.maps(one, kept)
    tokens = found["tokens"]
    letters = ["e"] * (counts is None) + [token for i in often[:MOST] if (token := one.tokenizer.itos[i]).isalpha()]
    return dict(
        tokens=tokens,
        near=found["near"],
        unmoved=found["unmoved"] if found["learned"] else [],
        maps=found["maps"],
        at=next((tokens.index(letter) for letter in letters if letter in tokens), 0),
        words=part(number, counts is not None) + words(found),
    )


def part(number: int, counted: bool) -> str:
    """Return which of a number of characters are shown, if not all. They are the first ones if they aren't counted."""
    if number <= MOST:
        return ""
    which = f"{MOST} most frequent" if counted else f"first {MOST}"
    return f"Only the {which} of {number:,} characters are shown; other neighbors are only in the list. "


def words(found: dict[str, Any]) -> str:
    """Return what the map is, how much of the embedding it holds, and whether it means anything."""
    maps, meaning = found["maps"], MEANING[found["learned"]]
    share = (
        "The map shows the two directions in which the embeddings differ most: "
        f"{maps[-1]['share']:.0%} of all differences."
    )
    if len(maps) == 1:
        return f"{share} This run kept no snapshots, so there is only the map of the model as it is.{meaning}"
    return f"{share} Move the slider to see it take shape. Earlier maps are turned to fit the last one.{meaning}"


# ---- the view ------------------------------------------------------------------------------------------------------


def build(run: gr.Dropdown) -> View:
    """Draw the view and wire it."""
    gr.Markdown(
        "Each character has a row of learned numbers, its embedding. Characters that the model treats alike have rows "
        "that point the same way. Choose one to see its neighbors.",
        container=False,
    )  # fmt: skip
    wrong = said("neighbors-said")
    view = drawn("neighbors", uses=("tokens", "text_cells", "token_bars"), elem_id="neighbors-view")

    def begin(name):
        try:
            return {view: shown(opened(name)), wrong: told("")}
        except errors.PROBLEMS as error:
            return {view: None, wrong: told(errors.explain(error), "failed")}

    return View(begin, [run], [view, wrong], [])
