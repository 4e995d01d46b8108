"""Manage texts, below the report in the Text tab: see their sizes, rename them and delete them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from functools import partial

import gradio as gr

from .. import corpus
from ..config import NanoGPTError
from ..disk import size
from ..runs import users_of
from . import changing
from .parts import QUIET, Parts
from .web.visit import visitor

COLUMNS = ["Name", "Characters", "On disk", "Added"]


# ---- handlers: plain functions of ids and names --------------------------------------------------------------------


def texts() -> list[corpus.Corpus]:
    """Return the visitor's uploaded and pasted texts, newest first, without the built-in ones."""
    return [one for one in visitor().texts() if not one.source.startswith(corpus.BUILT_IN)]


def table() -> list[list[str]]:
    """Return a row per text: name, characters, size, date."""
    mine = texts()
    return [
        [name, f"{one.characters:,}", size(corpus.size_on_disk(one)), day(one.created)]
        for one, name in zip(mine, labels(mine))
    ]


def day(time: str) -> str:
    """Return the day of a stored time, which is in UTC, as this machine's calendar has it."""
    return datetime.fromisoformat(time).astimezone().date().isoformat()


def choices() -> list[tuple[str, str]]:
    """Return (label, id) of every text."""
    mine = texts()
    return [(f"{name} ({one.characters:,})", one.id) for one, name in zip(mine, labels(mine))]


def labels(mine: list[corpus.Corpus]) -> list[str]:
    """Return what texts are called: those of the same name and length by their encodings, too, or also their times."""
    found = [one.name for one in mine]
    when = lambda one: f"{datetime.fromisoformat(one.created).astimezone():%Y-%m-%d %H:%M:%S}"
    for more in (lambda one: one.encoding, when):
        same = Counter((label, one.characters) for label, one in zip(found, mine))
        found = [
            f"{label}, {more(one)}" if same[label, one.characters] > 1 else label for label, one in zip(found, mine)
        ]
    return found


def in_words(names: list[str]) -> str:
    """List the first names, and count the rest."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def question(corpus_id: str | None) -> str:
    """Return the question to confirm deleting a text. Raise NanoGPTError while a run needs it."""
    found = chosen(corpus_id)
    busy, others = users_of(found.id)
    if busy:
        are = "is" if len(busy) == 1 else "are"
        raise NanoGPTError(f"{found.name} is in use: {in_words(busy)} {are} training on it. Stop training first.")
    asked = f"Delete {found.name}, {size(corpus.size_on_disk(found))}?"
    if others:
        were = "was" if len(others) == 1 else "were"
        asked += (
            f" {in_words(others)} {were} trained on it and can still be sampled, but can't be resumed until you add "
            "the same text again."
        )
    return asked


def delete(corpus_id: str | None) -> str:
    """Delete a text that no active run needs. Return a message."""
    question(corpus_id)
    found = chosen(corpus_id)
    visitor().delete_text(found.id)
    return f"{found.name} is deleted."


def rename(corpus_id: str | None, name: str) -> str:
    """Rename a text. Return a message."""
    found = chosen(corpus_id)
    return f"{found.name} is now called {visitor().rename_text(found.id, name).name}."


def chosen(corpus_id: str | None) -> corpus.Corpus:
    """Return the text with this id. Raise NanoGPTError if none is selected."""
    if not corpus_id:
        raise NanoGPTError("No text is selected. Choose one of yours above.")
    return visitor().text(corpus_id)


# ---- the panel -----------------------------------------------------------------------------------------------------


def build(corpus_id: gr.HTML, report: gr.HTML, after: Callable[[str, str], dict], shown: Parts) -> None:
    """Draw the accordion and wire it. `after(chosen id, changed id)` returns updates for `shown`."""
    with gr.Accordion("Manage texts", open=False, elem_id="text-panel") as panel:
        rows = gr.Dataframe(
            headers=COLUMNS, datatype="str", interactive=False, label="Your texts", max_height=260,
            column_widths=["190px", "110px", "100px", "120px"], buttons=[], elem_id="text-table",
        )  # fmt: skip
        pick = gr.Dropdown([], label="Text", info="The text to rename or delete.", elem_id="text-pick")

        def change(act, in_use, id, *name):
            sentence = act(id, *name)
            return sentence, {rows: table(), pick: listing(id), **shown.put(after(in_use, id))}

        changing.build(
            "text", pick, question, partial(change, rename), partial(change, delete), [rows, pick, *shown.outputs],
            beside=[corpus_id],
        )  # fmt: skip

    listed = lambda id: [table(), listing(id)]
    gr.on([panel.expand, report.change], listed, corpus_id, [rows, pick], trigger_mode="always_last", **QUIET)
    # each click: of several, "always_last" would send the first one's row again
    rows.select(by_row, pick, [rows, pick], trigger_mode="multiple", **QUIET)


def listing(id: str | None) -> gr.Dropdown:
    """Return the dropdown of texts, with the given one selected if it still exists."""
    ids = [one.id for one in texts()]
    return gr.Dropdown(choices(), value=id if id in ids else next(iter(ids), None))


def by_row(event: gr.SelectData, picked: str | None) -> list:
    """Return updates that pick the text of the selected row, or list the texts again if it is gone.

    It goes by the name and the length in the row: since the table was drawn, texts may have been added elsewhere.
    """
    name, characters = [*(event.row_value or ()), "", ""][:2]
    found = dict(choices()).get(f"{name} ({characters})")
    return [gr.skip(), found] if found else [table(), listing(picked)]
