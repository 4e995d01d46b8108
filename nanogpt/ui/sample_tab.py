"""The Sample tab: generate one or several texts with a run's best weights."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from ..config import DASHES, SampleConfig, knobs, unescaped
from ..errors import PROBLEMS, explain
from ..formats import load_model
from ..runs import Run
from ..tokenizer import load_tokenizer
from . import pull_panel
from .drawn import drawn, line
from .openings import openings
from .parts import QUIET
from .visit import seen, visitor
from .words import existing

NO_RUN = "There is no trained model yet. Train one first."
EMPTY: dict[str, Any] = dict(prompt="", texts=[], state="")
SEEDS = 1_000_000  # fresh seeds are below this, so that they can be read out and typed

# The text is in the browser already, so it is saved from there.
DOWNLOAD = f"""(name, written) => {{
  if (!written || !written.texts.length) return;
  const text = written.texts.map((one) => written.prompt + one).join({DASHES!r});
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {{ type: "text/plain;charset=utf-8" }}));
  link.download = `${{name || "text"}}.txt`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}}"""
COPY = f"""(written) => {{
  const text = ((written || {{}}).texts || []).map((one) => written.prompt + one).join({DASHES!r});
  if (text) navigator.clipboard.writeText(text);
}}"""


@lru_cache(maxsize=2)
def _model(folder: Path, written: int):
    """Load a model, or return it from the cache. `written` is the time of its weights, which change during training."""
    from ..sample import keep_ready  # here, because it imports torch

    return keep_ready(load_model(folder))


# ---- handlers ------------------------------------------------------------------------------------------------------


def write(
    name: str | None, prompt: str = "", temperature=0.8, length=500, top_k=0, top_p=1.0, seed=1337
) -> Iterator[str]:
    """Yield the text so far, prompt first, several times per second. Raise NanoGPTError if that fails."""
    for start, [text] in write_many(name, prompt, SampleConfig(temperature, length, top_k, top_p, seed)):
        yield start + text


def write_many(name: str | None, prompt: str, config: SampleConfig) -> Iterator[tuple[str, list[str]]]:
    """Generate with all settings. Yield the prompt in the model's alphabet, and the samples so far without it."""
    from ..sample import stream_many  # here, because it imports torch

    run = existing(name, NO_RUN)
    tokenizer = load_tokenizer(run.folder)
    weights = run.folder / "model.safetensors"
    model = _model(run.folder, weights.stat().st_mtime_ns if weights.exists() else 0)
    start = tokenizer.fit(prompt or "").text
    texts: list[list[str]] = [[] for _ in range(config.num_samples)]
    joined = lambda: (start, ["".join(text) for text in texts])
    shown, pause = time.monotonic(), 0.05  # sending every character would be slower than the model
    for pieces in stream_many(model, tokenizer, start, config):
        for text, piece in zip(texts, pieces):
            text.append(piece)
        if time.monotonic() - shown > pause:
            yield joined()
            shown, pause = time.monotonic(), 0.05 + sum(map(len, texts)) / 1e6
    yield joined()


def whose(run: Run) -> str:
    """Return a sentence that says which weights of a run are used."""
    history, busy = run.history(), run.status().busy
    best, origin = history.best, run.settings().get("pulled")
    if best is None and isinstance(origin, dict):
        return f"Using the weights of {origin.get('repo')}, from the Hub."
    if best is None:
        return "Using the weights of the first evaluation."
    step, loss = best["step"], best["val_loss"]
    ended = (history.events or [{}])[-1]
    if not busy and {"step", "val_loss", "last_val_loss", "best_val_loss"} <= ended.keys():
        # at the end, the best and last weights are evaluated on the whole validation set
        step = ended["step"] if ended["last_val_loss"] <= ended["best_val_loss"] else step
        loss = ended["val_loss"]
    so_far = ", the best so far; it is still training" if busy else ""
    return f"Using {run.name} at step {step:,}: validation loss {loss:.3f}{so_far}."


