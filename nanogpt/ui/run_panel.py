"""Manage runs, below the plot in the Train tab: export, reproduce, rename and delete them, and import archives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from ..config import NanoGPTError
from ..disk import size
from ..errors import PROBLEMS, explain
from ..runs import Run, archive, kept_loss, logs, settings
from . import changing, gif_panel, scratch
from .drawn import said, told
from .parts import QUIET, Parts
from .visit import seen, visitor
from .words import existing, state_word

NO_RUN = "There is no run yet. Press Start, or import one."
COLUMNS = ["Name", "State", "Loss", "Step", "On disk", "Text"]
WIDTHS = ["170px", "95px", "75px", "130px", "80px", "140px"]  # wider than a phone, where the table scrolls
LOG_LINES = 200
SAVED = {  # kind of file -> (suffix of its name, button, content)
    "settings": ("-settings.json", "Export settings (JSON)", settings.settings_json),
    "curves": ("-curves.csv", "Export curves (CSV)", logs.curves_csv),
    "samples": ("-samples.txt", "Export samples (text)", logs.samples_text),
    "log": ("-log.txt", "Export log (text)", logs.log_text),
}
DOWNLOAD = """(file) => {
  if (!file) return;
  const link = document.createElement("a");
  link.href = file.url;
  link.download = file.orig_name || "";
  document.body.append(link);
  link.click();
  link.remove();
}"""


# ---- handlers: plain functions of names and files ------------------------------------------------------------------


def loss(run: Run) -> str:
    """Return a run's final validation loss, on the whole validation set, or the best so far."""
    history = run.history()
    found = kept_loss(history)
    return f"{found:.4f}" if isinstance(found, int | float) else "–"


def table() -> list[list[str]]:
    """Return a row per run: name, state, best validation loss, steps, size, text."""
    rows = []
    for run in visitor().runs():
        status, on_disk = run.glance(), size(run.size())
        try:
            steps, text = f"{status.step:,} of {status.max_iters:,}", run.settings()["corpus"]["name"]
        except NanoGPTError:  # damaged, or just deleted
            steps = text = ""
        found = "" if status.state == "damaged" else loss(run)
        rows.append([run.name, state_word(status), found, "" if status.state == "damaged" else steps, on_disk, text])
    return rows


def facts(name: str | None) -> list[str]:
    """Return a description of a run, and the command that reproduces it."""
    if not name:
        return [NO_RUN, ""]
    try:
        run = visitor().run(name)
        text, state = run.settings()["corpus"]["name"], state_word(run.status()).lower()
        parts = [name, state, f"validation loss {loss(run)}", f"{size(run.size())} on disk", f"trained on {text}"]
        return [" · ".join(parts), settings.command(run)]
    except PROBLEMS as error:
        return [explain(error), ""]


def log(name: str | None) -> str:
    """Return the end of the training log."""
    run = seen(name)
    if run and not visitor().owns(run):
        return "Only the owner of the run can read its log."
    try:
        text = logs.log_text(run, LOG_LINES) if run else ""
    except OSError as error:
        return explain(error)
    return text or "The trainer hasn't printed anything yet."


def save(name: str | None, what: str, to_continue: bool = False) -> str:
    """Write one of SAVED, or the archive, to a temporary folder for download. Return the path."""
    run = existing(name, NO_RUN)
    folder = scratch.new_folder(run.size())
    if what == "archive":
        path = folder / f"{run.name}.zip"
        archive.pack(run, path, to_continue and visitor().owns(run))  # only the owner may have the checkpoint
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
    run = deletable(name)
    if run.glance().busy:
        raise NanoGPTError(f"{run.name} is being trained. Stop it before it can be deleted.")
    return f"Delete {run.name}, {size(run.size())}, with its weights, curves and samples? This can't be undone."


def deletable(name: str | None) -> Run:
    """Return a run as `existing` does, but also one that can't be read, so that it can still be deleted."""
    run = seen(name) or existing(name, NO_RUN)
    return visitor().own_run(run.name)


def delete(name: str | None) -> None:
    """Delete a run permanently."""
    deletable(name).delete()


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


