"""The view "Copies": which stretches of a text appear word for word in the training text, and where."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from ... import errors, explain
from ...config import NanoGPTError, SampleConfig
from ..drawn import drawn, said
from ..view import SINGLE, View, opened, tell

if TYPE_CHECKING:
    from ...explain.opened import Opened

LONGEST = 10_000  # characters
SHOWN = 50  # spans
AROUND = 60  # characters of the training text before and after a span


# ---- handlers ------------------------------------------------------------------------------------------------------


def found(one: Opened, text: str) -> dict[str, Any]:
    """Return the data for copies.js: a text, its copied spans, each with where it comes from, and the verdict."""
    if not text:
        raise NanoGPTError("There is no text to check. Enter some first.")
    cut = f"Only the first {LONGEST:,} characters were checked. " if len(text) > LONGEST else ""
    # without unpaired surrogates, which can't be sent to the browser
    text = text[:LONGEST].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    result = explain.copies.checked(one, text)
    training = one.training_text() or ""
    whole = not one.looked_at()  # else the lines before the part that was searched aren't counted
    spans = [span | source(training, span["at"], span["length"], whole) for span in result["spans"][:SHOWN]]
    return dict(text=text, spans=spans, words=cut + explain.copies.verdict(result))


def source(training: str, at: int, length: int, whole: bool = True) -> dict[str, Any]:
    """Return where a span stands in the training text: its line, if that is known, and what is around it."""
    return dict(
        line=training.count("\n", 0, at) + 1 if whole else None,
        before=training[max(0, at - AROUND) : at],
        after=training[at + length : at + length + AROUND],
    )


def a_sample(one: Opened) -> str:
    """Return a text that the model has just written. Raise NanoGPTError if there is nothing to compare it with."""
    explain.copies.index_of(one)
    config = SampleConfig(length=explain.copies.SAMPLE, seed=secrets.randbelow(1_000_000))
    return one.write(config)


# ---- the view ------------------------------------------------------------------------------------------------------


def build(run: gr.Dropdown) -> View:
    """Draw the view and wire it."""
    gr.Markdown(
        "Does the model write something new, or does it repeat its training text? Passages that appear there word for "
        "word are marked. A few always do, even in text that the model has never seen.",
        container=False,
    )  # fmt: skip
    with gr.Row():
        check = gr.Button("Check a new sample", size="sm", min_width=160, scale=0, elem_id="copies-sample")
    wrong, view = said("copies-said"), drawn("copies", uses=("aloud",), elem_id="copies-found")
    with gr.Accordion("Check your own text", open=False):
        own = gr.Textbox(
            label="Text", info=f"Up to {LONGEST:,} characters, for example a sample that you liked.", lines=4,
            max_lines=10, elem_id="copies-own",
        )  # fmt: skip
        check_own = gr.Button("Check this text", size="sm", min_width=140, scale=0, elem_id="copies-check")
        below = said("copies-own-said")
    lines = [wrong, below]
    outputs = [view, *lines]

    def show(name: str | None, make: Callable[[Opened], str], at: gr.HTML = wrong) -> dict:
        try:
            one = opened(name)
            return {view: found(one, make(one)), **tell(at, lines)}
        except errors.PROBLEMS as error:
            return {view: None, **tell(at, lines, errors.explain(error), "failed")}

    of_a_sample = lambda name: show(name, a_sample)
    use_own = lambda name, text: show(name, lambda one: text or "", below)

    def again(name, data):
        text = (data or {}).get("text")
        return show(name, lambda one: str(text)) if text else of_a_sample(name)

    events = [
        check.click(of_a_sample, run, outputs, **SINGLE),
        check_own.click(use_own, [run, own], outputs, **SINGLE),
    ]
    return View(of_a_sample, [run], outputs, events, again, [view])