def note(name: str | None, prompt: str) -> str:
    """Return how characters of the prompt that are not in the alphabet are replaced or skipped, or ""."""
    try:
        run = seen(name)
        return str(load_tokenizer(run.folder).fit(prompt or "")) if run else ""
    except PROBLEMS as error:
        return explain(error)


def on_page(name, prompt, temperature, length, num_samples, top_k, top_p, seed, keep_seed, stop) -> Iterator[list]:
    """Yield the text so far, which weights and seed it is from, and the seed. An error is shown in place of the second.

    Each call draws a fresh seed, unless `keep_seed` is set. An empty field means its default.
    """
    values: dict[str, Any] = dict(temperature=temperature, length=length, top_k=top_k, top_p=top_p, seed=seed)
    values |= dict(num_samples=num_samples, stop=unescaped(stop or ""))
    if not keep_seed:
        values["seed"] = secrets.randbelow(SEEDS)
    try:
        config = SampleConfig(**{key: value for key, value in values.items() if value is not None})
        sentence = f"{whose(existing(name, NO_RUN))} Seed {config.seed}."
        yield [gr.skip(), line(sentence, "running"), config.seed]
        for start, texts in write_many(name, prompt, config):
            yield [dict(prompt=start, texts=texts, state="writing"), gr.skip(), gr.skip()]
        yield [dict(prompt=start, texts=texts, state="done"), line(sentence, "finished"), gr.skip()]
    except PROBLEMS as error:
        yield [gr.skip(), line(explain(error), "failed"), gr.skip()]


def again(name, prompt, temperature, length, num_samples, top_k, top_p, seed, keep_seed, stop) -> Iterator[list]:
    """Yield what `on_page` does, always with a fresh seed."""
    yield from on_page(name, prompt, temperature, length, num_samples, top_k, top_p, seed, False, stop)


def suggested(name: str | None) -> gr.Dataset:
    """Return the openings to click on for a run, hidden if there are none."""
    try:
        run = seen(name)
        found = openings(run) if run else []
    except PROBLEMS:
        found = []  # the run's own line says why it can't be read
    return gr.Dataset(samples=[[one] for one in found], visible=bool(found))


# ---- the tab -------------------------------------------------------------------------------------------------------


@dataclass
class SampleTab:
    """The components that the rest of the page uses."""

    run: gr.Dropdown


