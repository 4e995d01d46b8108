"""Pull a repository from the Hub as a run: python -m nanogpt pull user/repo

A pull accepts only safetensors and JSON, and checks their sizes before downloading.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from huggingface_hub import HfApi

from .. import disk, limits
from ..config import NanoGPTError
from ..formats import config_files, load_model, read_config, weights_bytes
from ..runs import Run, archive, checks, free_name
from ..tokenizer import load_tokenizer
from .account import repository
from .hub_client import client
from .hub_errors import spoken
from .push import json_line, public_part
from .upload import Tell

NEEDED = ("config.json", "tokenizer.json", "model.safetensors")  # a repository without these can't be pulled
WANTED = (*NEEDED, "run.json", "metrics.jsonl")  # everything a pull may download


def pull(
    repo: str, token: str | None, owner: str | None = None, named: Callable[[str], str] = free_name,
    tell: Tell = lambda sentence: None, check_room: Callable[[int], None] = lambda size: None,
) -> Run:  # fmt: skip
    """Download a model as a run that you can sample from. It may be from nanogpt or any other in the same format.

    `owner`, `named` and `check_room` are as in `archive.unpack`. Raise NanoGPTError, and leave nothing behind, if the
    repository is missing, too large, malicious or in another format, and OSError if the disk is full.
    """
    repo = repository(repo)
    with archive.scratch(repo.split("/")[1]) as folder:
        tell(f"Looking at {repo}.")
        commit = _download(client(token), repo, folder, tell, check_room)
        tell("Checking the files.")
        try:
            rewrite(folder, repo)
            return archive.adopt(folder, owner, named, pulled=dict(repo=repo, commit=commit))
        except ValueError as error:  # a NanoGPTError is one, too
            why = str(error) if isinstance(error, NanoGPTError) else "its files cannot be read."
            raise NanoGPTError(f"Couldn't load {repo}: {why}"[:300]) from None


def _download(api: HfApi, repo: str, folder: Path, tell: Tell, check_room: Callable[[int], None]) -> str:
    """Download the WANTED files of a repository, if there is room for them and none is too large. Return the commit."""
    with spoken(repo):
        head = api.model_info(repo)
        there = {
            found.path: getattr(found, "size", 0) for found in api.get_paths_info(repo, list(WANTED), revision=head.sha)
        }
        if missing := [name for name in NEEDED if name not in there]:
            raise NanoGPTError(
                f"{repo} has no {missing[0]}. A model needs {NEEDED[0]}, {NEEDED[1]} and {NEEDED[2]} to be loaded."
            )
        for name, bytes_there in there.items():
            if bytes_there > (most := limits.archive_bytes(archive.FILES[name])):
                raise NanoGPTError(
                    f"{name} in {repo} is {disk.size(bytes_there)}; at most {disk.size(most)} is allowed."
                )
        check_room(sum(there.values()))
        for name, bytes_there in there.items():
            tell(f"Downloading {name}, {disk.size(bytes_there)}.")
            path = Path(api.hf_hub_download(repo, name, revision=head.sha, local_dir=folder.parent / archive.FETCHED))
            if path.stat().st_size != bytes_there:
                raise NanoGPTError(f"The download of {name} from {repo} is incomplete. Try again.")
            disk.move(path, folder / name)
        return str(head.sha)


def rewrite(folder: Path, repo: str) -> None:
    """Load the downloaded files and write them again ourselves, so that nothing else in them survives."""
    from ..model import count_parameters  # here, because it imports torch

    for path in folder.glob("*.json"):
        if path.name != "tokenizer.json":  # which may be large, and says what is wrong with it when it is loaded
            checks.read_object(path)
    config, tokenizer = read_config(folder), load_tokenizer(folder)
    limits.check_model(config, count_parameters(config))
    model = load_model(folder, config=config)
    files: dict[str, str | bytes] = {**config_files(config), **tokenizer.files(config.block_size)}
    files["model.safetensors"] = weights_bytes(model)
    if (folder / "run.json").exists():
        files["run.json"] = json.dumps({**public_part(checks.read_object(folder / "run.json")), "parent": None})
    else:  # not made with nanogpt, so the text and settings are unknown
        text = dict(id="0" * 16, name=f"an unknown text ({repo})", characters=1)
        about = dict(name=repo.split("/")[1], created=datetime.now(UTC).isoformat(timespec="seconds"), preset="")
        files["run.json"] = json.dumps(dict(about, parent=None, corpus=text, train={}, versions={}))
        files["metrics.jsonl"] = json_line(dict(event="finished", step=0, message=f"Pulled from {repo}."))
    for name, content in files.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
