"""Turn errors from the Hub into messages that say what to do and never contain a token."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from .. import limits
from ..config import NanoGPTError
from ..errors import proxy_problem

HTTPError = HfHubHTTPError.__bases__[0]  # of the HTTP library under the Hub client, which differs between releases
# what the Hub client raises if it can't reach the Hub
NETWORK = (HTTPError, ConnectionError, TimeoutError, ssl.SSLError, LocalEntryNotFoundError)
TOKEN = re.compile(r"hf_[\w.\-]{8,}")  # a user's token, or that of a visitor who signed in

TOKENS = "https://huggingface.co/settings/tokens"  # where to make one
NO_TOKEN = (
    "You are not signed in to the Hub. Run `hf auth login`, or set HF_TOKEN to a token with Write permission from "
    f"{TOKENS}."
)
OFFLINE = "This server doesn't connect to the Hub. Use nanogpt on your own machine for that."  # to visitors
UNREACHABLE = "Couldn't reach the Hub. Check your connection and try again."
BAD_NAME = (
    "{repo!r} is not a valid repository. Use the form user/name with letters, digits, '-', '_' and '.', but no '--' or "
    "'..', and at most 96 characters."
)
MISSING = "There is no repository {repo} on the Hub, or it is private. Check the name, and sign in if it is yours."
BY_KIND = (
    (LocalTokenNotFoundError, NO_TOKEN),
    (OfflineModeIsEnabled, "The Hub client is in offline mode. Unset HF_HUB_OFFLINE and try again."),
    (HFValidationError, BAD_NAME),
    (RepositoryNotFoundError, MISSING),
)
BY_STATUS = {
    401: "The Hub rejected this token: it is mistyped, expired, revoked or lacks permission. Create one with Write "
    f"permission at {TOKENS}, or sign in again.",
    402: "The Hub requires payment to create {repo}. A free account can have public models, static Spaces (--static) "
    "and up to two ZeroGPU Spaces (--hardware zero-a10g), but no Space with its own CPU or GPU.",
    403: "You don't have permission to write to {repo}: the user or organization doesn't exist or isn't yours, or the "
    "token can't write. Use your own account and a token with Write permission.",
    404: MISSING,
    409: "The name {repo} is taken, or is being created right now. Try again, or choose another name.",
    412: "{repo} was changed by another upload in the meantime, so nothing was sent. Try again.",
    413: "The Hub rejected this upload as too large for {repo}. Publish a smaller model.",
    429: "The Hub is limiting requests from this account. Wait a few minutes and try again.",
}


def redacted(text: str) -> str:
    """Replace anything in the text that looks like a token."""
    return TOKEN.sub("hf_…", text)


def sentence(error: Exception, repo: str = "") -> str:
    """Turn an exception from the Hub client into a message that says what happened and what to do."""
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):  # "Error while uploading ..."
        return sentence(error.__cause__, repo)
    if text := _by_kind(error, repo):
        return text
    if isinstance(error, HfHubHTTPError):
        return refusal(error.response.status_code, error.server_message, repo)
    # JSONDecodeError: we got a web page instead, as from a network with a login page
    if isinstance(error, (*NETWORK, json.JSONDecodeError)):
        return UNREACHABLE
    if isinstance(error, ValueError):  # from a proxy's address, or the Hub client's check of the card's front matter
        return proxy_problem() or f"The Hub rejected the model card: {' '.join(str(error).split())[:200]}"
    return f"That failed ({type(error).__name__}). Try again."


def _by_kind(error: Exception, repo: str) -> str:
    if isinstance(error, OfflineModeIsEnabled) and limits.is_public():
        return OFFLINE
    return next((text.format(repo=repo) for kind, text in BY_KIND if isinstance(error, kind)), "")


def refusal(status: int, message: str | None, repo: str) -> str:
    """Turn an HTTP status into a message; for an unusual one, quote what the Hub said."""
    if status >= 500:
        return f"The Hub is having problems ({status}). Try again later."
    if status in BY_STATUS and (repo or "{repo}" not in BY_STATUS[status]):
        return BY_STATUS[status].format(repo=repo)
    return f"The Hub refused the request ({status}: {' '.join((message or 'no reason given').split())[:200]})."


def of_this_machine(error: Exception) -> OSError | None:
    """Return the error of this machine's disk that the Hub client has raised or wrapped, or None for any other error.

    The Hub client's own kinds of OSError have no number.
    """
    cause = error.__cause__ if isinstance(error, RuntimeError) else error  # "Error while uploading ..."
    if isinstance(cause, OSError) and cause.errno is not None and not isinstance(cause, NETWORK):
        return cause
    return None


@contextmanager
def spoken(repo: str = "", more: str = "") -> Iterator[None]:
    """Turn whatever the Hub client raises inside the block into a NanoGPTError with a readable message, and `more`.

    An error of this machine's disk stays an OSError, for which `explain` has the words.
    """
    try:
        yield
    except NanoGPTError:
        raise
    except (HTTPError, OSError, ValueError, RuntimeError) as error:  # RuntimeError wraps upload errors
        if own := of_this_machine(error):
            raise own from None
        raise NanoGPTError(
            f"{redacted(sentence(error, repo))} {more}".strip()
        ) from None  # the cause holds the request, which holds the token
