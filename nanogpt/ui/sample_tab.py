"""The Sample tab: generate one or several texts with a run's best weights."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..config import DASHES, NanoGPTError, SampleConfig, knobs, unescaped
from ..errors import PROBLEMS, explain
from ..launch import serving
from ..runs import Run, kept_step
from . import pull_panel
from .drawn import drawn, line, said
from .openings import openings
from .parts import COPIED, HIDDEN, QUIET, afterward, begun, stoppable
from .web.visit import NO_MODEL, existing, seen, trained, visitor

EMPTY: dict[str, Any] = dict(prompt="", texts=[], state="")
LABELS = dict(temperature="Temperature", length="Length", num_samples="Samples")  # other settings go by their name
AT_ONCE = 64  # generations; the rest wait in Gradio's queue
SEEDS = 1_000_000  # fresh seeds are below this, so that they can be read out and typed

# The text is in the browser already, so it is saved from there.
DOWNLOAD = f"""(written) => {{
  if (!written || !written.texts.length) return;
  const text = written.texts.map((one) => written.prompt + one).join({DASHES!r});
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {{ type: "text/plain;charset=utf-8" }}));
  link.download = `${{written.model || "text"}}.txt`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}}"""
# What is said of a text whose last piece came before Stop still says that it is being written.
SAID = "(said) => ({ ...said, state: said?.state === 'running' ? 'finished' : said?.state })"
# Each Generate draws a new seed, unless one is kept: only then a button that does is something else.
OFFERED = "(keep) => ({ visible: keep, __type__: 'update' })"
COPY = f"""async (written) => {{
  {COPIED}
  const text = ((written || {{}}).texts || []).map((one) => written.prompt + one).join({DASHES!r});
  if (!text) return {{ text: "There is no text yet.", state: "idle" }};
  if (await copied(text)) return {{ text: "Copied.", state: "finished" }};
  return {{ text: "This browser doesn't allow a page to copy. Select the text, or download it.", state: "failed" }};
}}"""


# ---- handlers ------------------------------------------------------------------------------------------------------


def write(
    name: str | None, prompt: str = "", temperature=0.8, length=500, top_k=0, top_p=1.0, seed=1337
) -> Iterator[str]:
    """Yield the text so far, prompt first, several times per second. Raise NanoGPTError if that fails."""
    for start, [text] in write_many(name, prompt, SampleConfig(temperature, length, top_k, top_p, seed)):
        yield start + text


def write_many(name: str | None, prompt: str, config: SampleConfig) -> Iterator[tuple[str, list[str]]]:
    """Generate with a run that the visitor sees, and yield what `serving.stream` does."""
    if not isinstance(prompt, str | None):
        raise NanoGPTError("The prompt must be a string.")
    run = existing(name, NO_MODEL)
    visitor().uses(run)
    yield from serving.stream(run, prompt or "", config)


def whose(run: Run) -> str:
    """Return a sentence that says which weights of a run are used."""
    history, busy = run.history(), run.status().busy
    best, origin = history.best, run.settings().get("pulled")
    if best is None and isinstance(origin, dict):
        return f"Using the weights of {origin.get('repo')}, from the Hub."
    if best is None:
        return "Using the weights of the first evaluation."
    step, ended = kept_step(history), history.last_trained
    if not busy and {"step", "val_loss", "last_val_loss", "best_val_loss"} <= ended.keys():
        loss = ended["val_loss"]  # at the end, the best and last weights are evaluated on the whole validation set
    else:
        loss = next((row["val_loss"] for row in history.evaluations if row["step"] == step), best["val_loss"])
    so_far = ", the best so far; it is still training" if busy else ""
    return f"Using {run.name} at step {step:,}: validation loss {loss:.3f}{so_far}."


def note(name: str | None, prompt: str) -> str:
    """Return how characters of the prompt that are not in the alphabet are replaced or skipped, or ""."""
    try:
        run = seen(name)
        return str(serving.tokenizer_of(run).fit(prompt or "")) if run else ""
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
        config = entered(values)
        sentence = f"{whose(existing(name, NO_MODEL))} Seed {config.seed}."
        yield [gr.skip(), line(sentence, "running"), config.seed]
        for start, texts in write_many(name, prompt, config):
            yield [dict(model=name, prompt=start, texts=texts, state="writing"), gr.skip(), gr.skip()]
        yield [dict(model=name, prompt=start, texts=texts, state="done"), line(sentence, "finished"), gr.skip()]
    except PROBLEMS as error:
        yield [gr.skip(), line(explain(error), "failed"), gr.skip()]


def entered(values: dict[str, Any]) -> SampleConfig:
    """Return the config of what was entered; None means the default. Raise NanoGPTError, naming the field's label."""
    known = {one.name: one for one in knobs(SampleConfig)}
    given = {key: value for key, value in values.items() if value is not None}
    return SampleConfig(**{key: known[key].parse(value, LABELS.get(key)) for key, value in given.items()})


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
    pulled: tuple[Any, gr.HTML]  # the event that loads a model from the Hub and selects it, and what came of it


