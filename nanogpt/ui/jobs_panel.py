"""Train on Hugging Face Jobs, below the settings in the Train tab: choose hardware, see the highest cost, confirm.

Only on your own machine, with its saved login. What is confirmed is what was shown: if anything has changed since, the
terms are shown again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.context import Context

from ..config import NanoGPTError, duration
from ..errors import PROBLEMS, explain
from ..paths import checked_name
from ..presets import preset
from ..runs import Run, open_job
from . import form, sign_in
from .drawn import said, told
from .parts import QUIET
from .web.visit import visitor

if TYPE_CHECKING:
    from ..jobs.start import Terms

INTRO = (
    "Rent a GPU from Hugging Face for one run, billed to your account there. The run appears in this tab like any "
    "other, and keeps training if you close the page or turn this machine off."
)
# The run is above the panel, so bring it into view, or the message that it has not started, which is above the terms.
SHOW_RUN = """(said) => {
  const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth";
  const [id, block] = (said || {}).text ? ["jobs-said", "nearest"] : ["train-status", "center"];
  document.getElementById(id)?.scrollIntoView({ behavior, block });
}"""
AGREE = "Below are the cost and the files. Read them, then press Upload and start."
CHANGED = "Something has changed since you saw this. Look at it again, then press the button once more."


class Changed(NanoGPTError):
    """What was shown isn't what the job would use and cost now: `terms` is."""

    def __init__(self, terms: str):
        super().__init__(CHANGED)
        self.terms = terms


# ---- handlers: plain functions of names and numbers --------------------------------------------------------------


def hardware_choices(page: gr.Blocks) -> list[tuple[str, str]]:
    """Return the hardware that can be rented, with prices, for the list. Raise NanoGPTError if the Hub doesn't say.

    Here and below, `page` is to tell whether the login saved on this machine may be used.
    """
    from ..jobs import offer
    from ..publish import account

    api, _ = account.signed_in(sign_in.own(page))
    offered = sorted(offer.hardware(api), key=lambda one: not one.gpu)  # the cheapest GPU first
    return [(f"{one.hourly} · {one.about}", one.name) for one in offered]


def terms(page: gr.Blocks, corpus_id: str | None, hardware: str | None, limit: str, *fields) -> Terms:
    """Return what a job with the settings in the form would use and cost."""
    from ..jobs import start
    from ..publish import account

    if visitor().id is not None:
        raise NanoGPTError("On a public server, runs train on the server itself.")
    if not hardware:
        raise NanoGPTError("No hardware is chosen. Choose one from the list.")
    text = visitor().text(corpus_id or "")
    _, train = preset(fields[0]).configs(**form.changes(*fields))
    api, owner = account.signed_in(sign_in.own(page))
    return start.terms(api, owner, hardware, text, train.budget, duration(limit) if limit.strip() else None)


def begin(
    page: gr.Blocks, corpus_id: str | None, name: str, hardware: str | None, limit: str, shown: str, *fields
) -> Run:
    """Upload and start a run on the terms that were shown. Raise Changed if they aren't what was shown.

    Raise OSError, and leave no run, if no process can be started.
    """
    from ..jobs import start

    agreed = terms(page, corpus_id, hardware, limit, *fields)
    if str(agreed) != shown:
        raise Changed(str(agreed))
    text = visitor().text(corpus_id or "")
    wanted = name.strip()
    wanted = checked_name(wanted) if wanted else ""
    run = start.new_run(wanted, text, fields[0], form.changes(*fields), agreed)
    try:
        start.follow(run)
    except OSError:
        run.delete()  # or the server would start its job later, and another one costs as much again
        raise
    return run


def followed(name: str | None) -> Run | None:
    """Follow a run's job again if it is open, and return the run; None if it has no open job."""
    from ..jobs import start

    run = visitor().own_run(name) if name else None
    if run is None or not open_job(run.folder):
        return None
    start.wanted_again(run)
    start.follow(run)
    return run


# ---- the panel -----------------------------------------------------------------------------------------------------


@dataclass
class JobsPanel:
    """The components that the Train tab wires to its own."""

    page: gr.Blocks
    go: gr.Button
    inputs: list  # of `begin`, after the text and the name
    terms: gr.Textbox  # what was shown
    note: gr.HTML  # for messages
    agreed: gr.Column  # what is shown once the terms are known


def build(corpus_id: gr.HTML, fields: list) -> JobsPanel:
    """Draw the panel and wire all but its last button. `fields` are the form's inputs."""
    page = Context.root_block
    with gr.Accordion("Train on Hugging Face Jobs instead", open=False, elem_id="jobs-panel") as panel:
        gr.Markdown(INTRO)
        with gr.Row():
            hardware = gr.Dropdown([], label="Hardware", min_width=240, scale=3, elem_id="jobs-hardware")
            limit = gr.Textbox(
                label="Time limit (optional)", placeholder="e.g. 30m", max_lines=1, min_width=200, elem_id="jobs-limit",
                info="The longest the job may run. If empty: 10 minutes more than the training time, or 30 minutes for "
                "a number of steps.",
            )  # fmt: skip
        ask = gr.Button("Show cost and files to upload", size="sm", elem_id="jobs-ask")
        note = said("jobs-said")
        with gr.Column(visible=False, elem_id="jobs-agreed") as agreed:
            shown = gr.Textbox(
                label="Before you start", interactive=False, lines=4, max_lines=20, elem_id="jobs-terms",
            )  # fmt: skip
            with gr.Row():
                go = gr.Button("Upload and start", variant="primary", min_width=140, elem_id="jobs-start")
                cancel = gr.Button("Cancel", min_width=80, elem_id="jobs-cancel")

    def listed(before: str | None) -> list:
        try:
            choices = hardware_choices(page)
        except PROBLEMS as error:
            return [gr.skip(), told(explain(error), "failed")]
        known = [name for _, name in choices]
        return [gr.Dropdown(choices, value=before if before in known else known[0] if known else None), told("")]

    def asked(*inputs: Any) -> list:
        try:
            return [str(terms(page, *inputs)), gr.Column(visible=True), told(AGREE)]
        except PROBLEMS as error:
            return ["", gr.Column(visible=False), told(explain(error), "failed")]

    panel.expand(listed, hardware, [hardware, note], **QUIET)
    ask.click(asked, [corpus_id, hardware, limit, *fields], [shown, agreed, note], **QUIET)
    cancel.click(lambda: [gr.Column(visible=False), told("")], None, [agreed, note], **QUIET)
    return JobsPanel(page, go, [hardware, limit, shown], shown, note, agreed)
