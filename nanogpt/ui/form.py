"""The form of the Train tab: preset, layout, training time, every other setting under Advanced, and an estimate."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from .. import durations, limits
from ..config import Knob, ModelConfig, NanoGPTError, TrainConfig, knobs
from ..errors import PROBLEMS, explain
from ..holdout import epochs
from ..layout import LAYOUTS
from ..presets import PLANNED, PRESETS, Preset, preset, preset_key
from ..runs import queue
from ..tokenizer import unit
from .parts import QUIET, afterward, typed
from .web.visit import visitor

GROUPS = {
    "Model": ("block_size", "n_layer", "n_head", "n_embd", "dropout"),
    "Optimization": (
        "batch_size", "batches", "optimizer", "learning_rate", "matrix_lr", "momentum", "weight_decay", "beta1",
        "beta2", "grad_clip",
    ),
    "Schedule": ("schedule", "min_lr", "warmup_iters"),
    "Evaluation": ("eval_interval", "patience", "seed", "snapshots", "device"),
}  # fmt: skip
LABELS = dict(preset="Preset", layout="Architecture", budget="Training time", max_iters="Steps")  # others: their name
LAYOUT_LABELS = {"modern": "Modern (faster)", "classic": "Classic (as in the lecture)"}  # others go by their name
NO_TIME = f"{LABELS['budget']} is empty; enter one such as 60s or 3m, or choose another preset."
OWN_FIELDS = ("layout", "budget", "max_iters")  # drawn on their own
ADVANCED = [k for k in knobs(ModelConfig) + knobs(TrainConfig) if k.name not in OWN_FIELDS]
LENGTHS = (3, 4)  # the positions of budget and max_iters in `Form.fields`
TOLD = "() => document.getElementById('train-estimate')?.classList.remove('old')"
KNOB = {k.name: k for k in knobs(ModelConfig) + knobs(TrainConfig)}


# ---- handlers: plain functions of names and numbers --------------------------------------------------------------


def settings_of(preset_name: str, layout: str | None = None) -> dict[str, Any]:
    """Return every setting of a preset by name, in the given layout or its own."""
    model, train = preset(preset_name).configs(layout=layout)
    return {**model.as_dict(), **train.as_dict(), "preset": preset_key(preset_name)}


def field_values(settings: dict[str, Any]) -> list:
    """Return the values of `Form.fields` for the given settings, whose preset is timed if they have a time budget."""
    timed = settings["budget"] > 0
    return [
        settings["preset"],
        preset(settings["preset"]).expect,
        settings["layout"],
        gr.Textbox(durations.short(min(settings["budget"] or 60.0, at_a_time())), visible=timed),
        gr.Number(settings["max_iters"], visible=not timed),
        *(_shown(k, settings[k.name], timed) for k in ADVANCED),
    ]


def layout_values(name: str, layout: str) -> list:
    """Return `field_values` for a preset in another layout, leaving the training time as entered."""
    values = field_values(settings_of(name, layout))
    return [gr.skip() if number in LENGTHS else value for number, value in enumerate(values)]


def _shown(k: Knob, value: Any, timed: bool) -> Any:
    """Return a value under Advanced, hidden if a time budget chooses it."""
    return gr.Number(value, visible=not timed) if k.name in PLANNED else value


def at_a_time() -> float:
    """Return how many seconds a run may train at a time on this server (infinity without a limit)."""
    return limits.limit("NANOGPT_MAX_SECONDS") or math.inf


def first_values() -> list:
    """Return `field_values` for the preset that is selected when the page opens."""
    return field_values(settings_of(next(iter(PRESETS))))


def changes(preset_name: str, layout: str, budget: str, max_iters: float, *advanced) -> dict[str, Any]:
    """Return the settings in which the form differs from its preset. Raise NanoGPTError for an invalid value."""
    before = settings_of(preset_name, layout)
    now: dict[str, Any] = {"layout": layout}
    if before["budget"]:
        now["budget"] = seconds_of(budget)
    else:
        now["max_iters"] = max_iters
    now |= {k.name: value for k, value in zip(ADVANCED, advanced) if not (before["budget"] and k.name in PLANNED)}
    parsed = {name: KNOB[name].parse(value, LABELS.get(name)) for name, value in now.items() if value is not None}
    return {name: value for name, value in parsed.items() if name in ("layout", "budget") or value != before[name]}


def seconds_of(budget: str) -> float:
    """Return a time budget in seconds. Raise NanoGPTError if there is none, or if it can't be used."""
    if seconds := KNOB["budget"].parse(budget or "0", LABELS["budget"]):
        return seconds
    raise NanoGPTError(NO_TIME)


