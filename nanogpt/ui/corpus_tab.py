"""The Text tab: add or choose a text, and see a report on it before training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from .. import corpus
from ..config import NanoGPTError
from ..launch import counting
from . import chosen_text, text_panel, welcome
from .drawn import drawn, said
from .parts import QUIET, READING, Parts
from .web.visit import visitor

DETECT = "Detect automatically"
# The report is below all that you choose a text with: on a phone, out of view. Show it for an upload or a paste, and
# for any other choice if it says what went wrong. It may only just be drawn.
SHOW_REPORT = """(report) => {
  const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth";
  const show = (tries) => {
    const part = document.querySelector("#corpus-report .report"), title = part?.querySelector("h3")?.textContent;
    if (title !== undefined && title === report?.title) part.scrollIntoView({ behavior, block: "nearest" });
    else if (tries) setTimeout(show, 50, tries - 1);
  };
  if (IS_NEW || report?.notes.some(({ kind }) => kind === "error")) show(40);
}"""


# ---- handlers: plain functions of ids and names ------------------------------------------------------------------


def about(corpus_id: str | None) -> str:
    """Return the name and size of the chosen text."""
    try:
        found = visitor().text(corpus_id or "")
    except NanoGPTError:
        return "No text is selected yet. Choose one in the Text tab."
    counting.ask(found.id)  # while you read its report, so that the plot has lines to compare with from the start
    return f"Text: {found.name}, {found.characters:,} characters"


# ---- the tab -------------------------------------------------------------------------------------------------------


@dataclass
class CorpusTab:
    """The components that the rest of the page uses."""

    report: gr.HTML
    shown: Parts  # what chosen_text.py updates
    next: gr.Button
    welcome: welcome.Welcome


def build(corpus_id: gr.HTML, kept: gr.BrowserState) -> CorpusTab:
    """Draw the tab and wire it. `kept` remembers the chosen text for the next time the page is opened."""
    given = gr.State()
    top = welcome.build()
    no_files = gr.Button(visible="hidden", elem_id="corpus-no-files")  # pressed by folders.js
    upload, folder, paste, use, builtins, earlier = draw_cards()
    with gr.Row(visible=False, elem_id="corpus-progress") as reading_row:
        bar = said("corpus-bar")
        stop = gr.Button("Stop reading", size="sm", scale=0, min_width=120, elem_id="corpus-stop")
    with gr.Row(equal_height=False), gr.Column(min_width=320):
        report = drawn("report", uses=("aloud",), elem_id="corpus-report")
        reading, encoding, field, repairs = draw_options()
        next_button = gr.Button(chosen_text.NEXT, interactive=False, elem_id="corpus-next")
        parts = Parts(
            corpus_id=corpus_id, kept=kept, report=report, builtin=builtins, stored=earlier, reading=reading,
            repairs=repairs, field=field, given=given, next=next_button, train=top.train, reading_row=reading_row,
            bar=bar, encoding=encoding,
        )  # fmt: skip
        text_panel.build(corpus_id, report, chosen_text.after_change, parts)
    # of several choices, the last one counts
    slow: dict[str, Any] = dict(
        show_progress_on=report, api_visibility="private", trigger_mode="always_last", **READING
    )

    def on(event, handler, inputs):
        """Wire a handler that returns updates by component name. It ends a reading."""
        return event(lambda *a: parts.put(handler(*a)), inputs, parts.outputs, cancels=events, **slow)

    def on_steps(event, handler, inputs):
        """Wire a handler that yields such updates."""

        def steps(*a):
            yield from map(parts.put, handler(*a))

        return event(steps, inputs, parts.outputs, **slow)

    events = [
        on_steps(upload.upload, chosen_text.take_new, [corpus_id, upload]),
        on_steps(folder.upload, chosen_text.take_folder, [corpus_id, folder]),
        on_steps(no_files.click, chosen_text.take_folder, [corpus_id]),
        on_steps(use.click, chosen_text.take_new, [corpus_id, paste]),
        on_steps(encoding.input, chosen_text.take_again, [corpus_id, given, encoding]),
        on_steps(repairs.input, chosen_text.take_again, [corpus_id, given, encoding, repairs]),
        on_steps(field.input, lambda now, given, codec, name: chosen_text.take_again(now, given, codec, None, name),
                 [corpus_id, given, encoding, field]),
    ]  # fmt: skip
    new = (upload.upload, folder.upload, no_files.click, use.click)
    for trigger, own in zip(new, events):  # a new text ends the other readings
        trigger(None, None, None, cancels=[event for event in events if event is not own])
    others = [
        on(builtins.input, chosen_text.take_builtin, [corpus_id, builtins]),
        on(earlier.input, chosen_text.take_stored, [corpus_id, earlier]),
    ]
    for is_new, chosen in (("true", events[:3]), ("false", [*events[3:], *others])):
        for event in chosen:
            event.then(None, report, None, js=SHOW_REPORT.replace("IS_NEW", is_new))
    stop.click(lambda now: parts.put(chosen_text.stopped(now)), corpus_id, parts.outputs, cancels=events, **QUIET)
    return CorpusTab(report, parts, next_button, top)


def draw_options() -> tuple[gr.Accordion, gr.Dropdown, gr.Dropdown, gr.CheckboxGroup]:
    """Draw the accordion with the options for reading an upload or a pasted text again."""
    with gr.Accordion("Encoding and clean-up", open=False, visible=False) as reading:
        encoding = gr.Dropdown(
            [(DETECT, ""), *((label, key) for key, label in corpus.ENCODINGS.items())],
            value="",
            label="Encoding",
            info="Pick another if letters in the preview look wrong.",
            elem_id="corpus-encoding",
        )
        field = gr.Dropdown(
            [(chosen_text.ALL, "")], value="", label="Field or column", info="Train on one field of each record only.",
            visible=False, elem_id="corpus-field",
        )  # fmt: skip
        repairs = gr.CheckboxGroup([], label="Clean-ups found; those ticked are applied", elem_id="corpus-repairs")
    return reading, encoding, field, repairs


def draw_cards() -> tuple[gr.File, gr.UploadButton, gr.Textbox, gr.Button, gr.Radio, gr.Dropdown]:
    """Draw the three ways to a text, side by side: upload, paste, and examples with earlier texts."""
    with gr.Row(elem_id="corpus-cards", equal_height=True):
        with gr.Column(min_width=260, elem_classes="card"):
            gr.Markdown("### Upload files", container=False)
            upload = gr.File(
                label="Upload text files", show_label=False, file_count="multiple", height=132, elem_id="corpus-upload"
            )
            gr.Markdown(
                "Plain text, also in .zip, .jsonl or .csv; not PDF or Word.", container=False, elem_classes="card-note"
            )
            folder = gr.UploadButton("Choose a folder", file_count="directory", size="sm", elem_id="corpus-folder")
        with gr.Column(min_width=260, elem_classes="card"):
            gr.Markdown("### Paste text", container=False)
            paste = gr.Textbox(
                label="Paste text", show_label=False, container=False, lines=3, max_lines=8, elem_id="corpus-paste",
                placeholder="A diary, lyrics, recipes, chat messages: at least 1,000 characters, better 100,000.",
            )  # fmt: skip
            use = gr.Button("Use this text", elem_id="corpus-use", size="sm")
        with gr.Column(min_width=260, elem_classes="card"):
            gr.Markdown("### Choose an example", container=False)
            builtins = gr.Radio(
                [(name, key) for key, (name, _) in corpus.BUILTINS.items()],
                value=chosen_text.DEFAULT,
                label="Example",
                show_label=False,
                container=False,
                elem_id="corpus-builtin",
            )
            gr.Markdown("Tiny Shakespeare is downloaded the first time.", container=False, elem_classes="card-note")
            earlier = gr.Dropdown(
                [], value=None, label="Or one of your earlier texts", visible=False, elem_id="corpus-stored"
            )
    return upload, folder, paste, use, builtins, earlier
