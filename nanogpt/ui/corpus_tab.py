"""The Text tab: add or choose a text, and see a report on it before training."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from .. import corpus, limits
from ..config import NanoGPTError
from ..errors import PROBLEMS, explain
from ..runs import users_of
from . import scratch, text_panel, welcome
from .drawn import drawn
from .parts import QUIET, READING, Parts
from .visit import visitor

DEFAULT = "python-reference"
DETECT = "Detect automatically"


@dataclass(frozen=True)
class Given:
    """What was uploaded or pasted, kept so that it can be read again with other options."""

    source: Path | list[str]  # a file with the pasted text, because a session stays in memory, or the uploaded files
    added: str | None  # the id of the text stored from it, if that text is new
    others: frozenset[str] = frozenset()  # the ids of the texts that were stored before it was given


@dataclass(frozen=True)
class Choice:
    """The chosen text, its report, and the clean-ups that can be toggled."""

    corpus_id: str
    report: dict[str, Any]
    repairs: list[tuple[str, str]] = field(
        default_factory=list
    )  # (label, key) of every clean-up that applies to the text
    applied: list[str] = field(default_factory=list)  # keys of those that were applied
    given: Given | None = None  # for an upload or a pasted text


# ---- handlers: plain functions of files, strings and names ---------------------------------------------------------


def choose_builtin(key: str) -> Choice:
    """Choose a built-in text by its key."""
    return choose_stored(visitor().find_text(key).id)


def choose_stored(corpus_id: str) -> Choice:
    """Choose a text that was added earlier."""
    found = visitor().text(corpus_id)
    return Choice(corpus_id, shown(found.name, found.report()))


def choose_new(
    source: str | Path | list[str],
    encoding: str | None = None,
    keep: list[str] | None = None,
    earlier: Given | None = None,
) -> Choice:
    """Add and choose a pasted text (str), one that was pasted before (Path) or files (paths).

    `keep` names the repairs to apply; None means the defaults.
    `earlier` is the same source as it was read before; the text stored from it is deleted, unless a run was trained on
    it. A browser may ask twice for the same reading, so whether a text is new doesn't depend on what is stored by now.
    """
    others = earlier.others if earlier else frozenset(one.id for one in visitor().texts())
    declined = [] if keep is None else [key for key in corpus.REPAIRS if key not in keep]
    content = contents(source)
    added = visitor().add_text(content, encoding=encoding, decline=declined, accept=keep or ())
    forget_earlier(earlier, added.id)
    kept = set_aside(source) if isinstance(source, str) else source
    given = Given(kept, None if added.id in others else added.id, others)
    return Choice(added.id, shown(added.name, added.report()), *offered(added), given)


def set_aside(pasted: str) -> Path:
    """Write a pasted text to a temporary file, and return its path."""
    data = pasted.encode("utf-8")
    path = scratch.new_folder(len(data)) / "pasted.txt"
    path.write_bytes(data)
    return path


def contents(source: str | Path | list[str]) -> str | list[str]:
    """Return a source, or the text that was set aside in it. Raise NanoGPTError if that has been deleted."""
    if not isinstance(source, Path):
        return source
    try:
        return source.read_bytes().decode("utf-8")
    except OSError:
        raise NanoGPTError("The pasted text is no longer kept. Paste it again.") from None


def offered(added: corpus.Corpus) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the clean-ups that apply to a text, as (label, key), and the keys of those that were applied."""
    repairs = added.reading.repairs if added.reading else ()
    return [(one.label, one.key) for one in repairs], [one.key for one in repairs if one.applied]


def forget_earlier(earlier: Given | None, corpus_id: str) -> None:
    """Delete the text of an earlier reading, unless the new one gave the same."""
    if earlier and earlier.added and earlier.added != corpus_id:
        forget(earlier.added)


def forget(corpus_id: str) -> None:
    """Delete a text that no run was trained on."""
    if not any(users_of(corpus_id)):
        with suppress(NanoGPTError):  # already deleted
            visitor().delete_text(corpus_id)


