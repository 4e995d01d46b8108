"""Commit files to a repository on the Hub that nanogpt made or makes: a model, or a Space."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import RepositoryNotFoundError

from ..config import NanoGPTError
from ..disk import size
from .hub_errors import spoken
from .readme import is_untouched, updated
from .run_files import PUBLIC

OURS = {"run.json", "nanogpt/run.py", "nanogpt/runs/run.py"}  # every repository made by nanogpt contains one of these
# What uploads put into a Space, or how its path begins. The app would show another run that was left there.
IN_A_SPACE = re.compile(r"(checkpoints|nanogpt)/|(index\.html|run\.json)$")
EMPTY = "{} exists now, but is still empty; publish again to fill it."
ABOVE = {"model": "", "space": "spaces/"}  # the URL prefix of user/repo

Tell = Callable[[str], None]  # takes a progress message


@dataclass(frozen=True)
class Pushed:
    """The result of an upload: the URL, the commit ("" if nothing had changed), and notes for the user."""

    url: str
    commit: str
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        done = f"Published to {self.url}." if self.commit else f"{self.url} is already up to date; nothing was sent."
        return " ".join([done, *self.notes])


def publish(
    api: HfApi, repo: str, kind: str, files: Mapping[str, bytes], message: str, tell: Tell, creation: dict[str, Any]
) -> Pushed:
    """Commit files to a repository made by nanogpt, creating it if needed. Make no commit if nothing has changed.

    `creation` holds the arguments of create_repo for a new one. Raise NanoGPTError for a repository with other content.
    """
    url = f"{constants.ENDPOINT}/{ABOVE[kind]}{repo}"
    with spoken(repo):
        tell(f"Checking that you can write to {repo}.")
        head, notes, is_new = _open(api, repo, kind, creation, tell)
        names = {sibling.rfilename for sibling in head.siblings or []}
        if not is_new:
            _leave_alone(api, repo, kind, names, bool(head.private), bool(creation.get("private")))
    with spoken(repo, "" if names & OURS else EMPTY.format(repo)):
        files, is_edited = _with_their_readme(api, repo, kind, head.sha, names, files)
        changed = _changed(api, repo, kind, head.sha, files)
        if is_edited:
            only = ", except for the settings at its top that belong to the upload" * ("README.md" in changed)
            notes.append(f"Its README was edited by hand, so it stays as it is{only}.")
        gone = _left_over(kind, names - files.keys())
        if not changed and not gone:
            return Pushed(url, "", tuple(notes))
        tell(f"Uploading {len(changed)} file{'s' * (len(changed) != 1)}, {size(sum(map(len, changed.values())))}.")
        steps = [*map(CommitOperationAdd, changed, changed.values()), *map(CommitOperationDelete, gone)]
        # parent_commit: fail if the repository has changed since we looked
        done = api.create_commit(repo, steps, commit_message=message, repo_type=kind, parent_commit=head.sha)
    return Pushed(url, done.oid, (*notes, *_models_gone(gone)))


def _models_gone(gone: list[str]) -> list[str]:
    """Return a note on the models that a Space has lost with these files, if there are any."""
    models = sorted({name.split("/")[1] for name in gone if name.startswith("checkpoints/")})
    return [f"It no longer has the model {', '.join(models)}."] if models else []


def _left_over(kind: str, names: set[str]) -> list[str]:
    """Return those of the files that an earlier upload put into a repository."""
    return sorted(name for name in names if (name in PUBLIC if kind == "model" else IN_A_SPACE.match(name)))


def _open(api: HfApi, repo: str, kind: str, creation: dict[str, Any], tell: Tell) -> tuple[Any, list[str], bool]:
    """Return the Hub's description of a repository, notes, and whether it was created now.

    Check that we can write to it.
    """
    notes, is_new = [], False
    try:
        head = api.repo_info(repo, repo_type=kind)
        if creation.get("space_hardware"):
            notes.append(
                "The Space already existed, so its hardware is unchanged; you can change it in its settings on the Hub."
            )
    except RepositoryNotFoundError:
        tell(f"Creating {repo}.")
        api.create_repo(repo, repo_type=kind, **creation)
        is_new = True
    with spoken(repo, EMPTY.format(repo) if is_new else ""):
        head = api.repo_info(repo, repo_type=kind) if is_new else head
        api.auth_check(repo, repo_type=kind, write=True)
    if head.private:
        notes.append("It is private, so only you can see it.")
    return head, notes, is_new


def _leave_alone(api: HfApi, repo: str, kind: str, names: set[str], private: bool, wanted: bool) -> None:
    """Raise NanoGPTError if a repository has other content, or is public although a private one is wanted."""
    if not names & OURS and len(api.list_repo_commits(repo, repo_type=kind)) > 1:  # the Hub creates the first commit
        raise NanoGPTError(f"The {kind} {repo} already exists and was not made with nanogpt. Choose another name.")
    if wanted and not private:
        raise NanoGPTError(
            f"{repo} already exists and is public, so nothing was sent. Make it private on the Hub first, or publish "
            "to it as public."
        )


def _with_their_readme(
    api: HfApi, repo: str, kind: str, revision: str | None, names: set[str], files: Mapping[str, bytes]
) -> tuple[Mapping[str, bytes], bool]:
    """Return the files to upload, and whether the README in them is the repository's own, as it was edited by hand.

    `names` are those of the files there. Only a repository made by nanogpt is looked at.
    """
    if "README.md" not in names or not names & OURS:
        return files, False
    with tempfile.TemporaryDirectory() as folder:
        path = api.hf_hub_download(repo, "README.md", repo_type=kind, revision=revision, local_dir=folder)
        text = Path(path).read_bytes().decode()
    if is_untouched(text):
        return files, False
    return {**files, "README.md": updated(text, files["README.md"].decode(), kind).encode()}, True


def _changed(api: HfApi, repo: str, kind: str, revision: str | None, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return those files that are missing from the repository or differ from its version."""
    there = {}
    for found in api.get_paths_info(repo, list(files), repo_type=kind, revision=revision):
        there[found.path] = found.lfs.sha256 if getattr(found, "lfs", None) else getattr(found, "blob_id", "")
    git = lambda content: sha1(b"blob %d\0" % len(content) + content).hexdigest()
    same = lambda name, content: there.get(name) in (git(content), sha256(content).hexdigest())
    return {name: content for name, content in files.items() if not same(name, content)}
