"""What the Hub refuses, as one sentence that says what to do; a token is never part of it."""

from __future__ import annotations

import json
import re
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

from ..config import NanoGPTError

HTTPError = HfHubHTTPError.__bases__[0]  # of the library that the Hub's client stands on; releases change it
TOKEN = re.compile(r"hf_[\w.\-]{8,}")  # of a person and of a signed-in visitor

TOKENS = "https://huggingface.co/settings/tokens"
SAFE = "The run is safe here."
NO_TOKEN = (
    "You are not signed in to the Hub: run `hf auth login` or set HF_TOKEN; on the page, type a token of the kind "
    f"Write, made at {TOKENS}."
)
UNREACHABLE = f"The Hub could not be reached; check the connection and try again. {SAFE}"
BAD_NAME = (
    "The repository was {repo!r}; write it as user/name, each of letters, digits, '-', '_' and '.', without '--' or "
    "'..', and at most 96 characters long."
)
MISSING = "There is no repository {repo} on the Hub, or it is private and this account may not see it."
BY_KIND = (
    (LocalTokenNotFoundError, NO_TOKEN),
    (OfflineModeIsEnabled, "The Hub's client is set offline (HF_HUB_OFFLINE); unset that and try again."),
    (HFValidationError, BAD_NAME),
    (RepositoryNotFoundError, MISSING),
)
BY_STATUS = {
    401: "The Hub does not take this token: it is mistyped, has expired, was revoked or lacks the right for this. "
    f"Make one of the kind Write at {TOKENS}, or sign in anew.",
    402: "The Hub asks for payment before it creates {repo}. A free account can have public models, static Spaces "
    "(--static) and up to two Spaces on ZeroGPU (--hardware zero-a10g), but none on a CPU or a GPU of its own.",
    403: "This account or token may not write to {repo}: that user or organisation is not there or not yours, or the "
    "token lacks the right. Take a name of your own, and a token of the kind Write.",
    404: MISSING,
    409: "The name {repo} is taken, or something else is being created there at this moment; try again or choose "
    "another name.",
    412: "{repo} was changed by somebody else at this moment, so nothing was written; try again.",
    413: "The Hub says that this is too large for {repo}.",
    429: f"The Hub takes no more requests from this account for now; wait some minutes and try again. {SAFE}",
}


def redacted(text: str) -> str:
    """The text without anything that looks like a token."""
    return TOKEN.sub("hf_…", text)


def sentence(error: Exception, repo: str = "") -> str:
    """Say what went wrong between us and the Hub, and what to do."""
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):  # "Error while uploading ..."
        return sentence(error.__cause__, repo)
    for kind, text in BY_KIND:
        if isinstance(error, kind):
            return text.format(repo=repo)
    if isinstance(error, HfHubHTTPError):
        return refusal(error.response.status_code, error.server_message, repo)
    # json: a page instead of an answer, as from a network that wants one to sign in first
    if isinstance(error, HTTPError | LocalEntryNotFoundError | ConnectionError | TimeoutError | json.JSONDecodeError):
        return UNREACHABLE
    if isinstance(error, ValueError):  # its check of the card's front matter
        return f"The Hub does not take the card: {' '.join(str(error).split())[:200]}"
    return f"That could not be done ({getattr(error, 'strerror', None) or type(error).__name__}). {SAFE}"


def refusal(status: int, message: str | None, repo: str) -> str:
    """Say what an HTTP status of the Hub means; for an unusual one, with the Hub's own words."""
    if status >= 500:
        return f"The Hub has trouble of its own at the moment ({status}); try again later. {SAFE}"
    if status in BY_STATUS:
        return BY_STATUS[status].format(repo=repo)
    return f"The Hub refused ({status}: {' '.join((message or 'no reason given').split())[:200]})."


@contextmanager
def spoken(repo: str = "") -> Iterator[None]:
    """Around calls to the Hub's client: whatever they raise becomes a NanoGPTError of one sentence."""
    try:
        yield
    except NanoGPTError:
        raise
    except (HTTPError, OSError, ValueError, RuntimeError) as error:  # RuntimeError: around an upload
        raise NanoGPTError(redacted(sentence(error, repo))) from None  # the cause holds the request, and that the token
