"""The Runs tab: a table of all runs with what you can do with each, and a comparison of those you select."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import gradio as gr

from ..config import ModelConfig, SampleConfig, knobs
from ..durations import clock
from ..errors import PROBLEMS, explain
from ..formats import read_config
from ..model import count_parameters
from ..runs import Overview, Run, overview
from . import changing, compare, run_panel
from .drawn import drawn, said, told
from .parts import QUIET, Parts
from .visit import visitor
from .words import state_word

# key, label, whether it is a number, whether it sorts from its largest value first
COLUMNS = [
    ("name", "Name", False, False), ("text", "Text", False, False), ("state", "State", False, False),
    ("parameters", "Parameters", True, True), ("steps", "Steps", True, True), ("epochs", "Epochs", True, True),
    ("loss", "Val loss", True, False), ("time", "Time", True, True), ("when", "Created", True, True),
]  # fmt: skip
UNKNOWN = ("–", None)


# ---- handlers: plain functions of names ----------------------------------------------------------------------------


def rows() -> dict[str, Any]:
    """Return every run that the visitor can see, newest first, in the form that runs_table.js draws."""
    listed = [(run, overview(run)) for run in visitor().runs()]
    return dict(
        columns=[dict(zip(("key", "label", "number", "falls"), column)) for column in COLUMNS],
        rows=[dict(name=run.name, actions=actions(run, found), cells=cells(run, found)) for run, found in listed],
        least=compare.LEAST,
        most=compare.MOST,
    )


def cells(run: Run, found: Overview) -> dict[str, tuple]:
    """Return a run's cells by column: the text, and the value to sort by, None if it is unknown."""
    status, parameters = found.status, parameters_of(run)
    known = {
        "name": (run.name, run.name),
        "text": (found.text, found.text) if found.text else UNKNOWN,
        "state": (state_word(status), state_word(status), status.state),
        "parameters": (in_millions(parameters), parameters) if parameters else UNKNOWN,
        "steps": (f"{status.step:,}", status.step) if status.step else UNKNOWN,
        "epochs": (f"{found.epochs:.1f}", found.epochs) if found.epochs else UNKNOWN,
        "loss": (f"{found.loss:.4f}", found.loss) if found.loss is not None else UNKNOWN,
        "time": (clock(status.seconds), status.seconds) if status.seconds else UNKNOWN,
        "when": (found.created[:16].replace("T", " "), found.created) if found.created else UNKNOWN,
    }
    return known


def parameters_of(run: Run) -> int | None:
    """Return a run's number of parameters, or None if its config can't be read."""
    try:
        return counted(read_config(run.folder))
    except PROBLEMS:
        return None


@lru_cache(maxsize=1024)
def counted(config: ModelConfig) -> int:
    """Return `count_parameters`, which takes some milliseconds, from memory if it was counted before."""
    return count_parameters(config)


def in_millions(count: int) -> str:
    """Return 812,345 as "0.81 M"."""
    return f"{count / 1e6:.2f} M"


def actions(run: Run, found: Overview) -> list[str]:
    """Return what the table offers for a run: what `run_panel.allowed` allows, "open", and "compare"."""
    comparable = ["compare"] if found.status.state != "damaged" else []
    return ["open", *run_panel.allowed(run, found.status), *comparable]


# ---- the tab -------------------------------------------------------------------------------------------------------


@dataclass
class Train:
    """What the tab uses of the Train tab: its dropdown of runs, what shows a run, and what `show` updates."""

    run: gr.Dropdown
    show: Callable[[str | None], dict]  # name, or None for the default -> updates for `shown`
    shown: Parts
    tabs: gr.Tabs


