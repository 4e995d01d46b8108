"""Run slow work in the background and show its progress on the page. It continues if the page is closed."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from ..config import NanoGPTError
from ..errors import PROBLEMS, explain, shortages
from ..launch.visitors import Visitor
from .drawn import line
from .web.visit import visitor

Tell = Callable[[str], None]  # takes a progress message
AT_ONCE = 8  # a limit, because the work outlives the page that started it
EACH = 2  # of these, on a public server, for a network address: one person can be many visitors
_working: Counter[str] = Counter()  # by network address
_counting = threading.Lock()


def following(work: Callable[[Tell], Any]) -> Iterator[dict[str, Any]]:
    """Run `work(tell)` in a thread. Yield a line per message, with the seconds elapsed, then the result or error.

    Raise NanoGPTError if too much work is running already, and OSError if the system allows no more threads.
    """
    who = visitor()
    begin(who)
    told: queue.Queue[tuple[str, str]] = queue.Queue()
    done: list[Any] = []

    def run() -> None:
        try:
            done.append(work(lambda sentence: told.put((sentence, "running"))))
            told.put((str(done[0]), "finished"))
        except PROBLEMS as error:
            told.put((explain(error), "failed"))
        except BaseException as error:
            told.put(
                (
                    f"Something went wrong ({type(error).__name__}). Try again; the server's log has the details.",
                    "failed",
                )
            )
            raise
        finally:
            end(who)

    try:
        with shortages():
            threading.Thread(target=run, daemon=True).start()
    except OSError:
        end(who)
        raise
    sentence, state, since = "Starting.", "running", time.monotonic()
    while state == "running":
        yield line(f"{sentence} {time.monotonic() - since:.0f} s", state, spoken=sentence)
        try:
            sentence, state = told.get(timeout=1)
        except queue.Empty:
            continue  # only update the seconds
    yield line(sentence, state, link=getattr(done[0], "url", "") if done else "")


def begin(who: Visitor) -> None:
    """Count work that begins for a visitor. Raise NanoGPTError if there is too much already."""
    with _counting:
        if _working.total() >= AT_ONCE:
            raise NanoGPTError(f"{AT_ONCE} models are being published or loaded already. Try again in a minute.")
        if who.id is not None and _working[who.address] >= EACH:
            raise NanoGPTError(
                f"{EACH} models are being published or loaded from your network address already. Try again in a minute."
            )
        _working[who.address] += 1


def end(who: Visitor) -> None:
    """Count work that has ended."""
    with _counting:
        _working[who.address] -= 1
        if not _working[who.address]:
            del _working[who.address]


def lines(work: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """Yield the lines of `work()`, and a line for the error if it can't start."""
    try:
        yield from work()
    except PROBLEMS as error:
        yield line(explain(error), "failed")
