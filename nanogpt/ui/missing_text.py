"""The offer to download the text of a model, if it is Tiny Shakespeare and isn't on this machine."""

from __future__ import annotations

from typing import Any

import gradio as gr

from .. import corpus, errors
from .drawn import line, said, told
from .parts import HIDDEN, QUIET, READING
from .view import may_read_text
from .web.visit import seen, visitor

MISSING = "This model's text, {}, isn't on this machine, so some views show less."

# ---- handlers: plain functions of a run's name ---------------------------------------------------------------------


def missing(name: str | None) -> str | None:
    """Return the key of the built-in text that a run was trained on, if it isn't here and can be downloaded."""
    run = seen(name)
    if run is None:
        return None
    try:
        return None if may_read_text(run) else corpus.DOWNLOADED.get(str(run.settings()["corpus"]["id"]))
    except errors.PROBLEMS:  # the run can't be read, which the view says
        return None


def offer(name: str | None) -> tuple[Any, Any]:
    """Return the updates of the part of the page, shown if a text can be downloaded, and of its line."""
    key = missing(name)
    return gr.Column(visible=key is not None), line(MISSING.format(corpus.BUILTINS[key][0]) if key else "")


def download(name: str | None) -> tuple[Any, Any]:
    """Download the text of a run. Return the updates of that part and of the line that says what went wrong."""
    try:
        if key := missing(name):
            visitor().find_text(key)
        return gr.Column(visible=False), told("")
    except errors.PROBLEMS as error:
        return gr.skip(), told(errors.explain(error), "failed")


# ---- the offer -----------------------------------------------------------------------------------------------------


def build(run: gr.Dropdown, came: gr.Textbox) -> Any:
    """Draw the offer, hidden at first, and wire it: `came` changes when the text may have been added or deleted.

    Return the event after which the text may be there.
    """
    what = said()
    with gr.Column(visible=False, elem_id="understand-missing") as part:
        button = gr.Button("Download it (1 MB)", size="sm", min_width=160, scale=0, elem_id="understand-download")
    wrong = said("understand-said")
    gr.on([run.change, came.change], offer, run, [part, what], trigger_mode="always_last", **QUIET)
    return button.click(download, run, [part, wrong], **HIDDEN, **READING)
