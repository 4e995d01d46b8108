"""The last door before Gradio: limit what a request may send before it is read, and how many there are at once.

Gradio itself reads a body of any size into memory, or into files that it keeps. On your own machine only the sizes are
limited; on a public server, also what each visitor and each network address may hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs

import anyio.to_thread
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ... import corpus, limits
from ...disk import size
from ...errors import PROBLEMS, explain
from ...launch import visitors
from ...launch.visitors import Visitor
from ...runs import archive
from . import scratch
from .pending import BODY, SENDER, Body, Pending
from .sessions import Sessions, sender_now
from .shares import Sender, Share, sender_in

API = "/gradio_api/"
UPLOAD = f"{API}upload"
# What Gradio offers and this page doesn't use: some of it writes files, keeps videos, or fetches other addresses.
UNUSED = re.compile(
    r"/monitoring|/gradio_api/(deep_link|process_recording|proxy=|stream/|vibe-|undo-vibe-|component_server|run-history"
    r"|runs|dev/|profiling)"
)
WITH_A_TEXT = re.compile(r"/gradio_api/(queue/join|(run|api)/[^/]*|call/(v2/)?add_corpus)/?")  # or may have one
EVENT = re.compile(r"/gradio_api/call/(?:v2/)?[^/]*/([^/]*)")
STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)  # possessive, so that no body makes it slow
SMALL_BODY = 1_000_000  # bytes in a request that carries no text
VALUES = 100_000  # in a body of JSON: each takes up to 64 bytes, so [[],[],[],…] would be 25 times as large in memory
LONGEST_ADDRESS = 8000  # bytes of path and query
PATIENCE = 20.0  # seconds that the next piece of a body may take
LINGER = 10.0  # seconds to read on for after a refusal
LONGEST = 900.0  # seconds that a whole body may take

BUSY = "The server is busy with other visitors. Try again in a minute."


class Refusal(Exception):
    """A request that is refused, with an HTTP status and a sentence for the visitor."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class Intake:
    """Middleware that limits requests: their size, their files, and on a public server how many there are at once."""

    def __init__(self, app: ASGIApp):
        self.app = app
        self.requests = Share("NANOGPT_SERVER_REQUESTS", "NANOGPT_MAX_REQUESTS")
        self.memory = Share("NANOGPT_SERVER_MEMORY")
        self.pending: Pending | None = None  # on a public server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.live(scope, receive, send)
        elif scope["type"] != "http":
            await self.app(scope, receive, send)
        else:
            try:
                await self.admit(scope, receive, send)
            except Refusal as refusal:
                await answer(scope["path"], refusal)(scope, receive, send)
            except ClientDisconnect:
                pass  # in the middle of a body, so there is no one to answer

    async def live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the server from start to end. On a public one, watch what Gradio keeps in memory."""
        tasks = []
        if limits.is_public():
            app = scope["app"]
            self.pending = Pending(app.get_blocks()._queue)
            app.state_holder = Sessions(self.pending)
            app.state_holder.set_blocks(app.get_blocks())
            tasks = [asyncio.create_task(watch(self.pending.tick, 2.0)), asyncio.create_task(watch(expired, 30.0))]
        try:
            await self.app(scope, receive, send)
        finally:
            for task in tasks:
                task.cancel()

    async def admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on to Gradio. Raise Refusal if it asks for too much."""
        sender = sender_in(scope)
        if limits.is_public() and UNUSED.match(scope["path"]):
            raise Refusal(404, "This server doesn't offer that.")
        if len(scope["path"]) + len(scope.get("query_string", b"")) > LONGEST_ADDRESS:
            raise Refusal(414, f"This address is too long; at most {LONGEST_ADDRESS:,} characters are allowed.")
        with self.counted(sender), self.listening(scope):
            sender_now.set(sender)
            scope[SENDER] = sender
            if scope["method"] in ("GET", "HEAD", "OPTIONS"):
                await self.app(scope, receive, send)
                return
            incoming = Incoming(receive)
            read = self.upload if scope["path"].rstrip("/") == UPLOAD else self.whole
            try:
                await read(sender, scope, incoming, send)
            except Refusal:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(incoming.drain(), LINGER)
                raise

    @contextlib.contextmanager
    def counted(self, sender: Sender) -> Iterator[None]:
        """Count a request as long as it lasts. Raise Refusal if its sender has too many."""
        if not self.requests.take(sender):
            raise Refusal(429, "You have too many requests open at once. Close some pages, or wait a moment.")
        try:
            yield
        finally:
            self.requests.give(sender)

    @contextlib.contextmanager
    def listening(self, scope: Scope) -> Iterator[None]:
        """Tell `pending` while a request fetches the results of events."""
        if self.pending is None:
            yield
            return
        session = results_of(scope)
        if session and not self.pending.knows(session) and scope["path"].startswith(f"{API}call/"):
            raise Refusal(404, "These results are no longer kept. Send the request again.")
        with self.pending.listener(session):
            yield

    async def whole(self, sender: Sender, scope: Scope, receive: Receive, send: Send) -> None:
        """Read a body, and pass it on whole if it is within the limits."""
        most = limits.body_bytes() if WITH_A_TEXT.fullmatch(scope["path"]) else SMALL_BODY
        body = Body(self.memory, sender)
        scope[BODY] = body
        try:
            content = bytearray()
            async for piece in pieces(scope, receive, most):
                if not body.grow(len(piece)):
                    raise Refusal(429, BUSY)
                content += piece
            check_values(content)
            await self.app(scope, replay(bytes(content), receive), send)
        finally:
            body.release()

    async def upload(self, sender: Sender, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an upload on piece by piece, and count it against the visitor's disk space until it is deleted."""
        if sender.visitor == "":
            raise Refusal(401, visitors.NO_COOKIE)
        await anyio.to_thread.run_sync(check_room, sender, declared(scope))
        incoming = pieces(scope, receive, upload_bytes())
        size, status, content = 0, 0, bytearray()

        async def counted() -> Message:
            nonlocal size
            piece = await anext(incoming, b"")
            if not scratch.space.take(sender, len(piece)):
                raise Refusal(429, scratch.FULL)
            size += len(piece)
            return {"type": "http.request", "body": piece, "more_body": bool(piece)}

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            content.extend(message.get("body", b""))
            await send(message)

        try:
            with scratch.writing():
                await self.app(scope, counted, noted)
        except OSError as error:  # the disk is full
            if status:
                raise
            raise Refusal(507, explain(error)) from None
        finally:
            scratch.keep_all([Path(path) for path in json.loads(content)] if status == 200 else [], sender, size)


async def watch(look: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Look after something every few seconds as long as the server lives."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await look()
        except Exception:  # a bug, or an invalid limit: log it, and look again
            traceback.print_exc()


async def expired() -> None:
    """Delete uploads and downloads that have been kept long enough."""
    await anyio.to_thread.run_sync(scratch.expire)


def upload_bytes() -> int:
    """Return the size limit for an upload in bytes, slightly above those for a text and an archive."""
    return max(corpus.max_bytes(), limits.archive_bytes(archive.MAX_BYTES)) + 1_000_000


def declared(scope: Scope) -> int:
    """Return the length that a request declares for its body, 0 if it declares none."""
    given = dict(scope["headers"]).get(b"content-length", b"0").decode("latin-1")
    return int(given) if given.isascii() and given.isdigit() else 0


async def pieces(scope: Scope, receive: Receive, most: int) -> AsyncIterator[bytes]:
    """Yield a body piece by piece. Raise Refusal if it is longer than `most` bytes, or too slow."""
    total, deadline = declared(scope), time.monotonic() + LONGEST
    if total > most:
        raise Refusal(413, too_large(most))
    total, more = 0, True
    while more:
        patience = min(PATIENCE, deadline - time.monotonic())
        try:
            message = await asyncio.wait_for(receive(), patience)
        except TimeoutError:
            raise Refusal(408, "The request took too long to arrive. Check your connection, then try again.") from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece, more = message.get("body", b""), message.get("more_body", False)
        total += len(piece)
        if total > most:
            raise Refusal(413, too_large(most))
        if piece:
            yield piece


class Incoming:
    """The messages of a request, and whether its body has ended."""

    def __init__(self, receive: Receive):
        self.receive, self.ended = receive, False

    async def __call__(self) -> Message:
        message = await self.receive()
        self.ended = not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        """Read the rest of the body and forget it: most clients read an answer only after they have sent everything."""
        while not self.ended:
            await self()


def replay(content: bytes, receive: Receive) -> Receive:
    """Return a function that first receives a body as a whole, then whatever comes next."""
    messages: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def received() -> Message:
        return messages.pop() if messages else await receive()

    return received


def check_values(content: bytes | bytearray) -> None:
    """Raise Refusal for JSON with so many values that they would take far more memory than the body."""
    if len(content) <= VALUES:
        return
    rest = STRINGS.sub(b"", content)
    if rest.count(b",") + rest.count(b"[") + rest.count(b"{") > VALUES:
        raise Refusal(413, f"The request has more than {VALUES:,} values; this server takes no more at once.")


def check_room(sender: Sender, more: int) -> None:
    """Raise Refusal if the visitor has no disk space left for `more` bytes."""
    try:
        Visitor(sender.visitor).has_room(scratch.space.held[sender.visitor or ""], more)
    except PROBLEMS as error:
        raise Refusal(403, explain(error)) from None


def too_large(most: int) -> str:
    """Return the message for a request that is too large."""
    return f"That is more than {size(most)}, the most this server accepts at once. Send a part of it."


def answer(path: str, refusal: Refusal) -> Response:
    """Return the response in which the page and its clients look for a message."""
    if path.rstrip("/") == UPLOAD:
        return PlainTextResponse(refusal.sentence, refusal.status)
    return JSONResponse({"detail": refusal.sentence, "error": refusal.sentence}, refusal.status)


def results_of(scope: Scope) -> str | None:
    """Return the session, or the event, whose results a request fetches, or None."""
    path = scope["path"].rstrip("/")
    if path == f"{API}queue/data":
        return next(iter(parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [])), None)
    found = EVENT.fullmatch(path)
    return found[1] if found and scope["method"] == "GET" else None
