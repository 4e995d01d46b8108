"""The Corpus tab: give a text, or take one that is here, and see what is in it before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from .. import corpus
from ..config import NanoGPTError
from . import text_panel
from .drawn import drawn

DEFAULT = "python-reference"
DETECT = "found out by itself"


@dataclass(frozen=True)
class Choice:
    """A text that was chosen, and how it may be read otherwise."""

    corpus_id: str
    report: dict[str, Any]
    repairs: list[tuple[str, str]] = field(default_factory=list)  # (sentence, key) of what there was to repair
    applied: list[str] = field(default_factory=list)  # keys of those that were done


# ---- handlers: plain functions of files, strings and names ---------------------------------------------------------


def choose_builtin(key: str) -> Choice:
    """A text that comes with Python, or the lecture's."""
    return choose_stored(corpus.builtin(key).id)


def choose_stored(corpus_id: str) -> Choice:
    """A text that was added before."""
    found = corpus.load(corpus_id)
    return Choice(corpus_id, shown(found.name, found.report()))


def choose_new(source: str | list[str], encoding: str | None = None, keep: list[str] | None = None) -> Choice:
    """A pasted text (str) or files (paths). `keep` names the repairs to do; None does those that are on by default."""
    wanted = {} if keep is None else dict(decline=[key for key in corpus.REPAIRS if key not in keep], accept=keep)
    prepared = corpus.prepare(source, encoding, **wanted)
    added = corpus.add(prepared)
    offered = [(one.label, one.key) for one in prepared.repairs]
    return Choice(
        added.id, shown(added.name, prepared.report()), offered, [one.key for one in prepared.repairs if one.applied]
    )


def shown(name: str, report: corpus.Report) -> dict[str, Any]:
    """A report as report.js draws it."""
    facts = [
        ("Characters", f"{report.characters:,}"),
        ("Lines", f"{report.lines:,}"),
        ("Distinct characters", f"{report.distinct:,}"),
        ("To train on (90 %)", f"{report.train_characters:,}"),
        ("Held out to judge (10 %)", f"{report.val_characters:,}"),
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
        notes.append(dict(kind="note", text=f"Met fewer than 10 times, so hardly learned: {some}{more}."))
    return dict(title=name, facts=facts, notes=notes, preview=report.first_lines)


def stored() -> list[tuple[str, str]]:
    """(label, id) of the texts that were added, the newest first."""
    return [
        (f"{one.name} ({one.characters:,})", one.id)
        for one in corpus.listed()
        if not one.source.startswith(corpus.BUILT_IN)
    ]


def stored_choices(chosen: str | None = None) -> gr.Dropdown:
    """The dropdown of those texts; not to be seen while there are none."""
    texts = stored()
    return gr.Dropdown(texts, value=chosen if chosen in [id for _, id in texts] else None, visible=bool(texts))


def about(corpus_id: str | None) -> str:
    """The chosen text in a line."""
    try:
        found = corpus.load(corpus_id or "")
    except NanoGPTError:
        return "No text is chosen yet; choose one under Corpus."
    return f"Text: {found.name}, {found.characters:,} characters"


# ---- the tab -------------------------------------------------------------------------------------------------------


@dataclass
class CorpusTab:
    """The parts the rest of the page talks to."""

    report: gr.HTML
    builtin: gr.Radio
    stored: gr.Dropdown
    next: gr.Button


def build(corpus_id: gr.State) -> CorpusTab:
    """Draw the tab and wire it."""
    source = gr.State()  # what was given last, to read it again in another encoding
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            upload = gr.File(
                label="Your text: any text files", file_count="multiple", height=150, elem_id="corpus-upload"
            )
            paste = gr.Textbox(label="or paste it", lines=3, max_lines=8, elem_id="corpus-paste")
            use = gr.Button("Use the pasted text", elem_id="corpus-use", size="sm")
            builtins = gr.Radio(
                [(name, key) for key, (name, _) in corpus.BUILTINS.items()],
                value=DEFAULT,
                label="or take one that is here",
                info="They come with Python; Tiny Shakespeare is downloaded once.",
                elem_id="corpus-builtin",
            )
            earlier = gr.Dropdown(
                [], value=None, label="or one you gave before", visible=False, elem_id="corpus-stored"
            )
        with gr.Column(scale=3, min_width=320):
            report = drawn("report", elem_id="corpus-report")
            with gr.Accordion("Read it otherwise", open=False, visible=False) as otherwise:
                encoding = gr.Dropdown(
                    [(DETECT, ""), *((label, key) for key, label in corpus.ENCODINGS.items())],
                    value="",
                    label="Encoding",
                    info="Choose another where letters in the first lines are wrong.",
                    elem_id="corpus-encoding",
                )
                repairs = gr.CheckboxGroup(
                    [], label="Repairs; untick what should stay as it was", elem_id="corpus-repairs"
                )
            next_button = gr.Button("Next: train on this text", variant="primary", elem_id="corpus-next")
            outputs = [corpus_id, report, earlier, otherwise, repairs, source]
            text_panel.build(corpus_id, report, after_change, outputs)

    quiet: dict[str, Any] = dict(queue=False, show_progress="hidden", api_visibility="private")
    slow: dict[str, Any] = dict(show_progress_on=report, api_visibility="private")
    detect = lambda: ""
    upload.upload(detect, None, encoding, **quiet).then(take_new, upload, outputs, **slow)
    use.click(detect, None, encoding, **quiet).then(take_new, paste, outputs, **slow)
    builtins.input(lambda key: attempt(choose_builtin, key), builtins, outputs, **slow)
    earlier.input(lambda id: attempt(choose_stored, id), earlier, outputs, **slow)
    encoding.input(lambda given, codec: take_new(given, codec), [source, encoding], outputs, **slow)
    repairs.input(take_new, [source, encoding, repairs], outputs, **slow)
    return CorpusTab(report, builtins, earlier, next_button)


def attempt(choose, given, *how) -> list:
    """Choose a text and show it. What cannot be read is said in the report; the text chosen before stays chosen."""
    try:
        choice = choose(given, *how)
    except NanoGPTError as error:
        return [gr.skip(), refused(str(error)), *[gr.skip()] * 4]
    is_new = choose is choose_new
    return [
        choice.corpus_id,
        choice.report,
        stored_choices(choice.corpus_id),
        gr.Accordion(visible=is_new),
        gr.CheckboxGroup(choice.repairs, value=choice.applied, visible=bool(choice.repairs)),
        given if is_new else None,
    ]


def after_change(in_use: str | None, changed: str) -> list:
    """`attempt` after a text was renamed or deleted: the one in use is shown anew, or the default if it is gone."""
    if in_use != changed:
        return [gr.skip(), gr.skip(), stored_choices(in_use), *[gr.skip()] * 3]
    if changed in [id for _, id in stored()]:
        return attempt(choose_stored, changed)
    return attempt(choose_builtin, DEFAULT)


def take_new(given, codec: str = "", keep: list[str] | None = None) -> list:
    """`attempt` for files or a pasted text, where there are any."""
    return attempt(choose_new, given, codec or None, keep) if given else [gr.skip()] * 6


def refused(sentence: str) -> dict[str, Any]:
    """A report that says why there is none."""
    facts: list = []
    return dict(title="This text was not taken", facts=facts, notes=[dict(kind="error", text=sentence)], preview="")
