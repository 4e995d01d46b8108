"""Find out which visitor sent the current request, and what they may open.

No other module reads the request for this.
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import gradio as gr
from gradio.context import LocalContext
from starlette.requests import cookie_parser

from ... import limits
from ...config import NanoGPTError
from ...launch import rules, visitors
from ...launch.visitors import Visitor
from ...runs import Run, overviews

NO_MODEL = "There is no trained model yet. Train one first."


def request() -> Any | None:
    """Return the request that is being handled, or None. Gradio sets it while a handler runs."""
    return LocalContext.request.get(None)


def visitor() -> Visitor:
    """Return the current visitor: anonymous without a request or a cookie, and on a private server the owner."""
    headers = getattr(request(), "headers", None) or {}
    client = getattr(getattr(request(), "client", None), "host", "")
    found = visitors.visitor_of(words(headers.get("cookie") or ""))
    return replace(found, address=address_of(client, headers.get("x-forwarded-for") or ""))


def seen(name: str | None) -> Run | None:
    """Return the run with this name, or None if it doesn't exist or the visitor can't see it."""
    if not name:
        return None
    run = Run(name)
    return run if run.exists() and visitor().sees(run) else None


def existing(name: str | None, none_yet: str) -> Run:
    """Return the run with this name. Raise NanoGPTError if there is none, or if no name is given.

    The name may have been chosen before the run was deleted or renamed elsewhere, as in another browser tab.
    """
    if not name:
        raise NanoGPTError(none_yet)
    run = seen(name)
    if run is None:
        raise NanoGPTError(f"There is no run named {name}. It may have been deleted or renamed; choose another one.")
    run.settings()
    return run


def trained() -> list[Run]:
    """Return the runs that the visitor can sample from, newest first: those that have weights and can be read."""
    weighty = [run for run in visitor().runs() if (run.folder / "model.safetensors").exists()]
    return [run for run, found in overviews(weighty) if found.status.state != "damaged"]


def terms() -> gr.Textbox:
    """Return the terms for visitors of a public server; hidden on a private one."""
    if not limits.is_public():
        return gr.Textbox(visible=False)
    return gr.Textbox(visitors.NO_COOKIE if visitor().id == "" else rules.terms(), visible=True)


def words(cookies: str) -> str | None:
    """Return the visitor's word from a Cookie header, or None."""
    found = cookie_parser(cookies)
    return next((found[name] for name in visitors.COOKIES if name in found), None)


def asked() -> dict[str, str]:
    """Return the query parameters of the page's URL: ?text=…&preset=…"""
    return {key: value for key, value in dict(getattr(request(), "query_params", None) or {}).items()}


def address_of(client: str, forwarded: str = "") -> str:
    """Return the address to count a request under: of IPv6, the network of 64 bits that a household gets.

    On a Space every connection comes from a proxy, which appends the visitor's address to X-Forwarded-For; anything
    before the last public address there was made up by the sender. Anywhere else the header is ignored. (uvicorn has
    already used it if the connection comes from this machine, where a reverse proxy may run.)
    """
    chain = [client] if not limits.on_space() else [*forwarded.replace(" ", "").split(","), client]
    found = [address for one in chain if (address := _parsed(one))]
    public = [address for address in found if address.is_global]
    last = (public or found)[-1] if found else None
    if isinstance(last, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((last, 64), strict=False))
    return str(last or client)


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
