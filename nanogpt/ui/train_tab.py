"""The Train tab: start a run, watch its losses fall, stop it, go on."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from .. import corpus, jobs
from ..config import PRESETS, Knob, ModelConfig, NanoGPTError, TrainConfig, knobs, preset
from ..run import Run, all_runs, free_name
from .drawn import drawn, plot_data
from .words import page_line, run_line

ADVANCED = [k for k in knobs(ModelConfig) + knobs(TrainConfig) if k.name != "max_iters"]
EMPTY = dict(max_iters=1000, train=[], val=[])


# ---- handlers: plain functions of names and numbers ------------------------------------------------------------


def preset_values(name: str) -> list:
    """What choosing a preset writes into the fields: its sentence, the length, and everything under Advanced."""
    chosen = preset(name)
    model, train = chosen.configs()
    numbers = {**model.as_dict(), **train.as_dict()}
    return [chosen.expect, numbers["max_iters"], *(numbers[k.name] for k in ADVANCED)]


def start(corpus_id: str, preset_name: str, name: str, max_iters: float, *advanced) -> str:
    """Create a run from the fields and launch its trainer. The run's name."""
    text = corpus.load(corpus_id)
    changes = {k.name: value for k, value in zip(ADVANCED, advanced) if value is not None}
    run = jobs.new_run(name.strip() or free_name(text.name), text, preset_name, max_iters=max_iters, **changes)
    jobs.start(run)
    return run.name


def go_on(name: str | None, max_iters: float) -> str:
    """Continue a run where it stopped; one that has reached its end goes on to the length in the field."""
    if not name:
        raise NanoGPTError("There is no run to continue yet; press Start.")
    run = Run(name)
    longer = int(max_iters or 0) if run.status().step >= run.status().max_iters else None
    jobs.prepare_to_continue(run, longer if longer is None or longer > run.status().step else None)
    jobs.start(run)
    return name


def look(name: str | None) -> dict:
    """Everything the tab shows of a run: plain data."""
    if not name or not Run(name).exists():
        return dict(line=run_line(None), plot=EMPTY, sample="", busy=False, can_continue=False, version=None)
    run = Run(name)
    status, history = run.status(), run.history()
    return dict(
        line=run_line(name),
        plot=plot_data(history.rows, status.max_iters),
        sample=history.samples[-1]["text"].strip() if history.samples else "",
        busy=status.busy,
        can_continue=not status.busy,
        version=(name, *history.version),
    )


def first_preset() -> list:
    """`preset_values` of the preset that is chosen when the page opens."""
    return preset_values(next(iter(PRESETS)))


def names() -> list[str]:
    """Every run, the newest first."""
    return [run.name for run in all_runs()]


def newest() -> str | None:
    """The run to show first: the one that is being trained, else the newest."""
    runs = all_runs()
    busy = [run.name for run in runs if run.status().busy]
    return next(iter(busy + [run.name for run in runs]), None)


# ---- the tab -----------------------------------------------------------------------------------------------------


@dataclass
class TrainTab:
    """The parts the rest of the page talks to."""

    about_text: gr.Textbox
    preset_fields: list  # outputs of `preset_values`
    run: gr.Dropdown
    refresh: list  # outputs of `shown`
    timer: gr.Timer


def shown(name: str | None, seen, force: bool = False) -> list:
    """Updates for `TrainTab.refresh`. Plot and sample are sent only when there is something new to see."""
    state, line = look(name), page_line()
    changed = force or state["version"] != seen
    watching = state["busy"] or line["state"] == "running"  # nothing runs: no request is sent
    return [
        state["line"],
        state["plot"] if changed else gr.skip(),
        state["sample"] if changed else gr.skip(),
        gr.Button(interactive=state["busy"]),
        gr.Button(interactive=state["can_continue"]),
        state["version"],
        line,
        gr.Timer(active=watching) if changed or not watching else gr.skip(),
    ]


def stop(name: str) -> list:
    """Ask a run to stop, and show that it was asked."""
    Run(name).request_stop()
    return shown(name, None, force=True)


def field(k: Knob) -> gr.Number | gr.Dropdown:
    """The input of one knob under Advanced."""
    if k.choices:
        return gr.Dropdown(list(k.choices), value=k.default, label=k.name, info=k.help, elem_id=f"train-{k.name}")
    info = f"{k.help}{f' Usual: {k.usual}.' if k.usual else ''}"
    return gr.Number(k.default, label=k.name, info=info, elem_id=f"train-{k.name.replace('_', '-')}")


def build(corpus_id: gr.State, page_status: gr.HTML) -> TrainTab:
    """Draw the tab and wire it."""
    first = next(iter(PRESETS))
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            about_text = gr.Textbox(
                show_label=False, container=False, interactive=False, max_lines=2, elem_id="train-text"
            )
            presets = gr.Radio(
                [(p.label, key) for key, p in PRESETS.items()], value=first, label="Preset", elem_id="train-preset"
            )
            expect = gr.Markdown(PRESETS[first].expect, elem_id="train-expect")
            name = gr.Textbox(
                label="Name of the run",
                placeholder="named after the text if left empty",
                elem_id="train-name",
                max_lines=1,
            )
            max_iters = gr.Number(
                label="How long: iterations", info=knobs(TrainConfig)[0].help, elem_id="train-max-iters"
            )
            start_button = gr.Button("Start", variant="primary", elem_id="train-start")
            with gr.Row():
                stop_button = gr.Button("Stop and save", interactive=False, elem_id="train-stop")
                continue_button = gr.Button("Continue", interactive=False, elem_id="train-continue")
            with gr.Accordion("Advanced", open=False):
                fields = [field(k) for k in ADVANCED]
        with gr.Column(scale=3, min_width=320):
            run = gr.Dropdown(label="Run", choices=[], value=None, elem_id="train-run")
            status = drawn("status_line", run_line(None), elem_id="train-status")
            plot = drawn("loss_plot", EMPTY, elem_id="train-plot")
            sample = gr.Textbox(
                label="What it writes at this point", lines=6, max_lines=12, interactive=False, elem_id="train-sample"
            )
    seen, timer = gr.State(), gr.Timer(1.0, active=False)
    refresh = [status, plot, sample, stop_button, continue_button, seen, page_status, timer]

    def attempt(action, *inputs):
        """Do it and show the run; what cannot be done is said in the tab's own status line."""
        try:
            chosen = action(*inputs)
        except NanoGPTError as error:
            return [gr.skip(), dict(text=str(error), state="failed", share=None), *[gr.skip()] * (len(refresh) - 1)]
        return [gr.Dropdown(names(), value=chosen), *shown(chosen, None, force=True)[:-1], gr.Timer(active=True)]

    quiet = dict(queue=False, show_progress="hidden", api_visibility="private")
    preset_fields = [expect, max_iters, *fields]
    presets.input(preset_values, presets, preset_fields, **quiet)
    inputs = [corpus_id, presets, name, max_iters, *fields]
    started = start_button.click(lambda *a: attempt(start, *a), inputs, [run, *refresh], **quiet)
    started.then(lambda: "", None, name, **quiet)
    continue_button.click(lambda *a: attempt(go_on, *a), [run, max_iters], [run, *refresh], **quiet)
    stop_button.click(stop, run, refresh, **quiet)
    timer.tick(shown, [run, seen], refresh, **quiet)
    run.input(lambda n: shown(n, None, force=True), run, refresh, **quiet)
    return TrainTab(about_text, preset_fields, run, refresh, timer)
