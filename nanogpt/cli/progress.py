"""A progress bar for `train` on a terminal: step, losses, speed and time left, read from the run folder."""

from __future__ import annotations

import io
import shutil
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TypeVar

from ..config import TrainConfig
from ..durations import clock
from ..errors import PROBLEMS, say
from ..launch.sizes import forecast
from ..runs import History, Run, length, queue

T = TypeVar("T")
SECONDS = 0.5  # between two updates


def share_of(run: Run, history: History) -> tuple[float, str]:
    """Return how much of a run is done, 0 to 1, and a line with its step, losses, speed and time left."""
    train = run.settings()["train"]
    budget, step, seconds = train.get("budget") or 0.0, history.step, history.seconds
    share = seconds / budget if budget else step / max(1, train["max_iters"])
    parts = [f"step {step:,}" if budget else f"step {step:,}/{train['max_iters']:,}"]
    for key, label in (("train_loss", "train"), ("val_loss", "val")):
        if (loss := history.latest(key)) is not None:
            parts.append(f"{label} {loss:.3f}")
    parts += at_the_end(run, history) if 0 < share < 1 else []
    if speed := history.latest("characters_per_second"):
        parts.append(f"{speed:,} chars/s")
    if 0 < share < 1 and seconds:
        parts.append(f"{clock(seconds * (1 - share) / share)} left")
    return min(1.0, share), " · ".join(parts)


def at_the_end(run: Run, history: History) -> list[str]:
    """Return the loss to expect at the end of a run, in words, if one was promised."""
    loss = forecast(run, length(TrainConfig.of(run.settings()["train"]), history))
    return [] if loss is None else [f"about {loss:.2f} at the end"]


def with_progress(steps: Generator[float, None, T]) -> T:
    """Do the steps of storing a text, which yield how much of a large one is done, and return their result.

    Show a bar meanwhile, on a terminal only. Ctrl-C stops it, and leaves nothing behind.
    """
    bar = None
    try:
        while True:
            share = next(steps)
            if on_a_terminal():
                bar = bar or new_bar("reading the text")
                bar.n = share
                bar.refresh()
    except StopIteration as end:
        return end.value
    except KeyboardInterrupt:
        steps.close()
        say("Stopped reading; nothing was stored.", sys.stderr)
        raise
    finally:
        if bar:
            bar.close()


class Above(io.TextIOBase):
    """A stdout whose lines go above the bar on a terminal."""

    def __init__(self, bar, terminal):
        self.bar, self.terminal, self.rest = bar, terminal, ""

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + text).split("\n")
        if lines:
            with self.bar.get_lock():
                self.bar.clear(nolock=True)
                print(*lines, sep="\n", file=self.terminal, flush=True)
                self.bar.refresh(nolock=True)
        return len(text)


def on_a_terminal() -> bool:
    """Return True if someone may be watching a bar."""
    return sys.stdout.isatty() and sys.stderr.isatty()


def new_bar(words: str) -> Any:
    """Return a progress bar from 0 to 1, with words after it."""
    from tqdm import tqdm  # type: ignore[import-untyped]  # a dependency of huggingface_hub

    form = "{percentage:3.0f}%|{bar:24}| {desc}"
    width, height = shutil.get_terminal_size()  # 80, 24 where the terminal doesn't say, for which tqdm draws nothing
    return tqdm(total=1.0, leave=False, bar_format=form, desc=words, file=sys.stderr, ncols=width, nrows=height)


@contextmanager
def progress_bar(run: Run) -> Iterator[None]:
    """Show a progress bar for a run until the block ends, on a terminal only. Lines printed meanwhile go above it."""
    if not on_a_terminal():
        yield
        return
    bar = new_bar("starting")
    done, terminal = threading.Event(), sys.stdout
    history = History(run.folder)  # its own, because the trainer's thread reads the cached one

    def follow() -> None:
        while not done.wait(SECONDS):
            history.refresh()
            try:
                bar.n, words = share_of(run, history)
                words = queue.in_words(queue.place_of(run.name)).lower() or words
            except PROBLEMS:  # the folder was deleted, say; training will say so
                return
            bar.set_description_str(words)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        with redirect_stdout(Above(bar, terminal)):
            yield
    finally:
        done.set()
        thread.join()
        bar.close()
