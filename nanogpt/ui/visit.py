"""Find out which visitor sent the current request. No other module reads the request for this."""

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
    """Return the request that is being handled, or None. Gradio sets it while a handler runs."""
    return LocalContext.request.get(None)


def visitor() -> Visitor:
    """Return the current visitor: anonymous without a request or a cookie, and on a private server the owner."""
    headers = getattr(request(), "headers", None) or {}
    return visitors.visitor_of(words(headers.get("cookie") or ""))


def seen(name: str | None) -> Run | None:
    """Return the run with this name, or None if it doesn't exist or the visitor can't see it."""
    if not name:
        return None
    run = Run(name)
    return run if run.exists() and visitor().sees(run) else None


def terms() -> gr.Textbox:
    """Return the terms for visitors of a public server; hidden on a private one."""
    if not limits.is_public():
        return gr.Textbox(visible=False)
    return gr.Textbox(visitors.NO_COOKIE if visitor().id == "" else visitors.terms(), visible=True)


def words(cookies: str) -> str | None:
    """Return the visitor's word from a Cookie header, or None."""
    found = cookie_parser(cookies)
    return next((found[name] for name in visitors.COOKIES if name in found), None)


def asked() -> dict[str, str]:
    """Return the query parameters of the page's URL: ?text=…&preset=…"""
    return {key: value for key, value in dict(getattr(request(), "query_params", None) or {}).items()}
