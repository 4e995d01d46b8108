"""Work that takes a while and tells how far it is, as lines on the page. It goes on though the page be closed."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from ..config import NanoGPTError
from .drawn import line

Tell = Callable[[str], None]  # takes a sentence about what is being done
AT_ONCE = 8  # since it goes on without the page, opening pages must not be a way to start ever more of it
_places = threading.BoundedSemaphore(AT_ONCE)


def following(work: Callable[[Tell], Any]) -> Iterator[dict[str, Any]]:
    """Run `work(tell)` in a thread; lines with what it tells and the seconds gone, the last one its result or error."""
    if not _places.acquire(blocking=False):
        raise NanoGPTError(f"{AT_ONCE} others are sharing at this moment, the most at once; try again in a minute.")
    told: queue.Queue[tuple[str, str]] = queue.Queue()
    done: list[Any] = []

    def run() -> None:
        try:
            done.append(work(lambda sentence: told.put((sentence, "running"))))
            told.put((str(done[0]), "finished"))
        except NanoGPTError as error:
            told.put((str(error), "failed"))
        except BaseException as error:
            told.put((f"That could not be done ({type(error).__name__}).", "failed"))
            raise
        finally:
            _places.release()

    threading.Thread(target=run, daemon=True).start()
    sentence, state, since = "Beginning.", "running", time.monotonic()
    while state == "running":
        yield line(f"{sentence} {time.monotonic() - since:.0f} s", state)
        try:
            sentence, state = told.get(timeout=1)
        except queue.Empty:
            continue  # the seconds go on
    yield line(sentence, state, link=getattr(done[0], "url", "") if done else "")


def lines(work: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """The lines of some work; what cannot even begin is a line, too."""
    try:
        yield from work()
    except NanoGPTError as error:
        yield line(str(error), "failed")
