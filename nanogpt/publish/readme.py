"""Tell whether a README on the Hub was edited by hand, and update the settings at the top of one that was.

The settings are its front matter. The Hub reads from it how to start a Space, and how good a model is, so those must
be right even where the owner rewrote the rest.
"""

from __future__ import annotations

import re
from hashlib import sha256

from huggingface_hub.repocard import CardData, RepoCard

from ..config import NanoGPTError

FRONT_MATTER = re.compile(r"\A\s*---\n.*?^---\s*?$", re.DOTALL | re.MULTILINE)
# by kind of repository, the settings that belong to what is uploaded with the README
BELONG = {
    "model": {"model-index"},
    "space": {
        "sdk", "sdk_version", "python_version", "app_file", "hf_oauth", "hf_oauth_scopes",
        "hf_oauth_expiration_minutes", "startup_duration_timeout",
    },
}  # fmt: skip


def signed(text: str) -> str:
    """Append a hidden hash of a README, so that a later upload can tell whether someone has edited it."""
    return f"{text}\n<!-- {sha256(text.encode()).hexdigest()} -->\n"


def is_untouched(text: str) -> bool:
    """Return True if a README is unchanged since `signed`."""
    return text == signed(text.rpartition("\n<!-- ")[0])


def is_of_the_hub(text: str) -> bool:
    """Return True if a README is as the Hub writes it into a new repository: settings, and at most a line on them."""
    body = FRONT_MATTER.sub("", text.replace("\r\n", "\n"), count=1).strip()
    return re.fullmatch(r"(Check out the configuration reference at \S+)?", body) is not None


def updated(edited: str, new: str, kind: str) -> str:
    """Return an edited README with the settings of `new` that belong to its files, and its license if it has one.

    The rest, its own settings and all of its text, stays. Raise NanoGPTError if its settings can't be read.
    """
    wanted = RepoCard(new).data.to_dict()
    try:
        card = RepoCard(edited if edited.lstrip().startswith("---") else f"---\n\n---\n{edited}")
    except Exception:  # a ValueError, or one of the YAML library, which isn't ours to import
        raise NanoGPTError(
            "The settings at the top of its README.md were edited and can't be read now. Correct or delete the file on "
            "the Hub, then publish again."
        ) from None
    keys = BELONG[kind] | wanted.keys() & {"license"}
    before = card.data.to_dict()
    after = {key: wanted.get(key) if key in keys else value for key, value in before.items()}
    after |= {key: value for key, value in wanted.items() if key in keys}
    card.data = CardData(**after)  # which leaves out what is None
    return edited if card.data.to_dict() == before else card.content
