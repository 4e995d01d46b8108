"""The Understand tab: look into a trained model. Each view is a file of its own, view_*.py."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from . import (
    view_architecture,
    view_attention,
    view_characters,
    view_copies,
    view_guessing,
    view_loss,
    view_parts,
    view_replay,
    view_time,
)
from .parts import NO_SECRET, QUIET

VIEWS = {  # id: its title and the module that draws it
    "characters": ("Characters", view_characters),
    "parts": ("Switch it off", view_parts),
    "loss": ("Loss", view_loss),
    "guessing": ("Beat your model", view_guessing),
    "attention": ("Attention", view_attention),
    "copies": ("Copies", view_copies),
    "time": ("Time machine", view_time),
    "architecture": ("Architecture", view_architecture),
    "replay": ("Lecture", view_replay),
}
SCORED = (view_guessing, view_loss)  # one of them writes, and the other one shows, your bits per character


@dataclass
class UnderstandTab:
    """The components that the rest of the page uses."""

    run: gr.Dropdown


def build() -> UnderstandTab:
    """Draw the tab and wire it. Only the selected view computes anything."""
    run = gr.Dropdown(label="Model", choices=[], value=None, elem_id="understand-run")
    selected = gr.State(next(iter(VIEWS)))
    scores = gr.BrowserState({}, storage_key="nanogpt-scores", secret=NO_SECRET)
    with gr.Tabs(elem_id="understand-views"):
        for id, (title, module) in VIEWS.items():
            with gr.Tab(title, id=id) as tab:
                view = module.build(run, scores) if module in SCORED else module.build(run)
            tab.select(lambda id=id: id, None, selected, **QUIET)
            tab.select(view.open, view.inputs, view.outputs, **module.SINGLE)

            def if_selected(now, *inputs, id=id, view=view):
                yield from opening(view, inputs) if now == id else [{view.outputs[0]: gr.skip()}]

            run.change(if_selected, [selected, *view.inputs], view.outputs, **module.SINGLE)
    return UnderstandTab(run)


def opening(view, inputs):
    """Yield the updates of opening a view, whether its handler returns them at once or yields them."""
    found = view.open(*inputs)
    if isinstance(found, dict):
        yield found
    else:
        yield from found
