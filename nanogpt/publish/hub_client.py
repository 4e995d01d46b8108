"""Make the client that talks to the Hub, with a limit to how long it waits for an answer."""

from __future__ import annotations

import functools
import threading
from typing import Any

from huggingface_hub import HfApi, set_client_factory
from huggingface_hub.utils import _http
from huggingface_hub.utils._http import default_client_factory

SECONDS = 60.0  # to connect, or without a byte to or from the Hub; a large file takes as long as it takes
_setting = threading.Lock()


def client(token: str | None) -> HfApi:
    """Return a Hub client for a token, or without one, whose requests fail once the Hub stays silent for `SECONDS`."""
    with _setting:
        _limit_waiting()
    return HfApi(token=token or False)


@functools.cache
def _limit_waiting() -> None:
    """Give the limit to all requests of this process from now on. By itself, the Hub client waits without end.

    A program that imports nanogpt may have set a client of its own, such as for a proxy, and keeps it.
    """
    if getattr(_http, "_GLOBAL_CLIENT_FACTORY", default_client_factory) is default_client_factory:
        set_client_factory(_session)


def _session() -> Any:
    session = default_client_factory()
    session.event_hooks["request"].append(_limit)
    return session


def _limit(request: Any) -> None:
    """Give a request a limit where it has none. A timeout of the session wouldn't do: many calls pass timeout=None."""
    given = request.extensions["timeout"]
    request.extensions["timeout"] = {phase: SECONDS if limit is None else limit for phase, limit in given.items()}
