"""Whose request this is: the one place where a handler learns who asks."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.context import LocalContext
from starlette.requests import cookie_parser

from .. import limits
from ..launch import visitors
from ..launch.visitors import Visitor
from ..runs import Run


def request() -> Any | None:
    """The request that the running handler answers; None outside of one. Gradio sets it around every step of it."""
    return LocalContext.request.get(None)


def visitor() -> Visitor:
    """Who asks. Without a request, or without a cookie, it is nobody; on one's own machine always its owner."""
    headers = getattr(request(), "headers", None) or {}
    return visitors.visitor_of(words(headers.get("cookie") or ""))


def seen(name: str | None) -> Run | None:
    """The run of that name, if it is there for whoever asks."""
    if not name:
        return None
    run = Run(name)
    return run if run.exists() and visitor().sees(run) else None


def terms() -> gr.Textbox:
    """What a visitor of a public server should know before they begin; nothing on one's own machine."""
    if not limits.is_public():
        return gr.Textbox(visible=False)
    return gr.Textbox(visitors.NO_COOKIE if visitor().id == "" else visitors.terms(), visible=True)


def words(cookies: str) -> str | None:
    """A visitor's word from a Cookie header."""
    found = cookie_parser(cookies)
    return next((found[name] for name in visitors.COOKIES if name in found), None)


def asked() -> dict[str, str]:
    """What the page's own address asked for, ?text=…&preset=…"""
    return {key: value for key, value in dict(getattr(request(), "query_params", None) or {}).items()}