def shown(name: str, report: corpus.Report) -> dict[str, Any]:
    """Return a report in the form that report.js draws."""
    facts = [
        ("Characters", f"{report.characters:,}"),
        ("Lines", f"{report.lines:,}"),
        ("Unique characters", f"{report.distinct:,}"),
        ("Training set (90%)", f"{report.train_characters:,}"),
        ("Validation set (10%)", f"{report.val_characters:,}"),
    ]
    facts += [("Encoding", report.encoding)] if report.encoding != "Unicode" else []
    notes = [dict(kind="advice", text=text) for text in report.advice]
    notes += [dict(kind="note", text=text) for text in (*report.notes, *report.repairs)]
    if report.rare:
        some = ", ".join(
            f"{one.ch if one.ch.isprintable() and one.ch.strip() else one.name} ({one.count})"
            for one in report.rare[:12]
        )
        more = f" and {len(report.rare) - 12:,} more" if len(report.rare) > 12 else ""
        notes.append(
            dict(
                kind="note",
                text=f"These characters appear fewer than 10 times, so the model will barely learn them: {some}{more}.",
            )
        )
    return dict(title=name, facts=facts, notes=notes, preview=report.first_lines)


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
    return f"Text: {found.name}, {found.characters:,} characters"


# ---- the tab -------------------------------------------------------------------------------------------------------


@dataclass
class CorpusTab:
    """The components that the rest of the page uses."""

    report: gr.HTML
    shown: Parts  # what `attempt` updates
    next: gr.Button
    welcome: welcome.Welcome


def build(corpus_id: gr.State, kept: gr.BrowserState) -> CorpusTab:
    """Draw the tab and wire it. `kept` remembers the chosen text for the next time the page is opened."""
    given = gr.State()
    top = welcome.build()
    upload, paste, use, builtins, earlier = draw_cards()
    with gr.Row(equal_height=False), gr.Column(min_width=320):
        report = drawn("report", elem_id="corpus-report")
        with gr.Accordion("Encoding and clean-up", open=False, visible=False) as reading:
            encoding = gr.Dropdown(
                [(DETECT, ""), *((label, key) for key, label in corpus.ENCODINGS.items())],
                value="",
                label="Encoding",
                info="Pick another if letters in the preview look wrong.",
                elem_id="corpus-encoding",
            )
            repairs = gr.CheckboxGroup(
                [], label="Clean-up applied; untick any you don't want", elem_id="corpus-repairs"
            )
        next_button = gr.Button("Next: choose settings", interactive=False, elem_id="corpus-next")
        parts = Parts(
            corpus_id=corpus_id, kept=kept, report=report, builtin=builtins, stored=earlier, reading=reading,
            repairs=repairs, given=given, next=next_button, train=top.train,
        )  # fmt: skip
        text_panel.build(corpus_id, report, after_change, parts)

    def on(event, handler, inputs):
        """Wire a handler that returns updates by component name."""
        slow: dict[str, Any] = dict(show_progress_on=report, api_visibility="private", **READING)
        return event(lambda *a: parts.put(handler(*a)), inputs, parts.outputs, **slow)

    detect = lambda: ""
    on(upload.upload(detect, None, encoding, **QUIET).then, take_new, [corpus_id, upload])
    on(use.click(detect, None, encoding, **QUIET).then, take_new, [corpus_id, paste])
    on(builtins.input, lambda now, key: attempt(choose_builtin, key, now=now), [corpus_id, builtins])
    on(earlier.input, take_stored, [corpus_id, earlier])
    on(encoding.input, take_again, [corpus_id, given, encoding])
    on(repairs.input, take_again, [corpus_id, given, encoding, repairs])
    return CorpusTab(report, parts, next_button, top)


