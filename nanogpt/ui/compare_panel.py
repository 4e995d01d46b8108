"""Draw the comparison in the Runs tab: losses, results, settings and samples. compare.py computes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..config import SampleConfig, knobs
from ..errors import PROBLEMS, explain
from . import compare
from .drawn import drawn, said, told
from .parts import HIDDEN, QUIET, begun, stoppable
from .sample_tab import AT_ONCE

PRESS = "() => document.querySelector('#compare-sample').click()"  # which does nothing if it is disabled

# Hides the comparison if one of its runs isn't in the table any more, because it was renamed or deleted.
GONE = """(table, samples) => {
  const names = new Set((table?.rows ?? []).map(({ name }) => name));
  const gone = samples?.columns?.some(({ name }) => !names.has(name));
  return { __type__: "update", ...(gone ? { visible: false } : {}) };
}"""


@dataclass
class Comparison:
    """The parts that show the runs being compared."""

    names: gr.State
    wrong: gr.HTML
    wrong_sample: gr.HTML
    shown: gr.Column
    axis: gr.Radio
    plot: gr.HTML
    results: gr.HTML
    settings: gr.HTML
    samples: gr.HTML


def build(table: gr.HTML, rows: Callable[[], dict]) -> None:
    """Draw the plot, the results, the settings and the samples of the selected runs, hidden until you compare some.

    `rows` returns the data of the table, which is shown again if a run is gone.
    """
    names, wrong = gr.State([]), said("compare-said")
    with gr.Column(visible=False, elem_id="compare") as shown:
        gr.Markdown("### Validation loss", container=False)
        axis = gr.Radio(
            list(compare.AXES.items()), value="step", label="Over", show_label=False, container=False,
            elem_id="compare-axis",
        )  # fmt: skip
        plot = drawn("loss_plot", elem_id="compare-plot")
        gr.Markdown("### Results", container=False)
        results = drawn("plain_table", elem_id="compare-results")
        gr.Markdown("### Settings that differ", container=False)
        settings = drawn("plain_table", elem_id="compare-settings")
        samples, wrong_sample, event = build_samples(names)
    wire(table, Comparison(names, wrong, wrong_sample, shown, axis, plot, results, settings, samples), rows, event)


def wire(table: gr.HTML, parts: Comparison, rows: Callable[[], dict], event: Any) -> None:
    """Wire the button that compares runs, and the choice of the x axis. `event` samples from those compared before."""

    def opened(event: gr.EventData, axis):
        try:
            runs = compare.chosen(getattr(event, "names", None))
            tables = {parts.results: compare.results(runs), parts.settings: compare.differences(runs)}
            data = {parts.plot: compare.plot(runs, axis), **tables}
        except PROBLEMS as error:
            return {parts.wrong: told(explain(error), "failed"), table: rows()}
        shown = {parts.shown: gr.Column(visible=True), parts.wrong: told(""), parts.wrong_sample: told("")}
        return {**data, **shown, parts.samples: compare.blank(runs), parts.names: [run.name for run in runs]}

    def redrawn(names, axis):
        try:
            return [compare.plot(compare.chosen(names), axis), told("")]
        except PROBLEMS as error:
            return [gr.skip(), told(explain(error), "failed")]

    tables = [parts.results, parts.settings]
    lines = [parts.wrong, parts.wrong_sample]
    drawn_parts = [parts.plot, *tables, parts.samples, parts.names, parts.shown, *lines, table]
    compared = table.submit(opened, parts.axis, drawn_parts, cancels=[event], **QUIET)
    compared.then(None, None, None, js="() => document.querySelector('#compare')?.scrollIntoView({ block: 'start' })")
    table.change(None, [table, parts.samples], parts.shown, js=GONE)
    redrawing = [parts.plot, parts.wrong]
    parts.axis.input(redrawn, [parts.names, parts.axis], redrawing, trigger_mode="always_last", **QUIET)


def build_samples(names: gr.State) -> tuple[gr.HTML, gr.HTML, Any]:
    """Draw and wire the samples of the runs in `names`. Return what shows them, the line for errors, and the event."""
    k = {knob.name: knob for knob in knobs(SampleConfig)}
    gr.Markdown("### Samples from the same prompt and seed", container=False)
    with gr.Row(equal_height=True):
        prompt = gr.Textbox(
            label="Prompt", info="How each text should start (optional).", max_lines=3, scale=4, min_width=220,
            elem_id="compare-prompt",
        )  # fmt: skip
        seed = gr.Number(
            k["seed"].default, label=compare.LABELS["seed"], info="The same for each.", precision=0, min_width=110,
            elem_id="compare-seed",
        )  # fmt: skip
        length = gr.Number(
            300, label=compare.LABELS["length"], info="In characters.", precision=0, min_width=110,
            elem_id="compare-length",
        )  # fmt: skip
    with gr.Row():
        generate = gr.Button("Sample from each", variant="primary", scale=0, min_width=200, elem_id="compare-sample")
        stop = gr.Button("Stop", scale=0, min_width=90, interactive=False, elem_id="compare-stop")
    wrong = said("compare-sample-said")
    samples = drawn("side_by_side", uses=("in_view",), elem_id="compare-samples")

    def sampled(*asked):
        try:
            for data in compare.samples(*asked):
                yield [data, told("")]
        except PROBLEMS as error:
            yield [gr.skip(), told(explain(error), "failed")]

    prompt.submit(None, js=PRESS)
    event = begun(generate, samples, [generate], stop).then(
        sampled, [names, prompt, seed, length], [samples, wrong],
        concurrency_limit=AT_ONCE, concurrency_id="sample", **HIDDEN,
    )  # fmt: skip
    stoppable([event], samples, [generate], stop)
    return samples, wrong, event
