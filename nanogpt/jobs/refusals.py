"""Word the Hub's refusals of jobs: one sentence each, that says what to do. The rest is as for repositories."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

from ..config import NanoGPTError
from ..publish.hub_errors import TOKENS, HTTPError, redacted, sentence

BILLING = "https://huggingface.co/settings/billing"
BY_STATUS = {
    402: f"Your account has no credit for Hugging Face Jobs. Add some at {BILLING}, then start the run again.",
    403: "This token may not start jobs: it lacks the permission, or Jobs are not open to this account. Create one "
    f"with Write permission at {TOKENS}.",
    429: "The Hub allows no more jobs or requests from this account at the moment. Wait a few minutes, or end a job "
    "that is running, then try again.",
}
PERMANENT = range(400, 500)
UNCLEAR = "The Hub answered in a way that this version of nanogpt doesn't understand. Update nanogpt and try again."


class Unreachable(NanoGPTError):
    """Raised when the Hub could not be asked, so that what it would have answered is unknown."""


@contextmanager
def asked(repo: str = "") -> Iterator[None]:
    """Turn what the Hub client raises in the block into a NanoGPTError: Unreachable if trying again may help."""
    try:
        yield
    except NanoGPTError:
        raise
    except HfHubHTTPError as error:
        status = error.response.status_code
        said = redacted(BY_STATUS.get(status) or sentence(error, repo))
        raise (NanoGPTError if status in PERMANENT and status not in (408, 409) else Unreachable)(said) from None
    except (LocalTokenNotFoundError, HFValidationError) as error:
        raise NanoGPTError(redacted(sentence(error, repo))) from None
    except (HTTPError, OSError, ValueError, KeyError, RuntimeError) as error:  # whose cause holds the token
        unclear = isinstance(error, ValueError | KeyError) and not isinstance(error, json.JSONDecodeError)
        raise Unreachable(UNCLEAR if unclear else redacted(sentence(error, repo))) from None