def draw_cards() -> tuple[gr.File, gr.Textbox, gr.Button, gr.Radio, gr.Dropdown]:
    """Draw the three ways to a text, side by side: upload, paste, and examples with earlier texts."""
    with gr.Row(elem_id="corpus-cards", equal_height=True):
        with gr.Column(min_width=260, elem_classes="card"):
            gr.Markdown("### Upload", container=False)
            upload = gr.File(
                label="Upload text files", show_label=False, file_count="multiple", height=132, elem_id="corpus-upload"
            )
        with gr.Column(min_width=260, elem_classes="card"):
            gr.Markdown("### Paste", container=False)
            paste = gr.Textbox(
                label="Paste text", show_label=False, container=False, lines=3, max_lines=8, elem_id="corpus-paste",
                placeholder="A diary, lyrics, recipes, chat messages: anything with a few thousand characters or more.",
            )  # fmt: skip
            use = gr.Button("Use this text", elem_id="corpus-use", size="sm")
        with gr.Column(min_width=260, elem_classes="card"):
            gr.Markdown("### Or take an example", container=False)
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
    return upload, paste, use, builtins, earlier


def attempt(choose, *how, now: str | None = None) -> dict[str, Any]:
    """Choose a text and return updates to show it. On an error, show that instead and select the current text again."""
    try:
        choice: Choice = choose(*how)
    except PROBLEMS as error:
        return dict(report=refused(explain(error)), builtin=builtin_key(now), stored=stored_choices(now))
    return dict(
        corpus_id=choice.corpus_id,
        kept=choice.corpus_id,
        report=choice.report,
        builtin=how[0] if choose is choose_builtin else builtin_key(choice.corpus_id),
        stored=stored_choices(choice.corpus_id),
        next=gr.Button(f'Next: choose settings for "{choice.report["title"]}"', interactive=True),
        train=gr.Button(welcome.label(choice.report["title"]), interactive=not limits.training_is_off()),
        reading=gr.Accordion(visible=choice.given is not None),
        repairs=gr.CheckboxGroup(choice.repairs, value=choice.applied, visible=bool(choice.repairs)),
        given=choice.given,
    )


def builtin_key(corpus_id: str | None) -> str | None:
    """Return the key of a built-in text; None for any other text, or none."""
    try:
        key = corpus.reference(visitor().text(corpus_id or ""))
    except PROBLEMS:
        return None
    return key if key in corpus.BUILTINS else None


def choose_first(before: str | None) -> dict[str, Any]:
    """Choose a text when the page opens: the previous one if it still exists, otherwise the default."""
    try:
        visitor().text(before or "")
    except NanoGPTError:
        return {"stored": stored_choices(), **attempt(choose_builtin, DEFAULT)}
    return attempt(choose_stored, before)


def after_change(in_use: str | None, changed: str) -> dict[str, Any]:
    """Update the tab after a text was renamed or deleted. If it was the chosen one, show it again, or the default."""
    if in_use != changed:
        return dict(stored=stored_choices(in_use))
    if changed in [id for _, id in text_panel.choices()]:
        return attempt(choose_stored, changed)
    return attempt(choose_builtin, DEFAULT)


def take_new(now: str | None, source: str | list[str] | None) -> dict[str, Any]:
    """Choose uploaded files, if there are any, or a pasted text. An empty paste shows an error."""
    return attempt(choose_new, source, now=now) if source or source == "" else dict(given=gr.skip())


def take_stored(now: str | None, corpus_id: str | None) -> dict[str, Any]:
    """Choose an earlier text; keep the current one if the dropdown was left empty."""
    return attempt(choose_stored, corpus_id, now=now) if corpus_id else dict(given=gr.skip())


def take_again(now: str | None, given: Given | None, codec: str, keep: list[str] | None = None) -> dict[str, Any]:
    """Read the last upload or paste again, with another encoding or other repairs."""
    if given is None:
        return dict(given=gr.skip())
    return attempt(choose_new, given.source, codec or None, keep, given, now=now)


def refused(sentence: str) -> dict[str, Any]:
    """Return a report that shows an error."""
    facts: list = []
    return dict(
        title="Couldn't use this text. Your previous text is still selected.",
        facts=facts,
        notes=[dict(kind="error", text=sentence)],
        preview="",
    )
