"""The Hub: a run becomes a repository that transformers opens, and a repository becomes a run.

    python -m nanogpt push NAME user/repo
    python -m nanogpt pull user/repo

What is sent is PUBLIC and nothing else, in one commit: all of it or nothing. Never the text, the save to continue from,
the log, or a fact about this machine or its owner. What is taken in is safetensors and JSON, measured before it comes.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id

from .. import corpus, limits
from ..config import NanoGPTError
from ..disk import size
from ..formats import config_files, load_model, read_config, weights_bytes
from ..runs import History, Run, archive, checks, free_name
from ..runs.logs import COLUMNS
from ..tokenizer import load_tokenizer
from . import curve
from .card import card, is_untouched, judged
from .hub_errors import BAD_NAME, NO_TOKEN, TOKEN, spoken
from .run_files import RunFiles

MODEL = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
PUBLIC = ("README.md", *MODEL, "run.json", "metrics.jsonl", "loss.png")  # all that a push ever sends
NEEDED = ("config.json", "tokenizer.json", "model.safetensors")  # what a repository must have to be pulled
WANTED = (*NEEDED, "run.json", "metrics.jsonl")  # all that a pull ever takes
OURS = {"run.json", "nanogpt/run.py", "nanogpt/runs/run.py"}  # one of them is in every repository that was made here
ENDED = ("step", "val_loss", "best_val_loss", "last_val_loss", "val_characters", "message")  # of a finished run, public
ABOVE = {"model": "", "space": "spaces/"}  # what stands before user/repo in the address of its page
ADDRESS = re.compile(r"\A(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/", re.I)

Tell = Callable[[str], None]  # takes a sentence about what is being done


@dataclass(frozen=True)
class Pushed:
    """Where it is now; `commit` is empty where nothing had changed, `notes` is what else there is to say."""

    url: str
    commit: str
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        done = "has it now." if self.commit else "has all of it already; nothing was sent."
        return " ".join([self.url, done, *self.notes])


# ---- signing in ------------------------------------------------------------------------------------------------------


def saved_token() -> str | None:
    """The token of `hf auth login` or HF_TOKEN, for who sits at this machine. None where nobody has signed in."""
    with spoken():
        return get_token()


def signed_in(token: str | None) -> tuple[HfApi, str]:
    """The Hub's client for a token, and whose it is. NanoGPTError where there is none, or the Hub does not know it."""
    if not token:
        raise NanoGPTError(NO_TOKEN)
    api = HfApi(token=token)
    with spoken():
        who = api.whoami()
    described = (who.get("auth") or {}).get("accessToken") or {}
    if described.get("role") == "read":
        raise NanoGPTError(
            "This token may only read. Make one of the kind Write at https://huggingface.co/settings/tokens."
        )
    return api, str(who["name"])


def repository(text: str, owner: str = "") -> str:
    """user/name from what was typed: that itself, the page's address, or a name alone where the owner is known."""
    typed = text.strip().rstrip("/")
    if TOKEN.search(typed):
        raise NanoGPTError("That looks like a token, and here goes the name of a repository, as user/name.")
    local = constants.ENDPOINT.rstrip("/") + "/"
    rest = typed[len(local) :] if typed.startswith(local) else ADDRESS.sub("", typed, count=1)
    if rest != typed:
        rest = "/".join(re.split(r"[?#]", rest)[0].split("/")[:2])  # /tree/main and the like say nothing more
    if rest.startswith(("spaces/", "datasets/")):
        raise NanoGPTError(f"{typed[:100]!r} is the address of a Space or a dataset; give a model, as user/name.")
    repo = f"{owner}/{rest}" if owner and rest and "/" not in rest else rest
    try:
        validate_repo_id(repo)
        if repo.count("/") != 1:
            raise HFValidationError
    except HFValidationError:
        raise NanoGPTError(BAD_NAME.format(repo=typed[:100])) from None
    return repo


# ---- out: what is public of a run ------------------------------------------------------------------------------------


