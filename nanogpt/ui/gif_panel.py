"""The button that makes an animation of a run, below the plot in the Train tab, and downloads it."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from ..errors import PROBLEMS, explain
from ..publish import gif
from .drawn import said, told
from .parts import DOWNLOAD, HIDDEN
from .web import scratch
from .web.visit import existing

NO_RUN = "There is no run to animate yet. Train one first."


@scratch.writing()
def take(name: str | None) -> tuple[str, str]:
    """Write a run's animation to a temporary folder for download. Return its path, and what it can't show or ""."""
    run = existing(name, NO_RUN)
    content, problem = gif.animation(run)
    with scratch.new_folder(len(content)) as folder:
        path = folder / f"{run.name}.gif"
        path.write_bytes(content)
    return str(path), problem


def build(run: gr.Dropdown) -> None:
    """Draw and wire the button for the run that is selected in `run`."""
    with gr.Row():
        button = gr.Button("Make a GIF of the training", size="sm", scale=0, min_width=130, elem_id="run-gif")
    note = said("run-gif-said")
    file = gr.DownloadButton(visible=False)

    def make(name: str | None) -> Iterator[list]:
        yield [None, told("Drawing the frames …", "running")]
        try:
            path, problem = take(name)
        except PROBLEMS as error:
            yield [None, told(explain(error), "failed")]
            return
        yield [path, told(problem)]

    # two at once, because the frames take a few seconds of a core
    made = button.click(make, run, [file, note], concurrency_limit=2, **HIDDEN)
    made.then(None, file, None, js=DOWNLOAD)
