"""Who may talk to the server: pages it served itself, under a host name it knows.

Gradio accepts any Origin on some hosts and any Host on localhost, so without this a web page open in another tab could
start training here (cross-site requests, DNS rebinding).
"""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import limits
from ..launch import visitors
from .visit import words


class SameOrigin:
    """Refuses requests that change something and come from a page of another origin."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
            origin = urlsplit(headers.get("origin", "")).netloc
            ours = {headers.get("host"), *spaces_hosts(), *named_hosts()} - {None, ""}
            # No Origin at all: not a browser's page (gradio_client, curl), so not what this is against.
            if "origin" in headers and origin not in ours:
                await PlainTextResponse("This request came from another site.", 403)(scope, receive, send)
                return
        await self.app(scope, receive, send)


class VisitorCookie:
    """Gives whoever opens the page of a public server a random word, by which they are known again.

    Scripts cannot read it. On a Space the page stands in a frame of another site, so its cookie has to be sent there.
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


def new_cookies(word: str) -> list[str]:
    """Set-Cookie headers for a visitor's word, which is kept for a year."""
    always = f"={word}; Path=/; Max-Age=31536000; HttpOnly; SameSite="
    if not spaces_hosts():
        return [f"{visitors.COOKIES[0]}{always}Lax"]
    framed = f"{always}None; Secure"
    return [f"{visitors.COOKIES[0]}{framed}", f"{visitors.COOKIES[1]}{framed}; Partitioned"]


def spaces_hosts() -> list[str]:
    """The host names under which a Hugging Face Space is served; none elsewhere."""
    return [host.strip() for host in os.environ.get("SPACE_HOST", "").split(",") if host.strip()]


def named_hosts() -> list[str]:
    """Further names of this server, as behind a proxy: NANOGPT_HOSTS."""
    return [name.strip() for name in os.environ.get("NANOGPT_HOSTS", "").split(",") if name.strip()]


def middleware(host: str) -> list[Middleware]:
    """For `launch(app_kwargs=…)`. `host` is the address the server listens on; NANOGPT_HOSTS names further ones."""
    known = ["127.0.0.1", "localhost", "[::1]", host, *spaces_hosts(), *named_hosts()]
    if host in ("0.0.0.0", "::"):  # everything this machine is called
        name = socket.gethostname()
        known += [name, socket.getfqdn(), f"{name}.local", *own_addresses()]
    if spaces_hosts():
        known += ["*.hf.space", "huggingface.co"]
    doors = [Middleware(TrustedHostMiddleware, allowed_hosts=sorted(set(known))), Middleware(SameOrigin)]
    return [*doors, Middleware(VisitorCookie)] if limits.is_public() else doors


def own_addresses() -> list[str]:
    """This machine's addresses in its network."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # sends nothing: asks which of our addresses would be used
            found.add(probe.getsockname()[0])
        return sorted(found)
    except OSError:
        return []
