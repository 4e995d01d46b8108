"""The model that the form describes, as a picture below the settings, redrawn as they change while it is open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gradio as gr

from ..config import NanoGPTError
from ..errors import PROBLEMS, explain
from ..presets import preset
from ..runs import queue
from ..tokenizer import unit
from .drawn import drawn, said, told
from .form import Form, changes
from .parts import QUIET
from .views import architecture
from .web.visit import visitor

SIZES = architecture.SIZES


# ---- handlers ------------------------------------------------------------------------------------------------------


def picture(corpus_id: str | None, *fields) -> dict[str, Any]:
    """Return the data for architecture.js of the model that a run with these settings would train.

    Raise NanoGPTError for an invalid setting, or if the model can't be chosen while another run is training.
    """
    from ..launch.plan import choose, fitting  # here, because it imports torch

    text = visitor().text(corpus_id or "")
    said = changes(*fields)
    model, train = preset(fields[0]).configs(**said)
    model, batch_size = fitting(model, text.tokenizer(), text.tokens()), train.batch_size
    if train.budget:
        if queue.running():
            raise NanoGPTError("Which model fits the time is measured once no other run is training.")
        plan = choose(train.budget, model.vocab_size, len(text.tokens()), said, unit(text.tokenizer()))
        model = replace(model, **{name: plan.settings[name] for name in SIZES})
        batch_size = plan.settings["batch_size"]
    return architecture.picture(model, batch_size, train.optimizer)


# ---- the picture ---------------------------------------------------------------------------------------------------


def build(form: Form, corpus_id: gr.HTML) -> Callable[[Any], Any]:
    """Draw the picture, closed at first, and wire it to the form. Closed, it computes nothing.

    Return a function that has it redrawn after one more event: the picture may change where the estimate doesn't.
    """
    with gr.Accordion("The model as a picture", open=False, elem_id="train-picture") as box:
        wrong, view = said("train-picture-said"), drawn("architecture", elem_id="train-architecture")
    is_open = gr.State(False)

    def redraw(is_open, *inputs):
        try:
            return {view: picture(*inputs), wrong: told("")} if is_open else {view: gr.skip()}
        except PROBLEMS as error:
            return {view: None, wrong: told(explain(error), "failed")}

    asked = dict(inputs=[is_open, corpus_id, *form.inputs], outputs=[view, wrong], trigger_mode="always_last", **QUIET)
    box.expand(lambda: True, None, is_open, **QUIET).then(redraw, **asked)
    box.collapse(lambda: False, None, is_open, **QUIET)
    gr.on([form.estimate.change, form.typed.change], redraw, **asked)
    redrawn = lambda event: event.then(redraw, **asked)
    for filled in form.filled:
        redrawn(filled)
    return redrawn
