"""What the views of the tab Understand share: how a run is opened for one, and how a text is chosen."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gradio as gr

from .. import explain
from ..config import NanoGPTError, SampleConfig
from ..errors import PROBLEMS
from ..tokenizer import unit
from .drawn import said, told
from .parts import HIDDEN
from .web.visit import NO_MODEL, existing, visitor

if TYPE_CHECKING:
    from ..explain.opened import Opened
    from ..runs import Run

# Options for a handler that computes with a model: two at once for the whole server.
SINGLE = HIDDEN | dict(concurrency_limit=2, concurrency_id="explain")
LATEST = SINGLE | dict(trigger_mode="always_last")  # of quick changes, answer the last
# Options for a handler that may wait for minutes until it can compute (measuring.py). There are many places, because
# waiting takes one, and all are for such handlers, so that no other view waits for them.
WAITS: dict[str, Any] = LATEST | dict(concurrency_limit=32, concurrency_id="waiting")
PASSAGE = 600  # characters of a passage or a sample


@dataclass
class View:
    """How the tab opens a view: a handler, what it reads (the run's name first), and what it updates.

    The handler returns or yields updates. While it waits, it yields now and then, so that it can be ended. `events` are
    the view's other requests, which are canceled when another run is chosen. Coming back to a view leaves it as it is,
    unless the model has changed: then `again` shows what it `holds`, such as a text of your own, with the new weights.
    """

    open: Callable
    inputs: list
    outputs: list
    events: list
    again: Callable | None = None  # reads `inputs` and `holds`, which are None after another model; default: `open`
    holds: list = field(default_factory=list)
    depends: Callable[[Run], Any] = lambda run: None  # what else it shows besides the model and its text
    waits: bool = False  # opening it may wait for a run or another measurement to end

    def state(self, name: str | None) -> tuple | None:
        """Return what the view of a run depends on: equal if nothing has changed. None if the run can't be opened."""
        try:
            run = existing(name, NO_MODEL)
            return name, explain.opened.version(run), may_read_text(run), self.depends(run)
        except PROBLEMS:
            return None


def opened(name: str | None) -> Opened:
    """Open a run that the visitor can see. Everyone may sample from a public run, but only its owner may read its text.

    Raise NanoGPTError if there is no such run, or if it has no weights yet.
    """
    run = existing(name, NO_MODEL)
    visitor().uses(run)
    return explain.opened.open_run(run, may_read_text(run))


def identity(run: Run) -> str:
    """Return what tells a run from a later one of the same name."""
    return f"{run.name} {run.settings().get('created')}"


def may_read_text(run: Run) -> bool:
    """Return True if a run's text is here and is the visitor's to read."""
    try:
        visitor().text(str(run.settings()["corpus"]["id"]))
    except NanoGPTError:
        return False
    return True


def text_buttons(id: str) -> tuple[gr.Button, gr.Button]:
    """Draw the buttons that give a view something to read: a sample, and held-out text."""
    with gr.Row():
        sample = gr.Button("Use a sample", size="sm", min_width=130, scale=0, elem_id=f"{id}-sample")
        passage = gr.Button("Use held-out text", size="sm", min_width=150, scale=0, elem_id=f"{id}-passage")
    return sample, passage


def own_text(id: str, longest: int) -> tuple[gr.Textbox, gr.Button, gr.HTML]:
    """Draw the field, closed at first, for a text of your own of up to `longest` characters, its button and a line."""
    info = f"Up to {longest} characters, and no more than the model's context."
    with gr.Accordion("Use your own text", open=False):
        own = gr.Textbox(label="Text", info=info, lines=3, max_lines=8, elem_id=f"{id}-own")
        use = gr.Button("Use this text", size="sm", min_width=140, scale=0, elem_id=f"{id}-use")
        below = said(f"{id}-own-said")
    return own, use, below


def tell(at: gr.HTML, lines: Sequence[gr.HTML], text: str = "", state: str = "idle") -> dict[Any, Any]:
    """Return updates for the lines of a view: a message in `at`, which is by the button that was pressed, only."""
    return {one: told(text, state) if one is at else told("") for one in lines}


def own(entered: Any, longest: int) -> str:
    """Return the text that was entered, as much of it as is shown: some views keep theirs in the session."""
    return str(entered or "")[:longest]


def fitting(one: Opened, text: str, most: int, longest: int) -> tuple[list[int], str]:
    """Return the tokens of a text that are shown, and what to say about the rest of it.

    They are up to `most`, as many as fit into the model's context, and up to `longest`, which the page says already.
    """
    fitted = one.tokenizer.fit(text)
    ids = one.tokenizer.encode(fitted.text)[:longest]
    less = ", less the one before them" if most < one.model.config.block_size else ""
    cut = f"Only the first {most} {unit(one.tokenizer)}s are shown: the model's context{less}."
    return ids[:most], " ".join(filter(None, [str(fitted), cut if len(ids) > most else ""]))


# ---- texts to begin with ---------------------------------------------------------------------------------------------


def a_sample(one: Opened) -> str:
    """Return a text that the model has just written."""
    return one.write(SampleConfig(length=PASSAGE, seed=secrets.randbelow(1_000_000)))


def a_passage(one: Opened) -> str:
    """Return a passage of the held-out text, usually from the start of a line.

    Raise NanoGPTError if the text isn't here.
    """
    text = one.held_out_text()
    if text is None:
        raise NanoGPTError("The text of this model isn't here. Use a sample or your own text instead.")
    return explain.passages.from_a_line(text, PASSAGE, random.Random())


def first_text(one: Opened) -> str:
    """Return the text to begin with: the newest sample of the run, or a new one."""
    samples = one.run.history().samples
    return str(samples[-1]["text"])[:PASSAGE] if samples else a_sample(one)
