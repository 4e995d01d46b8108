"""Manage the run in view, below the plot in the Train tab: export, rename, delete and reproduce it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from .. import disk
from ..config import NanoGPTError
from ..errors import PROBLEMS, explain
from ..publish import push
from ..runs import Run, Status, archive, job_of, logs, settings
from . import changing, gif_panel
from .drawn import said, told
from .parts import DOWNLOAD, QUIET, Parts
from .web import scratch
from .web.visit import existing, seen, visitor
from .words import final_loss

NO_RUN = "There is no run yet. Press Start, or import one."
NAMES = "lower-case letters, digits, hyphens"
LOG_LINES = 200
# Says that the form has changed: the estimate and the picture follow, and meanwhile the old estimate is grayed out.
FILLED = """() => {
  document.getElementById("train-estimate")?.classList.add("old");
  return String(performance.now());
}"""
NOT_YOURS = "Only the owner of the run can read its log."
SAVED = {  # kind of file -> (suffix of its name, button, content)
    "settings": ("-settings.json", "Export settings (JSON)", settings.settings_json),
    "curves": ("-curves.csv", "Export curves (CSV)", logs.curves_csv),
    "samples": ("-samples.txt", "Export samples (text)", logs.samples_text),
    "log": ("-log.txt", "Export log (text)", logs.log_text),
}


# ---- handlers: plain functions of names and files ------------------------------------------------------------------


def allowed(run: Run, status: Status) -> list[str]:
    """Return what may be done with a run now: "export", "rename", "delete". Anything else would be refused."""
    may_change = visitor().owns(run) and not status.busy and not run.is_bundled()
    sound = status.state != "damaged"
    offered = dict(
        export=sound and (run.folder / "model.safetensors").exists(), rename=may_change and sound, delete=may_change
    )
    return [action for action, may in offered.items() if may]


def offered(name: str | None) -> dict[str, bool]:
    """Return which parts of the panel are shown for a run: those of `allowed`, and "checkpoint"."""
    run = seen(name)
    if run is None:
        return dict(export=False, rename=False, delete=False, checkpoint=False)
    actions = allowed(run, run.glance())
    checkpoint = "export" in actions and visitor().owns(run) and (run.folder / "last.safetensors").exists()
    return {action: action in actions for action in ("export", "rename", "delete")} | dict(checkpoint=checkpoint)


def facts(name: str | None) -> list[str]:
    """Return a description of a run, and the command that reproduces it."""
    if not name:
        return [NO_RUN, ""]
    try:
        run = visitor().run(name)
        text, state = run.settings()["corpus"]["name"], run.status().word.lower()
        loss, size = f"validation loss {final_loss(run)}", f"{disk.size(run.size())} on disk"
        return [" · ".join([name, state, loss, size, f"trained on {text}"]), settings.command(run)]
    except PROBLEMS as error:
        return [explain(error), ""]


def log(name: str | None) -> str:
    """Return the end of the training log."""
    run = seen(name)
    if run and not visitor().owns(run):
        return NOT_YOURS
    try:
        text = logs.log_text(run, LOG_LINES) if run else ""
    except OSError as error:
        return explain(error)
    return text or "The trainer hasn't printed anything yet."


@scratch.writing()
def save(name: str | None, what: str, to_continue: bool = False) -> str:
    """Write one of SAVED, or the archive, to a temporary folder for download. Return the path.

    Only the run's owner gets its log and its checkpoint. Others get the public part of run.json and metrics.jsonl.
    """
    run = existing(name, NO_RUN)
    mine = visitor().owns(run)
    if what == "log" and not mine:
        raise NanoGPTError(NOT_YOURS)
    with scratch.new_folder(run.size()) as folder:
        if what == "archive":
            path = folder / f"{run.name}.zip"
            public = None if mine else push.public_facts(run.settings(), run.history())
            archive.pack(run, path, to_continue and mine, public)
            return str(path)
        ending, _, content = SAVED[what]
        text = content(run)
        if not text:
            raise NanoGPTError(f"{run.name} has no {what} yet.")
        path = folder / f"{run.name}{ending}"
        path.write_text(text, encoding="utf-8", newline="")
        return str(path)


def rename(name: str | None, new: str) -> str:
    """Rename a run. Return the new name."""
    run = existing(name, NO_RUN)
    if not new.strip():
        raise NanoGPTError("The new name is empty. Enter one in the field above.")
    return visitor().rename(visitor().own_run(run.name), new.strip()).name


def question(name: str | None) -> str:
    """Return the question to confirm deleting a run. Raise NanoGPTError if it can't be deleted."""
    run = visitor().own_run(found(name).name)
    run.check_changeable("delete")
    there = job_of(run.folder)
    left = ""
    if there and there.repos:
        names = " and ".join(there.repos)
        left = f"First delete {names} on the Hub: your text is there, and perhaps what the job trained. "
    about = f"{run.name}, {disk.size(run.size())}, with its weights, curves and samples"
    return f"{left}Delete {about}? This can't be undone."


