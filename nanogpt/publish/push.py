"""Push a run to the Hub as a repository that transformers can load: python -m nanogpt push NAME user/repo

A push uploads the files in run_files.PUBLIC and nothing else, in one commit: never the text, the checkpoint, the log,
or anything about this machine or its owner.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .. import corpus
from ..config import NanoGPTError
from ..runs import History, Run
from ..runs.logs import COLUMNS
from . import curve
from .account import repository, signed_in
from .card import card, judged
from .run_files import MODEL, RunFiles
from .upload import Pushed, Tell, publish

ENDED = (
    "step",
    "val_loss",
    "best_val_loss",
    "last_val_loss",
    "val_characters",
    "message",
)  # public fields of a finished run's last event


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
