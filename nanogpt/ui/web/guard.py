"""Restrict who can send requests to the server: only pages it served itself, under a known host name.

Gradio accepts any Origin on some hosts and any Host on localhost. Without these checks, a web page in another tab could
start training here (cross-site request forgery, DNS rebinding).
"""

from __future__ import annotations

import contextlib
import os
import socket
from urllib.parse import urlsplit

from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ... import limits
from ...launch import visitors
from ..address import ALONE
from .head import Head
from .intake import Intake
from .visit import words

EVERYWHERE = ("0.0.0.0", "::", "[::]")  # hosts that stand for every address of this machine


class SameOrigin:
    """Middleware that rejects requests from pages of another origin, unless they only read."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
            origin = urlsplit(headers.get("origin", "")).netloc
            ours = {headers.get("host"), *spaces_hosts(), *named_hosts()} - {None, ""}
            # A request without an Origin is not from a web page (gradio_client, curl), so it is let through.
            if "origin" in headers and origin not in ours:
                await PlainTextResponse("This request came from another site.", 403)(scope, receive, send)
                return
        await self.app(scope, receive, send)


class VisitorCookie:
    """Middleware that gives each visitor of a public server a cookie with a random word, to recognize them by.

    Scripts can't read it. On a Space the page is in a frame on another site, so the cookie has to work across sites.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        opening = scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == "/"
        cookies = [value.decode("latin-1") for key, value in scope.get("headers", ()) if key == b"cookie"]
        if not opening or visitors.visitor_of(words("; ".join(cookies))).id != "":
            await self.app(scope, receive, send)
            return
        word = visitors.new_word()

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                message["headers"] = headers + [(b"set-cookie", one.encode("latin-1")) for one in new_cookies(word)]
            await send(message)

        await self.app(scope, receive, send_with_cookie)


class Compressed:
    """Middleware that compresses the page itself, which lists all components and their texts: 60 kB instead of 325 kB.

    Gradio compresses its scripts and styles. The other responses are small, or streams that must not be held back.
    """

    def __init__(self, app: ASGIApp):
        self.app, self.compressing = app, GZipMiddleware(app, compresslevel=6)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_page = scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == "/"
        await (self.compressing if is_page else self.app)(scope, receive, send)


def new_cookies(word: str) -> list[str]:
    """Return the Set-Cookie headers for a visitor's word, valid for a year."""
    always = f"={word}; Path=/; Max-Age=31536000; HttpOnly; SameSite="
    if not spaces_hosts():
        return [f"{visitors.COOKIES[0]}{always}Lax"]
    framed = f"{always}None; Secure"
    return [f"{visitors.COOKIES[0]}{framed}", f"{visitors.COOKIES[1]}{framed}; Partitioned"]


def spaces_hosts() -> list[str]:
    """Return the host names of a Hugging Face Space, or nothing elsewhere."""
    return [host.strip() for host in os.environ.get("SPACE_HOST", "").split(",") if host.strip()]


def named_hosts() -> list[str]:
    """Return the extra host names of this server from NANOGPT_HOSTS, for example behind a proxy."""
    return [name.strip() for name in os.environ.get("NANOGPT_HOSTS", "").split(",") if name.strip()]


def middleware(host: str) -> list[Middleware]:
    """Return the middleware for `launch(app_kwargs=…)`. `host` is the address that the server listens on."""
    alone = [f"[{one}]" if ":" in one else one for one in ALONE]
    known = [*alone, host, *spaces_hosts(), *named_hosts()]
    if host in EVERYWHERE:  # listening on every address: allow every name of this machine
        name = socket.gethostname()
        known += [name, socket.getfqdn(), f"{name}.local", *own_addresses(host)]
    if spaces_hosts():
        known += ["*.hf.space", "huggingface.co"]
    doors = [Middleware(TrustedHostMiddleware, allowed_hosts=sorted(set(known))), Middleware(SameOrigin)]
    return [
        *doors,
        *([Middleware(VisitorCookie)] if limits.is_public() else []),
        Middleware(Intake),
        Middleware(Compressed),
        Middleware(Head),
    ]


def from_outside(host: str) -> list[str]:
    """Return the addresses at which others reach a server that listens on `host`: none unless it listens on all.

    A Space has none either: people open it by its name.
    """
    if host not in EVERYWHERE or spaces_hosts():
        return []
    return [one for one in own_addresses(host) if not one.startswith(("127.", "[::1]", "[fe80"))]


def own_addresses(host: str) -> list[str]:
    """Return this machine's addresses on its network: those of IPv6, in brackets, if `host` is of that kind."""
    family, elsewhere, shown = socket.AF_INET, "192.0.2.1", "{}"
    if ":" in host:  # the server takes no connections to addresses of IPv4 then
        family, elsewhere, shown = socket.AF_INET6, "2001:db8::1", "[{}]"
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, family)}
    except OSError:
        found = set()
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((elsewhere, 9))  # sends nothing, but picks the address that would be used
        found.add(probe.getsockname()[0])
    return [shown.format(one) for one in sorted(found)]
