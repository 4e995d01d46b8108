"""Word the Hub's refusals of jobs: one sentence each, that says what to do. The rest is as for repositories."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)

from ..config import NanoGPTError
from ..paths import PROGRAM
from ..publish import hub_errors

BILLING = "https://huggingface.co/settings/billing"
BY_STATUS = {  # of requests about jobs; those about a repository have the sentences of hub_errors
    402: f"Your account has no credit for Hugging Face Jobs. Add some at {BILLING}, then start the run again.",
    403: "This token may not start jobs: it lacks the permission, or Jobs isn't available to this account. Create one "
    f"with Write permission at {hub_errors.TOKENS}.",
    429: "The Hub allows no more jobs or requests from this account at the moment. Wait a few minutes, or end a job "
    "that is running, then try again.",
}
PASSING = (408, 409, 412)  # statuses that another try may not meet
UNCLEAR = "The Hub answered in a way that this version of nanogpt doesn't understand. Update nanogpt and try again."


class Unreachable(NanoGPTError):
    """Raised when the Hub could not be asked, so that what it would have answered is unknown."""


class Missing(NanoGPTError):
    """Raised when the Hub doesn't have what was asked for."""


class Unclear(NanoGPTError):
    """Raised when the Hub's answer can't be understood, so that what it has done is unknown."""


@contextmanager
def asked(repo: str = "", starting: bool = False) -> Iterator[None]:
    """Raise what the Hub client raises in the block as a NanoGPTError: if possible, as one of those defined above.

    An error of this machine's disk stays an OSError, as in `hub_errors.spoken`. `starting` a job, a refusal for too
    many of them is final.
    """
    try:
        yield
    except NanoGPTError:
        raise
    except HfHubHTTPError as error:
        raise _refusal(error, repo, starting) from None  # the cause holds the token
    except (LocalTokenNotFoundError, HFValidationError, OfflineModeIsEnabled) as error:  # kinds of those below
        raise NanoGPTError(hub_errors.redacted(hub_errors.sentence(error, repo))) from None
    except (hub_errors.HTTPError, OSError, RuntimeError, json.JSONDecodeError) as error:
        # RuntimeError wraps upload errors; JSONDecodeError: a web page instead, as of a network's login
        unreachable = Unreachable(hub_errors.redacted(hub_errors.sentence(error, repo)))
        raise hub_errors.of_this_machine(error) or unreachable from None
    except (ValueError, KeyError, TypeError):
        raise Unclear(UNCLEAR) from None


def _refusal(error: HfHubHTTPError, repo: str, starting: bool) -> NanoGPTError:
    status, sentence = error.response.status_code, _sentence(error, repo)
    if starting and status in (400, 404, 422):
        reason = " ".join(hub_errors.redacted(error.server_message or "no reason given").split())[:200].rstrip(".")
        return NanoGPTError(f"The Hub refused the job ({reason}). `{PROGRAM} hardware` lists what it offers now.")
    if status >= 500 or status in PASSING or (status == 429 and not starting):
        return Unreachable(sentence)
    return Missing(sentence) if status == 404 else NanoGPTError(sentence)


def _sentence(error: HfHubHTTPError, repo: str) -> str:
    own = "" if repo else BY_STATUS.get(error.response.status_code)
    return hub_errors.redacted(own or hub_errors.sentence(error, repo))
