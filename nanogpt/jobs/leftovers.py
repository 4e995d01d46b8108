"""Delete what was uploaded for a run's jobs, once they have ended: it holds the text."""

from __future__ import annotations

from functools import partial

from huggingface_hub import HfApi

from ..config import NanoGPTError
from .progress import TRIES, Progress
from .refusals import Unreachable, asked


def clean_up(progress: Progress, api: HfApi, owner: str) -> None:
    """Delete what is left on the Hub, signed in as `owner`. Leave what can't be deleted to a later follower."""
    refused = ""
    for repo in progress.job.left:
        try:
            progress.patiently(partial(delete, repo, api, owner), TRIES)
            progress.change(left=[one for one in progress.job.left if one != repo])
        except Unreachable as error:
            return progress.leave(str(error))
        except NanoGPTError as error:  # the next one may still be deleted
            refused = str(error)
    if refused:
        return progress.leave(refused)
    progress.change(stage="", problem="")


def delete(repo: str, api: HfApi, owner: str) -> None:
    """Delete a repository, if it is there. Raise NanoGPTError if it is another owner's, or if the Hub refuses."""
    of = repo.split("/")[0]
    if of != owner:  # the Hub would say that it isn't there
        raise NanoGPTError(f"{repo} belongs to {of}, and {owner} is signed in. Sign in as its owner.")
    with asked(repo):
        api.delete_repo(repo, missing_ok=True)
