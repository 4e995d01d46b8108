"""Push a run to the Hub as a repository that transformers can load: python -m nanogpt push NAME user/repo

A push uploads the files in PUBLIC and nothing else, in one commit: never the text, the checkpoint, the log, or anything
about this machine or its owner.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id

from .. import corpus
from ..config import NanoGPTError
from ..disk import size
from ..runs import History, Run
from ..runs.logs import COLUMNS
from . import curve
from .card import card, judged
from .hub_client import client
from .hub_errors import BAD_NAME, NO_TOKEN, TOKEN, TOKENS, spoken
from .readme import is_untouched, updated
from .run_files import RunFiles

MODEL = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
PUBLIC = ("README.md", *MODEL, "run.json", "metrics.jsonl", "loss.png")  # everything a push may upload
OURS = {"run.json", "nanogpt/run.py", "nanogpt/runs/run.py"}  # every repository made by nanogpt contains one of these
# What uploads put into a Space, or how its path begins. The app would show another run that was left there.
IN_A_SPACE = re.compile(r"(checkpoints|nanogpt)/|(index\.html|run\.json)$")
ENDED = (
    "step",
    "val_loss",
    "best_val_loss",
    "last_val_loss",
    "val_characters",
    "message",
)  # public fields of a finished run's last event
ABOVE = {"model": "", "space": "spaces/"}  # the URL prefix of user/repo
ADDRESS = re.compile(r"\A(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/", re.I)

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


# ---- signing in ------------------------------------------------------------------------------------------------------


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


# ---- push: the public part of a run ----------------------------------------------------------------------------------


def model_files(source: RunFiles) -> dict[str, bytes]:
    """Return the public files of a run, {file name: content}. Raise NanoGPTError if the run has no weights yet."""
    facts = public_facts(source.settings, source.history)
    if source.content("model.safetensors") is None:
        raise NanoGPTError(f"{source.name} has no weights yet. Train it until its first checkpoint.")
    files = {name: content for name in MODEL if (content := source.content(name)) is not None}
    # not the run's own: without the names of a model's inputs, as older runs have it, transformers 4 computes wrongly
    written = source.tokenizer.files(source.config.block_size)["tokenizer_config.json"]
    return {**files, "tokenizer_config.json": written.encode(), **facts}


def public_facts(settings: Mapping[str, Any], history: History) -> dict[str, bytes]:
    """Return run.json and metrics.jsonl as anyone may have them, {file name: content}."""
    about = json.dumps(public_part(settings), indent=1, ensure_ascii=False) + "\n"
    rows = "".join(json_line(row) for row in _measured(history))
    return {"run.json": about.encode(), "metrics.jsonl": rows.encode()}


def public_part(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of run.json that says how the model was trained, without where or for whom."""
    about = _part(settings.get("corpus"), "id", "name", "sha256", "characters")
    if isinstance(about.get("sha256"), str):
        about["id"] = corpus.id_of(about["sha256"])  # not a visitor's own id, which would identify them
    versions = _part(settings.get("versions"), "nanogpt", "torch", "python")
    return {**_part(settings, "name", "created", "preset", "train"), "corpus": about, "versions": versions}


def _part(found: Any, *keys: str) -> dict[str, Any]:
    """Return the given keys of a JSON object, as far as it is one and has them."""
    return {key: found[key] for key in keys if key in found} if isinstance(found, Mapping) else {}


def _measured(history: History) -> list[dict[str, Any]]:
    """Return the measurements and how the run ended. Other events are left out, as they may name local files."""
    rows = [{key: row[key] for key in COLUMNS if key in row} for row in history.saved_rows]
    last = history.last_trained
    if last.get("event") == "finished":
        return [*rows, {"event": "finished", **{key: last[key] for key in ENDED if key in last}}]
    return [*rows, {"event": "stopped", "step": max([row["step"] for row in rows], default=history.step)}]


def json_line(row: Mapping[str, Any]) -> str:
    """Return a row of metrics.jsonl."""
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"


def offered(run: Run, repo: str, license: str | None = None, quote: bool = False) -> dict[str, bytes]:
    """Return exactly what a push would upload, {file name: content}, with the card first."""
    source = RunFiles(run)  # read once, so that the weights, the card and the curves belong to the same step
    files, compared = model_files(source), judged(source)
    text = card(source, repo, compared, license, quote)
    picture = curve.png(source.history.saved_rows, compared.losses.get("bigram"))
    return {"README.md": text.encode(), **files, **({"loss.png": picture} if picture else {})}


def push(
    run: Run, repo: str, token: str | None, *, private: bool = False, license: str | None = None, quote: bool = False,
    tell: Tell = lambda sentence: None,
) -> Pushed:  # fmt: skip
    """Publish a run on the Hub as a model. Raise NanoGPTError if that fails.

    Permissions are checked before anything is uploaded. Pushing again makes a commit only if something has changed.
    """
    tell("Signing in to the Hub.")
    api, owner = signed_in(token)
    repo = repository(repo, owner)
    tell("Writing the model card.")
    files = offered(run, repo, license, quote)
    return publish(api, repo, "model", files, f"{run.name}, pushed with nanogpt", tell, dict(private=private))


