"""The Runs tab: a table of all runs with what you can do with each, and a comparison of those you select."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from ..disk import version
from ..durations import clock
from ..errors import PROBLEMS, explain
from ..formats import read_config
from ..runs import Overview, Run, overviews
from . import changing, compare, compare_panel, run_panel
from .drawn import drawn, said, told
from .parts import QUIET, Parts
from .web.visit import visitor

# key, label, whether it is a number, whether it sorts from its largest value first; a phone shows the first three
COLUMNS = [
    ("name", "Name", False, False), ("loss", "Val loss", True, False), ("state", "State", False, False),
    ("text", "Text", False, False), ("parameters", "Parameters", True, True), ("steps", "Steps", True, True),
    ("epochs", "Epochs", True, True), ("time", "Time", True, True), ("when", "Created", False, True),
]  # fmt: skip
UNKNOWN = ("–", None)
GO_BACK = changing.refocus("tr[data-name='NAME'] .runs-more", ".runs-more", "#run-import")
# If a run was opened, its row is out of view.
GO_ON = changing.refocus("tr[data-name='NAME'] .runs-more", "[role=tab][aria-selected=true]")
# Returns the name of the run below the one to be deleted or, at the end of the table, above it. If there is no other,
# returns what is no run's name, because "" would say that nothing has changed.
NEIGHBOR = """(name) => {
  const row = document.querySelector(`tr[data-name='${name}']`);
  return (row?.nextElementSibling ?? row?.previousElementSibling)?.dataset.name ?? "(none)";
}"""


# ---- handlers: plain functions of names ----------------------------------------------------------------------------


def rows() -> dict[str, Any]:
    """Return every run that the visitor can see, newest first, in the form that runs_table.js draws."""
    listed = overviews(visitor().runs())
    return dict(
        columns=[dict(zip(("key", "label", "number", "falls"), column)) for column in COLUMNS],
        rows=[dict(name=run.name, actions=actions(run, found), cells=cells(run, found)) for run, found in listed],
        least=compare.LEAST,
        most=compare.MOST,
    )


def cells(run: Run, found: Overview) -> dict[str, tuple]:
    """Return a run's cells by column: the text, and the value to sort by, None if it is unknown."""
    status, parameters = found.status, parameters_of(run)
    known = {
        "name": (run.name, run.name),
        "text": (found.text, found.text) if found.text else UNKNOWN,
        "state": (status.word, status.word, status.state),
        "parameters": (in_millions(parameters), parameters) if parameters else UNKNOWN,
        "steps": (f"{status.step:,}", status.step) if status.step else UNKNOWN,
        "epochs": (f"{found.epochs:.1f}", found.epochs) if found.epochs else UNKNOWN,
        "loss": (f"{found.loss:.4f}", found.loss) if found.loss is not None else UNKNOWN,
        "time": (clock(status.seconds), status.seconds) if status.seconds else UNKNOWN,
        "when": (found.created, found.created) if found.created else UNKNOWN,  # shown in the browser's time zone
    }
    return known


def parameters_of(run: Run) -> int | None:
    """Return a run's number of parameters, or None if its config can't be read."""
    try:
        return _parameters(run.folder, version(run.folder / "config.json"))
    except PROBLEMS:
        return None


@lru_cache(maxsize=4096)
def _parameters(folder: Path, version: tuple[int, ...] | None) -> int:
    """Return the number of parameters in this version of a config, which is read only once."""
    from ..model import count_parameters  # here, because it imports torch

    return count_parameters(read_config(folder))


def in_millions(count: int) -> str:
    """Return 812,345 as "0.81 M"."""
    return f"{count / 1e6:.2f} M"


def actions(run: Run, found: Overview) -> list[str]:
    """Return what the table offers for a run: what `run_panel.allowed` allows, "open", and "compare"."""
    comparable = ["compare"] if found.status.state != "damaged" else []
    return ["open", *run_panel.allowed(run, found.status), *comparable]


# ---- the tab -------------------------------------------------------------------------------------------------------


@dataclass
class Train:
    """What the tab uses of the Train tab: its dropdown of runs, what shows a run, and what `show` updates."""

    run: gr.Dropdown
    show: Callable[[str | None], dict]  # name, or None for the default -> updates for `shown`
    shown: Parts
    tabs: gr.Tabs


@dataclass
class Dialogs:
    """What the tab shows about one run: the field to rename it, the question before it is deleted, and a message."""

    renaming: gr.Column
    new: gr.Textbox
    rename: gr.Button
    leave: gr.Button
    sure: changing.Sure
    note: gr.HTML
    about: gr.Textbox  # the run's name, never shown
    goal: gr.Textbox  # the elem_id to go to, never shown
    row: gr.Textbox  # the name of the run whose row to go to after a change, never shown
    file: gr.DownloadButton  # to download, never shown

    @property
    def all(self) -> list:
        """The components that `closed` updates. It can't say so itself: outside a handler, it would draw them."""
        return [self.renaming, self.sure.group, self.note, self.file, self.goal]

    def closed(self) -> dict:
        """Return updates that hide everything."""
        hidden = gr.Column(visible=False)
        return dict(zip(self.all, (hidden, hidden, told(""), None, "")))


def build(train: Train) -> gr.HTML:
    """Draw the tab and wire it. Return the table, which is filled in when the tab is opened."""
    table = drawn("runs_table", elem_id="runs-table")
    dialogs = draw_dialogs()
    wire_actions(table, dialogs, train)
    wire_dialogs(table, dialogs, train)
    build_import(table, train)
    compare_panel.build(table, rows)
    return table


