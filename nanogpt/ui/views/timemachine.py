"""The view "Time machine": what a model wrote at each of about 20 steps of its training, and its milestones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from ... import errors, explain, limits
from ...config import SampleConfig, knobs
from ..drawn import drawn, points, said, told
from ..view import LATEST as SINGLE, View, opened

if TYPE_CHECKING:
    from ...explain.opened import Opened

NO_SNAPSHOTS = "This run kept no snapshots, so you see the samples of its evaluations, which have no prompt."
KEPT = (
    "Runs of your own with up to 3 million parameters keep them; set snapshots to “on” under Advanced for larger ones."
)
KEPT_BY_NONE = "Runs on this server never keep them."
NO_TEXT = (
    "The training text isn't here, so spaces and line breaks are compared with the run's last texts, and words aren't "
    "checked."
)
# in the browser: the slider and the text follow each other without a request
TO_TEXT = "(when, data) => ({ ...data, at: when.at })"
TO_SLIDER = "(data) => ({ steps: data.texts.map((one) => one.step), at: data.at, label: 'Steps of the training' })"


# ---- handlers ------------------------------------------------------------------------------------------------------


def travel(one: Opened, prompt: str, seed: Any) -> Iterator[tuple[dict[str, Any] | None, str]]:
    """Yield the data for timemachine.js when all texts are written, and before that None with how far it is."""
    start = one.tokenizer.fit(prompt or "")
    seed = SampleConfig(seed=SampleConfig.seed if seed is None else seed).seed
    count, found = explain.timemachine.count(one), {}
    for found in explain.timemachine.travel(one, start.text, seed):
        if not (found["milestones"] or found["samples"]):  # samples are there at once
            yield None, f"Writing at step {found['texts'][-1]['step']:,}: text {len(found['texts'])} of {count + 1}."
    curve = points(one.run.history().rows, "train_loss")
    notes = [str(start), no_snapshots() if found["samples"] else "", "" if one.corpus_id else NO_TEXT]
    yield found | dict(at=1, curve=curve, note=" ".join(filter(None, notes))), ""


def no_snapshots() -> str:
    """Return what to say of a run without snapshots."""
    return f"{NO_SNAPSHOTS} {KEPT_BY_NONE if limits.is_public() else KEPT}"


def slider(data: dict[str, Any]) -> dict[str, Any]:
    """Return the data for scrubber.js: the steps of the texts."""
    return dict(steps=[text["step"] for text in data["texts"]], at=data["at"], label="Steps of the training")


# ---- the view ------------------------------------------------------------------------------------------------------


def build(run: gr.Dropdown) -> View:
    """Draw the view and wire it."""
    gr.Markdown(
        "How did the model learn to write? Move the slider from its random start to its last step: the same prompt and "
        "the same seed, so that only what it has learned differs. Milestones are numbered on the curve of the loss.",
        container=False,
    )  # fmt: skip
    with gr.Row(equal_height=True):
        prompt = gr.Textbox(
            label="Prompt", info="How every text should start (optional). Press Enter to write.", max_lines=1, scale=4,
            min_width=220, elem_id="time-prompt",
        )  # fmt: skip
        default = next(knob.default for knob in knobs(SampleConfig) if knob.name == "seed")
        seed = gr.Number(
            default, label="Seed", info="The same for all.", precision=0, min_width=110, elem_id="time-seed"
        )
    wrong = said("time-said")
    when = drawn("scrubber", dict(steps=[], at=0), elem_id="time-at")
    view = drawn("timemachine", elem_id="time-view")

    def show(name: str | None, prompt: str, seed):
        try:
            for data, so_far in travel(opened(name), prompt, seed):
                writing = told(so_far, "running", spoken="Writing.")
                yield {view: data, when: slider(data), wrong: told("")} if data else {wrong: writing}
        except errors.PROBLEMS as error:
            yield {view: None, when: dict(steps=[], at=0), wrong: told(errors.explain(error), "failed")}

    again = gr.on([prompt.submit, seed.submit], show, [run, prompt, seed], [view, when, wrong], **SINGLE)
    when.input(None, [when, view], view, js=TO_TEXT)
    view.input(None, view, when, js=TO_SLIDER)
    return View(show, [run, prompt, seed], [view, when, wrong], [again])