def build(view: View) -> None:
    """Draw both accordions and wire them."""
    with gr.Accordion("Run details", open=False, elem_id="run-panel") as this:
        about = gr.Textbox(show_label=False, container=False, interactive=False, max_lines=3, elem_id="run-about")
        command = gr.Textbox(
            label="Reproduce from the command line", info="On another machine, replace --text with the text's file.",
            lines=2, max_lines=6, interactive=False, buttons=["copy"], elem_id="run-command",
        )  # fmt: skip
        build_saving(view)
        gif_panel.build(view.run, DOWNLOAD)
        build_log(view)
        build_changing(view)
    with gr.Accordion("All runs", open=False, elem_id="run-all") as every:
        runs = gr.Dataframe(
            headers=COLUMNS, datatype="str", interactive=False, label="Click a row to open the run",
            max_height=320, column_widths=WIDTHS, buttons=[], elem_id="run-table",
        )  # fmt: skip
        import_button = gr.UploadButton("Import run (.zip)", file_types=[".zip"], size="sm", elem_id="run-import")
        imported = said("run-import-said")

    def take(file):
        try:
            name = load(file)
        except PROBLEMS as error:
            return {imported: told(explain(error), "failed")}
        return {imported: told(f"Imported as {name}."), runs: table(), **view.shown.put(view.show(name))}

    def choose(event: gr.SelectData):
        return view.shown.put(view.show(event.row_value[0]))

    gr.on([this.expand, view.run.change], facts, view.run, [about, command], **QUIET)
    gr.on([every.expand, view.run.change], table, None, runs, **QUIET)
    runs.select(choose, None, view.shown.outputs, **QUIET)
    import_button.upload(
        take,
        import_button,
        [imported, runs, *view.shown.outputs],
        api_visibility="private",
        show_progress_on=import_button,
    )


def build_saving(view: View) -> None:
    """Draw and wire the files to export, and the buttons that load settings into the form."""
    with gr.Row():
        buttons = {
            what: gr.Button(label, size="sm", min_width=140, elem_id=f"run-save-{what}")
            for what, (_, label, _) in SAVED.items()
        }
    with gr.Group():
        to_continue = gr.Checkbox(
            False, label="Include the checkpoint", elem_id="run-to-continue",
            info="About three times as large; only needed to resume training elsewhere.",
        )  # fmt: skip
        pack = gr.Button("Export run (.zip)", size="sm", elem_id="run-save-archive")
    with gr.Row():
        use = gr.Button("Use this run's settings", size="sm", min_width=180, elem_id="run-use-settings")
        upload = gr.UploadButton(
            "Load settings from a file", file_types=[".json"], size="sm", min_width=180,
            elem_id="run-load-settings",
        )  # fmt: skip
    note = said("run-said")
    file = gr.DownloadButton(visible=False)

    def fetch(name, what, wanted=False):
        try:
            return [save(name, what, wanted), told("")]
        except PROBLEMS as error:
            return [None, told(explain(error), "failed")]

    def fill(read: Callable[[], dict], done: str):
        try:
            return [told(done), *view.fill(read())]
        except PROBLEMS as error:
            return [told(explain(error), "failed"), *[gr.skip()] * len(view.fields)]

    outputs, quiet = [file, note], dict(queue=False, api_visibility="private")
    for what, button in buttons.items():
        fetched = button.click(lambda name, what=what: fetch(name, what), view.run, outputs, **quiet)
        fetched.then(None, file, None, js=DOWNLOAD)
    packed = pack.click(lambda name, wanted: fetch(name, "archive", wanted), [view.run, to_continue], outputs, **quiet)
    packed.then(None, file, None, js=DOWNLOAD)
    filled = [note, *view.fields]
    done = "Loaded {}. Check Advanced, then press Start."
    of_run, of_file = done.format("this run's settings"), done.format("the file's settings")
    settings_of = lambda name: settings.settings_of(existing(name, NO_RUN))
    use.click(lambda name: fill(lambda: settings_of(name), of_run), view.run, filled, **quiet)
    upload.upload(
        lambda path: fill(lambda: settings.read_settings(Path(path).read_bytes()), of_file), upload, filled, **quiet
    )


def build_log(view: View) -> None:
    """Draw and wire the training log."""
    with gr.Accordion("Log", open=False, elem_id="run-log-panel") as panel:
        text = gr.Textbox(
            label=f"The last {LOG_LINES} lines of the trainer's output", lines=8, max_lines=16, interactive=False,
            buttons=["copy"], elem_id="run-log",
        )  # fmt: skip
        refresh = gr.Button("Refresh the log", size="sm", elem_id="run-log-refresh")
    gr.on(
        [panel.expand, refresh.click, view.run.change], log, view.run, text,
        **QUIET,
    )  # fmt: skip


def build_changing(view: View) -> None:
    """Draw and wire the dialog to rename or delete a run."""

    def renamed(name, wanted):
        chosen = rename(name, wanted)
        return f"{name} is now called {chosen}.", view.shown.put(view.show(chosen))

    def deleted(name):
        delete(name)
        return f"{name} is deleted.", view.shown.put(view.show(None))

    hint = "lower-case letters, digits, hyphens"
    changing.build("run", view.run, question, renamed, deleted, view.shown.outputs, placeholder=hint)
