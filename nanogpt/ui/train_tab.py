"""The Train tab: start a run, watch its loss, stop it and resume it. watching.py says what it shows of a run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from .. import limits
from ..errors import PROBLEMS, explain
from ..launch import place
from ..runs import Run
from . import form, form_picture, jobs_panel, link, run_panel
from .drawn import drawn, is_failure, line, said, told
from .parts import HIDDEN, QUIET, REFUSED, Parts, afterward
from .watching import EACH_SECOND, EMPTY, NO_SAMPLE, REST, catch_up, shown, ticked, view, written
from .web.visit import visitor
from .words import run_line, tiles

# On a narrow page the result is below the settings, so bring it into view when a run starts; or the error if none does.
SHOW_RESULT = """(said) => {
  if (!matchMedia("(max-width: 820px)").matches) return;
  const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth";
  const show = (ids, block, tries) => { // the tab may only just be opening
    const part = ids.map((id) => document.getElementById(id)).find((one) => one && one.offsetParent);
    if (part) part.scrollIntoView({ behavior, block });
    else if (tries) setTimeout(show, 50, ids, block, tries - 1);
  };
  if ((said || {}).text) show(["train-said", "welcome-said"], "nearest", 40);
  else show(["train-status"], "start", 40);
}"""
# Says that there was no answer. In the browser, because a server that has refused one request may refuse the next.
UNANSWERED = f"() => ({{ __type__: 'update', visible: true, value: {json.dumps(line(REFUSED, 'failed'))} }})"


# ---- handlers: plain functions of names and numbers ------------------------------------------------------------


def start(corpus_id: str, name: str, preset_name: str, *fields) -> Run:
    """Start a run with the settings in the form."""
    return visitor().start(corpus_id, name, preset_name, **form.changes(preset_name, *fields))


def go_on(name: str | None, more: str) -> Run:
    """Resume a run where it stopped, or train a finished one for `more`."""
    return jobs_panel.followed(name) or visitor().go_on(name, more)


# ---- the tab -----------------------------------------------------------------------------------------------------


@dataclass
class TrainTab:
    """The components that the rest of the page uses."""

    about_text: gr.Textbox
    form: form.Form
    run: gr.Dropdown
    shown: Parts  # what `view` updates
    started: Callable[..., Any]  # wires what follows the answer to Start
    redrawn: Callable[[Any], Any]  # has the picture of the model redrawn after an event


def stop(name: str) -> dict[str, Any]:
    """Stop a run or remove it from the queue, and show that this was requested."""
    try:
        visitor().own_run(name).request_stop()
    except PROBLEMS as error:
        return dict(said=told(explain(error), "failed"))
    return dict(said=told(""), **shown(name))


def attempt(action: Callable[..., Run], *inputs) -> Iterator[dict[str, Any]]:
    """Start or resume a run and show it. An error is shown below the buttons until the next action.

    If the run trains within the request, on the visitor's own quota, stay until it ends. The timer shows that it has
    ended: by then, the visitor may look at something else.
    """
    try:
        run = action(*inputs)
    except PROBLEMS as error:
        yield dict(said=told(explain(error), "failed"))
        return
    yield {**view(run.name), "said": told("")}
    place.attend(run)


def attempt_start(*inputs) -> Iterator[dict[str, Any]]:
    """Start a run and show it, as `attempt` does. Once it has started, empty the field with its name."""
    for updates in attempt(start, *inputs):
        yield updates if is_failure(updates["said"]) else {**updates, "name": ""}


def on_click(
    button: gr.Button, attempted: Callable[..., Iterable[dict]], inputs: Any, outputs: list, note: gr.HTML
) -> Callable[..., Any]:
    """Wire a button that trains, given a function that returns the updates of `attempt` by component.

    `note` shows that there was no answer. Return the function that wires what follows an answer.

    It shows at once that it was clicked, and can't be clicked again before the answer: on a busy machine, that takes
    seconds. Where the request lasts as long as the training, only what follows the answer doesn't wait for its end.
    """
    waits = f"() => document.getElementById('{button.elem_id}').classList.toggle('waits', %s)"
    button.click(None, None, None, js=waits % "true")
    if not place.takes_the_request():
        done = button.click(lambda *a: next(iter(attempted(*a))), inputs, outputs, **QUIET)
        then = done.then
    else:
        answered = gr.Textbox(visible=False)  # changes with the answer, long before the event is done

        def steps(*a):  # Gradio has to see that it is a generator
            for updates in attempted(*a):
                yield {**updates, answered: str(time.monotonic())}
                yield {answered: gr.skip()}  # Gradio sends the last one again at the end

        done = button.click(steps, inputs, [*outputs, answered], concurrency_limit=16, **HIDDEN)
        then = answered.change
    afterward(done, None, None, None, js=waits % "false")
    done.failure(None, None, note, js=UNANSWERED)
    return then


def wire_jobs(jobs: jobs_panel.JobsPanel, inputs: list, parts: Parts) -> None:
    """Wire the button that uploads a run and starts its job. An error is shown above it, and the terms as they are."""

    def attempted(*a) -> Iterator[dict]:
        terms = {}

        def begin(*inputs) -> Run:
            try:
                return jobs_panel.begin(jobs.page, *inputs)
            except jobs_panel.Changed as changed:
                terms[jobs.terms] = changed.terms
                raise

        for updates in attempt(begin, *a):
            said = updates.pop("said")
            yield {**parts.put(updates), **terms, jobs.note: said, jobs.agreed: gr.Column(visible=is_failure(said))}

    then = on_click(jobs.go, attempted, inputs, [*parts.outputs, jobs.terms, jobs.note, jobs.agreed], jobs.note)
    then(None, jobs.note, None, js=jobs_panel.SHOW_RUN)


def look_back(name: str | None, where: dict[str, Any]) -> list:
    """Return the sample that the slider is at, and its number to stay at; None for the newest, to follow newer ones."""
    at = where.get("at") if isinstance(where, dict) else None
    sample, number, steps = written(name, at if isinstance(at, int) else None)
    return [sample, number if number < len(steps) else None]


def draw_more() -> gr.Textbox:
    """Draw the field beside Resume: for how much longer to train a finished run. Hidden for any other run."""
    return gr.Textbox(
        label="How much longer to train", show_label=False, container=False, max_lines=1, min_width=80, visible=False,
        elem_id="train-more",
    )  # fmt: skip


def draw_settings() -> tuple[gr.Textbox, form.Form, gr.Textbox]:
    """Draw the text that is selected, the form and the run's name."""
    about = gr.Textbox(
        label="Selected text", show_label=False, container=False, interactive=False, max_lines=2, elem_id="train-text",
    )  # fmt: skip
    chosen = form.build()
    name = gr.Textbox(
        label="Run name (optional)", placeholder="defaults to the text's name", max_lines=1, elem_id="train-name",
    )  # fmt: skip
    return about, chosen, name


