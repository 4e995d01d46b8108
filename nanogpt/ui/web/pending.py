"""Gradio's queue on a public server, with limits: how many events a visitor may have, and how long results are kept.

Gradio's own limit counts all visitors together, so that one could fill the queue for all, and it keeps the results of
an event forever if they are never fetched.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException
from gradio import routes, server_messages
from gradio.queueing import Event, Queue

from ... import limits
from .shares import Sender, Share

SENDER, BODY = "nanogpt.sender", "nanogpt.body"  # keys of a request's scope
MANY_EVENTS = "You have too many requests in the queue. Wait until one is done, then try again."
SLOW = "Stopped: the results were not fetched fast enough. Try again."
LONGEST_ID = 64  # characters in a session's id; Gradio's own have 11, an event's has 32
FEW, MANY = 20, 500  # messages that wait for a client
UNHEARD = 5.0  # seconds that an event may go on sending messages without a client
TRACKED = 200  # uploads whose progress is remembered


class Body:
    """The bytes of a request, counted in a share until nothing needs them any longer."""

    def __init__(self, share: Share, sender: Sender):
        self.share, self.sender, self.size = share, sender, 0
        self.holders = 1  # the request, and the event that it made

    def grow(self, size: int) -> bool:
        """Count more bytes. Return False if they are more than the sender's share."""
        if not self.share.take(self.sender, size):
            return False
        self.size += size
        return True

    def release(self) -> None:
        """Give the bytes back once the last holder has let go."""
        self.holders -= 1
        if self.holders == 0:
            self.share.give(self.sender, self.size)


@dataclass
class Waiting:
    """An event of a visitor, from the request until its results are fetched."""

    session: str
    sender: Sender
    body: Body | None  # None once the event is over
    since: float  # when the results were last looked after

    def let_go(self) -> None:
        """Stop counting the event's body: the event is over."""
        if self.body is not None:
            self.body.release()
            self.body = None


