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
from .words import page_line, run_line

NO_POINTS = "The losses appear here when a run starts."
EMPTY: dict[str, Any] = dict(axis="step", end=1, train=[], val=[], waiting=NO_POINTS)


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
        return dict(line=run_line(None), plot=EMPTY, state="", version=None, **cannot)
    status, history, own = run.glance(), run.history(), visitor().owns(run)
    return dict(
        line=run_line(name),
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


def written(name: str | None, number: int | None = None) -> tuple[str, str, int, int]:
    """Return a run's sample by number (default: the newest): label, text, its number, number of samples."""
    run = seen(name)
    samples = run.history().samples if run else []
    if not samples:
        return "Sample", "", 0, 0
    number = max(1, min(int(number or len(samples)), len(samples)))
    one = samples[number - 1]
    return f"Sample at step {one['step']:,}", one["text"].strip(), number, len(samples)


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
    """Return updates for `TrainTab.shown`. The plot and the sample are sent only if they have changed.

    `back` is the number of the earlier sample that the user selected, or None to follow the newest.
    """
    now, page = look(name), page_line()
    updates: dict[str, Any] = dict(status=now["line"], page_status=page, seen=now["version"], **buttons(now))
    watching = now["busy"] or page["state"] == "running"  # if nothing runs, stop polling
    if force or now["version"] != seen:
        updates |= dict(plot=now["plot"], timer=gr.Timer(active=watching))
    elif not watching:
        updates |= dict(timer=gr.Timer(active=False))
    if force:
        updates |= dict(back=None)
    if force or _has_ended(now["version"], seen):
        updates |= dict(more=gr.Textbox(now["more"], visible=bool(now["more"])))
    if force or _has_new_sample(name, now["version"], seen):
        updates |= newest_sample(name, back)
    return updates


def buttons(now: dict[str, Any]) -> dict[str, Any]:
    """Return the updates for Stop and Resume, given what `look` returned. Their labels say what they would do."""
    stop = "Cancel" if now["state"] == "queued" else "Stop"
    resume = "Train more" if now["more"] else "Resume"
    return dict(
        stop=gr.Button(stop, interactive=now["can_stop"]),
        go_on=gr.Button(resume, interactive=now["can_continue"]),
    )


def _has_ended(version, seen) -> bool:
    """Return True if a run's state has changed since `seen`; both are versions from `look`."""
    return bool(version and seen) and version[3] != seen[3]


def _has_new_sample(name: str | None, version, seen) -> bool:
    """Compare versions from `look`: (name, version of losses, version of samples, state), or None without a run."""
    return not (seen and version) or seen[0] != name or seen[2] != version[2]


def newest_sample(name: str | None, back: int | None) -> dict[str, Any]:
    """Return updates for the newest sample. An earlier one that is selected stays; only the slider grows."""
    label, text, number, count = written(name)
    slider = dict(maximum=max(count, 2), visible=count > 1)
    if back:
        return dict(when=gr.Slider(**slider))
    return dict(when=gr.Slider(value=number, **slider), sample=gr.Textbox(text, label=label))


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


def look_back(name: str | None, number: float) -> list:
    """Return a sample of the run, and its number to stay at; None for the newest, to follow newer ones."""
    label, text, number, count = written(name, int(number))
    return [gr.Textbox(text, label=label), number if number < count else None]


def draw_more() -> gr.Textbox:
    """Draw the field beside Resume: for how much longer to train a finished run. Hidden for any other run."""
    return gr.Textbox(
        label="How much longer to train", show_label=False, container=False, max_lines=1, min_width=80, visible=False,
        elem_id="train-more",
    )  # fmt: skip


def draw_sample() -> tuple[gr.Textbox, gr.Slider]:
    """Draw the sample, and the slider that goes back to earlier ones."""
    sample = gr.Textbox(label="Sample", lines=6, max_lines=12, interactive=False, elem_id="train-sample")
    when = gr.Slider(1, 2, 1, step=1, label="Earlier samples", visible=False, buttons=[], elem_id="train-sample-at")
    return sample, when


def build(corpus_id: gr.State, page_status: gr.HTML, timer: gr.Timer) -> TrainTab:
    """Draw the tab and wire it. The timer is created outside the tab, because it must tick before the tab is opened."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            about_text = gr.Textbox(
                show_label=False, container=False, interactive=False, max_lines=2, elem_id="train-text"
            )
            chosen = form.build()
            name = gr.Textbox(
                label="Run name (optional)",
                placeholder="defaults to the text's name",
                elem_id="train-name",
                max_lines=1,
            )
            start_button = gr.Button("Start", variant="primary", elem_id="train-start")
            with gr.Row():
                stop_button = gr.Button("Stop", interactive=False, elem_id="train-stop")
                continue_button = gr.Button("Resume", interactive=False, elem_id="train-continue")
                more = draw_more()
            action_said = said("train-said")
            form.build_advanced(chosen, corpus_id)
            link.build(corpus_id, chosen.inputs)
        with gr.Column(scale=3, min_width=320) as right:
            run = gr.Dropdown(label="Run", choices=[], value=None, elem_id="train-run")
            status = drawn("status_line", run_line(None), elem_id="train-status")
            plot = drawn("loss_plot", EMPTY, elem_id="train-plot")
            sample, when = draw_sample()
    seen, back = gr.State(), gr.State()
    parts = Parts(
        run=run, start=start_button, status=status, plot=plot, sample=sample, when=when, back=back, stop=stop_button,
        go_on=continue_button, more=more, said=action_said, seen=seen, page_status=page_status, timer=timer,
    )  # fmt: skip

    def on(event, handler, inputs):
        """Wire a handler that returns updates by component name."""
        return event(lambda *a: parts.put(handler(*a)), inputs, parts.outputs, **QUIET)

    def train(event, action, inputs):
        """Wire a button that starts or resumes a run."""
        return on_click(event, lambda *a: map(parts.put, attempt(action, *a)), inputs, parts.outputs)

    started = train(start_button.click, start, [corpus_id, name, *chosen.inputs])
    started.then(lambda: "", None, name, **QUIET).then(place.warm, **QUIET)
    train(continue_button.click, go_on, [run, more])
    on(stop_button.click, stop, run)
    on(timer.tick, shown, [run, seen, back])
    on(run.input, lambda n: shown(n, None, force=True), run)
    when.input(look_back, [run, when], [sample, back], trigger_mode="always_last", **QUIET)
    with right:
        run_panel.build(run_panel.View(run, view, parts, form.field_values, chosen.fields))
    return TrainTab(about_text, chosen, run, parts)
