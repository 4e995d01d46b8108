"""Sampling for a server: a model is loaded once for all who ask, and their requests are generated together."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from .. import disk
from ..config import NanoGPTError, SampleConfig
from ..errors import shortages
from ..formats import load_model
from ..runs import Run, queue
from ..tokenizer import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from ..together import Together

MODELS = 3  # in memory at once
PATIENCE = 30  # seconds that a request for another model waits

Key: TypeAlias = tuple[Path, tuple[int, ...] | None]  # a run's folder, and the version of its weights

_loading = threading.Lock()
_loaded: dict[Key, Together] = {}  # the one that was asked last comes last
_asked: list[tuple[object, Key]] = []  # the requests that wait for a model, in order


def stream(run: Run, prompt: str, config: SampleConfig) -> Iterator[tuple[str, list[str]]]:
    """Yield the prompt in the model's alphabet and the samples so far without it, several times per second.

    Raise NanoGPTError if the server is busy or the run can't be read, and MemoryError or OSError if memory or threads
    run out.
    """
    with shortages():
        tokenizer, model = tokenizer_of(run), together(run)
        start = tokenizer.fit(prompt).text
        with model.ask(tokenizer, start, config) as request:
            request.begun.wait(10)
            ended = request.wait(0)
            while not ended:
                texts = request.written()
                yield start, texts
                ended = request.wait(pause(model.texts, len(start) + sum(map(len, texts))))
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
    key = run.folder, disk.version(run.folder / "model.safetensors")
    request, deadline = object(), time.monotonic() + PATIENCE
    _asked.append((request, key))
    try:
        while time.monotonic() < deadline:
            with _loading:
                if model := _turn(request, key):
                    return model
            time.sleep(0.1)
    finally:
        _asked.remove((request, key))
    raise NanoGPTError("The server is busy generating with other models. Try again in a minute.")


def _turn(request: object, key: Key) -> Together | None:
    """Return the model that a request asks for, if that is loaded or can be, and no earlier request needs its place.

    Where earlier requests wait for models that aren't loaded, as many of those that were loaded first take no more
    requests, so that their texts come to an end: or a few visitors, who always ask again before they do, could keep all
    others' models out.
    """
    from ..together import Together  # here, because it imports torch

    before = takewhile(lambda one: one[0] is not request, list(_asked))
    earlier = {wanted for _, wanted in before} - {key}
    missing = earlier - _loaded.keys()
    if key not in _loaded and not missing and _room(earlier):
        _loaded[key] = Together(load_model(key[0]), training=lambda: bool(queue.running()))
    ending = sorted(_loaded, key=lambda one: _loaded[one].since)[: len(missing)]
    if key not in _loaded or key in ending:
        return None
    _loaded[key] = _loaded.pop(key)
    return _loaded[key]


def _room(needed: set[Key]) -> bool:
    """Return True if there is room for a model. If necessary, forget the one idle longest that isn't `needed`."""
    idle = next((key for key, model in _loaded.items() if not model.texts and key not in needed), None)
    if len(_loaded) >= MODELS and idle is not None:
        del _loaded[idle]
    return len(_loaded) < MODELS


def tokenizer_of(run: Run) -> Tokenizer:
    """Return a run's tokenizer, read again only if its file has changed: it is asked for at every look at a prompt."""
    return _tokenizer_at(run.folder, disk.version(run.folder / "tokenizer.json"))


@lru_cache(maxsize=4)
def _tokenizer_at(folder: Path, version: tuple | None) -> Tokenizer:
    return load_tokenizer(folder)