class Pending:
    """Gradio's queue, with limits per visitor, fair turns, and an expiry time for results.

    Everything here runs in the server's event loop, so it needs no lock.
    """

    def __init__(self, queue: Queue):
        self.queue = queue
        self.share = Share("NANOGPT_SERVER_EVENTS", "NANOGPT_MAX_EVENTS")
        self.events: dict[str, Waiting] = {}  # by the event's id
        self.listening: Counter[str] = Counter()  # open streams of results, by session
        self.seconds: defaultdict[str, float] = defaultdict(float)  # of work lately done, by address
        self.started: dict[str, float] = {}
        self.halved = time.monotonic()
        self._push, self._send = queue.push, queue.send_message
        queue.push, queue.send_message = self.push, self.send_message

    # ---- an event comes ----------------------------------------------------------------------------------------------

    async def push(self, body: Any, request: Any, username: str | None) -> Any:
        """Add an event to the queue, as Gradio's `push` does, if the sender may have one more."""
        sender: Sender | None = request.scope.get(SENDER)
        if sender is None:
            return await self._push(body, request, username)
        self.sweep()
        if len(body.session_hash or "") > LONGEST_ID:
            raise HTTPException(400, "This session's id is too long.")
        if not self.share.take(sender):
            raise HTTPException(429, MANY_EVENTS)
        pushed = False
        try:
            pushed, id, _ = answer = await self._push(body, request, username)
        finally:
            if not pushed:
                self.share.give(sender)
        if pushed:
            held: Body | None = request.scope.get(BODY)
            if held is not None:
                held.holders += 1
            self.events[id] = Waiting(body.session_hash, sender, held, time.monotonic())
            self.order()
        return answer

    def order(self) -> None:
        """Put the queued events in the order of fair turns.

        Each address has its first event before any has its second; of the first ones, those go ahead whose address
        has used the least time lately.
        """
        for one in self.queue.event_queue_per_concurrency_id.values():
            turns: Counter[str] = Counter()
            keys = {}
            for event in one.queue:
                known = self.events.get(event._id)
                address = known.sender.address if known else ""
                keys[event._id] = (turns[address], self.seconds[address])
                turns[address] += 1
            one.queue.sort(key=lambda event: keys[event._id])

    # ---- and sends results -------------------------------------------------------------------------------------------

    def send_message(self, event: Event, message: Any) -> None:
        """Keep a result until the client fetches it. Stop an event whose results pile up."""
        waiting = self.queue.pending_messages_per_session.get(event.session_hash)
        if event._id in self.events:
            if waiting is None or not event.alive:  # dropped
                event.alive = False
                return
            if isinstance(message, server_messages.EstimationMessage) and waiting.qsize() > FEW:
                return  # each change of the queue sends one to every event in it
            if waiting.qsize() >= MANY:
                message = server_messages.ProcessCompletedMessage(output={"error": SLOW}, success=False)
            self._measure(event, message)
        self._send(event, message)
        if waiting is not None and waiting.qsize() > MANY:
            event.alive = False

    def _measure(self, event: Event, message: Any) -> None:
        """Note when an event starts and stops."""
        if isinstance(message, server_messages.ProcessStartsMessage):
            self.started[event._id] = time.monotonic()
        elif isinstance(message, server_messages.ProcessCompletedMessage):
            self._stopped(event._id, self.events[event._id])

    def _stopped(self, id: str, one: Waiting) -> None:
        """Add the time that an event ran to what its address has used."""
        if id in self.started:
            self.seconds[one.sender.address] += time.monotonic() - self.started.pop(id)

    def knows(self, id: str) -> bool:
        """Return True if there are or will be results of an event or a session."""
        return id in self.events or id in self.queue.pending_messages_per_session

    @contextlib.contextmanager
    def listener(self, session: str | None) -> Iterator[None]:
        """Note that a client is fetching the results of a session, or of the event with this id."""
        if session is None:
            yield
            return
        session = self.events[session].session if session in self.events else session
        self.listening[session] += 1
        try:
            yield
        finally:
            self.listening[session] -= 1
            if not self.listening[session]:
                del self.listening[session]

    # ---- until it is over --------------------------------------------------------------------------------------------

    def sweep(self, now: float | None = None) -> None:
        """Forget events that are over, and drop those whose results haven't been fetched for a while."""
        now = time.monotonic() if now is None else now
        for id, one in list(self.events.items()):
            running = id in self.queue.event_ids_to_events
            unfetched = id in self.queue.pending_event_ids_session.get(one.session, ())
            if not running:
                one.let_go()
            if one.session in self.listening:
                one.since = now
            if not running and not unfetched:
                self.forget(id)
            elif now - one.since > self.patience(one, running):
                self.drop(one.session)

    def patience(self, one: Waiting, running: bool) -> float:
        """Return how many seconds an event may go on without a client: few if it writes all the time."""
        if running and self.backlog(one.session) > FEW:
            return UNHEARD
        return limits.limit("NANOGPT_RESULT_SECONDS") or math.inf

    def backlog(self, session: str) -> int:
        """Return how many messages wait to be fetched."""
        waiting = self.queue.pending_messages_per_session.get(session)
        return waiting.qsize() if waiting is not None else 0

    def drop(self, session: str) -> None:
        """Stop the events of a session whose client is gone, and delete their results."""
        for job in filter(None, self.queue.active_jobs):
            for event in job:
                event.alive = event.alive and event.session_hash != session
        for one in self.queue.event_queue_per_concurrency_id.values():
            for event in [event for event in one.queue if event.session_hash == session]:
                one.queue.remove(event)
                self.queue.event_ids_to_events.pop(event._id, None)
        self.queue.pending_messages_per_session.pop(session, None)
        self.queue.pending_event_ids_session.pop(session, None)

    def forget(self, id: str) -> None:
        """Stop counting an event, and delete the session's empty queue of results if it has no other."""
        one = self.events.pop(id)
        self._stopped(id, one)
        self.share.give(one.sender)
        if one.session == id and self.queue.server_app is not None:  # a raw call, whose session can't be used again
            self.queue.server_app.state_holder.delete(id)
        if one.session not in self.listening and not self.queue.pending_event_ids_session.get(one.session):
            self.queue.pending_messages_per_session.pop(one.session, None)
            self.queue.pending_event_ids_session.pop(one.session, None)

    def sender_of(self, session: str) -> Sender | None:
        """Return who has an event in a session, or None."""
        return next((one.sender for one in self.events.values() if one.session == session), None)

    async def tick(self) -> None:
        """Sweep, and halve the time that addresses have used every minute. Call this every few seconds."""
        self.sweep()
        forget_progress()
        if time.monotonic() - self.halved >= 60:
            self.halved = time.monotonic()
            halved = {key: took / 2 for key, took in self.seconds.items() if took > 0.01}
            self.seconds = defaultdict(float, halved)


def forget_progress() -> None:
    """Forget the progress of old uploads, which Gradio keeps until a page asks for it."""
    for known in (routes.file_upload_statuses._statuses, routes.file_upload_statuses._signals):
        for id in list(known)[:-TRACKED]:
            known.pop(id, None)
