"""Shares: divide what a public server has among its visitors, so that none can take all of it.

Visitors are told apart by a cookie, and anyone can make up a thousand cookies, so each limit per visitor comes with a
total and with a share per network address.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.types import Scope

from ... import limits
from ...launch import visitors
from . import visit


@dataclass(frozen=True)
class Sender:
    """Who sent a request: a visitor (None for the machine's owner, "" without a cookie) and a network address."""

    visitor: str | None
    address: str


@dataclass
class Share:
    """Something limited that senders hold for a while: requests, events, bytes. Safe to use from several threads.

    `each` and `total` name the limits per visitor and over all. A limit that doesn't apply here is no limit.
    """

    total: str
    each: str | None = None
    used: int = 0
    held: Counter[str] = field(default_factory=Counter)  # by visitor and by address
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, sender: Sender, amount: int = 1) -> bool:
        """Count `amount` as held by the sender. Return False, and count nothing, if that is more than their share.

        An address may hold at most a quarter of what is still free. So with n greedy addresses each ends up with
        1/(n + 4) of the total, and 4/(n + 4) always stays free for the next one: the dynamic threshold that switches
        use to share a buffer among ports (Choudhury and Hahne, 1998).
        """
        each = limits.limit(self.each) if self.each else None
        total = limits.limit(self.total)
        with self._lock:
            if each is not None and sender.visitor and self.held[sender.visitor] + amount > each:
                return False
            if total is not None and self.held[sender.address] + amount > max(0, total - self.used) / 4:
                return False
            self._count(sender, amount)
            return True

    def add(self, sender: Sender, amount: int) -> None:
        """Count `amount` as held by the sender, even if it is more than their share."""
        with self._lock:
            self._count(sender, amount)

    def give(self, sender: Sender, amount: int = 1) -> None:
        """Give back what was counted."""
        self.add(sender, -amount)

    def _count(self, sender: Sender, amount: int) -> None:
        self.used += amount
        for key in filter(None, (sender.visitor, sender.address)):
            self.held[key] += amount
            if self.held[key] <= 0:
                del self.held[key]  # or every visitor of a year would stay in memory


def sender_in(scope: Scope) -> Sender:
    """Return who sent an HTTP request."""
    headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope.get("headers", ())}
    return sender_of(headers, (scope.get("client") or ("", 0))[0])


def sender_of(headers: Mapping[str, str], client: str) -> Sender:
    """Return who sent a request with these headers from this address."""
    visitor = visitors.visitor_of(visit.words(headers.get("cookie") or ""))
    return Sender(visitor.id, visit.address_of(client, headers.get("x-forwarded-for") or ""))
