"""Gradio's sessions on a public server: small ones, and so many for each network address.

Gradio's own limit counts all visitors together, so one could push out the sessions of all others.
"""

from __future__ import annotations

from collections import ChainMap
from contextvars import ContextVar
from typing import Any

from fastapi import HTTPException
from gradio.blocks import BlocksConfig
from gradio.state_holder import SessionState, StateHolder

from .pending import Pending
from .shares import Sender, Share

sender_now: ContextVar[Sender | None] = ContextVar("sender_now", default=None)  # of the request that is handled


class Session(SessionState):
    """What the server remembers of an open page: the values of gr.State, and components that were changed.

    Gradio's own also keeps each value that was ever sent or shown, for deep links, which this page doesn't have: 36 ms
    and 400 kB per session, and texts of many megabytes. It also has its own lists of all components and handlers, 28
    kB; here only the components that were changed are its own.
    """

    def __init__(self, blocks: Any):
        everyones = blocks.default_config
        self.blocks_config = BlocksConfig(everyones.root_block)
        self.blocks_config.blocks = ChainMap({}, everyones.blocks)  # type: ignore[assignment]
        self.blocks_config.fns, self.blocks_config.fn_id = everyones.fns, everyones.fn_id
        self.config_values: dict[int, Any] = {}
        self.state_data: dict[int, Any] = {}
        self._state_ttl: dict[int, Any] = {}
        self.is_closed = False
        self.STATE_TTL_WHEN_CLOSED = 3600

    def __setitem__(self, key: int, value: Any) -> None:
        super().__setitem__(key, value)
        self.config_values.clear()

    def _update_config(self, key: int) -> None:
        """Keep no copy of a component's configuration."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Keep no copy of a value."""


class Sessions(StateHolder):
    """Gradio's sessions, where an address with too many loses its own oldest one, not another address's."""

    def __init__(self, pending: Pending):
        super().__init__()
        self.pending = pending
        self.share = Share("NANOGPT_SERVER_SESSIONS")
        self.senders: dict[str, Sender] = {}

    def __getitem__(self, id: str) -> SessionState:
        """Return a session, a new one if there is none. It becomes the newest."""
        with self.lock:
            if id not in self.session_data:
                if sender := self.pending.sender_of(id) or sender_now.get():
                    self._make_room(sender)
                    self.senders[id] = sender
                self.session_data[id] = Session(self.blocks)
        return super().__getitem__(id)

    def update(self, id: str) -> None:
        """Make a session the newest. None is deleted here, because `__getitem__` has made room for it."""
        with self.lock:
            if id in self.session_data:
                self.session_data.move_to_end(id)

    def _make_room(self, sender: Sender) -> None:
        """Count one more session for its sender, deleting the oldest of the same address if that is needed."""
        if self.share.take(sender):
            return
        address = lambda id: self.senders[id].address if id in self.senders else None
        oldest = next((id for id in self.session_data if address(id) == sender.address), None)
        if oldest is None:
            raise HTTPException(429, "The server has too many open pages at the moment. Try again in a few minutes.")
        self.delete(oldest)
        self.share.add(sender, 1)

    def delete(self, id: str) -> None:
        """Forget a session."""
        self.session_data.pop(id, None)
        self.time_last_used.pop(id, None)
        if sender := self.senders.pop(id, None):
            self.share.give(sender)
