"""Sign in to the Hub, and read how a user writes the name of a repository there."""

from __future__ import annotations

import re

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..config import NanoGPTError
from .hub_client import client
from .hub_errors import BAD_NAME, NO_TOKEN, TOKEN, TOKENS, spoken

ADDRESS = re.compile(r"\A(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/", re.I)


def saved_token() -> str | None:
    """Return the token of this machine's user, from `hf auth login` or HF_TOKEN, or None if they are not signed in."""
    with spoken():
        return get_token()


def signed_in(token: str | None) -> tuple[HfApi, str]:
    """Return the Hub client for a token and the token's owner. Raise NanoGPTError for a bad token."""
    if not token:
        raise NanoGPTError(NO_TOKEN)
    if odd := [ch for ch in token.strip() if not "!" <= ch <= "~"]:
        raise NanoGPTError(f"The token has a character that no token has ({odd[0]!r}). Copy it again from {TOKENS}.")
    api = client(token.strip())
    with spoken():
        who = api.whoami()
    described = (who.get("auth") or {}).get("accessToken") or {}
    if described.get("role") == "read":
        raise NanoGPTError(f"This token is read-only. Create one with Write permission at {TOKENS}.")
    return api, str(who["name"])


def repository(text: str, owner: str = "") -> str:
    """Parse a repository as user/name from that, from its URL, or from the name alone if the owner is known.

    Raise NanoGPTError if the text is none of these.
    """
    typed = text.strip().rstrip("/")
    if TOKEN.search(typed):
        raise NanoGPTError("That looks like a token. Enter the repository here, as user/name.")
    local = constants.ENDPOINT.rstrip("/") + "/"
    rest = typed[len(local) :] if typed.startswith(local) else ADDRESS.sub("", typed, count=1)
    if rest != typed:
        rest = "/".join(re.split(r"[?#]", rest)[0].split("/")[:2])  # drop /tree/main and the like
    if rest.startswith(("spaces/", "datasets/")):
        raise NanoGPTError(f"{typed[:100]!r} is the URL of a Space or a dataset. Enter just user/name.")
    repo = f"{owner}/{rest}" if owner and rest and "/" not in rest else rest
    try:
        validate_repo_id(repo)
        if repo.count("/") != 1:
            raise HFValidationError
    except HFValidationError:
        raise NanoGPTError(BAD_NAME.format(repo=typed[:100])) from None
    return repo