def build() -> SampleTab:
    """Draw the tab and wire it. On a phone the result comes right below the buttons, and the settings after it."""
    with gr.Row(equal_height=False, elem_id="sample-parts"):
        with gr.Column(min_width=300, elem_id="sample-ask"):
            run = gr.Dropdown(label="Model", choices=[], value=None, elem_id="sample-run")
            prompt = gr.Textbox(
                label="Prompt", info="How the text should start (optional). Ctrl+Enter generates.", lines=2,
                elem_id="sample-prompt",
            )  # fmt: skip
            prompt_note = said("sample-note")
            offered = gr.Dataset(
                label="Openings from the text", components=[gr.Textbox(visible=False)], samples=[], layout="gallery",
                visible=False, elem_id="sample-openings",
            )  # fmt: skip
            with gr.Row(elem_id="sample-buttons"):
                generate = gr.Button("Generate", variant="primary", min_width=110, elem_id="sample-generate")
                another = gr.Button("New seed", visible=False, min_width=90, elem_id="sample-another")
                stop = gr.Button("Stop", min_width=80, interactive=False, elem_id="sample-stop")
        with gr.Column(min_width=320, elem_id="sample-result"):
            whose_line = said("sample-whose")
            output = drawn("writing", EMPTY, uses=("in_view",), elem_id="sample-output")
            with gr.Row(elem_id="sample-take"):
                copy = gr.Button("Copy text", size="sm", min_width=110, elem_id="sample-copy")
                download = gr.Button("Download text", size="sm", min_width=110, elem_id="sample-download")
            taken = said("sample-taken")
        with gr.Column(min_width=300, elem_id="sample-settings"):
            settings, seed, keep = build_settings()
            pulled = pull_panel.build(run, choices)

    events = []
    for button, handler in ((generate, on_page), (another, again)):
        button.click(None, None, taken, js="() => ({ text: '', state: 'idle' })")
        event = begun(button, output, [generate, another], stop).then(
            handler, [run, prompt, *settings], [output, whose_line, seed],
            concurrency_limit=AT_ONCE, concurrency_id="sample", **HIDDEN,
        )  # fmt: skip
        afterward(event, None, whose_line, whose_line, js=SAID)
        events.append(event)
    stoppable(events, output, [generate, another], stop)
    seed.input(None, None, keep, js="() => true")  # who types a seed wants to keep it
    keep.change(None, keep, another, js=OFFERED)
    copy.click(None, output, taken, js=COPY)
    download.click(None, output, None, js=DOWNLOAD)
    offered.click(lambda chosen: chosen[0], offered, prompt, trigger_mode="always_last", **QUIET)
    noted = lambda name, prompt: line(note(name, prompt))
    # after an update, check again what was typed meanwhile
    prompt.change(noted, [run, prompt], prompt_note, trigger_mode="always_last", **QUIET)
    of_run = lambda name, prompt: [noted(name, prompt), suggested(name)]
    run.change(of_run, [run, prompt], [prompt_note, offered], trigger_mode="always_last", **QUIET)
    return SampleTab(run, pulled)


def build_settings() -> tuple[list, gr.Number, gr.Checkbox]:
    """Draw the sampling settings, the last ones under Advanced. Return all of them, the seed, and its lock."""
    k = {knob.name: knob for knob in knobs(SampleConfig)}
    temperature = gr.Slider(
        0, 2, k["temperature"].default, step=0.05, label=LABELS["temperature"], info=k["temperature"].help,
        elem_id="sample-temperature",
    )  # fmt: skip
    with gr.Row():
        length = gr.Slider(
            1, k["length"].high, k["length"].default, step=1, label=LABELS["length"], info="In characters.",
            min_width=140, elem_id="sample-length",
        )  # fmt: skip
        num_samples = gr.Slider(
            1, k["num_samples"].high, k["num_samples"].default, step=1, label=LABELS["num_samples"],
            info="How many at once.", min_width=140, elem_id="sample-num-samples",
        )  # fmt: skip
    with gr.Accordion("Advanced", open=False):
        with gr.Row():
            seed = gr.Number(
                k["seed"].default, label="seed", info="The same seed and settings give the same text.", precision=0,
                min_width=140, elem_id="sample-seed",
            )  # fmt: skip
            keep = gr.Checkbox(
                False, label="Keep this seed", info="If off, each Generate draws a new one; if on, only New seed does.",
                min_width=140, elem_id="sample-keep-seed",
            )  # fmt: skip
        top_k = gr.Number(k["top_k"].default, label="top_k", info=k["top_k"].help, elem_id="sample-top-k", precision=0)
        top_p = gr.Slider(
            0, 1, k["top_p"].default, step=0.01, label="top_p", info=k["top_p"].help, elem_id="sample-top-p"
        )
        stop = gr.Textbox(
            k["stop"].default, label="stop", info=f"{k['stop'].help} Typical: {k['stop'].usual}", max_lines=1,
            elem_id="sample-stop-text",
        )  # fmt: skip
    return [temperature, length, num_samples, top_k, top_p, seed, keep, stop], seed, keep


def choices(*wanted: str | None) -> gr.Dropdown:
    """Return the dropdown of the runs that have weights, with the first one of `wanted` selected, or the newest."""
    names = [run.name for run in trained()]
    return gr.Dropdown(names, value=next((name for name in [*wanted, *names] if name in names), None))