def draw_buttons() -> dict[str, Any]:
    """Draw the buttons, by their names in `Parts`, and the line below them for the message about an action."""
    start = gr.Button("Start", variant="primary", elem_id="train-start")
    with gr.Row(elem_id="train-buttons"):
        stop = gr.Button("Stop", min_width=80, interactive=False, elem_id="train-stop")
        go_on = gr.Button("Resume", min_width=80, interactive=False, elem_id="train-continue")
        more = draw_more()
    return dict(start=start, stop=stop, go_on=go_on, more=more, said=said("train-said"))


def draw_result() -> dict[str, Any]:
    """Draw the run, its figures, the plot and the newest sample, by their names in `Parts`.

    Each has a fixed height, so that nothing moves the plot while a run is watched.
    """
    with gr.Row(elem_id="train-head"):
        run = gr.Dropdown(label="Run", choices=[], value=None, min_width=160, elem_id="train-run")
        status = drawn("status_line", run_line(None), elem_id="train-status")
    figures = drawn("tiles", tiles(None, None), elem_id="train-tiles")
    with gr.Row(elem_id="train-watch"):
        plot = drawn("loss_plot", EMPTY, elem_id="train-plot")
        with gr.Column(min_width=200, elem_id="train-written"):
            sample = drawn("typing", NO_SAMPLE, elem_id="train-sample")
            when = drawn("scrubber", dict(steps=[], at=0), elem_id="train-sample-at")
    doctor = drawn("findings", [], elem_id="train-doctor")
    more = drawn("details", [], elem_id="train-details")
    return dict(run=run, status=status, tiles=figures, plot=plot, sample=sample, when=when, doctor=doctor, details=more)


def build(corpus_id: gr.HTML, page_status: gr.HTML, timer: gr.Timer) -> TrainTab:
    """Draw the tab and wire it. The timer is created outside the tab, because it must tick before the tab is opened."""
    with gr.Row(equal_height=False, elem_id="train-parts"):
        with gr.Column(min_width=280, elem_id="train-settings"):
            about_text, chosen, name = draw_settings()
            buttons = draw_buttons()
        with gr.Column(min_width=320, elem_id="train-result"):
            result = draw_result()
        with gr.Column(elem_id="train-rest"):
            form.build_advanced(chosen, corpus_id)
            redrawn = form_picture.build(chosen, corpus_id)
            link.build(corpus_id, chosen.inputs)
            jobs = None if limits.is_public() else jobs_panel.build(corpus_id, chosen.inputs)
    back = gr.State()
    # the Versions that the page shows, which have to be in the browser, and two that are only for their events
    seen, caught, alert, quiet = (gr.HTML(html_template="", visible="hidden") for _ in range(4))
    states = dict(seen=seen, caught=caught, back=back, alert=alert, quiet=quiet)
    parts = Parts(**result, **buttons, **states, name=name, page_status=page_status, timer=timer)
    run, said_line = parts["run"], parts["said"]

    def on(event, handler, inputs, outputs=None, **options):
        """Wire a handler that returns updates by component name, by default for any component."""
        return event(lambda *a: parts.put(handler(*a)), inputs, outputs or parts.outputs, **options, **QUIET)

    def train(button, attempted, inputs):
        """Wire a button that starts or resumes a run, and brings it into view."""
        then = on_click(button, lambda *a: map(parts.put, attempted(*a)), inputs, parts.outputs, said_line)
        then(None, said_line, None, js=SHOW_RESULT)
        return then

    started = train(parts["start"], attempt_start, [corpus_id, name, *chosen.inputs])
    started(place.warm, **QUIET)
    if jobs:
        wire_jobs(jobs, [corpus_id, name, *jobs.inputs, *chosen.inputs], parts)
    train(parts["go_on"], partial(attempt, go_on), [run, parts["more"]])
    on(parts["stop"].click, stop, run)
    on(timer.tick, ticked, [run, seen, caught], parts.some(EACH_SECOND))
    on(alert.change, catch_up, [run, caught, back], parts.some(key for key in parts if key not in EACH_SECOND))
    quiet.change(None, [quiet, parts["status"], page_status], timer, js=REST)
    on(run.input, shown, run, trigger_mode="always_last")
    went = [parts["sample"], back]
    parts["when"].input(look_back, [run, parts["when"]], went, trigger_mode="always_last", **QUIET)
    with gr.Column(elem_id="train-runs"):
        run_panel.build(run_panel.View(run, view, parts, form.field_values, chosen.fields, chosen.typed))
    return TrainTab(about_text, chosen, run, parts, started, redrawn)
