"""Create a Space with a run's model inside, in the Share tab."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from ..publish import deploy
from . import sign_in
from .drawn import said
from .export_panel import NO_RUN
from .following import following, lines
from .parts import HIDDEN, QUIET
from .sign_in import Account
from .web.visit import existing

SPACES = [
    ("This app with the model and the samples of its training: visitors can try it and train their own", "gradio"),
    ("Static page: runs in the visitor's browser, free, always on", "static"),
]
HARDWARE = [
    ("ZeroGPU: free, a shared GPU while it trains", deploy.FREE),
    ("CPU: needs a paid account", "cpu-basic"),
    ("T4 GPU: paid by the hour", "t4-small"),
    ("L4 GPU: paid by the hour", "l4x1"),
]


def create_space(name, space, kind, hardware, private, license, token: str | None) -> Iterator[dict[str, Any]]:
    """Run `deploy.deploy` and yield status lines."""
    run = existing(name, NO_RUN)
    sign_in.check(token)
    wish = dict(static=kind == "static", hardware=hardware, private=private, license=license or None)
    yield from following(lambda tell: deploy.deploy(run, space or run.name, token, **wish, tell=tell))


def build(run: gr.Dropdown, license: gr.Dropdown, account: Account) -> gr.Button:
    """Draw and wire the creation of a Space with the model inside. Return its button."""
    gr.Markdown(
        "### Create a Space\nA page of its own on the Hub where others can sample from your model.",
        elem_classes="share-head",
    )
    with gr.Group():
        kind = gr.Radio(SPACES, value="static", label="Contents", elem_id="share-kind")
        space = gr.Textbox(
            label="Space", placeholder="user/name", max_lines=1, elem_id="share-space",
            info="Without \"user/\", it goes to your own account. Empty: the run's name.",
        )  # fmt: skip
        hardware = gr.Dropdown(
            HARDWARE, value=deploy.FREE, label="Hardware", visible=False, elem_id="share-hardware",
            info="What it runs on. The Hub shows what it costs, and lets you change it later.",
        )  # fmt: skip
        private = gr.Checkbox(True, label="Private", elem_id="share-space-private", info="Only you can open it.")
    button = gr.Button("Create Space", interactive=False, elem_id="share-create")
    progress = said("share-space-said")

    def create(name, where, kind, hardware, private, license, typed, oauth: gr.OAuthToken | None):
        token = sign_in.token(account.page, typed, oauth)
        cleared = ""
        for shown in lines(lambda: create_space(name, where, kind, hardware, private, license, token)):
            yield [shown, cleared]
            cleared = gr.skip()

    kind.change(lambda kind: gr.Dropdown(visible=kind == "gradio"), kind, hardware, **QUIET)
    button.click(
        create, [run, space, kind, hardware, private, license, account.typed], [progress, account.typed], **HIDDEN
    )
    return button
