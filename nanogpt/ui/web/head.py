"""The page's head: its title, its mark and its link preview, in place of Gradio's, which name Gradio and load a picture
from another server."""

from __future__ import annotations

import re
from pathlib import Path

from starlette.responses import FileResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MARK = Path(__file__).parent / "mark.svg"
DESCRIPTION = "Train a GPT from scratch on your own text, and watch it learn to write."
COMMENT = re.compile(r"^ *//.*\n", re.MULTILINE)
BEFORE = COMMENT.sub("", (Path(__file__).parent / "before_gradio.js").read_text(encoding="utf-8"))
# In dark mode the browser's own parts, such as scrollbars, are dark, too. Gradio would limit this style to its blocks.
DARK = "<style>:root:has(> .dark) { color-scheme: dark; }</style>"
TAGS = f"""<script>{BEFORE}</script>
		{DARK}
		<title>nanogpt</title>
		<meta name="description" content="{DESCRIPTION}" />
		<meta property="og:title" content="nanogpt" />
		<meta property="og:type" content="website" />
		<meta property="og:description" content="{DESCRIPTION}" />
		<link rel="icon" type="image/svg+xml" href="favicon.ico" />"""
THEIRS = re.compile(r'\s*<meta\s+(?:property="og:|name="twitter:)[^>]*>')
MANIFEST = '<link rel="manifest" href="/manifest.json" />'


def with_tags(page: str) -> str:
    """Return the page with our tags. After its first script, only the link to Gradio's manifest is left out."""
    head, script, rest = page.partition("<script")  # in Gradio's page; ours comes in only below
    return THEIRS.sub("", head).replace("<head>", f"<head>\n\t\t{TAGS}", 1) + script + rest.replace(MANIFEST, "", 1)


class Head:
    """Middleware that puts our tags into the page, and serves our mark.

    Gradio's own option for the mark fails with an SVG: its manifest.json, which we leave out, then answers 500.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" and scope["method"] == "GET" else ""
        if path == "/favicon.ico":
            await FileResponse(MARK, media_type="image/svg+xml")(scope, receive, send)
            return
        if path != "/":
            await self.app(scope, receive, send)
            return
        start: Message = {}
        body = b""

        async def send_with_tags(message: Message) -> None:
            """Hold the response until it is complete, because its first message has the length."""
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            body += message.get("body", b"")
            if message.get("more_body"):
                return
            headers = [(key, value) for key, value in start["headers"] if key != b"content-length"]
            if dict(headers).get(b"content-type", b"").startswith(b"text/html"):
                body = with_tags(body.decode("utf-8")).encode("utf-8")
            headers.append((b"content-length", str(len(body)).encode("ascii")))
            await send({**start, "headers": headers})
            await send({**message, "body": body})

        await self.app(scope, receive, send_with_tags)
