"""Show who is signed in, and choose the token for the Hub. It is used once, and never shown, logged or stored."""

from __future__ import annotations

import os
from dataclasses import dataclass

import gradio as gr
from gradio.context import Context

from .. import limits
from ..config import NanoGPTError
from ..errors import PROBLEMS
from ..publish import account
from ..publish.hub_errors import TOKENS
from .address import ALONE
from .drawn import drawn, line
from .web.guard import named_hosts
from .web.visit import request

NO_TOKEN = f"You are not signed in to the Hub. Open Use a token and paste one with Write permission from {TOKENS}."
ELSEWHERE = (
    "Other machines can reach this server, so its page doesn't use the Hub login saved here. Rent hardware from the "
    "command line of this machine, with nanogpt train --on."
)
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host")


def at_home(page: gr.Blocks) -> bool:
    """Return True if the request comes from this machine: the server accepts no others, and there is no proxy."""
    alone = getattr(page, "server_name", None) in ALONE and not getattr(page, "share", False)
    headers = getattr(request(), "headers", None) or {}
    return alone and not limits.is_public() and not named_hosts() and not any(name in headers for name in FORWARDED)


def saved(page: gr.Blocks) -> str | None:
    """Return the token saved on this machine, only if the request comes from this machine."""
    if not at_home(page):
        return None
    try:
        return account.saved_token()
    except PROBLEMS:  # the saved login can't be read or renewed
        return None


def own(page: gr.Blocks) -> str | None:
    """Return the token saved on this machine, or None, for what only its owner may do: rent hardware.

    Raise NanoGPTError if the request may come from another machine or the saved login can't be renewed, and OSError if
    it can't be read.
    """
    if not at_home(page):
        raise NanoGPTError(ELSEWHERE)
    return account.saved_token()


def token(page: gr.Blocks, typed: str | None, visitor: gr.OAuthToken | None) -> str | None:
    """Return the token that was typed, or that of the signed-in visitor, or the one saved on this machine."""
    return (typed or "").strip() or (visitor.token if visitor else None) or saved(page)


def check(token: str | None) -> None:
    """Raise NanoGPTError, in the words of the page, if there is no token."""
    if not token:
        raise NanoGPTError(NO_TOKEN)


def told(page: gr.Blocks, visitor: gr.OAuthToken | None) -> str:
    """Return a sentence that says which login would be used."""
    if visitor:
        return "Signed in to the Hub. What you publish goes to your own account."
    if saved(page):
        return "Using the Hub login saved on this machine (from hf auth login or HF_TOKEN)."
    if os.environ.get("OAUTH_CLIENT_ID"):
        return "Sign in above to publish to your own account, or use a token."
    if not at_home(page):
        return "To publish to your own account, use a token."
    return "Not signed in to the Hub. Run hf auth login once, or use a token."


@dataclass
class Account:
    """The components that show who is signed in, and accept a token instead."""

    page: gr.Blocks
    said: gr.HTML
    typed: gr.Textbox


def build() -> Account:
    """Draw who is signed in, and a field for a token, which is cleared as soon as it is used."""
    page = Context.root_block
    shown = drawn("status_line", line(""), elem_id="share-account")
    with gr.Accordion("Use a token", open=False, elem_id="share-token-panel"):
        typed = gr.Textbox(
            type="password", label="Hub token", elem_id="share-token", max_lines=1,
            info="Used once, for the next Publish or Create, and never stored; the field is cleared at "
            f"once. Make one with Write permission at {TOKENS}.",
            html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
        )  # fmt: skip
    return Account(page, shown, typed)
