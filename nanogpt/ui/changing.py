"""The dialog to rename or delete a run or a text, with a question before anything is deleted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from ..errors import PROBLEMS, explain
from .drawn import said, told

Change = Callable[..., tuple[str, dict]]  # makes the change; returns a message and updates by component


def build(
    what: str,
    chosen: gr.Dropdown,
    question: Callable[[str | None], str],
    rename: Change,
    delete: Change,
    outputs: list,
    beside: Sequence[Any] = (),
    placeholder: str | None = None,
) -> None:
    """Draw the dialog for `what`, "run" or "text", and wire it. `chosen` is the dropdown that selects the item.

    `question(id)` returns the question to confirm a deletion. `rename(*beside, id, name)` and `delete(*beside, id)`
    update `outputs`; `beside` are components whose values they need. A NanoGPTError is shown below the buttons.
    """
    asked = gr.State()  # the id that the question is about; the selection may change meanwhile
    new = gr.Textbox(label="New name", placeholder=placeholder, max_lines=1, elem_id=f"{what}-new-name")
    with gr.Row():
        rename_button = gr.Button(f"Rename this {what}", size="sm", min_width=120, elem_id=f"{what}-rename")
        delete_button = gr.Button(f"Delete this {what} …", size="sm", min_width=120, elem_id=f"{what}-delete")
    with gr.Group(visible=False, elem_id=f"{what}-sure") as sure:
        ask = gr.Textbox(label="Are you sure?", interactive=False, max_lines=4, elem_id=f"{what}-question")
        with gr.Row():
            yes = gr.Button("Delete permanently", variant="stop", size="sm", elem_id=f"{what}-delete-yes")
            no = gr.Button("Cancel", size="sm", elem_id=f"{what}-delete-no")
    note = said("run-changed-said" if what == "run" else "text-said")

    def pose(id):
        try:
            return [question(id), gr.Group(visible=True), id, told("")]
        except PROBLEMS as error:
            return [gr.skip(), gr.Group(visible=False), None, told(explain(error), "failed")]

    def change(action: Change, *inputs):
        try:
            done, updates = action(*inputs)
        except PROBLEMS as error:
            return {note: told(explain(error), "failed")}
        return {note: told(done), new: "", **updates}

    quiet: dict[str, Any] = dict(queue=False, show_progress="hidden", api_visibility="private")
    closed = lambda: [gr.Group(visible=False), None]
    changed = [note, new, *outputs]
    gr.on([rename_button.click, new.submit], lambda *a: change(rename, *a), [*beside, chosen, new], changed, **quiet)
    delete_button.click(pose, chosen, [ask, sure, asked, note], **quiet)
    gone = yes.click(lambda *a: change(delete, *a), [*beside, asked], changed, **quiet)
    gone.then(closed, None, [sure, asked], **quiet)
    gr.on([no.click, chosen.change], closed, None, [sure, asked], **quiet)
