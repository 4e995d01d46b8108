"""The view "Architecture": the model as a picture, redrawn as you change its settings."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ... import errors, explain
from ...config import ModelConfig, TrainConfig, knobs
from ...layout import LAYOUTS
from ..drawn import drawn, said, told
from ..parts import typed
from ..view import LATEST as SINGLE, View, opened

# What training adds to the memory for the parameters.
TRAINED = dict(
    adamw="four times that while AdamW trains them (gradients and two averages)",
    muon="in training three times that for the matrices of the blocks, which Muon trains (gradients and one average), "
    "and four times for the rest, which AdamW trains (two averages)",
)
SIZES = ("n_layer", "n_head", "n_embd", "block_size")


# ---- handlers ------------------------------------------------------------------------------------------------------


def picture(
    config: ModelConfig, batch_size: int = TrainConfig.batch_size, optimizer: str = TrainConfig.optimizer
) -> dict[str, Any]:
    """Return the data for architecture.js: the parts of a model, what they cost, and the code of each."""
    parameters, operations = explain.architecture.totals(config)
    found = explain.architecture.boxes(config)
    code = {box.code: explain.architecture.code_of(box.code) for box in found}
    return dict(
        boxes=[vars(box) for box in found],
        n_layer=config.n_layer,
        parameters=parameters,
        input=f"(B, {config.block_size}) characters",
        code={name: dict(text=text, first=first) for name, (text, first) in code.items()},
        words=words(parameters, operations, batch_size, config.block_size, optimizer),
    )


def words(parameters: int, operations: int, batch_size: int, block_size: int, optimizer: str) -> str:
    """Return what a model costs, in a few sentences. `operations` are multiplications per character, forward."""
    step = 6 * operations * block_size * batch_size  # forward and backward, two operations per multiplication
    return (
        f"{parameters:,} parameters: {4 * parameters / 1e6:,.1f} MB as float32, and {TRAINED[optimizer]}. "
        f"Reading a character takes {operations:,} multiplications; a training "
        f"step of {batch_size} sequences takes {step / 1e9:,.1f} billion operations."
    )


# ---- the view ------------------------------------------------------------------------------------------------------


def build(run: gr.Dropdown) -> View:
    """Draw the view and wire it."""
    gr.Markdown(
        "Your model, from characters to scores. Choose a part to read the code that does it: the lecture's, or "
        "nanogpt's own for what the lecture doesn't have. Change a number to see what it costs; your model stays as it "
        "is.",
        container=False,
    )  # fmt: skip
    k = {knob.name: knob for knob in knobs(ModelConfig)}
    with gr.Row(elem_id="architecture-sizes"):
        layout = gr.Radio(
            [(name.capitalize(), name) for name in LAYOUTS], value=next(iter(LAYOUTS)), label="Architecture",
            min_width=180, elem_id="architecture-layout",
        )  # fmt: skip
        sizes = [
            gr.Number(
                k[name].default,
                label=name,
                info=k[name].help,
                precision=0,
                min_width=140,
                elem_id=f"architecture-{name}",
            )
            for name in SIZES
        ]
    wrong, view = said("architecture-said"), drawn("architecture", elem_id="architecture-view")
    fixed = gr.State()  # the model's vocabulary size, and the run's batch size and optimizer

    def begin(name):
        try:
            one = opened(name)
            config, train = one.model.config, TrainConfig.of(one.run.settings()["train"])
            used = train.batch_size, train.optimizer
            values = [(config.vocab_size, *used), config.layout, *(getattr(config, size) for size in SIZES)]
            return {view: picture(config, *used), wrong: told(""), **dict(zip(entered, values))}
        except errors.PROBLEMS as error:
            return {wrong: told(errors.explain(error), "failed")}

    def redraw(fixed, layout, *values):
        if not fixed:  # no model is open yet
            return {view: gr.skip()}
        try:
            vocab_size, *used = fixed
            config = ModelConfig(
                vocab_size, layout, **{name: value for name, value in zip(SIZES, values) if value is not None}
            )
            return {view: picture(config, *used), wrong: told("")}
        except errors.PROBLEMS as error:
            return {wrong: told(errors.explain(error), "failed")}

    entered = [fixed, layout, *sizes]
    redrawn = gr.on([layout.input, typed(sizes).change], redraw, entered, [view, wrong], **SINGLE)
    again = lambda name, fixed, *values: redraw(fixed, *values) if fixed else begin(name)
    return View(begin, [run], [view, wrong, *entered], [redrawn], again, entered)