def found(name: str | None) -> Run:
    """Return a run as `existing` does, but also one that can't be read, so that it can still be deleted."""
    return seen(name) or existing(name, NO_RUN)


def delete(name: str | None) -> None:
    """Delete a run permanently."""
    visitor().delete(visitor().own_run(found(name).name))


def load(path: str) -> str:
    """Import an archive. Return the new run's name."""
    return visitor().unpack(Path(path)).name


# ---- the panel -----------------------------------------------------------------------------------------------------


@dataclass
class View:
    """The parts of the Train tab that the panel uses."""

    run: gr.Dropdown
    show: Callable[[str | None], dict]  # name, or None for the newest -> updates for `shown`
    shown: Parts
    fill: Callable[[dict], list]  # settings -> updates for `fields`
    fields: list
    typed: gr.Textbox  # changes to have the estimate made again


def build(view: View) -> None:
    """Draw the panel and wire it: the actions first, and whatever is needed less often in closed groups."""
    with gr.Accordion("Manage run", open=False, elem_id="run-panel") as this:
        about = gr.Textbox(
            label="About this run", show_label=False, container=False, interactive=False, max_lines=3,
            elem_id="run-about",
        )  # fmt: skip
        pack, checkpoint = build_export(view)
        new, rename_button, delete_button = build_changing(view)
        gif_panel.build(view.run)
        command = build_more(view)
        printed = build_log(view)
    actions = [pack, checkpoint, new, rename_button, delete_button]

    def opened(name):
        may = offered(name)
        wanted = ("export", "checkpoint", "rename", "rename", "delete")
        return [*facts(name), *(gr.update(visible=may[one]) for one in wanted)]

    state = gr.Textbox(visible=False)  # changes when the run begins or ends, and not with each step
    view.shown["status"].change(None, view.shown["status"], state, js="(line) => (line || {}).state || ''")
    shown = [about, command, *actions]
    gr.on([this.expand, state.change], opened, view.run, shown, trigger_mode="always_last", **QUIET)
    of_run = lambda name: [log(name), *opened(name)]
    view.run.change(of_run, view.run, [printed, *shown], **QUIET)


def build_export(view: View) -> tuple[gr.Button, gr.Checkbox]:
    """Draw and wire the export as one file. Return the button, and the box that includes the checkpoint."""
    with gr.Row(equal_height=True, elem_id="run-export"):
        pack = gr.Button("Export run", variant="primary", size="sm", min_width=130, elem_id="run-save-archive")
        checkpoint = gr.Checkbox(
            False, label="Include the checkpoint", min_width=220, scale=3, elem_id="run-to-continue",
            info="Makes the file about three times as large; only needed to resume training elsewhere.",
        )  # fmt: skip
    build_download(view, {"archive": pack}, said("run-export-said"), [checkpoint])
    return pack, checkpoint


