"""The dialog to rename or delete a run or a text, with a question before anything is deleted."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..errors import PROBLEMS, explain
from .drawn import drawn, said, told
from .parts import QUIET

CLOSE = """() => ({ __type__: "update", visible: false })"""

# Goes to a part of a dialog that opens, which may be out of view. Screen readers read out its question then.
GO_TO = """(id) => {
  const go = (tries) => { // it may only just be opening
    const part = document.getElementById(id);
    if (!part?.offsetParent) return tries && setTimeout(go, 50, tries - 1);
    (part.querySelector("textarea, input") || part).focus({ preventScroll: true });
    part.closest(".dialog").scrollIntoView({ block: "nearest" });
  };
  if (id) go(200); // 10 seconds: a busy machine draws late
}"""

# Moves a focus that was lost with a part of the page, to the first that is visible of some selectors. The page may only
# just be drawing them, so the first one is waited for. If nothing has changed, its input is "", and the focus stays.
REFOCUS = """(name) => {
  const selectors = SELECTORS;
  const seen = (selector) => [...document.querySelectorAll(selector)].find((part) => part.offsetParent);
  const go = (tries) => {
    const [first, ...others] = selectors.map((one) => seen(one.replace("NAME", name)));
    if (!document.activeElement?.offsetParent && (first || tries < 30)) return (first || others.find(Boolean))?.focus();
    if (tries) setTimeout(go, 50, tries - 1);
  };
  if (name !== "") go(60); // 3 seconds; the others' turn comes after 1.5
}"""

Change = Callable[..., tuple[str, dict]]  # makes the change; returns a message and updates by component


@dataclass
class Sure:
    """The question before a deletion, hidden until it is asked, with its two buttons."""

    group: gr.Column
    ask: gr.HTML
    yes: gr.Button
    no: gr.Button


def refocus(*selectors: str) -> str:
    """Return a handler for the browser that moves a lost focus. NAME in a selector stands for its input."""
    return REFOCUS.replace("SELECTORS", json.dumps(selectors))


def draw_sure(prefix: str) -> Sure:
    """Draw the question. `prefix` begins its elem_ids."""
    with gr.Column(visible=False, elem_id=f"{prefix}-sure", elem_classes="dialog") as group:
        ask = drawn("question", "", elem_id=f"{prefix}-question")
        with gr.Row():
            yes = gr.Button(
                "Delete permanently", variant="stop", size="sm", scale=0, min_width=160,
                elem_id=f"{prefix}-delete-yes",
            )  # fmt: skip
            no = gr.Button("Cancel", size="sm", scale=0, min_width=90, elem_id=f"{prefix}-delete-no")
    return Sure(group, ask, yes, no)


def build(
    what: str,
    chosen: gr.Dropdown,
    question: Callable[[str | None], str],
    rename: Change,
    delete: Change,
    outputs: list,
    beside: Sequence[Any] = (),
    placeholder: str | None = None,
) -> list[gr.Textbox | gr.Button]:
    """Draw the dialog for `what`, "run" or "text", and wire it. `chosen` is the dropdown that selects the item.

    `question(id)` returns the question to confirm a deletion. `rename(*beside, id, name)` and `delete(*beside, id)`
    update `outputs`; `beside` are components whose values they need. A NanoGPTError is shown below the buttons. Return
    the field for the name and the two buttons, so that those whose action would be refused can be hidden.
    """
    asked = gr.State()  # the id that the question is about; the selection may change meanwhile
    with gr.Row(equal_height=True, elem_id=f"{what}-changing"):
        new = gr.Textbox(
            label="New name", placeholder=placeholder, max_lines=1, min_width=160, scale=3, elem_id=f"{what}-new-name"
        )
        rename_button = gr.Button(f"Rename {what}", size="sm", min_width=110, elem_id=f"{what}-rename")
        delete_button = gr.Button(f"Delete {what}", size="sm", min_width=110, elem_id=f"{what}-delete")
    sure = draw_sure(what)
    note = said("run-changed-said" if what == "run" else "text-said")

    def pose(id):
        try:
            return [question(id), gr.Column(visible=True), id, told("")]
        except PROBLEMS as error:
            return ["", gr.Column(visible=False), None, told(explain(error), "failed")]

    def change(action: Change, *inputs):
        try:
            done, updates = action(*inputs)
        except PROBLEMS as error:
            return {note: told(explain(error), "failed")}
        return {note: told(done), new: "", **updates}

    def confirm(*inputs):
        if inputs[-1] is None:  # the server was restarted after the question
            again = f"Click Delete {what} again."
            return {
                note: told(f"Nothing was deleted, because the server no longer knows this question. {again}", "failed")
            }
        return change(delete, *inputs)

    changed = [note, new, *outputs]
    gr.on([rename_button.click, new.submit], lambda *a: change(rename, *a), [*beside, chosen, new], changed, **QUIET)
    posed = delete_button.click(pose, chosen, [sure.ask, sure.group, asked, note], **QUIET)
    posed.then(None, sure.ask, None, js=f"(question) => ({GO_TO})(question && {json.dumps(sure.no.elem_id)})")
    gone = sure.yes.click(confirm, [*beside, asked], changed, **QUIET)
    gone.then(None, None, sure.group, js=CLOSE)
    left = sure.no.click(None, None, sure.group, js=CLOSE)
    chosen.change(None, None, sure.group, js=CLOSE)
    for closed in (gone, left):  # the button that had the focus is gone
        closed.then(None, None, None, js=refocus(f"#{what}-delete", f"#{what}-panel button"))
    return [new, rename_button, delete_button]
