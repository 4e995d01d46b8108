"""The Text tab: add or choose a text, and see a report on it before training. choosing.py does the choosing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from .. import corpus, limits
from ..config import NanoGPTError
from ..errors import PROBLEMS, explain
from ..launch import counting
from . import text_panel, welcome
from .choosing import Choice, Folder, Given, builtin_key, choose_builtin, choose_new, choose_stored
from .drawn import drawn, line
from .parts import QUIET, READING, Parts
from .web.visit import visitor

DEFAULT = "python-reference"
OPTIONS = ("reading", "repairs", "field", "given")  # the parts that read an upload again, and what they need for it
DETECT = "Detect automatically"
ALL = "All of the file"
NOT_KEPT = "What you uploaded or pasted is no longer kept, so it can't be read again. Upload or paste it again."
STOPPED = "Reading was stopped, and nothing was stored."
PAUSE = 0.2  # seconds between two updates of the bar


# ---- handlers: plain functions of ids and names ------------------------------------------------------------------


def stored_choices(chosen: str | None = None) -> gr.Dropdown:
    """Return the dropdown of earlier texts, hidden if there are none."""
    texts = text_panel.choices()
    return gr.Dropdown(texts, value=chosen if chosen in [id for _, id in texts] else None, visible=bool(texts))


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
    shown: Parts  # what `attempt` updates
    next: gr.Button
    welcome: welcome.Welcome


def build(corpus_id: gr.HTML, kept: gr.BrowserState) -> CorpusTab:
    """Draw the tab and wire it. `kept` remembers the chosen text for the next time the page is opened."""
    given = gr.State()
    top = welcome.build()
    upload, folder, paste, use, builtins, earlier = draw_cards()
    with gr.Row(visible=False, elem_id="corpus-progress") as reading_row:
        bar = drawn("status_line", progress(0), elem_id="corpus-bar")
        stop = gr.Button("Stop reading", size="sm", scale=0, min_width=120, elem_id="corpus-stop")
    with gr.Row(equal_height=False), gr.Column(min_width=320):
        report = drawn("report", elem_id="corpus-report")
        reading, encoding, field, repairs = draw_options()
        next_button = gr.Button("Next: choose settings", interactive=False, elem_id="corpus-next")
        parts = Parts(
            corpus_id=corpus_id, kept=kept, report=report, builtin=builtins, stored=earlier, reading=reading,
            repairs=repairs, field=field, given=given, next=next_button, train=top.train, reading_row=reading_row,
            bar=bar, encoding=encoding,
        )  # fmt: skip
        text_panel.build(corpus_id, report, after_change, parts)
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
        on_steps(upload.upload, take_new, [corpus_id, upload]),
        on_steps(folder.upload, take_folder, [corpus_id, folder]),
        on_steps(use.click, take_new, [corpus_id, paste]),
        on_steps(encoding.input, take_again, [corpus_id, given, encoding]),
        on_steps(repairs.input, take_again, [corpus_id, given, encoding, repairs]),
        on_steps(field.input, lambda now, given, codec, name: take_again(now, given, codec, None, name),
                 [corpus_id, given, encoding, field]),
    ]  # fmt: skip
    for trigger, own in zip((upload.upload, folder.upload, use.click), events):  # a new text ends the other readings
        trigger(None, None, None, cancels=[event for event in events if event is not own])
    on(builtins.input, take_builtin, [corpus_id, builtins])
    on(earlier.input, take_stored, [corpus_id, earlier])
    stop.click(lambda now: parts.put(stopped(now)), corpus_id, parts.outputs, cancels=events, **QUIET)
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
            [(ALL, "")], value="", label="Field or column", info="Train on one field of each record only.",
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
                placeholder="A diary, lyrics, recipes, chat messages: anything with a few thousand characters or more.",
            )  # fmt: skip
            use = gr.Button("Use this text", elem_id="corpus-use", size="sm")
        with gr.Column(min_width=260, elem_classes="card"):
            gr.Markdown("### Choose an example", container=False)
            builtins = gr.Radio(
                [(name, key) for key, (name, _) in corpus.BUILTINS.items()],
                value=DEFAULT,
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


def attempt(choose, *how, now: str | None = None) -> dict[str, Any]:
    """Choose a text and return updates to show it. On an error, show that instead and select the current text again."""
    try:
        choice: Choice = choose(*how)
    except PROBLEMS as error:
        return unchanged(refused(explain(error)), now)
    return chosen(choice, how[0] if choose is choose_builtin else builtin_key(choice.corpus_id))


def attempt_new(*how, now: str | None = None) -> Iterator[dict[str, Any]]:
    """Do what `attempt` does with an upload or a pasted text. While a large one is read, yield how much is done."""
    steps, shown_at = choose_new(*how), 0.0
    try:
        while True:
            share = next(steps)
            if not shown_at:  # only once: a late update must not bring back the row that "Stop reading" has hidden
                yield dict(reading_row=gr.Row(visible=True))
            if time.monotonic() - shown_at > PAUSE:
                shown_at = time.monotonic()
                yield dict(bar=progress(share))
    except StopIteration as end:
        yield chosen(end.value, builtin_key(end.value.corpus_id))
    except PROBLEMS as error:
        yield unchanged(refused(explain(error)), now)


def progress(share: float) -> dict[str, Any]:
    """Return the line that shows how much of a large text has been read."""
    return line(f"Reading the text: {share:.0%}", "running", share, spoken="Reading the text")


def chosen(choice: Choice, builtin: str | None) -> dict[str, Any]:
    """Return updates that show the chosen text. `builtin` is its key if it is a built-in one."""
    title, given = choice.report["title"], choice.given
    return dict(
        corpus_id=choice.corpus_id,
        kept=choice.corpus_id,
        report=choice.report,
        builtin=builtin,
        stored=stored_choices(choice.corpus_id),
        next=gr.Button(f'Next: choose settings for "{title}"', interactive=True),
        train=gr.Button(welcome.label(title), interactive=not limits.training_is_off()),
        reading=gr.Accordion(visible=given is not None),
        repairs=gr.CheckboxGroup(choice.repairs, value=choice.applied, visible=bool(choice.repairs)),
        field=gr.Dropdown([(ALL, ""), *choice.fields], value=given.name if given else "", visible=bool(choice.fields)),
        given=given,
        reading_row=gr.Row(visible=False),
    )


def unchanged(report: dict[str, Any], now: str | None) -> dict[str, Any]:
    """Return updates that show a report on what went wrong, and select the current text again."""
    row = gr.Row(visible=False)
    return dict(report=report, builtin=builtin_key(now), stored=stored_choices(now), reading_row=row)


def stopped(now: str | None) -> dict[str, Any]:
    """Return updates for when the reading of a large text was stopped."""
    return unchanged(message("Your previous text is still selected.", STOPPED, "note"), now)


def choose_first(*before: str | None) -> dict[str, Any]:
    """Choose the text that the page opens with: the first of those `before` that still exists, or the default."""
    for corpus_id in before:
        try:
            visitor().text(corpus_id or "")
        except NanoGPTError:
            continue
        return attempt(choose_stored, corpus_id)
    return {"stored": stored_choices(), **attempt(choose_builtin, DEFAULT)}


def after_change(in_use: str | None, changed: str) -> dict[str, Any]:
    """Update the tab after a text was renamed or deleted. If it was the chosen one, show it again, or the default."""
    if in_use != changed:
        return dict(stored=stored_choices(in_use))
    if changed in [id for _, id in text_panel.choices()]:
        updates = attempt(choose_stored, changed)
        return {key: value for key, value in updates.items() if key not in OPTIONS}  # it can still be read again
    return attempt(choose_builtin, DEFAULT)


def take_new(now: str | None, source: str | list[str] | None) -> Iterator[dict[str, Any]]:
    """Choose uploaded files, if there are any, or a pasted text. An empty paste shows an error."""
    if source or source == "":
        yield from map(detected, attempt_new(source, now=now))
    else:
        yield dict(given=gr.skip())


def take_folder(now: str | None, files: list[str] | None) -> Iterator[dict[str, Any]]:
    """Choose the files of an uploaded folder as one text."""
    yield from map(detected, attempt_new(Folder(tuple(files or ())), now=now))


def detected(updates: dict[str, Any]) -> dict[str, Any]:
    """Return updates that also say that the encoding was detected, once a new text has been chosen.

    If it is refused, the encoding chosen for the text before stays, because that one can still be read again.
    """
    return updates | dict(encoding="") if "corpus_id" in updates else updates


def take_builtin(now: str | None, key: str) -> dict[str, Any]:
    """Choose an example. Leave the radio as it is, unless there was an error: another may have been clicked since."""
    updates = attempt(choose_builtin, key, now=now)
    return updates | dict(builtin=gr.skip()) if "corpus_id" in updates else updates


def take_stored(now: str | None, corpus_id: str | None) -> dict[str, Any]:
    """Choose an earlier text; keep the current one if the dropdown was left empty."""
    return attempt(choose_stored, corpus_id, now=now) if corpus_id else dict(given=gr.skip())


def take_again(
    now: str | None, given: Given | None, codec: str, keep: list[str] | None = None, field: str | None = None
) -> Iterator[dict[str, Any]]:
    """Read the last upload or paste again, with another encoding, other repairs or another field."""
    if given is None:  # the server was restarted
        yield unchanged(refused(NOT_KEPT), now) | dict(reading=gr.Accordion(visible=False))
        return
    name = given.name if field is None else field
    for updates in attempt_new(given.source, codec or None, keep, given, name, now=now):
        was_refused = "report" in updates and "corpus_id" not in updates  # so the choices before that still hold
        yield updates | dict(encoding=given.encoding, field=given.name) if was_refused else updates


def refused(sentence: str) -> dict[str, Any]:
    """Return a report that shows an error."""
    return message("Couldn't use this text. Your previous text is still selected.", sentence, "error")


def message(title: str, sentence: str, kind: str) -> dict[str, Any]:
    """Return a report that has only a title and a sentence."""
    facts: list = []
    return dict(title=title, facts=facts, notes=[dict(kind=kind, text=sentence)], preview="")
