"""The view "Lecture": the stages of the lecture trained on the text of your model, one after another, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ... import corpus, errors, explain, limits
from ...config import NanoGPTError
from ...durations import in_words
from ...runs import queue
from ..drawn import drawn, line, said, told
from ..parts import HIDDEN, QUIET
from ..view import View, opened
from ..web.visit import visitor

if TYPE_CHECKING:
    from ...explain.opened import Opened

NO_TEXT = "The text of this model isn't here. Add it in the Text tab to replay the lecture on it."
WHICH = {  # what the radio button means: its label and its stages
    "lecture": ("From the bigram model to the GPT (stages 1 to 6)", explain.replay.LECTURE),
    "recipe": ("On to the modern recipe (8 to 18)", explain.replay.MODERN),
}
NOISE = "Another seed changes a loss by about 0.02, on a short text by more. Smaller differences may be chance."
TRAINING = HIDDEN | dict(concurrency_limit=1, concurrency_id="replay")
TOO_LONG = (
    "Stage {} takes longer than the {} this server allows. The stages that were completed are kept. To train the "
    "others, use nanogpt on your own computer."
)
TURN = "Waiting for its turn …"  # there is one for the whole server, which the Tour shares
# For when training ends, in whatever way: enable the controls again, and replace a line that still says it is running.
ENDED = """(said) => [
  said?.state === "running" ? { text: "Stopped. The stages that were completed are kept.", state: "idle" } : said,
  ...[true, true, false].map((interactive) => ({ __type__: "update", interactive })),
]"""


# ---- handlers ------------------------------------------------------------------------------------------------------


def stages_of(which: str) -> Sequence[int]:
    """Return the stages of a choice."""
    return WHICH[which][1]


def shown(events: dict[int, list[dict]], which: str) -> tuple[dict, dict, dict]:
    """Return the data of the plot, the table and the samples, from the events of each stage."""
    wanted = {stage: events[stage] for stage in stages_of(which) if events.get(stage)}
    ended = {stage: of[-1] for stage, of in wanted.items() if "sample" in of[-1]}
    rows = [
        [title(stage), f"{one['val_loss']:.3f}", f"{one['parameters']:,}", f"{one['seconds']:.0f} s"]
        for stage, one in ended.items()
    ]
    head, said = ["Stage", "Validation loss", "Parameters", "Time"], NOISE if len(rows) > 1 else ""
    table = dict(head=head if rows else [], rows=rows, said=said)
    return curves(wanted), table, dict(columns=[sample(stage, ended.get(stage, {})) for stage in wanted])


@cache
def names() -> dict[int, str]:
    """Return the name of each stage."""
    from ... import lecture, rungs  # here, because they import torch

    return {one.number: one.name for one in (*lecture.LADDER, *rungs.RUNGS)}


def title(stage: int) -> str:
    """Return the number and the name of a stage."""
    return f"{stage} {names()[stage]}"


def curves(events: dict[int, list[dict]]) -> dict[str, Any]:
    """Return the data of the plot: a line for the validation loss of each stage."""
    points = lambda of: [[one["step"], round(one["val_loss"], 4), one["step"]] for one in of]
    lines = [dict(label=title(stage), points=points(of)) for stage, of in events.items()]
    end = max((of[-1]["step"] for of in events.values()), default=0)
    return dict(axis="step", end=end or 1, lines=lines, name="lecture", waiting="The losses appear here.")


def sample(stage: int, last: dict) -> dict[str, str]:
    """Return the column of a stage: what it adds, and what it writes once it is trained."""
    state = "done" if last else "writing"
    return dict(name=title(stage), prompt="", text=last.get("sample", ""), said=explain.replay.ADDS[stage], state=state)


def trained(folder: Path, which: str) -> Iterator[tuple[dict[int, list[dict]], dict[str, Any]]]:
    """Train the stages that haven't been trained on a text yet. Yield all events so far, and a line about them.

    Raise NanoGPTError if a stage trains for longer than this server allows.
    """
    events = explain.replay.kept(folder)
    missing = [stage for stage in stages_of(which) if stage not in events]
    most = limits.limit("NANOGPT_MAX_SECONDS")
    steps: dict[int, str] = {}  # of the stages that train now: where they are
    pairs = explain.replay.in_pairs(folder / "text.txt", missing, lambda: bool(queue.running()))
    for stage, event, seconds in explain.replay.timed(pairs):
        if event is None:
            explain.replay.keep(folder, stage, events[stage])
            del steps[stage]
            continue
        if most is not None and seconds > most:
            raise NanoGPTError(TOO_LONG.format(stage, in_words(most)))
        if "step" in event:
            events = {**events, stage: [*events.get(stage, []), event]}
        steps[stage] = f", step {events[stage][-1]['step']:,}" if stage in events else ""
        yield events, in_training(steps, "paused" in event)
    yield events, line(f"Done: every stage was trained on {trained_on(folder)}, from the same seed.", "finished")


def in_training(steps: dict[int, str], paused: bool) -> dict[str, Any]:
    """Return the line about the stages that train, and where they are. Screen readers hear no steps."""
    pause = " Paused while a run trains." if paused else ""
    text = " ".join(f"Stage {one}: {names()[one]}{step}." for one, step in steps.items())
    spoken = " ".join(f"Stage {one}: {names()[one]}." for one in steps)
    return line(text + pause, "running", spoken=spoken + pause)


def trained_on(folder: Path) -> str:
    """Return what the stages are trained on: all of a text, or the start of a large one."""
    large = (folder / "text.txt").stat().st_size > corpus.WHOLE
    return f"the first {corpus.WHOLE / 1e6:,.0f} million characters of the text" if large else "the same text"


def folder_of(one: Opened) -> Path:
    """Return the folder of a model's text. Raise NanoGPTError if the text isn't here."""
    folder = one.text_folder()
    if folder is None:
        raise NanoGPTError(NO_TEXT)
    return folder


# ---- the view ------------------------------------------------------------------------------------------------------


def build(run: gr.Dropdown) -> View:
    """Draw the view and wire it."""
    gr.Markdown(
        "The lecture adds one idea at a time. Watch on your own text what each is worth: every stage is trained from "
        "the same seed. Stages 1 to 6 take about two minutes on two cores; you can stop and continue later.",
        container=False,
    )  # fmt: skip
    choices = [(label, which) for which, (label, _) in WHICH.items()]
    which = gr.Radio(
        choices, value="lecture", show_label=False, label="Stages", container=False, elem_id="replay-which"
    )
    with gr.Row():
        start = gr.Button(
            "Train the stages", variant="primary", min_width=200, scale=0, elem_id="replay-start", interactive=False
        )  # until the view is opened: what that answers would take back what a training has said
        stop = gr.Button("Stop", min_width=90, scale=0, interactive=False, elem_id="replay-stop")
    status, wrong = said("replay-status"), said("replay-said")
    plot, table = drawn("loss_plot", elem_id="replay-plot"), drawn("plain_table", elem_id="replay-table")
    samples = drawn("side_by_side", uses=("in_view",), elem_id="replay-samples")
    outputs = [status, wrong, plot, table, samples]
    controls = [which, start, stop]

    def training(on):
        free, ends = dict(interactive=not on), dict(interactive=on)
        return {which: gr.Radio(**free), start: gr.Button(**free), stop: gr.Button(**ends)}

    def updates(events: dict, which: str) -> dict:
        return dict(zip((plot, table, samples), shown(events, which)))

    def begin(name, which):
        try:
            return {**updates(explain.replay.kept(folder_of(opened(name))), which), status: line(""), wrong: told("")}
        except errors.PROBLEMS as error:
            return {**updates({}, which), status: line(""), wrong: told(errors.explain(error), "failed")}

    def open_it(name, which):
        return {**begin(name, which), **training(False)}

    def train(name, which):
        try:
            visitor().may_train()
            folder = folder_of(opened(name))
            before = None
            for events, doing in trained(folder, which):
                update = {status: doing, wrong: told("")}
                yield update if events is before else {**update, **updates(events, which)}
                before = events
        except errors.PROBLEMS as error:
            yield {status: line(""), wrong: told(errors.explain(error), "failed")}

    # the first event doesn't wait, unlike the second
    begun = start.click(lambda: {status: line(TURN, "running"), **training(True)}, None, [status, *controls], **QUIET)
    trains = begun.then(train, [run, which], outputs, **TRAINING)
    stop.click(None, cancels=[trains])
    for ended in (trains.then, trains.failure):  # a cancel calls both
        ended(None, status, [status, *controls], js=ENDED)
    which.input(begin, [run, which], outputs, trigger_mode="always_last", **QUIET)
    return View(open_it, [run, which], [*outputs, *controls], [trains], begin)
