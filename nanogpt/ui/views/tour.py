"""The view "Tour": short steps from text to attention, which ask first and have you do something."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from ... import errors, explain, limits
from ...config import NanoGPTError
from ...runs import queue
from .. import measuring
from ..drawn import drawn, said, told
from ..parts import HIDDEN, QUIET
from ..view import SINGLE, View, opened
from ..web.visit import visitor

if TYPE_CHECKING:
    from ...explain.opened import Opened

WORD = 30  # characters that are encoded
TRAINING = HIDDEN | dict(concurrency_limit=1, concurrency_id="replay")
PARTS = ("attention", "mlp")
# For when training ends, in whatever way; each time another value, or Gradio wouldn't pass on the second of two.
ENDED = "() => ({ want: 'WANT', ended: performance.now() })"


# ---- handlers: what a step of the tour asks for --------------------------------------------------------------------


def answered(one: Opened, want: str, wish: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what a step wants, as messages for tour.js. Raise NanoGPTError if there is no such step."""
    if want == "numbers":
        yield dict(want=want, tokens=explain.tour.encoded(one, str(wish.get("text", ""))[:WORD]))
    elif want == "parts" and wish.get("kind") in PARTS:
        yield from paced(dict(want=want) | found for found in explain.tour.without(one, wish["kind"]))
    elif want == "dice" and wish.get("temperature") in explain.tour.TEMPERATURES:
        temperature = float(wish["temperature"])
        yield dict(want=want, temperature=wish["temperature"], texts=explain.tour.written(one, temperature))
    else:
        raise NanoGPTError("This page is older than the server. Reload it.")


def paced(found: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a few of the messages per second, and always the last."""
    before, last = 0.0, None
    for last in found:
        if time.monotonic() - before > 0.2:
            before = time.monotonic()
            yield last
    if last is not None:
        yield last


def trained(one: Opened, want: str) -> Iterator[dict[str, Any]]:
    """Train the tiny models of a step in a process of their own. Yield messages for tour.js.

    The last one has the answer. Raise NanoGPTError if training fails, or takes longer than a public server allows.
    """
    path, _ = explain.tiny.text_for(one)
    found: dict[str, Any] = dict(want=want, events=[])
    yield found | dict(doing="Starting …")
    asked = explain.tiny.asked(want, path, lambda: bool(queue.running()))
    for _, event, seconds in explain.replay.timed((want, event) for event in asked):
        if limits.is_public() and seconds > measuring.SECONDS:
            raise NanoGPTError(f"This took longer than the {measuring.SECONDS:.0f} s this server allows.")
        if event.get("paused"):
            yield found | dict(doing=measuring.WAITING)
        elif want == "mask" and event:
            found["events"] = [*found["events"], event]
            yield found | dict(doing=f"Step {event['step']:,}.", spoken="Training.")
        elif event:
            found |= event
            taken = lambda losses: max(0, len(losses) - 1)  # the first loss is before any step
            steps = f"AdamW: {taken(event['adamw'])} steps; SGD: {taken(event['sgd'])} steps."
            yield found | dict(doing=steps, spoken="Training.")
    words = (
        explain.tour_steps.mask_words(found["events"][-1]) if want == "mask" else explain.tour_steps.adamw_words(found)
    )
    yield found | dict(doing="", words=words)


def train(want: str, name: str | None) -> Iterator[list]:
    """Train the tiny models of a step. Yield updates: a message for tour.js, and the line that says why it failed."""
    try:
        visitor().may_train()
        for message in trained(opened(name), want):
            yield [message, told("")]
    except errors.PROBLEMS as error:
        yield [gr.skip(), told(errors.explain(error), "failed")]


# ---- the view ------------------------------------------------------------------------------------------------------


def build(run: gr.Dropdown) -> View:
    """Draw the view and wire it."""
    gr.Markdown(
        "From text to attention in short steps, with your own model. Each asks first; answer before you try it.",
        container=False,
    )
    uses = ("tokens", "text_cells", "token_bars", "looking", "tour_steps")
    view = drawn("tour", uses=uses, elem_id="tour-view")
    wrong = said("tour-said")  # below it, because its buttons are at the end

    def begin(name):
        try:
            return {view: explain.tour.lesson(opened(name)), wrong: told("")}
        except errors.PROBLEMS as error:
            return {view: None, wrong: told(errors.explain(error), "failed")}

    def ask(event: gr.EventData, name):
        try:
            wish = event._data if isinstance(event._data, dict) else {}
            for message in answered(opened(name), str(wish.get("want", "")), wish):
                yield {view: message, wrong: told("")}
        except errors.PROBLEMS as error:
            yield {wrong: told(errors.explain(error), "failed")}

    asking = view.select(ask, run, [view, wrong], **SINGLE, trigger_mode="multiple")
    trains = dict(mask=view.submit, adamw=view.apply)  # as in tour.js
    trainings = [event(partial(train, want), run, [view, wrong], **TRAINING) for want, event in trains.items()]
    for want, training in zip(trains, trainings):
        for ended in (training.then, training.failure):
            ended(None, None, view, js=ENDED.replace("WANT", want))
    view.stop(None, cancels=trainings)  # first, or what they say next would replace this:
    view.stop(lambda: told("Stopped."), None, wrong, **QUIET)
    return View(begin, [run], [view, wrong], [asking, *trainings])