def publish(
    api: HfApi, repo: str, kind: str, files: Mapping[str, bytes], message: str, tell: Tell, creation: dict[str, Any]
) -> Pushed:
    """Commit files to a repository made by nanogpt, creating it if needed. Make no commit if nothing has changed.

    `creation` holds the arguments of create_repo for a new one. Raise NanoGPTError for a repository with other content.
    """
    url = f"{constants.ENDPOINT}/{ABOVE[kind]}{repo}"
    with spoken(repo):
        tell(f"Checking that you can write to {repo}.")
        head, notes = _open(api, repo, kind, creation, tell)
        names = {sibling.rfilename for sibling in head.siblings or []}
        _leave_alone(api, repo, kind, names, bool(head.private), bool(creation.get("private")))
    empty = "" if names & OURS else f"{repo} exists now, but is still empty; publish again to fill it."
    with spoken(repo, empty):
        if edited := _edited(api, repo, kind, head.sha, names):
            files = {**files, "README.md": updated(edited, files["README.md"].decode(), kind).encode()}
            notes.append("Its card was edited by hand, so only the settings at its top that must fit changed.")
        changed = _changed(api, repo, kind, head.sha, files)
        gone = _left_over(kind, names - files.keys())
        if not changed and not gone:
            return Pushed(url, "", tuple(notes))
        tell(f"Uploading {len(changed)} file{'s' * (len(changed) != 1)}, {size(sum(map(len, changed.values())))}.")
        steps = [*map(CommitOperationAdd, changed, changed.values()), *map(CommitOperationDelete, gone)]
        # parent_commit: fail if the repository has changed since we looked
        done = api.create_commit(repo, steps, commit_message=message, repo_type=kind, parent_commit=head.sha)
    if models := sorted({name.split("/")[1] for name in gone if name.startswith("checkpoints/")}):
        notes.append(f"It no longer has the model {', '.join(models)}.")
    return Pushed(url, done.oid, tuple(notes))


def _left_over(kind: str, names: set[str]) -> list[str]:
    """Return those of the files that an earlier upload put into a repository."""
    return sorted(name for name in names if (name in PUBLIC if kind == "model" else IN_A_SPACE.match(name)))


def _open(api: HfApi, repo: str, kind: str, creation: dict[str, Any], tell: Tell) -> tuple[Any, list[str]]:
    """Return the Hub's description of a repository, created if needed, and notes. Check that we can write to it."""
    notes = []
    try:
        head = api.repo_info(repo, repo_type=kind)
        if creation.get("space_hardware"):
            notes.append(
                "The Space already existed, so its hardware is unchanged; you can change it in its settings on the Hub."
            )
    except RepositoryNotFoundError:
        tell(f"Creating {repo}.")
        api.create_repo(repo, repo_type=kind, **creation)
        head = api.repo_info(repo, repo_type=kind)
    api.auth_check(repo, repo_type=kind, write=True)
    if head.private:
        notes.append("It is private, so only you can see it.")
    return head, notes


def _leave_alone(api: HfApi, repo: str, kind: str, names: set[str], private: bool, wanted: bool) -> None:
    """Raise NanoGPTError if a repository has other content, or is public although a private one is wanted."""
    if not names & OURS and len(api.list_repo_commits(repo, repo_type=kind)) > 1:  # the Hub creates the first commit
        raise NanoGPTError(f"The {kind} {repo} already exists and was not made with nanogpt. Choose another name.")
    if wanted and not private:
        raise NanoGPTError(
            f"{repo} already exists and is public, so nothing was sent. Make it private on the Hub first, or publish "
            "to it as public."
        )


def _edited(api: HfApi, repo: str, kind: str, revision: str | None, names: set[str]) -> str:
    """Return the README of a repository made by nanogpt, with these file names, if it was edited by hand, or ""."""
    if "README.md" not in names or not names & OURS:
        return ""
    with tempfile.TemporaryDirectory() as folder:
        path = api.hf_hub_download(repo, "README.md", repo_type=kind, revision=revision, local_dir=folder)
        text = Path(path).read_bytes().decode()
    return "" if is_untouched(text) else text


def _changed(api: HfApi, repo: str, kind: str, revision: str | None, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return those files that are missing from the repository or differ from its version."""
    there = {}
    for found in api.get_paths_info(repo, list(files), repo_type=kind, revision=revision):
        there[found.path] = found.lfs.sha256 if getattr(found, "lfs", None) else getattr(found, "blob_id", "")
    git = lambda content: sha1(b"blob %d\0" % len(content) + content).hexdigest()
    same = lambda name, content: there.get(name) in (git(content), sha256(content).hexdigest())
    return {name: content for name, content in files.items() if not same(name, content)}
