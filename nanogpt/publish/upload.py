"""Commit files to a repository on the Hub that nanogpt made or makes, or that is still empty: a model, or a Space."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import RepositoryNotFoundError

from ..config import NanoGPTError
from ..disk import from_json, size
from ..errors import writing_to
from .hub_errors import spoken
from .readme import is_of_the_hub, is_untouched, updated
from .run_files import PUBLIC

APP = {"nanogpt/run.py", "nanogpt/runs/run.py"}  # a Space with the app contains one of these
# What the Hub itself puts into a new repository; only a static Space gets the last two
OF_THE_HUB = {
    "model": {".gitattributes", "README.md"}, "space": {".gitattributes", "README.md", "index.html", "style.css"},
}  # fmt: skip
WELCOME = b"Welcome to your static Space!"  # the heading of that index.html
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


@dataclass(frozen=True)
class There:
    """A repository on the Hub, at one commit."""

    api: HfApi
    repo: str
    kind: str
    sha: str | None
    names: frozenset[str]  # of its files

    def content(self, name: str) -> bytes:
        """Return the contents of a file."""
        with tempfile.TemporaryDirectory() as folder, writing_to(folder):
            path = self.api.hf_hub_download(self.repo, name, repo_type=self.kind, revision=self.sha, local_dir=folder)
            return Path(path).read_bytes()

    def is_ours(self) -> bool:
        """Return True if nanogpt made it: it contains the app, or a run.json such as `push` writes."""
        if self.names & APP or "run.json" not in self.names:
            return bool(self.names & APP)
        try:
            about = from_json(self.content("run.json"))
        except ValueError:
            return False
        return isinstance(about, dict) and {"corpus", "train"} <= about.keys()

    def is_empty(self) -> bool:
        """Return True if it contains only what the Hub itself puts into a new one, and perhaps another README."""
        has_page = "index.html" in self.names
        return self.names <= OF_THE_HUB[self.kind] and (not has_page or WELCOME in self.content("index.html"))


def publish(
    api: HfApi, repo: str, kind: str, files: Mapping[str, bytes], message: str, tell: Tell, creation: dict[str, Any]
) -> Pushed:
    """Commit files to a repository made by nanogpt, creating it if needed. Make no commit if nothing has changed.

    A repository may also be one in which there is nothing yet but what the Hub itself has put there, and a README. One
    with other content is left alone: raise NanoGPTError. `creation` holds the arguments of create_repo for a new one.
    """
    url = f"{constants.ENDPOINT}/{ABOVE[kind]}{repo}"
    with spoken(repo):
        tell(f"Checking that you can write to {repo}.")
        head, notes, is_new = _open(api, repo, kind, creation, tell)
        there = There(api, repo, kind, head.sha, frozenset(one.rfilename for one in head.siblings or []))
        is_ours = not is_new and _is_ours(there, bool(head.private), bool(creation.get("private")))
    with spoken(repo, "" if is_ours else EMPTY.format(repo)):
        edited = _edited_readme(there, is_new, is_ours)
        if edited is not None:
            files = {**files, "README.md": updated(edited, files["README.md"].decode(), kind).encode()}
        changed = _changed(there, files)
        if edited is not None:
            only = ", except for the settings at its top that belong to the upload" * ("README.md" in changed)
            notes.append(f"Its README was edited by hand, so it stays as it is{only}.")
        gone = _left_over(kind, there.names - files.keys())
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


def _left_over(kind: str, names: Collection[str]) -> list[str]:
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


def _is_ours(there: There, private: bool, wanted: bool) -> bool:
    """Return True if nanogpt made a repository, False if it is empty.

    Raise NanoGPTError if it has other content, or is public although a private one is wanted.
    """
    is_ours = there.is_ours()
    if not is_ours and not there.is_empty():
        raise NanoGPTError(
            f"The {there.kind} {there.repo} already exists and was not made with nanogpt. Choose another name."
        )
    if wanted and not private:
        raise NanoGPTError(
            f"{there.repo} already exists and is public, so nothing was sent. Make it private on the Hub first, or "
            "publish to it as public."
        )
    return is_ours


def _edited_readme(there: There, is_new: bool, is_ours: bool) -> str | None:
    """Return a repository's README if someone wrote or edited it, so that it is to be kept; None if no one did."""
    if is_new or "README.md" not in there.names:
        return None
    text = there.content("README.md").decode()
    return None if (is_untouched(text) if is_ours else is_of_the_hub(text)) else text


def _changed(there: There, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return those files that are missing from the repository or differ from its version."""
    hashes = {}
    for found in there.api.get_paths_info(there.repo, list(files), repo_type=there.kind, revision=there.sha):
        hashes[found.path] = found.lfs.sha256 if getattr(found, "lfs", None) else getattr(found, "blob_id", "")
    git = lambda content: sha1(b"blob %d\0" % len(content) + content).hexdigest()
    same = lambda name, content: hashes.get(name) in (git(content), sha256(content).hexdigest())
    return {name: content for name, content in files.items() if not same(name, content)}