def draw_dialogs() -> Dialogs:
    """Draw the field to rename a run and the question before a deletion, both hidden."""
    note, file = said("runs-said"), gr.DownloadButton(visible=False)
    about, goal, row = (gr.Textbox(visible=False) for _ in range(3))
    with gr.Column(visible=False, elem_id="runs-renaming", elem_classes="dialog") as renaming:
        new = gr.Textbox(label="New name", placeholder=run_panel.NAMES, max_lines=1, elem_id="runs-new-name")
        with gr.Row():
            rename = gr.Button(
                "Rename run", variant="primary", size="sm", scale=0, min_width=120, elem_id="runs-rename"
            )
            leave = gr.Button("Cancel", size="sm", scale=0, min_width=90, elem_id="runs-rename-no")
    return Dialogs(renaming, new, rename, leave, changing.draw_sure("runs"), note, about, goal, row, file)


def wire_actions(table: gr.HTML, dialogs: Dialogs, train: Train) -> None:
    """Wire the menu of each row: open or export the run, or ask before it is renamed or deleted."""
    sure = dialogs.sure

    def act(event: gr.EventData):
        action, name = getattr(event, "action", ""), str(getattr(event, "name", ""))
        done = {**dialogs.closed(), dialogs.about: name, dialogs.row: ""}
        try:
            run_panel.found(name)
            if action == "open":
                opened = {train.tabs: gr.Tabs(selected="train"), **train.shown.put(train.show(name))}
                return {**done, dialogs.row: name, **opened}
            if action == "export":
                return {**done, dialogs.file: run_panel.save(name, "archive")}
            if action == "rename":
                return {
                    **done,
                    dialogs.renaming: gr.Column(visible=True),
                    dialogs.new: gr.Textbox("", label=f"New name for {name}"),
                    dialogs.goal: dialogs.new.elem_id,
                }
            asked = {sure.ask: run_panel.question(name), sure.group: gr.Column(visible=True)}
            return {**done, **asked, dialogs.goal: sure.no.elem_id}
        except PROBLEMS as error:
            return {**done, dialogs.row: name, dialogs.note: told(explain(error), "failed"), table: rows()}

    texts = [dialogs.about, dialogs.row, dialogs.new, sure.ask]
    acted = [*dialogs.all, *texts, table, train.tabs, *train.shown.outputs]
    answered = table.select(act, None, acted, **QUIET)
    answered.then(None, dialogs.file, None, js=run_panel.DOWNLOAD)
    answered.then(None, dialogs.goal, None, js=changing.GO_TO)
    answered.then(None, dialogs.row, None, js=GO_ON)


def wire_dialogs(table: gr.HTML, dialogs: Dialogs, train: Train) -> None:
    """Wire the buttons that rename and delete a run, and show the result in both tabs."""

    def change(do: Callable[..., tuple[str, str | None, Any]], *inputs):
        try:
            sentence, in_view, row = do(*inputs)
        except PROBLEMS as error:
            return {dialogs.note: told(explain(error), "failed"), table: rows(), dialogs.row: ""}
        shown = {dialogs.note: told(sentence), table: rows(), **train.shown.put(train.show(in_view))}
        return {**dialogs.closed(), **shown, dialogs.row: row}

    changed = [*dialogs.all, dialogs.row, table, *train.shown.outputs]
    named, gone = lambda *a: change(renamed, *a), lambda *a: change(deleted, *a)
    entered = [dialogs.about, dialogs.new, train.run]
    dialogs.sure.yes.click(None, dialogs.about, dialogs.row, js=NEIGHBOR)
    done = gr.on([dialogs.rename.click, dialogs.new.submit], named, entered, changed, **QUIET)
    deletion = dialogs.sure.yes.click(gone, [dialogs.about, train.run], changed, **QUIET)
    left = gr.on([dialogs.leave.click, dialogs.sure.no.click], dialogs.closed, None, dialogs.all, **QUIET)
    for ended, row in ((done, dialogs.row), (deletion, dialogs.row), (left, dialogs.about)):
        ended.then(None, row, None, js=GO_BACK)


def build_import(table: gr.HTML, train: Train) -> None:
    """Draw and wire the button that imports an archive."""
    with gr.Row():
        upload = gr.UploadButton(
            "Import run (.zip)", file_types=[".zip"], size="sm", min_width=160, scale=0, elem_id="run-import"
        )
    imported = said("run-import-said")

    def take(path):
        try:
            name = run_panel.load(path)
        except PROBLEMS as error:
            return {imported: told(explain(error), "failed")}
        return {imported: told(f"Imported as {name}."), table: rows(), **train.shown.put(train.show(name))}

    taken = [imported, table, *train.shown.outputs]
    upload.click(lambda: told(""), None, imported, **QUIET)  # a file of another kind is refused in the browser
    upload.upload(take, upload, taken, api_visibility="private", show_progress_on=upload)


def renamed(name: str, new: str, in_view: str | None) -> tuple[str, str | None, str]:
    """Rename a run. Return a message, the run to show in the Train tab, and the new name."""
    chosen = run_panel.rename(name, new)
    return f"{name} is now called {chosen}.", chosen if in_view == name else in_view, chosen


def deleted(name: str, in_view: str | None) -> tuple[str, str | None, Any]:
    """Delete a run. Return a message, the run to show in the Train tab, and that the row to go to stays as it is."""
    run_panel.delete(name)
    return f"{name} is deleted.", None if in_view == name else in_view, gr.skip()
