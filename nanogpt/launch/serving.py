"""Sampling for a server: a model is loaded once for all who ask, and their requests are generated together."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from .. import disk
from ..config import NanoGPTError, SampleConfig
from ..formats import load_model
from ..runs import Run, queue
from ..tokenizer import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from ..together import Together

MODELS = 3  # in memory at once
PATIENCE = 30  # seconds that a request for another model waits

_loading = threading.Lock()
_loaded: dict[tuple[Path, tuple[int, ...] | None], Together] = {}


def stream(run: Run, prompt: str, config: SampleConfig) -> Iterator[tuple[str, list[str]]]:
    """Yield the prompt in the model's alphabet and the samples so far without it, several times per second.

    Raise NanoGPTError if the server is busy or the run can't be read.
    """
    tokenizer, model = tokenizer_of(run), together(run)
    start = tokenizer.fit(prompt).text
    with model.ask(tokenizer, start, config) as request:
        request.begun.wait(10)
        ended = request.wait(0)
        while not ended:
            texts = request.written()
            yield start, texts
            ended = request.wait(pause(model.texts, sum(map(len, texts))))
        yield start, request.written()


def pause(texts: int, characters: int) -> float:
    """Return the seconds until a text is sent again, of which so many characters were sent already.

    Sending takes longer than generating: a text that is long, or one of many at once, is sent less often.
    """
    return 0.05 + texts / 50 + characters / 1e6


# ---- what is in memory -------------------------------------------------------------------------------------------


def together(run: Run) -> Together:
    """Return a run's model, loaded once for all who ask. Raise NanoGPTError if too many others are in use for too long.

    Weights change during training, so a model is known by the version of its weights, too.
    """
    from ..together import Together  # here, because it imports torch

    key = run.folder, disk.version(run.folder / "model.safetensors")
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with _loading:
            if key not in _loaded and _room():
                _loaded[key] = Together(load_model(run.folder), training=lambda: bool(queue.running()))
            if key in _loaded:
                _loaded[key] = _loaded.pop(key)  # the newest comes last
                return _loaded[key]
        time.sleep(0.1)
    raise NanoGPTError("The server is busy generating with other models. Try again in a minute.")


def _room() -> bool:
    """Return True if there is room for a model. If needed, forget the one that has been idle longest."""
    idle = next((key for key, model in _loaded.items() if not model.texts), None)
    if len(_loaded) >= MODELS and idle is not None:
        del _loaded[idle]
    return len(_loaded) < MODELS


def tokenizer_of(run: Run) -> Tokenizer:
    """Return a run's tokenizer, read again only if its file has changed: it is asked for at every look at a prompt."""
    return _tokenizer_at(run.folder, disk.version(run.folder / "tokenizer.json"))


@lru_cache(maxsize=4)
def _tokenizer_at(folder: Path, version: tuple | None) -> Tokenizer:
    return load_tokenizer(folder)
