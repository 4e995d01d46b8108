"""The Sample tab: generate one or several texts with a run's best weights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import gradio as gr

from ..config import SampleConfig, knobs
from ..errors import PROBLEMS, explain
from ..formats import load_model
from ..runs import Run
from ..sample import DASHES, keep_ready, stream_many, unescaped
from ..tokenizer import load_tokenizer
from . import pull_panel
from .drawn import drawn, line
from .parts import QUIET
from .visit import seen, visitor
from .words import existing

NO_RUN = "There is no run to write with yet; train one first."

DOWNLOAD = """(name, text) => {
  if (!text) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" }));
  link.download = `${name || "text"}.txt`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}"""


@lru_cache(maxsize=2)
def _model(folder: Path, written: int):
    """Load a model, or return it from the cache. `written` is the time of its weights, which change during training."""
    return keep_ready(load_model(folder))


# ---- handlers ------------------------------------------------------------------------------------------------------


def write(
    name: str | None, prompt: str = "", temperature=0.8, length=500, top_k=0, top_p=1.0, seed=1337
) -> Iterator[str]:
    """Yield the text so far, prompt first, several times per second. Raise NanoGPTError if that fails."""
    yield from write_many(name, prompt, SampleConfig(temperature, length, top_k, top_p, seed))


def write_many(name: str | None, prompt: str, config: SampleConfig) -> Iterator[str]:
    """Generate as `write` does, with all settings. Multiple texts are separated by a line of dashes."""
    run = existing(name, NO_RUN)
    tokenizer = load_tokenizer(run.folder)
    weights = run.folder / "model.safetensors"
    model = _model(run.folder, weights.stat().st_mtime_ns if weights.exists() else 0)
    start = tokenizer.fit(prompt or "").text
    texts = [[start] for _ in range(config.num_samples)]
    joined = lambda: DASHES.join("".join(text) for text in texts)
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
        return f"{run.name}: the weights of {origin.get('repo')}, from the Hub."
    if best is None:
        return f"{run.name}: the weights of its first evaluation."
    step, loss = best["step"], best["val_loss"]
    ended = (history.events or [{}])[-1]
    if not busy and {"step", "val_loss", "last_val_loss", "best_val_loss"} <= ended.keys():
        # at the end, the best and last weights are evaluated on the whole validation set
        step = ended["step"] if ended["last_val_loss"] <= ended["best_val_loss"] else step
        loss = ended["val_loss"]
    so_far = ", the best so far; it is still training" if busy else ""
    return f"{run.name}: the weights of step {step:,}, validation loss {loss:.4f}{so_far}."


def note(name: str | None, prompt: str) -> str:
    """Return how characters of the prompt that are not in the alphabet are replaced or skipped, or ""."""
    try:
        run = seen(name)
        return str(load_tokenizer(run.folder).fit(prompt or "")) if run else ""
    except PROBLEMS as error:
        return explain(error)


def on_page(name, prompt, temperature, length, num_samples, top_k, top_p, seed, stop) -> Iterator[list]:
    """Yield the text so far and which weights it is from. An error is shown in place of the latter."""
    try:
        config = SampleConfig(temperature, length, top_k, top_p, seed, num_samples, unescaped(stop or ""))
        whose_line = line(whose(existing(name, NO_RUN)))
        yield [gr.skip(), whose_line]
        for text in write_many(name, prompt, config):
            yield [text, whose_line]
    except PROBLEMS as error:
        yield [gr.skip(), line(explain(error), "failed")]


# ---- the tab -------------------------------------------------------------------------------------------------------


@dataclass
class SampleTab:
    """The components that the rest of the page uses."""

    run: gr.Dropdown


def build() -> SampleTab:
    """Draw the tab and wire it."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            run = gr.Dropdown(label="Run", choices=[], value=None, elem_id="sample-run")
            prompt = gr.Textbox(
                label="Prompt", info="What the text begins with; may be empty.", lines=2, elem_id="sample-prompt"
            )
            # present even if empty, because screen readers announce changes only in existing regions
            prompt_note = drawn("status_line", line(""), elem_id="sample-note", elem_classes="quiet-line")
            settings = build_settings()
            pull_panel.build(run, choices)
        with gr.Column(scale=3, min_width=320):
            with gr.Row():
                generate = gr.Button("Generate", variant="primary", elem_id="sample-generate")
                stop = gr.Button("Stop", elem_id="sample-stop", interactive=False)
                download = gr.Button("Download", elem_id="sample-download")
            whose_line = drawn("status_line", line(""), elem_id="sample-whose", elem_classes="quiet-line")
            output = gr.Textbox(
                label="Text", lines=18, max_lines=28, interactive=False, buttons=["copy"], elem_id="sample-output",
                placeholder="Press Generate, and the model writes here.",
            )  # fmt: skip

    buttons = [generate, stop]
    writing = lambda on: [gr.Button(interactive=not on), gr.Button(interactive=on)]
    begun = generate.click(lambda: writing(True), None, buttons, **QUIET)
    event = begun.then(
        on_page, [run, prompt, *settings], [output, whose_line], show_progress="hidden", concurrency_limit=4,
        api_visibility="private",
    )  # fmt: skip
    event.then(lambda: writing(False), None, buttons, **QUIET)
    stop.click(lambda: writing(False), None, buttons, cancels=[event], **QUIET)
    download.click(None, [run, output], None, js=DOWNLOAD)
    gr.on(
        [prompt.change, run.change], lambda n, p: line(note(n, p)), [run, prompt], prompt_note,
        trigger_mode="always_last", **QUIET,  # after an update, check again what was typed meanwhile
    )  # fmt: skip
    return SampleTab(run)


def build_settings() -> list:
    """Draw the sampling settings: temperature, length, num_samples, and under Advanced top_k, top_p, seed, stop."""
    k = {knob.name: knob for knob in knobs(SampleConfig)}
    temperature = gr.Slider(
        0, 2, k["temperature"].default, step=0.05, label="Temperature", info=k["temperature"].help,
        elem_id="sample-temperature",
    )  # fmt: skip
    with gr.Row():
        length = gr.Slider(
            1, k["length"].high, k["length"].default, step=1, label="Length", info=k["length"].help, min_width=140,
            elem_id="sample-length",
        )  # fmt: skip
        num_samples = gr.Slider(
            1, k["num_samples"].high, k["num_samples"].default, step=1, label="Texts",
            info="How many, one below the other.", min_width=140, elem_id="sample-num-samples",
        )  # fmt: skip
    with gr.Accordion("Advanced", open=False):
        top_k = gr.Number(k["top_k"].default, label="top_k", info=k["top_k"].help, elem_id="sample-top-k", precision=0)
        top_p = gr.Slider(
            0, 1, k["top_p"].default, step=0.01, label="top_p", info=k["top_p"].help, elem_id="sample-top-p"
        )
        seed = gr.Number(k["seed"].default, label="seed", info=k["seed"].help, elem_id="sample-seed", precision=0)
        stop = gr.Textbox(
            k["stop"].default, label="stop", info=f"{k['stop'].help} Usual: {k['stop'].usual}", max_lines=1,
            elem_id="sample-stop-text",
        )  # fmt: skip
    return [temperature, length, num_samples, top_k, top_p, seed, stop]


def choices(chosen: str | None) -> gr.Dropdown:
    """Return the dropdown of the runs that have weights, with one of them selected."""
    trained = [run for run in visitor().runs() if (run.folder / "model.safetensors").exists()]
    names = [run.name for run in trained if run.glance().state != "damaged"]
    return gr.Dropdown(names, value=chosen if chosen in names else next(iter(names), None))
