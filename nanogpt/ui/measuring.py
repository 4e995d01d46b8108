"""Compute what takes seconds for a view: for one model at a time, and only while nothing trains here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from .. import limits
from ..config import NanoGPTError
from ..errors import shortages
from ..runs import queue
from .web.visit import visitor

SECONDS = 60.0  # on a public server, the longest that measuring may take at a time
PATIENCE = 600.0  # seconds to wait for a run to end
TOO_LONG = (
    "Measuring this model takes longer than the {} this server allows. Choose a smaller model, or use nanogpt on your "
    "own computer, where nothing is limited."
)
KEPT = (
    "Paused after {}, the longest this server allows at a time. What has been measured is kept: choose another view "
    "and then this one to continue."
)
WAITING = "Waiting until the machine is free, so that nothing is slowed down."

OVERTAKEN = "You have opened another view that measures a model, so this one no longer waits. Open it again later."

measuring = threading.Lock()  # one model at a time
# on a public server, by visitor, or by address without a cookie: their newest measurement, the only one that may wait
waits: dict[str, object] = {}
Result = TypeVar("Result")


def in_turn(results: Iterable[Result], kept: bool = False) -> Iterator[Result | None]:
    """Yield results as they are computed, and None once a second while another model is measured or a run trains.

    `kept` says that results are kept as they come. Raise NanoGPTError if waiting takes too long, or if computing takes
    longer than a public server allows. There, a visitor's newest measurement ends their earlier ones that still wait.
    """
    who, mine = visitor(), object()
    id = who.address if who.id == "" else who.id
    if id is not None:
        waits[id] = mine

    def is_busy() -> bool:
        if id is not None and waits.get(id) is not mine:
            raise NanoGPTError(OVERTAKEN)
        return bool(queue.running()) or not measuring.acquire(blocking=False)

    try:
        yield from waiting(is_busy)
    finally:
        if id is not None and waits.get(id) is mine:
            del waits[id]
    try:
        spent, began = 0.0, time.monotonic()
        with shortages():
            for result in results:
                spent += time.monotonic() - began
                if limits.is_public() and spent > SECONDS:
                    raise NanoGPTError((KEPT if kept else TOO_LONG).format(f"{SECONDS:.0f} s"))
                yield from waiting(queue.running)
                yield result
                began = time.monotonic()
    finally:
        measuring.release()


def waiting(busy: Callable[[], Any]) -> Iterator[None]:
    """Yield None once a second for as long as the machine is `busy()`. Raise NanoGPTError if that takes too long."""
    began = time.monotonic()
    while busy():
        if time.monotonic() - began > PATIENCE:
            raise NanoGPTError("Something else is still running. Open this view again once it has ended.")
        yield None
        time.sleep(1.0)