def of_gpus(gpus: int) -> str:
    """Return what several GPUs can do, for those who can start them."""
    if gpus < 2 or limits.is_public():
        return ""
    return f"Each of your {gpus} GPUs can train a run; nanogpt train --processes {gpus} trains one on all of them."


def estimate(corpus_id: str | None, *fields) -> str:
    """Estimate a run on this machine: time, memory and epochs, or for a time budget the model that would be chosen."""
    from ..device import cuda_hint, pick_device, places
    from ..fastest import described
    from ..launch.pace import seconds_needed
    from ..launch.plan import choose, fits, fitting, lowered
    from ..memory import needed, of_text
    from ..model import count_parameters

    try:
        text = visitor().text(corpus_id or "")
        limits.check_training()
        said = changes(*fields)
        model, train = preset(fields[0]).configs(**said)
        tokenizer, tokens = text.tokenizer(), len(text.tokens())
        model = fitting(model, tokenizer, text.tokens())
        if not train.budget:  # `choose` checks each size that it may choose
            limits.check_model(model, count_parameters(model))
        limits.check_seconds(train.budget)
        picked = pick_device(train.device)
        several = of_gpus(len(places(picked)))
        notes = [several, cuda_hint(), lowered(said, model)]
        device = " ".join(filter(None, [f"{described(picked, model)}.", *notes]))
        if queue.running():
            return f"{device} The time estimate is available once no other run is training."
        if train.budget:
            plan = choose(train.budget, model.vocab_size, tokens, said, unit(tokenizer))
            return f"{replace(plan, promises=fits(plan, text.characters, tokenizer))} {device}"
        gigabytes = needed(model, train, picked, of_text(text.tokens(), picked)) / 1e9
        seconds = seconds_needed(model, train)
        time = durations.in_words(seconds, rough=True)
        if seconds > at_a_time():
            time += f", {durations.in_words(at_a_time())} at a time on this server, then Resume"
        numbers = f"{count_parameters(model):,} parameters, {gigabytes:.1f} GB of memory"
        often = epochs(train.max_iters * train.batch_size * model.block_size, tokens)
        return f"About {time}. {numbers}, {often:.1f} epochs. {device}"
    except PROBLEMS as error:
        return explain(error)


def preset_choices() -> list[tuple[str, str]]:
    """Return the presets' labels and keys. A label says how long the preset takes here, if that is known already."""
    return [(f"{one.label}{_time_of(one)}", key) for key, one in PRESETS.items()]


def _time_of(one: Preset) -> str:
    from ..launch.pace import rough_seconds

    model, train = one.configs()
    seconds = None if train.budget else rough_seconds(model, train)
    if seconds is None:
        return ""
    units = (("days", 86400, 2), ("h", 3600, 0.75), ("min", 60, 0.75))
    unit, size = next(((unit, size) for unit, size, least in units if seconds >= least * size), ("s", 1))
    return f" · ~{max(1, seconds / size):.0f} {unit}"


# ---- the form ------------------------------------------------------------------------------------------------------


@dataclass
class Form:
    """The components of the form: `inputs` are read by the tab, and `fields` are filled in by `field_values`.

    `filled` are the events after which a preset, a layout or a choice under Advanced is in effect. `typed` changes
    after typing, and when the settings of a run or a file have filled them in.
    """

    presets: gr.Radio
    expect: gr.Markdown
    layout: gr.Radio
    budget: gr.Textbox
    max_iters: gr.Number
    estimate: gr.Textbox
    advanced: list
    filled: list
    typed: Any = None

    @property
    def inputs(self) -> list:
        return [self.presets, self.layout, self.budget, self.max_iters, *self.advanced]

    @property
    def fields(self) -> list:
        return [self.presets, self.expect, self.layout, self.budget, self.max_iters, *self.advanced]


def field(k: Knob) -> Any:
    """Draw one setting under Advanced."""
    elem_id = f"train-{k.name.replace('_', '-')}"
    if k.choices:
        visible = k.name != "snapshots" or not limits.is_public()  # there, no run keeps any
        return gr.Dropdown(
            list(k.choices), value=k.default, label=k.name, info=k.help, visible=visible, elem_id=elem_id
        )
    info = f"{k.help}{f' Typical: {k.usual}.' if k.usual else ''}"
    return gr.Number(k.default, label=k.name, info=info, elem_id=elem_id)