def build(train: Train) -> gr.HTML:
    """Draw the tab and wire it. Return the table, which is filled in when the tab is opened."""
    table = drawn("runs_table", elem_id="runs-table")
    note, about = said("runs-said"), gr.Textbox(visible=False)  # the run that a dialog is about
    with gr.Group(visible=False, elem_id="runs-renaming") as renaming:
        new = gr.Textbox(label="New name", placeholder=run_panel.NAMES, max_lines=1, elem_id="runs-new-name")
        with gr.Row():
            rename = gr.Button("Rename run", variant="primary", size="sm", elem_id="runs-rename")
            leave = gr.Button("Cancel", size="sm", elem_id="runs-rename-no")
    sure = changing.draw_sure("runs")
    with gr.Row():
        upload = gr.UploadButton(
            "Import run (.zip)", file_types=[".zip"], size="sm", min_width=160, scale=0, elem_id="run-import"
        )
    imported, file = said("run-import-said"), gr.DownloadButton(visible=False)
    build_comparison(table)

    def act(event: gr.EventData):
        """Do what was chosen for a run, or ask about it first."""
        action, name = getattr(event, "action", ""), str(getattr(event, "name", ""))
        done = {renaming: gr.Group(visible=False), sure.group: gr.Group(visible=False), note: told("")}
        done |= {about: name, file: None}
        try:
            run_panel.found(name)
            if action == "open":
                return {**done, train.tabs: gr.Tabs(selected="train"), **train.shown.put(train.show(name))}
            if action == "export":
                return {**done, file: run_panel.save(name, "archive")}
            if action == "rename":
                shown = gr.Textbox("", label=f"New name for {name}")
                return {**done, renaming: gr.Group(visible=True), new: shown}
            return {**done, sure.ask: run_panel.question(name), sure.group: gr.Group(visible=True)}
        except PROBLEMS as error:
            return {**done, note: told(explain(error), "failed"), table: rows()}

    def change(do: Callable[..., tuple[str, str | None]], name, *inputs):
        """Rename or delete a run, and show the result in both tabs."""
        try:
            sentence, in_view = do(name, *inputs)
        except PROBLEMS as error:
            return {note: told(explain(error), "failed"), table: rows()}
        closed = {renaming: gr.Group(visible=False), sure.group: gr.Group(visible=False)}
        return {note: told(sentence), table: rows(), **closed, **train.shown.put(train.show(in_view))}

    def take(path):
        try:
            name = run_panel.load(path)
        except PROBLEMS as error:
            return {imported: told(explain(error), "failed")}
        return {imported: told(f"Imported as {name}."), table: rows(), **train.shown.put(train.show(name))}

    closing = lambda: [gr.Group(visible=False)] * 2
    acted = [renaming, new, sure.group, sure.ask, note, about, file, table, train.tabs, *train.shown.outputs]
    table.select(act, None, acted, **QUIET).then(None, file, None, js=run_panel.DOWNLOAD)
    changed = [note, table, renaming, sure.group, *train.shown.outputs]
    named = lambda *a: change(renamed, *a)
    gr.on([rename.click, new.submit], named, [about, new, train.run], changed, **QUIET)
    sure.yes.click(lambda *a: change(deleted, *a), [about, train.run], changed, **QUIET)
    gr.on([leave.click, sure.no.click], closing, None, [renaming, sure.group], **QUIET)
    taken = [imported, table, *train.shown.outputs]
    upload.upload(take, upload, taken, api_visibility="private", show_progress_on=upload)
    return table


def renamed(name: str, new: str, in_view: str | None) -> tuple[str, str | None]:
    """Rename a run. Return a message, and the run to show in the Train tab."""
    chosen = run_panel.rename(name, new)
    return f"{name} is now called {chosen}.", chosen if in_view == name else in_view


def deleted(name: str, in_view: str | None) -> tuple[str, str | None]:
    """Delete a run. Return a message, and the run to show in the Train tab."""
    run_panel.delete(name)
    return f"{name} is deleted.", None if in_view == name else in_view


def build_comparison(table: gr.HTML) -> None:
    """Draw the plot, the settings and the samples of the selected runs, hidden until some are compared."""
    k = {knob.name: knob for knob in knobs(SampleConfig)}
    names, wrong = gr.State([]), said("compare-said")
    with gr.Column(visible=False, elem_id="compare") as shown:
        gr.Markdown("### Validation loss", container=False)
        axis = gr.Radio(
            list(compare.AXES.items()), value="step", label="Over", show_label=False, container=False,
            elem_id="compare-axis",
        )  # fmt: skip
        plot = drawn("loss_plot", elem_id="compare-plot")
        gr.Markdown("### Settings that differ", container=False)
        settings = drawn("plain_table", elem_id="compare-settings")
        gr.Markdown("### Samples from the same prompt and seed", container=False)
        with gr.Row(equal_height=True):
            prompt = gr.Textbox(
                label="Prompt", info="How each text should start (optional).", max_lines=3, scale=4, min_width=220,
                elem_id="compare-prompt",
            )  # fmt: skip
            seed = gr.Number(
                k["seed"].default, label="Seed", info="The same for each.", precision=0, min_width=110,
                elem_id="compare-seed",
            )  # fmt: skip
            length = gr.Number(
                300, label="Length", info="In characters.", precision=0, min_width=110, elem_id="compare-length"
            )
        with gr.Row():
            generate = gr.Button(
                "Sample from each", variant="primary", scale=0, min_width=180, elem_id="compare-sample"
            )
            stop = gr.Button("Stop", scale=0, min_width=90, elem_id="compare-stop")
        samples = drawn("side_by_side", elem_id="compare-samples")

    def opened(event: gr.EventData, axis):
        try:
            runs = compare.chosen(getattr(event, "names", None))
            different = compare.differences(runs)
        except PROBLEMS as error:
            return {wrong: told(explain(error), "failed"), table: rows()}
        data = {plot: compare.plot(runs, axis), settings: different, samples: compare.blank(runs)}
        return {**data, names: [run.name for run in runs], shown: gr.Column(visible=True), wrong: told("")}

    def redrawn(names, axis):
        try:
            return [compare.plot(compare.chosen(names), axis), told("")]
        except PROBLEMS as error:
            return [gr.skip(), told(explain(error), "failed")]

    def sampled(*asked):
        try:
            for data in compare.samples(*asked):
                yield [data, told("")]
        except PROBLEMS as error:
            yield [gr.skip(), told(explain(error), "failed")]

    begun = table.submit(opened, axis, [plot, settings, samples, names, shown, wrong, table], **QUIET)
    begun.then(None, None, None, js="() => document.querySelector('#compare')?.scrollIntoView({ block: 'start' })")
    axis.input(redrawn, [names, axis], [plot, wrong], **QUIET)
    writing = gr.on(
        [generate.click, prompt.submit], sampled, [names, prompt, seed, length], [samples, wrong],
        show_progress="hidden", concurrency_limit=4, concurrency_id="sample", api_visibility="private",
    )  # fmt: skip
    stop.click(None, None, None, cancels=[writing])
