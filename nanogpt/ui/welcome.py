"""The top of the first tab: what this is, a replay of the bundled model's training, and one button to train now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from .. import durations
from ..errors import PROBLEMS
from ..runs import Run
from .drawn import drawn, points, said
from .form import at_a_time
from .web.visit import seen, visitor

SHOWN = "shakespeare"  # the bundled run
BUDGET = 60.0  # seconds
INTRODUCTION = (
    "### Train a GPT from scratch on your own text\n"
    "It starts with random letters and learns to spell, then to write lines like those of your text, while you watch. "
    "Here is how the model that comes with this app learned from Shakespeare."
)


@dataclass
class Welcome:
    """The components that the page wires: the button that trains, the message below it, and the replay."""

    train: gr.Button
    said: gr.HTML
    replay: gr.HTML  # filled in when the page opens


def replay() -> dict[str, Any] | None:
    """Return the curves and the samples of the bundled run for replay.js, or None if it isn't here."""
    try:
        run = seen(SHOWN)
        history = run.history() if run else None
    except PROBLEMS:
        return None
    if history is None or not history.samples:
        return None
    curves = {
        name: [[step, loss] for _, loss, step in points(history.rows, f"{name}_loss", most=200)]
        for name in ("val", "train")
    }
    return dict(name=SHOWN, **curves, samples=[[one["step"], one["text"].strip()] for one in history.samples])


def seconds() -> float:
    """Return how long the button trains: a minute, or as long as this server allows at a time."""
    return min(BUDGET, at_a_time())


def label(title: str) -> str:
    """Return the label of the button for a text."""
    return f'Train on "{title}" for {durations.in_words(seconds())}'


def start(corpus_id: str | None) -> Run:
    """Start a run on the selected text with a time budget and everything else chosen automatically."""
    return visitor().start(corpus_id or "", "", "timed", budget=seconds())


def build() -> Welcome:
    """Draw the section. `page` fills in the replay when the page opens, and wires the button."""
    with gr.Row(equal_height=False, elem_id="welcome"):
        with gr.Column(scale=2, min_width=300):
            gr.Markdown(INTRODUCTION, elem_id="welcome-text")
            train = gr.Button("Train", variant="primary", interactive=False, elem_id="welcome-train")
            below = said("welcome-said")
        with gr.Column(scale=3, min_width=320):
            shown = drawn("welcome", elem_id="welcome-replay")
    return Welcome(train, below, shown)
