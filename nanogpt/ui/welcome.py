"""The top of the first tab: what this is, a replay of the training of a public model, and one button to train now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from .. import durations
from ..errors import PROBLEMS
from ..launch.visitors import is_for_all
from ..runs import Run
from .drawn import drawn, points, said
from .form import at_a_time
from .web.visit import visitor

SHOWN = "shakespeare"  # the bundled run
BUDGET = 60.0  # seconds
INTRODUCTION = (
    "### Train a GPT from scratch on your own text\n"
    "It starts with random letters and learns to spell, then to write lines like those of your text, while you watch."
)


@dataclass
class Welcome:
    """The components that the page wires: the button that trains, the message below it, the text, and the replay."""

    train: gr.Button
    said: gr.HTML
    text: gr.Markdown  # this and the replay are filled in when the page opens
    replay: gr.HTML


def replayed() -> Run | None:
    """Return the public run to replay: the bundled one or, as on a Space with a model, the newest; None without any."""
    try:
        runs = [run for run in visitor().runs() if is_for_all(run) and run.history().samples]
    except PROBLEMS:
        return None
    return next((run for run in runs if run.name == SHOWN), next(iter(runs), None))


def introduction(run: Run | None) -> str:
    """Return the first words on the page, which name the model whose training is replayed."""
    if run is None:
        return INTRODUCTION
    bundled = "the model that comes with this app learned from Shakespeare"
    return f"{INTRODUCTION} Here is how {bundled if run.name == SHOWN else f'the model `{run.name}` learned'}."


def replay(run: Run | None) -> dict[str, Any] | None:
    """Return a run's curves and samples for welcome.js."""
    if run is None:
        return None
    history = run.history()
    curves = {
        name: [[step, loss] for _, loss, step in points(history.rows, f"{name}_loss", most=200)]
        for name in ("val", "train")
    }
    return dict(name=run.name, **curves, samples=[[one["step"], one["text"].strip()] for one in history.samples])


def seconds() -> float:
    """Return how long the button trains: a minute, or as long as this server allows at a time."""
    return min(BUDGET, at_a_time())


def label(title: str = "") -> str:
    """Return the label of the button for a text, or for none."""
    return f'Train on "{title}" for {durations.in_words(seconds())}' if title else "Train"


def start(corpus_id: str | None) -> Run:
    """Start a run on the selected text with a time budget and everything else chosen automatically."""
    return visitor().start(corpus_id or "", "", "timed", budget=seconds())


def build() -> Welcome:
    """Draw the section. `page` fills in the text and the replay when the page opens, and wires the button."""
    with gr.Row(equal_height=False, elem_id="welcome"):
        with gr.Column(scale=2, min_width=300):
            text = gr.Markdown(introduction(replayed()), elem_id="welcome-text")
            train = gr.Button(label(), variant="primary", interactive=False, elem_id="welcome-train")
            below = said("welcome-said")
        with gr.Column(scale=3, min_width=320):
            shown = drawn("welcome", elem_id="welcome-replay")
    return Welcome(train, below, text, shown)
