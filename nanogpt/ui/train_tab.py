"""The Train tab: start a run, watch its loss, stop it and resume it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from .. import durations, limits
from ..errors import PROBLEMS, explain
from ..launch import place
from ..runs import Run, Status, overview
from . import form, link, run_panel
from .drawn import drawn, plot_data, said, told
from .parts import QUIET, Parts
from .visit import seen, visitor
from .words import details, page_line, run_line, tiles

NO_POINTS = "The losses appear here when a run starts."
EMPTY: dict[str, Any] = dict(axis="step", end=1, train=[], val=[], waiting=NO_POINTS)
NO_SAMPLE: dict[str, Any] = dict(name="", step=None, text="", fresh=False)
FIGURES = ("tiles", "plot", "details")  # what changes with each row that the trainer logs
# On a phone the result is below the settings, so bring it into view when a run starts. An error stays in view instead.
SHOW_RESULT = """(said) => {
  if ((said || {}).text || !matchMedia("(max-width: 720px)").matches) return;
  const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth";
  const show = (tries) => { // the tab may only just be opening
    const status = document.querySelector("#train-status");
    if (status && status.offsetParent) status.scrollIntoView({ behavior, block: "start" });
    else if (tries) setTimeout(show, 50, tries - 1);
  };
  show(40);
}"""


# ---- handlers: plain functions of names and numbers ------------------------------------------------------------


def start(corpus_id: str, name: str, preset_name: str, *fields) -> Run:
    """Start a run with the settings in the form."""
    return visitor().start(corpus_id, name, preset_name, **form.changes(preset_name, *fields))


def go_on(name: str | None, more: str) -> Run:
    """Resume a run where it stopped, or train a finished one for `more`."""
    return visitor().go_on(name, more)


def look(name: str | None) -> dict:
    """Return everything the tab shows about a run, as plain data."""
    run = seen(name)
    if run is None:
        cannot = dict(busy=False, can_stop=False, can_continue=False, more="")
        figures = dict(tiles=tiles(None, None), details=details(None, None), plot=EMPTY)
        return dict(line=run_line(None), **figures, state="", version=None, **cannot)
    status, history, own = run.glance(), run.history(), visitor().owns(run)
    return dict(
        line=run_line(name),
        tiles=tiles(run, status),
        details=details(run, status),
        plot=curves(run, status),
        state=status.state,
        busy=status.busy,
        can_stop=status.busy and own,
        can_continue=(can_continue := visitor().may_resume(run, status)),
        more=length(run) if can_continue and status.state == "finished" else "",
        version=(name, *history.version, status.state),
    )


def length(run: Run) -> str:
    """Return the length of a run, "60s" or "1000", as the first suggestion for how much longer to train it."""
    train = run.settings()["train"]
    return durations.short(train["budget"]) if train.get("budget") else str(train["max_iters"])


def curves(run: Run, status: Status) -> dict[str, Any]:
    """Return the data for the plot: over time if the run has a time budget, whose end is known, else over steps."""
    if status.state == "damaged":
        return EMPTY | dict(waiting="")
    waits = {"queued": "Waiting for its turn ...", "running": "Waiting for the first step ..."}
    waiting = waits.get(status.state, NO_POINTS)
    budget, rows = run.settings()["train"].get("budget"), run.history().rows
    if budget:
        return plot_data(rows, budget, "seconds", name=run.name, waiting=waiting)
    return plot_data(rows, status.max_iters, name=run.name, waiting=waiting)


def written(name: str | None, number: int | None = None) -> tuple[dict[str, Any], int, list[int]]:
    """Return a run's sample by number (default: the newest) for typing.js, its number, and the steps of all samples."""
    run = seen(name)
    samples = run.history().samples if run else []
    if not samples:
        return NO_SAMPLE, 0, []
    number = max(1, min(int(number or len(samples)), len(samples)))
    one = samples[number - 1]
    shown = dict(name=name, step=one["step"], text=one["text"].strip(), fresh=False)
    return shown, number, [sample["step"] for sample in samples]


def names() -> list[str]:
    """Return the names of every run that the visitor can see, newest first."""
    return [run.name for run in visitor().runs()]


def newest(before: str | None = None) -> str | None:
    """Return the run to show first: one that is training, or queued, or the one shown before, or the newest.

    Among those that are training or queued, the one shown before comes first.
    """
    states = {run.name: overview(run).status for run in visitor().runs()}
    training = [name for name, status in states.items() if status.busy and status.state != "queued"]
    busy = training + [name for name, status in states.items() if status.state == "queued"]
    again = [before] if before in states else []
    return next(iter([*(name for name in again if name in busy), *busy, *again, *states]), None)


def in_view(name: str | None, before: str | None = None) -> str | None:
    """Return the selected run, or the one to show first if none is selected or it was deleted."""
    return name if name in names() else newest(before)


# ---- the tab -----------------------------------------------------------------------------------------------------


@dataclass
class TrainTab:
    """The components that the rest of the page uses."""

    about_text: gr.Textbox
    form: form.Form
    run: gr.Dropdown
    shown: Parts  # what `view` updates


def shown(name: str | None, seen, back: int | None = None, force: bool = False) -> dict[str, Any]:
    """Return updates for `TrainTab.shown`. The figures, the plot and the sample are sent only if they have changed.

    `back` is the number of the earlier sample that the user selected, or None to follow the newest.
    """
    now, page = look(name), page_line()
    version, before = now["version"], None if force else seen
    updates: dict[str, Any] = dict(status=now["line"], page_status=page, seen=version, **buttons(now))
    watching = now["busy"] or page["state"] == "running"  # if nothing runs, stop polling
    if before is None or version != before:
        updates |= {name: now[name] for name in FIGURES} | dict(timer=gr.Timer(active=watching))
    elif not watching:
        updates |= dict(timer=gr.Timer(active=False))
    if force:
        updates |= dict(back=None)
    if _has_ended(version, before):
        updates |= dict(more=gr.Textbox(now["more"], visible=bool(now["more"])))
    if _has_new_sample(name, version, before):
        updates |= newest_sample(name, back, fresh=before is not None)
    return updates