def model_files(source: RunFiles) -> dict[str, bytes]:
    """The public part of a run folder: content by name. NanoGPTError where the run has no weights yet."""
    about = _public(source.settings)
    if source.content("model.safetensors") is None:
        raise NanoGPTError(f"{source.name} has no weights yet; they come with its first evaluation.")
    files = {name: content for name in MODEL if (content := source.content(name)) is not None}
    files["run.json"] = (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode()
    files["metrics.jsonl"] = "".join(_line(row) for row in _measured(source.history)).encode()
    return files


def _public(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run.json says how the model was made, and nothing of where and for whom."""
    about = _part(settings.get("corpus"), "id", "name", "sha256", "characters")
    if isinstance(about.get("sha256"), str):
        about["id"] = corpus.id_of(about["sha256"])  # a visitor's own id is nobody else's business
    versions = _part(settings.get("versions"), "nanogpt", "torch", "python")
    return {**_part(settings, "name", "created", "preset", "train"), "corpus": about, "versions": versions}


def _part(found: Any, *keys: str) -> dict[str, Any]:
    """Some entries of an object, where it is one and has them."""
    return {key: found[key] for key in keys if key in found} if isinstance(found, Mapping) else {}


def _measured(history: History) -> list[dict[str, Any]]:
    """What was measured, and how it ended; other events may name files of this machine."""
    rows = [{key: row[key] for key in COLUMNS if key in row} for row in history.rows]
    last = history.events[-1] if history.events else {}
    if last.get("event") == "finished":
        return [*rows, {"event": "finished", **{key: last[key] for key in ENDED if key in last}}]
    return [*rows, {"event": "stopped", "step": history.step}]


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"


def offered(run: Run, repo: str, license: str | None = None, quote: bool = False) -> dict[str, bytes]:
    """Exactly what a push would send: content by name, the card first."""
    files = model_files(RunFiles(run))
    compared = judged(run)
    text = card(run, repo, compared, license, quote)
    picture = curve.png(run.history().rows, compared.get("bigram"))
    return {"README.md": text.encode(), **files, **({"loss.png": picture} if picture else {})}


def push(
    run: Run, repo: str, token: str | None, *, private: bool = False, license: str | None = None, quote: bool = False,
    tell: Tell = lambda sentence: None,
) -> Pushed:  # fmt: skip
    """Put the public part of a run on the Hub as a model. NanoGPTError in one sentence where that cannot be done.

    Whether it may be done is asked before anything is sent. Pushed again, it makes a commit only if something changed.
    """
    tell("Asking the Hub who you are.")
    api, owner = signed_in(token)
    repo = repository(repo, owner)
    tell("Drawing the card.")
    files = offered(run, repo, license, quote)
    return publish(api, repo, "model", files, f"{run.name}, pushed with nanogpt", tell, dict(private=private))


def publish(
    api: HfApi, repo: str, kind: str, files: Mapping[str, bytes], message: str, tell: Tell, creation: dict[str, Any]
) -> Pushed:
    """Commit files to a repository of ours, made if it is not there. No commit if all of it is there already.

    `creation` is what create_repo takes for a new one. A repository with something else in it is left alone.
    """
    url = f"{constants.ENDPOINT}/{ABOVE[kind]}{repo}"
    with spoken(repo):
        tell(f"Asking whether you may write to {repo}.")
        head, notes = _open(api, repo, kind, creation, tell)
        names = {sibling.rfilename for sibling in head.siblings or []}
        _leave_alone(api, repo, kind, names, bool(head.private), bool(creation.get("private")))
        changed = _changed(api, repo, kind, head.sha, files)
        if "README.md" in changed and _edited(api, repo, kind, head.sha, names):
            del changed["README.md"]
            notes.append("Its card was changed by hand and stays as it is.")
        gone = [name for name in PUBLIC if name in names - files.keys()] if kind == "model" else []
        if not changed and not gone:
            return Pushed(url, "", tuple(notes))
        tell(f"Sending {len(changed)} file{'s' * (len(changed) != 1)}, {size(sum(map(len, changed.values())))}.")
        steps = [*map(CommitOperationAdd, changed, changed.values()), *map(CommitOperationDelete, gone)]
        # parent_commit: refused if somebody else has changed it since we looked
        done = api.create_commit(repo, steps, commit_message=message, repo_type=kind, parent_commit=head.sha)
    return Pushed(url, done.oid, tuple(notes))


def _open(api: HfApi, repo: str, kind: str, creation: dict[str, Any], tell: Tell) -> tuple[Any, list[str]]:
    """Return what the Hub says of a repository that we may write to, and notes for the reader; make it if need be."""
    notes = []
    try:
        head = api.repo_info(repo, repo_type=kind)
        if creation.get("space_hardware"):
            notes.append("It was there already: its hardware stays as it was, change it on the Hub under Settings.")
    except RepositoryNotFoundError:
        tell(f"Creating {repo}.")
        api.create_repo(repo, repo_type=kind, **creation)
        head = api.repo_info(repo, repo_type=kind)
    api.auth_check(repo, repo_type=kind, write=True)
    if head.private:
        notes.append("It is private: only you can see it.")
    return head, notes


def _leave_alone(api: HfApi, repo: str, kind: str, names: set[str], private: bool, wanted: bool) -> None:
    """NanoGPTError for a repository with something else in it, or that is public though private was asked for."""
    if not names & OURS and len(api.list_repo_commits(repo, repo_type=kind)) > 1:  # the first one is the Hub's own
        raise NanoGPTError(f"There is a {kind} {repo} already that was not made here; choose another name.")
    if wanted and not private:
        raise NanoGPTError(
            f"{repo} is there already, and public. Make it private on the Hub first, or push it as public; "
            "nothing was sent."
        )


def _edited(api: HfApi, repo: str, kind: str, revision: str | None, names: set[str]) -> bool:
    """Return whether a repository of ours, with these files, has a card that was rewritten since it was pushed."""
    if "README.md" not in names or not names & OURS:
        return False
    with tempfile.TemporaryDirectory() as folder:
        card = api.hf_hub_download(repo, "README.md", repo_type=kind, revision=revision, local_dir=folder)
        return not is_untouched(Path(card).read_text(encoding="utf-8"))


def _changed(api: HfApi, repo: str, kind: str, revision: str | None, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Those of the files that the repository has not, or has otherwise."""
    there = {}
    for found in api.get_paths_info(repo, list(files), repo_type=kind, revision=revision):
        there[found.path] = found.lfs.sha256 if getattr(found, "lfs", None) else getattr(found, "blob_id", "")
    git = lambda content: sha1(b"blob %d\0" % len(content) + content).hexdigest()
    same = lambda name, content: there.get(name) in (git(content), sha256(content).hexdigest())
    return {name: content for name, content in files.items() if not same(name, content)}


# ---- in: a repository as a run ---------------------------------------------------------------------------------------


def pull(
    repo: str, token: str | None, owner: str | None = None, named: Callable[[str], str] = free_name,
    tell: Tell = lambda sentence: None,
) -> Run:  # fmt: skip
    """A repository's model as a run that can write: one that was pushed, or any of the same form.

    NanoGPTError, and nothing left behind, where it is missing, too large, hostile or of another form. `owner` and
    `named` are as in `archive.unpack`.
    """
    repo = repository(repo)
    with archive.scratch(repo.split("/")[1]) as folder:
        tell(f"Asking what is in {repo}.")
        commit = _download(HfApi(token=token or False), repo, folder, tell)
        tell("Checking it.")
        try:
            _rewrite(folder, repo)
            return archive.adopt(folder, owner, named, pulled=dict(repo=repo, commit=commit))
        except (NanoGPTError, ValueError, OSError) as error:
            said = str(error) if isinstance(error, NanoGPTError) else "its files cannot be read."
            raise NanoGPTError(f"{repo} could not be taken in: {said}"[:300]) from None


def _download(api: HfApi, repo: str, folder: Path, tell: Tell) -> str:
    """WANTED of a repository into a folder, once their sizes are known to be bearable; the commit they are of."""
    with spoken(repo):
        head = api.model_info(repo)
        there = {
            found.path: getattr(found, "size", 0) for found in api.get_paths_info(repo, list(WANTED), revision=head.sha)
        }
        if missing := [name for name in NEEDED if name not in there]:
            raise NanoGPTError(
                f"{repo} has no {missing[0]}; only safetensors with their config and alphabet can be pulled."
            )
        for name, bytes_there in there.items():
            if bytes_there > (most := limits.archive_bytes(archive.FILES[name])):
                raise NanoGPTError(f"{name} of {repo} has {size(bytes_there)}; at most {size(most)} are taken.")
        for name, bytes_there in there.items():
            tell(f"Fetching {name}, {size(bytes_there)}.")
            path = Path(api.hf_hub_download(repo, name, revision=head.sha, local_dir=folder.parent / "fetched"))
            if path.stat().st_size != bytes_there:
                raise NanoGPTError(f"{name} of {repo} did not come whole; try again.")
            os.replace(path, folder / name)
        return str(head.sha)


def _rewrite(folder: Path, repo: str) -> None:
    """Read what came, and write it as this program would have: nothing else of the repository stays."""
    for path in folder.glob("*.json"):
        checks.read_object(path)
    config, tokenizer, model = read_config(folder), load_tokenizer(folder), load_model(folder)
    files: dict[str, str | bytes] = {**config_files(config), **tokenizer.files(config.block_size)}
    files["model.safetensors"] = weights_bytes(model)
    if (folder / "run.json").exists():
        files["run.json"] = json.dumps({**_public(checks.read_object(folder / "run.json")), "parent": None})
    else:  # somebody else's: what it was trained on and how is not known
        text = dict(id="0" * 16, name=f"a text that {repo} does not name", characters=1)
        about = dict(name=repo.split("/")[1], created=datetime.now(UTC).isoformat(timespec="seconds"), preset="")
        files["run.json"] = json.dumps(dict(about, parent=None, corpus=text, train={}, versions={}))
        files["metrics.jsonl"] = _line(dict(event="finished", step=0, message=f"Pulled from {repo}."))
    for name, content in files.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
