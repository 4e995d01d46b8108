"""Load a model from the Hub, in the Sample tab."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
from gradio.context import Context

from ..errors import PROBLEMS, explain
from ..publish import pull as from_hub
from ..publish.upload import Tell
from ..runs import Run
from . import sign_in
from .drawn import line, said
from .following import following
from .parts import HIDDEN
from .web.visit import visitor


def pull(repo: str, token: str | None) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Pull a repository and yield status lines; the last one has the new run's name."""
    who, pulled = visitor(), list[Run]()
    who.has_room()

    def work(tell: Tell) -> str:
        with who.storing() as check_room:
            pulled.append(who.imported(from_hub.pull(repo, token, who.id, who.free_name, tell, check_room)))
        return f"{pulled[0].name} was loaded from {repo.strip()}."

    for shown in following(work):
        yield shown, pulled[0].name if pulled and shown["state"] == "finished" else None


def build(run: gr.Dropdown, listed: Callable[[str | None], Any]) -> tuple[Any, gr.HTML]:
    """Draw the accordion and wire it. `listed(name)` returns the dropdown of runs with the new one selected.

    Return the event that loads a model, and the line that says what came of it.
    """
    page = Context.root_block
    with gr.Accordion("Load a model from the Hub", open=False, elem_id="pull-panel"):
        repo = gr.Textbox(
            label="Repository", placeholder="user/name or URL", max_lines=1, elem_id="pull-repo",
            info="A model published from this app, or another small character-level GPT-2 or NanoChat model.",
        )  # fmt: skip
        button = gr.Button("Load", size="sm", elem_id="pull")
        note = said("pull-said")

    def fetch(repo, oauth: gr.OAuthToken | None):
        token = sign_in.token(page, None, oauth)
        try:
            for shown, name in pull(repo or "", token):
                yield [shown, listed(name) if name else gr.skip()]
        except PROBLEMS as error:
            yield [line(explain(error), "failed"), gr.skip()]

    loads = [button.click, repo.submit]
    return gr.on(loads, fetch, repo, [note, run], **HIDDEN), note