def buttons(now: dict[str, Any]) -> dict[str, Any]:
    """Return the updates for Stop and Resume, given what `look` returned. Their labels say what they would do."""
    stop = "Cancel" if now["state"] == "queued" else "Stop"
    resume = "Train more" if now["more"] else "Resume"
    return dict(
        stop=gr.Button(stop, interactive=now["can_stop"]),
        go_on=gr.Button(resume, interactive=now["can_continue"]),
    )


def _has_ended(version, before) -> bool:
    """Return True if a run's state has changed since `before`; both are versions from `look`, None for one not seen."""
    return not (before and version) or version[3] != before[3]


def _has_new_sample(name: str | None, version, before) -> bool:
    """Compare versions from `look`: (name, version of losses, version of samples, state), or None without a run."""
    return not (before and version) or before[0] != name or before[2] != version[2]


def newest_sample(name: str | None, back: int | None, fresh: bool = False) -> dict[str, Any]:
    """Return updates for the newest sample, which types itself if it is `fresh`.

    If an earlier sample is selected, it stays, and only the slider gets longer.
    """
    sample, number, steps = written(name)
    if back:
        return dict(when=dict(steps=steps, at=back))
    return dict(when=dict(steps=steps, at=number), sample=sample | dict(fresh=fresh))


def view(name: str | None = None) -> dict[str, Any]:
    """Return updates for all of `TrainTab.shown`, for a run or the one to show first."""
    chosen = name or newest()
    start_button = gr.Button(interactive=not limits.training_is_off())
    return dict(run=gr.Dropdown(names(), value=chosen), start=start_button, **shown(chosen, None, force=True))


def stop(name: str) -> dict[str, Any]:
    """Stop a run or remove it from the queue, and show that this was requested."""
    try:
        visitor().own_run(name).request_stop()
    except PROBLEMS as error:
        return dict(said=told(explain(error), "failed"))
    return dict(said=told(""), **shown(name, None, force=True))


def attempt(action: Callable[..., Run], *inputs) -> Iterator[dict[str, Any]]:
    """Start or resume a run and show it. An error is shown below the buttons until the next action.

    If the run trains within the request, on the visitor's own quota, show it again at the end.
    """
    try:
        run = action(*inputs)
    except PROBLEMS as error:
        yield dict(said=told(explain(error), "failed"))
        return
    yield {**view(run.name), "said": told(""), "timer": gr.Timer(active=True)}
    if place.takes_the_request():
        place.attend(run)
        yield view(run.name)


def on_click(event: Callable, attempted: Callable[..., Iterable[dict]], inputs: Any, outputs: list) -> Any:
    """Wire a button that trains, given a function that returns the updates of `attempt` by component.

    Where training lasts as long as the request, show all of them, each when it comes; anywhere else there is only one.
    """
    if not place.takes_the_request():
        return event(lambda *a: next(iter(attempted(*a))), inputs, outputs, **QUIET)

    def steps(*a):  # Gradio has to see that it is a generator
        yield from attempted(*a)

    return event(steps, inputs, outputs, show_progress="hidden", api_visibility="private", concurrency_limit=16)


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
    more = drawn("details", [], elem_id="train-details")
    return dict(run=run, status=status, tiles=figures, plot=plot, sample=sample, when=when, details=more)


def build(corpus_id: gr.State, page_status: gr.HTML, timer: gr.Timer) -> TrainTab:
    """Draw the tab and wire it. The timer is created outside the tab, because it must tick before the tab is opened."""
    with gr.Row(equal_height=False, elem_id="train-parts"):
        with gr.Column(min_width=280, elem_id="train-settings"):
            about_text, chosen, name = draw_settings()
            buttons = draw_buttons()
        with gr.Column(min_width=320, elem_id="train-result"):
            result = draw_result()
        with gr.Column(elem_id="train-rest"):
            form.build_advanced(chosen, corpus_id)
            link.build(corpus_id, chosen.inputs)
    seen, back = gr.State(), gr.State()
    parts = Parts(**result, **buttons, back=back, seen=seen, page_status=page_status, timer=timer)
    run, said_line = parts["run"], parts["said"]

    def on(event, handler, inputs):
        """Wire a handler that returns updates by component name."""
        return event(lambda *a: parts.put(handler(*a)), inputs, parts.outputs, **QUIET)

    def train(event, action, inputs):
        """Wire a button that starts or resumes a run, and brings it into view."""
        done = on_click(event, lambda *a: map(parts.put, attempt(action, *a)), inputs, parts.outputs)
        (event if place.takes_the_request() else done.then)(None, said_line, None, js=SHOW_RESULT)
        return done

    started = train(parts["start"].click, start, [corpus_id, name, *chosen.inputs])
    started.then(lambda: "", None, name, **QUIET).then(place.warm, **QUIET)
    train(parts["go_on"].click, go_on, [run, parts["more"]])
    on(parts["stop"].click, stop, run)
    on(timer.tick, shown, [run, seen, back])
    on(run.input, lambda n: shown(n, None, force=True), run)
    went = [parts["sample"], back]
    parts["when"].input(look_back, [run, parts["when"]], went, trigger_mode="always_last", **QUIET)
    with gr.Column(elem_id="train-runs"):
        run_panel.build(run_panel.View(run, view, parts, form.field_values, chosen.fields))
    return TrainTab(about_text, chosen, run, parts)
