"""The Sample tab: write with a run's best weights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import gradio as gr

from ..config import NanoGPTError, SampleConfig, knobs
from ..formats import load_model
from ..run import Run, all_runs
from ..sample import stream
from ..tokenizer import CharTokenizer


@lru_cache(maxsize=4)
def _model(folder: Path, written: int):
    """The model as it was at a time: while a run trains, better weights arrive."""
    return load_model(folder)


# ---- handlers ------------------------------------------------------------------------------------------------------


def write(
    name: str | None, prompt: str = "", temperature=0.8, length=500, top_k=0, top_p=1.0, seed=1337
) -> Iterator[str]:
    """The growing text, prompt first, a few times a second. NanoGPTError for what cannot be done."""
    if not name:
        raise NanoGPTError("There is no run to write with yet; train one first.")
    config = SampleConfig(temperature, length, top_k, top_p, seed)
    run = Run(name)
    run.settings()
    tokenizer = CharTokenizer.load(run.folder)
    weights = run.folder / "model.safetensors"
    model = _model(run.folder, weights.stat().st_mtime_ns if weights.exists() else 0)
    text = tokenizer.fit(prompt or "").text
    shown = time.monotonic()
    for piece in stream(model, tokenizer, text, config):
        text += piece
        if time.monotonic() - shown > 0.05:  # a message a character would be slower than the model
            shown = time.monotonic()
            yield text
    yield text


def note(name: str | None, prompt: str) -> str:
    """What will happen to characters of the prompt that the model never saw."""
    try:
        return str(CharTokenizer.load(Run(name).folder).fit(prompt or "")) if name else ""
    except NanoGPTError as error:
        return str(error)


# ---- the tab -------------------------------------------------------------------------------------------------------


@dataclass
class SampleTab:
    """The parts the rest of the page talks to."""

    run: gr.Dropdown


def build() -> SampleTab:
    """Draw the tab and wire it."""
    k = {knob.name: knob for knob in knobs(SampleConfig)}
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            run = gr.Dropdown(label="Run", choices=[], value=None, elem_id="sample-run")
            prompt = gr.Textbox(
                label="Prompt", info="What the text begins with; may be empty.", lines=2, elem_id="sample-prompt"
            )
            prompt_note = gr.Textbox(visible=False, show_label=False, container=False, elem_id="sample-note")
            temperature = gr.Slider(
                0, 2, k["temperature"].default, step=0.05, label="Temperature", info=k["temperature"].help,
                elem_id="sample-temperature",
            )  # fmt: skip
            length = gr.Slider(
                1, k["length"].high, k["length"].default, step=1, label="Length", info=k["length"].help,
                elem_id="sample-length",
            )  # fmt: skip
            with gr.Accordion("Advanced", open=False):
                top_k = gr.Number(
                    k["top_k"].default, label="top_k", info=k["top_k"].help, elem_id="sample-top-k", precision=0
                )
                top_p = gr.Slider(
                    0, 1, k["top_p"].default, step=0.01, label="top_p", info=k["top_p"].help, elem_id="sample-top-p"
                )
                seed = gr.Number(
                    k["seed"].default, label="seed", info=k["seed"].help, elem_id="sample-seed", precision=0
                )
        with gr.Column(scale=3, min_width=320):
            with gr.Row():
                generate = gr.Button("Generate", variant="primary", elem_id="sample-generate")
                stop = gr.Button("Stop", elem_id="sample-stop", interactive=False)
            output = gr.Textbox(
                label="Text", lines=18, max_lines=28, interactive=False, buttons=["copy"], elem_id="sample-output",
                placeholder="Press Generate, and the model writes here.",
            )  # fmt: skip

    def run_it(*inputs):
        try:
            yield from write(*inputs)
        except NanoGPTError as error:
            raise gr.Error(str(error), duration=None, print_exception=False) from None

    buttons = [generate, stop]
    writing = lambda on: [gr.Button(interactive=not on), gr.Button(interactive=on)]
    quiet = dict(queue=False, show_progress="hidden", api_visibility="private")
    inputs = [run, prompt, temperature, length, top_k, top_p, seed]
    begun = generate.click(lambda: writing(True), None, buttons, **quiet)
    event = begun.then(run_it, inputs, output, show_progress="hidden", concurrency_limit=4, api_visibility="private")
    event.then(lambda: writing(False), None, buttons, **quiet)
    stop.click(lambda: writing(False), None, buttons, cancels=[event], **quiet)
    gr.on(
        [prompt.change, run.change],
        lambda n, p: gr.Textbox(note(n, p), visible=bool(note(n, p))), [run, prompt], prompt_note, **quiet,
    )  # fmt: skip
    return SampleTab(run)


def choices(chosen: str | None) -> gr.Dropdown:
    """The runs that have weights, with one of them chosen."""
    names = [run.name for run in all_runs() if (run.folder / "model.safetensors").exists()]
    return gr.Dropdown(names, value=chosen if chosen in names else next(iter(names), None))