def build() -> SampleTab:
    """Draw the tab and wire it. On a phone the result comes right below the buttons, and the settings after it."""
    with gr.Row(equal_height=False, elem_id="sample-parts"):
        with gr.Column(min_width=300, elem_id="sample-ask"):
            run = gr.Dropdown(label="Model", choices=[], value=None, elem_id="sample-run")
            prompt = gr.Textbox(
                label="Prompt", info="How the text should start (optional). Ctrl+Enter generates.", lines=2,
                elem_id="sample-prompt",
            )  # fmt: skip
            # present even if empty, because screen readers announce changes only in existing regions
            prompt_note = drawn("status_line", line(""), elem_id="sample-note", elem_classes="quiet-line")
            offered = gr.Dataset(
                label="Openings from the text", components=[gr.Textbox(visible=False)], samples=[], layout="gallery",
                visible=False, elem_id="sample-openings",
            )  # fmt: skip
            with gr.Row(elem_id="sample-buttons"):
                generate = gr.Button("Generate", variant="primary", min_width=110, elem_id="sample-generate")
                another = gr.Button("Another", min_width=90, elem_id="sample-another")
                stop = gr.Button("Stop", min_width=80, interactive=False, elem_id="sample-stop")
        with gr.Column(min_width=320, elem_id="sample-result"):
            whose_line = drawn("status_line", line(""), elem_id="sample-whose", elem_classes="quiet-line")
            output = drawn("writing", EMPTY, elem_id="sample-output")
            with gr.Row(elem_id="sample-take"):
                copy = gr.Button("Copy text", size="sm", min_width=110, elem_id="sample-copy")
                download = gr.Button("Download text", size="sm", min_width=110, elem_id="sample-download")
        with gr.Column(min_width=300, elem_id="sample-settings"):
            settings, seed, keep = build_settings()
            pull_panel.build(run, choices)

    buttons = [generate, another, stop]
    writing = lambda on: [gr.Button(interactive=not on)] * 2 + [gr.Button(interactive=on)]
    events = []
    for button, handler in ((generate, on_page), (another, again)):
        begun = button.click(lambda: writing(True), None, buttons, **QUIET)
        event = begun.then(
            handler, [run, prompt, *settings], [output, whose_line, seed], show_progress="hidden",
            concurrency_limit=4, concurrency_id="sample", api_visibility="private",
        )  # fmt: skip
        event.then(lambda: writing(False), None, buttons, **QUIET)
        events.append(event)
    stop.click(lambda: writing(False), None, buttons, cancels=events, **QUIET)
    seed.input(lambda: True, None, keep, **QUIET)  # who types a seed wants to keep it
    copy.click(None, output, None, js=COPY)
    download.click(None, [run, output], None, js=DOWNLOAD)
    offered.click(lambda chosen: chosen[0], offered, prompt, **QUIET)
    gr.on(
        [prompt.change, run.change], lambda n, p: line(note(n, p)), [run, prompt], prompt_note,
        trigger_mode="always_last", **QUIET,  # after an update, check again what was typed meanwhile
    )  # fmt: skip
    run.change(suggested, run, offered, **QUIET)
    return SampleTab(run)


def build_settings() -> tuple[list, gr.Number, gr.Checkbox]:
    """Draw the sampling settings, the last ones under Advanced. Return all of them, the seed, and its lock."""
    k = {knob.name: knob for knob in knobs(SampleConfig)}
    temperature = gr.Slider(
        0, 2, k["temperature"].default, step=0.05, label="Temperature", info=k["temperature"].help,
        elem_id="sample-temperature",
    )  # fmt: skip
    with gr.Row():
        length = gr.Slider(
            1, k["length"].high, k["length"].default, step=1, label="Length", info="In characters.", min_width=140,
            elem_id="sample-length",
        )  # fmt: skip
        num_samples = gr.Slider(
            1, k["num_samples"].high, k["num_samples"].default, step=1, label="Samples", info="How many at once.",
            min_width=140, elem_id="sample-num-samples",
        )  # fmt: skip
    with gr.Accordion("Advanced", open=False):
        with gr.Row():
            seed = gr.Number(
                k["seed"].default, label="seed", info="The same seed and settings give the same text.", precision=0,
                min_width=140, elem_id="sample-seed",
            )  # fmt: skip
            keep = gr.Checkbox(
                False, label="Keep this seed", info="If off, each Generate draws a new one.", min_width=140,
                elem_id="sample-keep-seed",
            )  # fmt: skip
        top_k = gr.Number(k["top_k"].default, label="top_k", info=k["top_k"].help, elem_id="sample-top-k", precision=0)
        top_p = gr.Slider(
            0, 1, k["top_p"].default, step=0.01, label="top_p", info=k["top_p"].help, elem_id="sample-top-p"
        )
        stop = gr.Textbox(
            k["stop"].default, label="stop", info=f"{k['stop'].help} Usual: {k['stop'].usual}", max_lines=1,
            elem_id="sample-stop-text",
        )  # fmt: skip
    return [temperature, length, num_samples, top_k, top_p, seed, keep, stop], seed, keep


def choices(chosen: str | None) -> gr.Dropdown:
    """Return the dropdown of the runs that have weights, with one of them selected."""
    trained = [run for run in visitor().runs() if (run.folder / "model.safetensors").exists()]
    names = [run.name for run in trained if run.glance().state != "damaged"]
    return gr.Dropdown(names, value=chosen if chosen in names else next(iter(names), None))
