"""The texts that were given, under the Corpus tab's report: what they take up, another name, away with them."""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr

from .. import corpus
from ..config import NanoGPTError
from ..runs import users_of
from .parts import QUIET, Parts
from .run_panel import said, size, told
from .visit import visitor

COLUMNS = ["Name", "Characters", "On disk", "Added"]


# ---- handlers: plain functions of ids and names --------------------------------------------------------------------


def texts() -> list[corpus.Corpus]:
    """Those that were uploaded or pasted, the newest first; what comes with Python is no one's."""
    return [one for one in visitor().texts() if not one.source.startswith(corpus.BUILT_IN)]


def table() -> list[list[str]]:
    """Every such text in a line: name, characters, size, date."""
    return [[one.name, f"{one.characters:,}", size(corpus.size_on_disk(one)), one.created[:10]] for one in texts()]


def choices() -> list[tuple[str, str]]:
    """(label, id) of every such text."""
    return [(f"{one.name} ({one.characters:,})", one.id) for one in texts()]


def in_words(names: list[str]) -> str:
    """The first names and how many more."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def question(corpus_id: str | None) -> str:
    """What is asked before a text is deleted. NanoGPTError while a run needs it."""
    found = chosen(corpus_id)
    busy, others = users_of(found.id)
    if busy:
        are = "is" if len(busy) == 1 else "are"
        raise NanoGPTError(f"{found.name} is in use: {in_words(busy)} {are} being trained on it. Stop that first.")
    asked = f"Delete {found.name}, {size(corpus.size_on_disk(found))}?"
    if others:
        goes = "was trained on it and keeps" if len(others) == 1 else "were trained on it and keep"
        asked += (
            f" {in_words(others)} {goes} writing, but can no longer be continued until the same text is added again."
        )
    return asked


def delete(corpus_id: str | None) -> str:
    """Delete a text that no trainer needs; what is said of it."""
    question(corpus_id)
    found = chosen(corpus_id)
    visitor().delete_text(found.id)
    return f"{found.name} is deleted."


def rename(corpus_id: str | None, name: str) -> str:
    """Give a text another name; what is said of it."""
    found = chosen(corpus_id)
    return f"{found.name} is called {visitor().rename_text(found.id, name).name} now."


def chosen(corpus_id: str | None) -> corpus.Corpus:
    """The text of that id. NanoGPTError where none is chosen."""
    if not corpus_id:
        raise NanoGPTError("No text is chosen; choose one of yours above.")
    return visitor().text(corpus_id)


# ---- the panel -----------------------------------------------------------------------------------------------------


def build(corpus_id: gr.State, report: gr.HTML, after: Callable[[str, str], dict], shown: Parts) -> None:
    """Draw the accordion and wire it. `after(the text in use, the one that changed)` gives updates for `shown`."""
    asked = gr.State()  # the text that the question is about
    with gr.Accordion("Your texts", open=False, elem_id="text-panel") as panel:
        rows = gr.Dataframe(
            headers=COLUMNS, datatype="str", interactive=False, label="Texts you uploaded or pasted", max_height=260,
            column_widths=["190px", "110px", "100px", "120px"], buttons=[], elem_id="text-table",
        )  # fmt: skip
        pick = gr.Dropdown([], label="Text", info="Which one to rename or delete.", elem_id="text-pick")
        new = gr.Textbox(label="New name", max_lines=1, elem_id="text-new-name")
        with gr.Row():
            rename_button = gr.Button("Rename this text", size="sm", min_width=120, elem_id="text-rename")
            delete_button = gr.Button("Delete this text …", size="sm", min_width=120, elem_id="text-delete")
        with gr.Group(visible=False, elem_id="text-sure") as sure:
            ask = gr.Textbox(label="Are you sure?", interactive=False, max_lines=4, elem_id="text-question")
            with gr.Row():
                yes = gr.Button("Delete for good", variant="stop", size="sm", elem_id="text-delete-yes")
                no = gr.Button("Keep it", size="sm", elem_id="text-delete-no")
        note = said("text-said")

    def pose(id):
        try:
            return [question(id), gr.Group(visible=True), id, told("")]
        except NanoGPTError as error:
            return [gr.skip(), gr.Group(visible=False), None, told(str(error), "failed")]

    def change(action, in_use, id, *name):
        try:
            done = action(id, *name)
        except NanoGPTError as error:
            return {note: told(str(error), "failed")}
        return {note: told(done), new: "", rows: table(), pick: listing(id), **shown.put(after(in_use, id))}

    closed = lambda: [gr.Group(visible=False), None]
    changed = [note, new, rows, pick, *shown.outputs]
    # not `pick` itself as the input: Gradio would refuse the value of a text that has just gone
    gr.on([panel.expand, report.change], lambda id: [table(), listing(id)], corpus_id, [rows, pick], **QUIET)
    rows.select(by_line, None, pick, **QUIET)
    gr.on([rename_button.click, new.submit], lambda *a: change(rename, *a), [corpus_id, pick, new], changed, **QUIET)
    delete_button.click(pose, pick, [ask, sure, asked, note], **QUIET)
    gone = yes.click(lambda *a: change(delete, *a), [corpus_id, asked], changed, **QUIET)
    gone.then(closed, None, [sure, asked], **QUIET)
    gr.on([no.click, pick.change], closed, None, [sure, asked], **QUIET)


def listing(id: str | None) -> gr.Dropdown:
    """The dropdown of the texts, with one still chosen if it is still there."""
    ids = [one.id for one in texts()]
    return gr.Dropdown(choices(), value=id if id in ids else next(iter(ids), None))


def by_line(event: gr.SelectData) -> str | None:
    """The id of the text in the line that was chosen."""
    ids = [one.id for one in texts()]
    return ids[event.index[0]] if event.index[0] < len(ids) else None
