"""The view "Switch it off": a grid of the model's heads, attentions and MLPs, colored by what each is worth.

Switching parts off lets the model write with and without them, from the same prompt and seed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from .. import errors, explain, limits
from ..config import NanoGPTError, SampleConfig, knobs
from ..runs import queue
from .drawn import drawn, said, told
from .view import View, opened

if TYPE_CHECKING:
    from ..explain.opened import Opened

SECONDS = 60.0  # on a public server, the longest that measuring may take at a time
PATIENCE = 600.0  # seconds to wait for a run to end
SINGLE: dict[str, Any] = dict(
    show_progress="hidden", concurrency_limit=8, concurrency_id="parts", api_visibility="private",
    trigger_mode="always_last",
)  # fmt: skip
WRITING: dict[str, Any] = dict(
    show_progress="hidden", concurrency_limit=4, concurrency_id="sample", api_visibility="private",
    trigger_mode="always_last",
)  # fmt: skip

measuring = threading.Lock()  # one model at a time


# ---- handlers: plain functions of a run and the parts that are off -------------------------------------------------


def grid(one: Opened, found: dict[str, Any], off: list[str], said: str = "") -> dict[str, Any]:
    """Return the data for switches.js: by how much the loss rises without each part, and the parts that are off."""
    config, all_parts = one.model.config, explain.ablation.parts_of(one.model)
    rises = found.get("rises", {})
    if not said and len(rises) < len(all_parts):
        said = f"Measuring: {len(rises)} of {len(all_parts)} parts."
    elif not said:
        measured = f"Measured on {found['on']}, where the whole model has a loss of {found['loss']:.3f}."
        said = " ".join([*explain.ablation.summary(one.model, rises), measured])
    return dict(
        n_layer=config.n_layer, n_head=config.n_head, rises=rises, off=off, said=said,
        names={part.key: str(part) for part in all_parts},
    )  # fmt: skip


def measured(one: Opened, off: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the grid as it fills. Wait while something trains here, or while another model is measured.

    Raise NanoGPTError if that takes too long, or if measuring takes longer than a public server allows.
    """
    if kept := explain.ablation.kept(one):
        yield grid(one, kept, off)
        return
    yield from waiting(one, {}, off, lambda: not measuring.acquire(blocking=False))
    try:
        yield from filling(one, off)
    finally:
        measuring.release()


def waiting(one: Opened, found: dict, off: list[str], busy: Callable[[], Any]) -> Iterator[dict[str, Any]]:
    """Yield the grid once a second for as long as the machine is `busy()`."""
    began = time.monotonic()
    while busy():
        if time.monotonic() - began > PATIENCE:
            raise NanoGPTError("Something else is still running. Open this view again once it has ended.")
        yield grid(one, found, off, "Waiting until the machine is free, so that nothing is slowed down.")
        time.sleep(1.0)


def filling(one: Opened, off: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the grid while the parts are measured one by one."""
    began, shown, found = time.monotonic(), 0.0, {}
    for found in explain.ablation.measured(one):
        yield from waiting(one, found, off, queue.running)
        if limits.is_public() and time.monotonic() - began > SECONDS:
            raise NanoGPTError(f"Measuring this model takes longer than the {SECONDS:.0f} s this server allows.")
        if time.monotonic() - shown > 0.2:
            shown = time.monotonic()
            yield grid(one, found, off)
    yield grid(one, found, off)


def side_by_side(one: Opened, off: list[str], prompt: str, seed, length) -> Iterator[dict[str, Any]]:
    """Yield the data for side_by_side.js: what the model writes with all its parts, and without these."""
    parts = [explain.ablation.part_of(key, one.model) for key in off]
    values = dict(seed=seed, length=length)
    config = SampleConfig(**{key: value for key, value in values.items() if value is not None})
    start, shown = one.tokenizer.fit(prompt or "").text, 0.0
    names = ("With all parts", "Without " + "; ".join(map(str, parts)))
    columns = lambda texts: dict(
        columns=[dict(name=name, prompt=start, text=text, said="", state="done") for name, text in zip(names, texts)]
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
    view, wrong, off = drawn("switches", elem_id="parts-grid"), said("parts-said"), gr.State([])
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
            300, label="Length", info="In characters.", precision=0, minimum=1, maximum=2000, min_width=110,
            elem_id="parts-length",
        )  # fmt: skip
    texts = drawn("side_by_side", elem_id="parts-texts")

    def begin(name):
        try:
            one = opened(name)
            yield {view: grid(one, {}, []), off: [], texts: dict(columns=[]), wrong: told("")}
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
    view.input(switched, [view, run, *how], outputs, **WRITING)
    gr.on([prompt.submit, seed.submit, length.submit], write, [run, off, *how], outputs, **WRITING)
    return View(begin, [run], [view, off, texts, wrong])
