"""What the Text tab shows once a text is chosen or refused, and while a large one is read: updates by component name.

choosing.py does the choosing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from .. import limits
from ..errors import PROBLEMS, explain
from . import text_panel, welcome
from .choosing import Choice, Folder, Given, builtin_key, choose_builtin, choose_new, choose_stored
from .drawn import line
from .web.visit import visitor

DEFAULT = "python-reference"
ALL = "All of the file"
NEXT = "Next: choose settings"  # on the button, followed by the text's name
OPTIONS = ("reading", "repairs", "field", "given")  # the parts that read an upload again, and what they need for it
NOT_KEPT = "What you uploaded or pasted is no longer kept, so it can't be read again. Upload or paste it again."
STOPPED = "Reading was stopped, and nothing was stored."
REFUSED = "Couldn't use this text."
STILL, NONE = "Your previous text is still selected.", "No text is selected."
PAUSE = 0.2  # seconds between two updates of the bar


def stored_choices(chosen: str | None = None) -> gr.Dropdown:
    """Return the dropdown of earlier texts, hidden if there are none."""
    texts = text_panel.choices()
    return gr.Dropdown(texts, value=chosen if chosen in [id for _, id in texts] else None, visible=bool(texts))


def attempt(choose, *how, now: str | None = None) -> dict[str, Any]:
    """Choose a text and return updates to show it. On an error, show that instead and select the current text again."""
    try:
        choice: Choice = choose(*how)
    except PROBLEMS as error:
        return unchanged(now, explain(error), REFUSED)
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
        yield unchanged(now, explain(error), REFUSED)


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
        next=gr.Button(f'{NEXT} for "{title}"', interactive=True),
        train=gr.Button(welcome.label(title), interactive=not limits.training_is_off()),
        reading=gr.Accordion(visible=given is not None),
        repairs=gr.CheckboxGroup(choice.repairs, value=choice.applied, visible=bool(choice.repairs)),
        field=gr.Dropdown([(ALL, ""), *choice.fields], value=given.name if given else "", visible=bool(choice.fields)),
        given=given,
        reading_row=gr.Row(visible=False),
        bar=line(""),
    )


def unchanged(now: str | None, sentence: str, refused: str = "") -> dict[str, Any]:
    """Return updates that show a sentence, and select the current text again, or none if it is gone.

    `refused` says that a text was, if the sentence is about an error.
    """
    here = is_here(now)
    title = " ".join(filter(None, [refused, STILL if here else NONE]))
    report = dict(title=title, facts=[], notes=[dict(kind="error" if refused else "note", text=sentence)], preview="")
    row = gr.Row(visible=False)
    selected = dict(builtin=builtin_key(now), stored=stored_choices(now)) if here else without_text()
    return dict(report=report, reading_row=row, bar=line(""), **selected)


def without_text() -> dict[str, Any]:
    """Return updates for when no text is selected: nothing is offered that needs one."""
    return dict(
        corpus_id=None,
        kept=None,
        builtin=None,
        stored=stored_choices(),
        next=gr.Button(NEXT, interactive=False),
        train=gr.Button(welcome.label(), interactive=False),
    )


def is_here(corpus_id: str | None) -> bool:
    """Return True if there is such a text, and the visitor may use it."""
    try:
        visitor().text(corpus_id or "")
    except PROBLEMS:
        return False
    return True


def stopped(now: str | None) -> dict[str, Any]:
    """Return updates for when the reading of a large text was stopped."""
    return unchanged(now, STOPPED)


def choose_first(*before: str | None) -> dict[str, Any]:
    """Choose the text that the page opens with: the first of those `before` that still exists, or the default."""
    for corpus_id in before:
        if is_here(corpus_id):
            return attempt(choose_stored, corpus_id)
    return {"stored": stored_choices(), **attempt(choose_builtin, DEFAULT)}


def after_change(in_use: str | None, changed: str) -> dict[str, Any]:
    """Update the tab after a text was renamed or deleted. If it was the chosen one, show it again, or the default."""
    if in_use != changed:
        return dict(stored=stored_choices(in_use))
    if changed in [id for _, id in text_panel.choices()]:
        updates = attempt(choose_stored, changed, now=changed)
        return {key: value for key, value in updates.items() if key not in OPTIONS}  # it can still be read again
    return dict(reading=gr.Accordion(visible=False), given=None) | attempt(choose_builtin, DEFAULT)


def take_new(now: str | None, source: str | list[str] | None) -> Iterator[dict[str, Any]]:
    """Choose uploaded files, if there are any, or a pasted text. An empty paste shows an error."""
    if source or source == "":
        yield from map(detected, attempt_new(source, now=now))
    else:
        yield dict(given=gr.skip())


def take_folder(now: str | None, files: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Choose the files of an uploaded folder as one text. Without any, show an error."""
    yield from map(detected, attempt_new(Folder(tuple(files or ())), now=now))


def detected(updates: dict[str, Any]) -> dict[str, Any]:
    """Return updates that also say that the encoding was detected, once a new text has been chosen.

    If it is refused, the encoding chosen for the text before stays, because that one can still be read again.
    """
    return updates | dict(encoding="") if updates.get("corpus_id") else updates


def take_builtin(now: str | None, key: str) -> dict[str, Any]:
    """Choose an example. Leave the radio as it is, unless there was an error: another may have been clicked since."""
    updates = attempt(choose_builtin, key, now=now)
    return updates | dict(builtin=gr.skip()) if updates.get("corpus_id") else updates


def take_stored(now: str | None, corpus_id: str | None) -> dict[str, Any]:
    """Choose an earlier text; keep the current one if the dropdown was left empty."""
    return attempt(choose_stored, corpus_id, now=now) if corpus_id else dict(given=gr.skip())


def take_again(
    now: str | None, given: Given | None, codec: str, keep: list[str] | None = None, field: str | None = None
) -> Iterator[dict[str, Any]]:
    """Read the last upload or paste again, with another encoding, other repairs or another field."""
    if given is None:  # the server was restarted
        yield unchanged(now, NOT_KEPT, REFUSED) | dict(reading=gr.Accordion(visible=False))
        return
    name = given.name if field is None else field
    for updates in attempt_new(given.source, codec or None, keep, given, name, now=now):
        was_refused = "report" in updates and not updates.get("corpus_id")  # so the choices before that still hold
        yield updates | dict(encoding=given.encoding, field=given.name) if was_refused else updates
