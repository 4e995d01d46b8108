"""The view "Read-out": what could be predicted after each block, for every character of a text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from ... import errors, explain
from ...config import NanoGPTError
from ..drawn import drawn, said
from ..measuring import WAITING, in_turn
from ..view import WAITS, View, a_passage, a_sample, first_text, fitting, opened, own, own_text, tell, text_buttons

if TYPE_CHECKING:
    from ...explain.opened import Opened

LONGEST = 200  # characters


# ---- handlers ------------------------------------------------------------------------------------------------------


def read(one: Opened, losses: list[float], text: str) -> dict[str, Any]:
    """Return the data for readout.js: a text, and for each depth the likeliest tokens at each place, and its loss."""
    itos = one.tokenizer.itos
    ids, note = fitting(one, text, one.model.config.block_size - 1, LONGEST)  # one comes before them
    if not ids:
        raise NanoGPTError("There is no text to read. Enter some first.")
    log_p = explain.readout.of_text(one, ids, explain.readout.translators(one))  # (n_layer + 1, N, vocab_size)
    top = log_p.exp().topk(min(explain.readout.BARS, log_p.shape[-1]))
    used = sorted(set(top.indices.flatten().tolist()))
    number = {id: i for i, id in enumerate(used)}
    likeliest = [
        [
            [[number[id], round(100 * p, 1)] for id, p in zip(*place)]
            for place in zip(of_depth.tolist(), shares.tolist())
        ]
        for of_depth, shares in zip(top.indices, top.values)
    ]
    own = log_p[:, range(len(ids)), ids]  # (n_layer + 1, N - 1)
    return dict(
        tokens=[itos[i] for i in ids],
        at=min(len(ids) // 2, len(ids)),
        depths=explain.readout.depths(one.model),
        losses=losses,
        names=[itos[id] for id in used],
        likeliest=likeliest,
        bits=[[round(-value / math.log(2), 1) for value in of_depth] for of_depth in own.tolist()],
        words=" ".join(explain.readout.summary(losses)),
        note=note,
    )


def fitted(one: Opened) -> Iterator[dict[str, Any] | None]:
    """Yield the data for readout.js while read-outs are fitted: losses only. Yield None if there is nothing new.

    Raise NanoGPTError as `in_turn` does.
    """
    found: dict[str, Any] = dict(losses=[])
    shape = lambda words: dict(tokens=[], depths=explain.readout.depths(one.model), losses=found["losses"], words=words)
    before = None
    for result in in_turn(explain.readout.measured(one), explain.cache.can_keep(one)):
        found = result or found
        now = WAITING if result is None else fitting_words(one, len(found["losses"]))
        yield shape(now) if now != before else None
        before = now
    yield shape("")


def fitting_words(one: Opened, done: int) -> str:
    """Return how far the fitting is."""
    names = explain.readout.depths(one.model)
    return (
        f"Fitting read-outs on the training text: {names[min(done, len(names) - 1)].lower()}, {done} of {len(names)}."
    )


# ---- the view ------------------------------------------------------------------------------------------------------


def build(run: gr.Dropdown) -> View:
    """Draw the view and wire it."""
    gr.Markdown(
        "What does the model know halfway? After each block, a read-out predicts the next character from what has been "
        "computed so far. Choose a character to see the guesses change, and a row to color the text by its surprise.",
        container=False,
    )  # fmt: skip
    sample, passage = text_buttons("readout")
    wrong, text = said("readout-said"), gr.State("")
    view = drawn("readout", uses=("aloud", "tokens", "text_cells"), elem_id="readout-view")
    entered, use, below = own_text("readout", LONGEST)
    lines = [wrong, below]
    outputs = [view, *lines, text]

    def show(name: str | None, make: Callable[[Opened], str], at: gr.HTML = wrong) -> Iterator[dict]:
        try:
            one = opened(name)
            now, found = make(one), explain.readout.kept(one)
            if found is None:
                yield {**tell(at, lines), text: now}
                for data in fitted(one):
                    yield {view: data or gr.skip()}
                found = explain.readout.kept(one)
            yield {view: read(one, (found or {}).get("losses", []), now), **tell(at, lines), text: now}
        except errors.PROBLEMS as error:
            yield tell(at, lines, errors.explain(error), "failed")

    def begin(name):
        yield from show(name, first_text)

    def use_sample(name):
        yield from show(name, a_sample)

    def use_passage(name):
        yield from show(name, a_passage)

    def use_own(name, text):
        yield from show(name, lambda one: own(text, LONGEST), below)

    def again(name, now):
        yield from show(name, lambda one: now or first_text(one))

    events = [
        sample.click(use_sample, run, outputs, **WAITS),
        passage.click(use_passage, run, outputs, **WAITS),
        use.click(use_own, [run, entered], outputs, **WAITS),
    ]
    return View(begin, [run], outputs, events, again, [text], waits=True)