def build() -> Form:
    """Draw the upper part, in the order in which you decide. `build_advanced` draws the rest."""
    first = next(iter(PRESETS))
    labels = [(one.label, key) for key, one in PRESETS.items()]
    presets = gr.Radio(labels, value=first, label=LABELS["preset"], elem_id="train-preset")
    expect = gr.Markdown(PRESETS[first].expect, elem_id="train-expect")
    budget = gr.Textbox(
        "1m", label=LABELS["budget"], info="For example 90s, 3m or 1h. 10 seconds or more is best.", max_lines=1,
        elem_id="train-budget",
    )  # fmt: skip
    max_iters = gr.Number(
        label=LABELS["max_iters"], info="Number of training steps.", visible=False, elem_id="train-max-iters"
    )
    layout = gr.Radio(
        [(LAYOUT_LABELS.get(name, name), name) for name in dict.fromkeys([*LAYOUT_LABELS, *LAYOUTS])],
        value="modern",
        label=LABELS["layout"],
        info="Modern makes ten later changes to the model and its training, such as rotary positions and Muon.",
        render=False,  # drawn under Advanced
        elem_id="train-layout",
    )
    told = gr.Textbox(
        "Measuring this machine …", label="Estimate", show_label=False, container=False, interactive=False, lines=5,
        max_lines=9, elem_id="train-estimate",
    )  # fmt: skip
    return Form(presets, expect, layout, budget, max_iters, told, [], [])


def draw_advanced(form: Form) -> None:
    """Draw every other setting in groups, the architecture first. Settings without a group join the last one."""
    grouped = {name for names in GROUPS.values() for name in names}
    rest = [k.name for k in ADVANCED if k.name not in grouped]
    made: dict[str, Any] = {}
    for group, names in GROUPS.items():
        gr.Markdown(f"#### {group}", elem_classes="advanced-group")
        with gr.Row(elem_classes="advanced-fields"):
            if group == "Model":
                form.layout.render()
            last = rest if group == [*GROUPS][-1] else []
            made |= {name: field(KNOB[name]) for name in [*names, *last]}
    form.advanced = [made[k.name] for k in ADVANCED]


def build_advanced(form: Form, corpus_id: gr.HTML) -> None:
    """Draw every other setting and wire the form: a preset fills in the fields, any change updates the estimate."""
    with gr.Accordion("Advanced", open=False, elem_id="train-advanced"):
        draw_advanced(form)
    asked = dict(inputs=[corpus_id, *form.inputs], outputs=form.estimate, trigger_mode="always_last", **QUIET)
    # of quick choices, the last one counts: so an answer must not set the radio itself back to an earlier one
    but = lambda part, values: [gr.skip() if one is part else value for one, value in zip(form.fields, values)]
    preset_values = lambda name: but(form.presets, field_values(settings_of(name)))
    other_layout = lambda name, layout: but(form.layout, layout_values(name, layout))
    quick: dict[str, Any] = dict(trigger_mode="always_last", **QUIET)
    fill = form.presets.input(preset_values, form.presets, form.fields, **quick)
    fill.then(estimate, **asked)
    refill = form.layout.input(other_layout, [form.presets, form.layout], form.fields, **quick)
    refill.then(estimate, **asked)
    chosen = [form.presets.input, form.layout.input]
    # in the browser, so that it shows at once
    gr.on(chosen, None, None, form.estimate, js="() => 'Measuring this machine …'")
    boxes = [one for one in (form.budget, form.max_iters, *form.advanced) if not isinstance(one, gr.Dropdown)]
    form.typed = typed(boxes, marks="train-estimate")
    told = form.typed.change(estimate, **asked)
    afterward(told, None, None, None, js=TOLD)
    lists = [one for one in form.advanced if isinstance(one, gr.Dropdown)]
    form.filled = [fill, refill, *(one.input(estimate, **asked) for one in lists)]
    labels = gr.State()  # those in view, so that they are only sent if they change

    def label(before):
        now = preset_choices()
        return [gr.Radio(choices=now) if now != before else gr.skip(), now]

    form.estimate.change(label, labels, [form.presets, labels], **QUIET)  # it may have measured something
