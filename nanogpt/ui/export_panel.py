"""Export a run as one file, in the Share tab: a web page or a Python program, and the text that it reads."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial

import gradio as gr

from .. import errors
from ..config import NanoGPTError
from ..corpus import Corpus
from ..publish import code_export, page_export
from ..runs import Run
from .drawn import said, told
from .parts import DOWNLOAD, HIDDEN
from .web import scratch
from .web.visit import existing, visitor

NO_RUN = "There is no run to share yet. Train one first."
FILES = {  # kind of file -> (function of a run that returns its name, function of a run and `int8` that returns it)
    "page": (lambda run: f"{run.name}.html", page_export.html),
    "code": (code_export.program_file, lambda run, int8: code_export.python(run)),
}


@scratch.writing()
def take(name: str | None, what: str, int8: bool = False) -> str:
    """Write one of FILES, or the text, to a temporary folder for download. Return the path.

    A page can be rounded to 8 bits. Raise NanoGPTError if the run lacks what is needed, or its text is someone else's.
    """
    run = existing(name, NO_RUN)
    if what == "text":
        source = text_of(run).folder / "text.txt"
        with scratch.new_folder(source.stat().st_size) as folder:
            path = folder / code_export.text_file(run)
            shutil.copyfile(source, path)  # which may be larger than memory
        return str(path)
    name_of, write = FILES[what]
    content = write(run, int8).encode()
    with scratch.new_folder(len(content)) as folder:
        path = folder / name_of(run)
        path.write_bytes(content)
    return str(path)


def fetch(what: str, name: str | None, int8: bool) -> Iterator[list]:
    """Yield what the download and the line below the buttons show while `take` writes the file, and once it is done."""
    yield [None, told("Writing the file …", "running")]
    try:
        yield [take(name, what, int8), told("")]
    except errors.PROBLEMS as error:
        yield [None, told(errors.explain(error), "failed")]


def text_of(run: Run) -> Corpus:
    """Return a run's text. Raise NanoGPTError if the visitor has no access to it, as with a public run of another.

    Its own error is only for the run's owner: it would say how another visitor's text is called.
    """
    about = run.settings()["corpus"]
    try:
        return visitor().text(about["id"], about["name"])
    except NanoGPTError:
        if visitor().owns(run):
            raise
        raise NanoGPTError("Only the owner of the run can read its text.") from None


def build(run: gr.Dropdown) -> None:
    """Draw and wire the export as a web page or a Python program, with the text that it reads."""
    gr.Markdown(
        "### Export as one file\nWeb page: generates text offline in any browser, even on a phone. Python script: "
        "one readable file that retrains this model; it needs torch and the text, next to it in a file.",
        elem_classes="share-head",
    )
    with gr.Row():
        page = gr.Button("Export web page", elem_id="share-page", min_width=130)
        code = gr.Button("Export script", elem_id="share-code", min_width=130)
        text = gr.Button("Export text", elem_id="share-text", min_width=130)
    int8 = gr.Checkbox(
        False, label="Small web page", elem_id="share-int8",
        info="Rounds the weights to 8 bits: a third of the size, and almost the same text.",
    )  # fmt: skip
    note = said("share-file-said")
    file = gr.DownloadButton(visible=False)

    for button, what in ((page, "page"), (code, "code"), (text, "text")):
        fetched = button.click(partial(fetch, what), [run, int8], [file, note], **HIDDEN)
        fetched.then(None, file, None, js=DOWNLOAD)
