"""The view "Attention": a text shaded by the attention of a head, and all heads with a sentence for each."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from ... import errors, explain
from ...config import NanoGPTError
from ..drawn import drawn, said
from ..view import (
    LATEST as SINGLE,
    View,
    a_passage,
    a_sample,
    first_text,
    fitting,
    opened,
    own,
    own_text,
    tell,
    text_buttons,
)

if TYPE_CHECKING:
    from ...explain.ablation import Part
    from ...explain.opened import Opened

LONGEST = 256  # characters: the picture of a whole head is as wide
SMALL = 24  # the width of a head's small picture


# ---- handlers ------------------------------------------------------------------------------------------------------


def looked(one: Opened, text: str, head: str = "", at: int | None = None, note: str = "") -> dict[str, Any]:
    """Return the data for attention.js: a text, every head, and the whole attention of one, by default the first.

    `note` is what was said about the text before, when it is in the model's alphabet already. Raise NanoGPTError if
    there are no tokens.
    """
    ids, said_now = fitting(one, text, one.model.config.block_size, LONGEST)
    if not ids:
        raise NanoGPTError("There is no text to look at. Enter some first.")
    wei = explain.attention.of_text(one.model, ids)  # (n_layer, nh, T, T)
    found = explain.attention.of_heads(one)
    costs = (explain.ablation.kept(one) or {}).get("rises", {})
    parts = sorted(heads_of(one), key=lambda part: -costs.get(part.key, 0.0))  # the most important first
    chosen = next((part for part in parts if part.key == head), parts[0])
    copies = explain.attention.copying_words(found["copying"])
    order = "" if costs else " Open “Switch it off” once to sort the heads by importance."
    return dict(
        tokens=[one.tokenizer.itos[i] for i in ids],
        at=len(ids) - 1 if at is None else at,
        heads=[described(part, found, costs, wei[part.block, part.head]) for part in parts],
        size=min(SMALL, len(ids)),
        head=chosen.key,
        matrix=picture(wei[chosen.block, chosen.head]),
        words=f"{copies} Measured on {found['on']}.{order}",
        note=said_now or note,
    )


def heads_of(one: Opened) -> list[Part]:
    """Return all heads of a model, block by block."""
    return [part for part in explain.ablation.parts_of(one.model) if part.kind == "head"]


def described(part: Part, found: dict, costs: dict[str, float], matrix: np.ndarray) -> dict[str, Any]:
    """Return the entry of a head in the list: its name, what it looks at, its cost if measured, and a small picture."""
    return dict(
        key=part.key,
        name=str(part).capitalize(),
        says=found["heads"][part.block][part.head]["says"],
        cost=f"loss {signed(costs[part.key])} without it" if part.key in costs else "",
        small=picture(pooled(matrix)),
    )


def signed(nats: float) -> str:
    """Return a change of the loss with its sign and two places, "0.00" if it rounds to that."""
    return f"{nats:+.2f}" if abs(nats) >= 0.005 else "0.00"


def pooled(matrix: np.ndarray) -> np.ndarray:
    """Return a matrix (T, T) as a small one: the mean of each piece, scaled so that the largest is 1."""
    n = min(SMALL, len(matrix))
    edges = np.linspace(0, len(matrix), n + 1).astype(int)[:-1]
    small = np.add.reduceat(np.add.reduceat(matrix, edges, axis=0), edges, axis=1)  # (n, n)
    counts = np.diff([*edges, len(matrix)])
    small = small / np.outer(counts, counts)
    return small / small.max()


def picture(matrix: np.ndarray) -> str:
    """Return shares as bytes in base64: the square root of each, so that small ones can be seen."""
    return base64.b64encode(np.rint(255 * np.sqrt(matrix.clip(0, 1))).astype(np.uint8).tobytes()).decode()


# ---- the view ------------------------------------------------------------------------------------------------------


def build(run: gr.Dropdown) -> View:
    """Draw the view and wire it."""
    gr.Markdown(
        "Attention is how characters get information from earlier ones. Choose a character and a head: the text is "
        "shaded by how much that head looks at each earlier place.",
        container=False,
    )  # fmt: skip
    sample, passage = text_buttons("attention")
    wrong = said("attention-said")
    view = drawn("attention", uses=("aloud", "tokens", "text_cells", "looking"), elem_id="attention-view")
    entered, use, below = own_text("attention", LONGEST)
    lines = [wrong, below]
    outputs = [view, *lines]

    def show(name: str | None, make: Callable[[Opened], str], *how, at: gr.HTML = wrong) -> dict:
        try:
            one = opened(name)
            return {view: looked(one, make(one), *how), **tell(at, lines)}
        except errors.PROBLEMS as error:
            return tell(at, lines, errors.explain(error), "failed")

    def select(data, name):
        tokens, head, at, note = ((data or {}).get(key) for key in ("tokens", "head", "at", "note"))
        text = "".join(map(str, tokens[:LONGEST])) if isinstance(tokens, list) else ""
        return show(name, lambda one: text, str(head), at if isinstance(at, int) else None, str(note or ""))

    begin = lambda name: show(name, first_text)
    use_own = lambda name, text: show(name, lambda one: own(text, LONGEST), at=below)
    again = lambda name, data: select(data, name) if data else begin(name)
    # the heads are sorted by what "Switch it off" measures
    measured = lambda run: explain.cache.version(run, explain.ablation.VIEW)
    events = [
        sample.click(lambda name: show(name, a_sample), run, outputs, **SINGLE),
        passage.click(lambda name: show(name, a_passage), run, outputs, **SINGLE),
        use.click(use_own, [run, entered], outputs, **SINGLE),
        view.input(select, [view, run], outputs, **SINGLE),
    ]
    return View(begin, [run], outputs, events, again, [view], measured)
