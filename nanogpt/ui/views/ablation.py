"""The view "Switch it off": a grid of the model's heads and layers, colored by what each is worth.

Switching parts off lets the model write with and without them, from the same prompt and seed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from ... import errors, explain
from ...config import NanoGPTError, SampleConfig, knobs
from ..drawn import drawn, said, told
from ..measuring import WAITING, in_turn
from ..parts import HIDDEN
from ..view import View, opened

if TYPE_CHECKING:
    from ...explain.opened import Opened

LONGEST = 2000  # characters of each text
WRITING = HIDDEN | dict(concurrency_limit=4, concurrency_id="parts-sample", trigger_mode="always_last")

# ---- handlers: plain functions of a run and the parts that are off -------------------------------------------------


def grid(one: Opened, found: dict[str, Any], off: list[str], said: str = "") -> dict[str, Any]:
    """Return the data for ablation.js: by how much the loss rises without each part, and the parts that are off."""
    config, all_parts = one.model.config, explain.ablation.parts_of(one.model)
    rises = found.get("rises", {})
    more: dict[str, Any] = {}
    if not said and len(rises) < len(all_parts):
        said, more = f"Measuring: {len(rises)} of {len(all_parts)} parts.", dict(spoken="Measuring.")
    elif not said:
        where = explain.ablation.measured_on(found)
        measured = f"Measured on {where}, where the whole model has a loss of {found['loss']:.3f}."
        said = " ".join([*explain.ablation.summary(one.model, rises), measured])
    return dict(
        model=one.run.name, n_layer=config.n_layer, n_head=config.n_head, rises=rises, off=off, said=said,
        names={part.key: str(part) for part in all_parts}, **more,
    )  # fmt: skip


def measured(one: Opened, off: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the grid as it fills, a few times a second.

    Raise NanoGPTError if the machine isn't free for too long, or if measuring takes longer than a public server allows.
    """
    if kept := explain.ablation.kept(one):
        yield grid(one, kept, off)
        return
    found: dict[str, Any] = {}
    drawn_at = 0.0
    for result in in_turn(explain.ablation.measured(one), explain.cache.can_keep(one)):
        if result is None:
            yield grid(one, found, off, WAITING)
        elif time.monotonic() - drawn_at > 0.2:
            drawn_at = time.monotonic()
            yield grid(one, result, off)
        found = result or found
    yield grid(one, found, off)


def side_by_side(one: Opened, off: list[str], prompt: str, seed, length) -> Iterator[dict[str, Any]]:
    """Yield the data for side_by_side.js: what the model writes with all its parts, and without these.

    Raise NanoGPTError for a seed or a length that is out of range.
    """
    parts = [explain.ablation.part_of(key, one.model) for key in off]
    values = dict(seed=seed, length=length)
    config = SampleConfig(**{key: value for key, value in values.items() if value is not None})
    if config.length > LONGEST:
        raise NanoGPTError(f"length was {config.length:,}; it must be a whole number from 1 to {LONGEST:,}.")
    fitted, shown = one.tokenizer.fit(prompt or ""), 0.0
    start, note = fitted.text, str(fitted)
    names = ("With all parts", "Without " + "; ".join(map(str, parts)))
    columns = lambda texts: dict(
        columns=[dict(name=name, prompt=start, text=text, said=note, state="done") for name, text in zip(names, texts)]
    )
    texts = ("", "")
    for texts in explain.ablation.with_and_without(one, parts, start, config):
        if time.monotonic() - shown > 0.05:
            shown = time.monotonic()
            yield columns(texts)
    yield columns(texts)


# ---- the view ------------------------------------------------------------------------------------------------------


def build(run: gr.Dropdown) -> View:
    """Draw the view and wire it."""
    gr.Markdown(
        "Which parts of the model matter? Each cell is one part, colored by how much the loss rises without it. "
        "Click one to switch it off and read what the model writes without it. You can switch off several.",
        container=False,
    )  # fmt: skip
    view, wrong, off = drawn("ablation", elem_id="parts-grid"), said("parts-said"), gr.State([])
    with gr.Row(equal_height=True):
        k = {knob.name: knob for knob in knobs(SampleConfig)}
        prompt = gr.Textbox(
            label="Prompt", info="How both texts should start (optional).", max_lines=3, scale=4, min_width=220,
            elem_id="parts-prompt",
        )  # fmt: skip
        seed = gr.Number(
            k["seed"].default, label="Seed", info="The same for both.", precision=0, min_width=110, elem_id="parts-seed"
        )
        length = gr.Number(
            300, label="Length", info=f"In characters, up to {LONGEST:,}.", precision=0, min_width=110,
            elem_id="parts-length",
        )  # fmt: skip
    texts = drawn("side_by_side", uses=("in_view",), elem_id="parts-texts")

    def begin(name):
        yield {off: [], texts: dict(columns=[])}
        yield from again(name, [])

    def again(name, keys):
        try:
            one = opened(name)
            yield {view: grid(one, {}, keys or []), wrong: told("")}
            for data in measured(one, []):
                yield {view: data}
        except errors.PROBLEMS as error:
            yield {wrong: told(errors.explain(error), "failed")}

    def write(name, keys, *how):
        yield {off: keys, texts: dict(columns=[]), wrong: told("")} if not keys else {off: keys}
        try:
            for data in side_by_side(opened(name), keys, *how) if keys else ():
                yield {texts: data, wrong: told("")}
        except errors.PROBLEMS as error:
            yield {wrong: told(errors.explain(error), "failed")}

    def switched(data, name, *how):
        keys = data.get("off") if isinstance(data, dict) else None
        yield from write(name, [str(key)[:40] for key in keys][:1000] if isinstance(keys, list) else [], *how)

    how, outputs = [prompt, seed, length], [off, texts, wrong]
    events = [
        view.input(switched, [view, run, *how], outputs, **WRITING),
        gr.on([prompt.submit, seed.submit, length.submit], write, [run, off, *how], outputs, **WRITING),
    ]
    return View(begin, [run], [view, off, texts, wrong], events, again, [off], waits=True)
