"""The Understand tab: look into a trained model. Each view is a file of its own in views/."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import gradio as gr

from . import missing_text
from .drawn import drawn, is_failure
from .parts import QUIET
from .view import LATEST, WAITS, View
from .views import (
    ablation,
    architecture,
    attention,
    characters,
    copies,
    guessing,
    loss,
    neighbors,
    readout,
    replay,
    timemachine,
    tour,
    units,
)
from .web.visit import trained

VIEWS = {  # id: its title and the module that draws it
    "characters": ("Characters", characters),
    "tour": ("Tour", tour),
    "parts": ("Switch it off", ablation),
    "loss": ("Loss", loss),
    "guessing": ("Beat your model", guessing),
    "attention": ("Attention", attention),
    "readout": ("Read-out", readout),
    "neighbors": ("Embeddings", neighbors),
    "units": ("Units", units),
    "copies": ("Copies", copies),
    "time": ("Time machine", timemachine),
    "architecture": ("Architecture", architecture),
    "replay": ("Lecture", replay),
}
SCORED = (guessing, loss)  # one of them adds, and the other one shows, your bits per character
# What the browser adds to every opening: its number, and the view that is in front.
ASKED = """(asked, ...inputs) => {
  const shown = (panel) => panel.style.display !== "none";
  const panel = [...document.querySelectorAll("#understand-views > [role=tabpanel]")].find(shown);
  window.nanogptOpenings = (window.nanogptOpenings || 0) + 1;
  return [{ number: window.nanogptOpenings, view: panel ? panel.id.replace("understand-", "") : "" }, ...inputs];
}"""


@dataclass
class Opening:
    """The newest opening of a view in a browser tab: its number, its run, and `View.state` once it is complete.

    It is `ongoing` until it has ended, complete or not.
    """

    number: int = 0
    name: str | None = None
    state: tuple | None = None
    ongoing: bool = False


@dataclass
class UnderstandTab:
    """The components that the rest of the page uses."""

    run: gr.Dropdown
    came: gr.Textbox  # changes each time you have come to the tab, and its models are listed


def build() -> UnderstandTab:
    """Draw the tab and wire it. Only the view in front computes anything."""
    run = gr.Dropdown(label="Model", choices=[], value=None, elem_id="understand-run")
    came = gr.Textbox(visible=False)
    downloaded = missing_text.build(run, came)
    asked, newest = gr.JSON(visible=False), gr.State({})
    scores = drawn("scores", {}, visible="hidden")
    views: dict[str, View] = {}
    with gr.Tabs(elem_id="understand-views"):
        for id, (title, module) in VIEWS.items():
            with gr.Tab(title, id=id, elem_id=f"understand-{id}") as inner:
                view = views[id] = module.build(run, scores) if module in SCORED else module.build(run)

            def open_it(asked, newest, *values, id=id, view=view):
                yield {view.outputs[0]: gr.skip()}  # Gradio empties the outputs of a generator that yields nothing
                if not is_pending(values[0]):
                    yield from coming_to(view, id, newest, number_of(asked), values)

            inputs = [asked, newest, *view.inputs, *view.holds]
            inner.select(open_it, inputs, view.outputs, js=ASKED, **WAITS if view.waits else LATEST)
    tab = UnderstandTab(run, came)
    wire_run(tab, downloaded, asked, newest, views)
    return tab


def wire_run(tab: UnderstandTab, downloaded: Any, asked: gr.JSON, newest: gr.State, views: dict[str, View]) -> None:
    """Open the view in front again when another run is chosen, or what it shows may have changed.

    What views still show of the previous model ends: their requests are canceled, and their openings outdated.
    """
    tab.run.change(None, cancels=[event for view in views.values() for event in view.events])
    leave = lambda asked, newest, name: leave_others(newest, name, number_of(asked))
    tab.run.change(leave, [asked, newest, tab.run], None, js=ASKED, trigger_mode="multiple", **QUIET)
    for waits, places in ((False, dict(concurrency_limit=8, concurrency_id="understand")), (True, WAITS)):
        these = {id: view for id, view in views.items() if view.waits == waits}
        wire_openings(tab, downloaded, asked, newest, these, LATEST | places | dict(js=ASKED, trigger_mode="multiple"))


def wire_openings(
    tab: UnderstandTab, downloaded: Any, asked: gr.JSON, newest: gr.State, views: dict[str, View], how: dict[str, Any]
) -> None:
    """Let one event for all `views` open the one in front: Gradio sends a component's events one after another."""
    inputs = list(dict.fromkeys(one for view in views.values() for one in (*view.inputs, *view.holds)))
    outputs = list(dict.fromkeys(one for view in views.values() for one in view.outputs))

    def in_front(asked, values) -> tuple[str, list]:
        id = str(asked.get("view")) if isinstance(asked, dict) else ""
        own = (*views[id].inputs, *views[id].holds) if id in views else ()
        return id, [values[inputs.index(one)] for one in own]

    def opening(unless: Callable[[Opening, str | None], bool]) -> Callable:
        def open_in_front(asked, newest, *values):
            yield {outputs[0]: gr.skip()}  # see `open_it`
            id, own = in_front(asked, values)
            if own and not unless(newest.get(id, Opening()), own[0]):
                yield from coming_to(views[id], id, newest, number_of(asked), own)

        return open_in_front

    def wire(event: Callable, unless: Callable[[Opening, str | None], bool]) -> None:
        event(opening(unless), [asked, newest, *inputs], outputs, **how)

    wire(tab.run.change, lambda last, name: last.name == name)  # its tab has just opened it for this model
    wire(tab.came.change, lambda last, name: is_pending(name) or (last.ongoing and last.name == name))
    wire(downloaded.then, lambda last, name: False)