def build_download(view: View, buttons: dict[str, gr.Button], note: gr.HTML, more: list) -> None:
    """Wire buttons that save a file of the run in view and download it. An error is shown in `note`."""
    file = gr.DownloadButton(visible=False)

    def fetch(name, what, wanted=False):
        try:
            return [save(name, what, wanted), told("")]
        except PROBLEMS as error:
            return [None, told(explain(error), "failed")]

    for what, button in buttons.items():
        fetched = button.click(
            lambda name, *wanted, what=what: fetch(name, what, *wanted), [view.run, *more], [file, note], **QUIET
        )
        fetched.then(None, file, None, js=DOWNLOAD)


def build_more(view: View) -> gr.Textbox:
    """Draw and wire the other files of a run, and its settings to use again. Return the field for its command."""
    with gr.Accordion("Files and settings", open=False, elem_id="run-more"):
        command = gr.Textbox(
            label="Reproduce from the command line", info="On another machine, replace --text with the text's file.",
            lines=2, max_lines=6, interactive=False, buttons=["copy"], elem_id="run-command",
        )  # fmt: skip
        with gr.Row():
            use = gr.Button("Use this run's settings", size="sm", min_width=180, elem_id="run-use-settings")
            upload = gr.UploadButton(
                "Load settings from a file", file_types=[".json"], size="sm", min_width=180,
                elem_id="run-load-settings",
            )  # fmt: skip
        with gr.Row():
            buttons = {
                what: gr.Button(label, size="sm", min_width=140, elem_id=f"run-save-{what}")
                for what, (_, label, _) in SAVED.items()
            }
        note = said("run-said")
    build_download(view, buttons, note, [])
    build_settings(view, use, upload, note)
    return command


def build_settings(view: View, use: gr.Button, upload: gr.UploadButton, note: gr.HTML) -> None:
    """Wire the buttons that load settings into the form."""

    def fill(read: Callable[[], dict], done: str):
        try:
            return [told(done), *view.fill(read())]
        except PROBLEMS as error:
            return [told(explain(error), "failed"), *[gr.skip()] * len(view.fields)]

    filled = [note, *view.fields]
    done = "Loaded {}. Check Advanced, then press Start."
    of_run, of_file = done.format("this run's settings"), done.format("the file's settings")
    settings_of = lambda name: settings.settings_of(existing(name, NO_RUN))
    used = use.click(lambda name: fill(lambda: settings_of(name), of_run), view.run, filled, **QUIET)
    upload.click(lambda: told(""), None, note, **QUIET)  # a file of another kind is refused in the browser
    read = upload.upload(
        lambda path: fill(lambda: settings.read_settings(disk.read(Path(path))), of_file), upload, filled, **QUIET
    )
    for loaded in (used, read):
        loaded.then(None, None, view.typed, js=FILLED)


def build_log(view: View) -> gr.Textbox:
    """Draw and wire the training log. Return the field that shows it."""
    with gr.Accordion("Log", open=False, elem_id="run-log-panel") as panel:
        text = gr.Textbox(
            label=f"The last {LOG_LINES} lines of the trainer's output", lines=8, max_lines=16, interactive=False,
            buttons=["copy"], elem_id="run-log",
        )  # fmt: skip
        refresh = gr.Button("Refresh the log", size="sm", elem_id="run-log-refresh")
    gr.on([panel.expand, refresh.click], log, view.run, text, **QUIET)
    return text


def build_changing(view: View) -> list:
    """Draw and wire the dialog to rename or delete a run. Return the field for the name and the two buttons."""

    def renamed(name, wanted):
        chosen = rename(name, wanted)
        return f"{name} is now called {chosen}.", view.shown.put(view.show(chosen))

    def deleted(name):
        delete(name)
        return f"{name} is deleted.", view.shown.put(view.show(None))

    return changing.build("run", view.run, question, renamed, deleted, view.shown.outputs, placeholder=NAMES)