def leave_others(newest: dict[str, Opening], name: str | None, number: int) -> None:
    """End the openings of other models that are older than `number`. What they have shown isn't complete."""
    for opening in newest.values():
        if opening.name != name and opening.number < number:
            opening.state, opening.number, opening.ongoing = None, number, False


def number_of(asked: Any) -> int:
    """Return the number of an opening, which counts from 1 in each browser tab; 0 if there is none."""
    number = asked.get("number") if isinstance(asked, dict) else None
    return number if isinstance(number, int) else 0


def is_pending(name: str | None) -> bool:
    """Return True if no run is chosen only because the list of runs isn't there yet. Choosing one opens the view."""
    return name is None and any(trained())


def coming_to(view: View, id: str, newest: dict[str, Opening], number: int, values: Sequence[Any]) -> Iterator[dict]:
    """Yield the updates of coming to a view: none if it shows this model already, with what you did there.

    `values` are those of its inputs, and of what it holds.
    """
    name, before = values[0], newest.get(id, Opening())
    state = view.state(name)
    if state is not None and state == before.state:
        return
    if before.name == name and view.again:
        updates = updates_of(view.again, values)
    else:
        updates = updates_of(view.open, values[: len(view.inputs)])
    other = before.number and before.name != name  # it must not be shown while this model is opened
    emptied = [{one: None for one in view.outputs if isinstance(one, gr.HTML) or one in view.holds}] if other else []
    yield from while_newest(newest, id, Opening(number, name, state), chain(emptied, updates))


def while_newest(newest: dict[str, Opening], id: str, opening: Opening, updates: Iterable[dict]) -> Iterator[dict]:
    """Yield the updates of a view until a newer opening of it is asked for: a late answer must not replace a newer one.

    `newest` holds each view's newest opening in a browser tab. Openings may arrive in another order than they were
    sent. One that was ended or has failed isn't complete.
    """
    number, complete = opening.number, True
    if number >= newest.get(id, Opening()).number:
        newest[id] = Opening(number, opening.name, ongoing=True)
    try:
        for update in updates:
            if newest[id].number != number:
                return
            complete = complete and not any(map(is_failure, update.values()))
            yield update
        if complete and newest[id].number == number:
            newest[id].state = opening.state
    finally:
        if newest[id].number == number:
            newest[id].ongoing = False


def updates_of(handler: Callable, values: Sequence[Any]) -> Iterator[dict]:
    """Yield the updates of a handler, whether it returns them at once or yields them."""
    found = handler(*values)
    if isinstance(found, dict):
        yield found
    else:
        yield from found
