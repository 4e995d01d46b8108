"""Bring a run back from its repository: download it, check every file, then put it in place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import RemoteEntryNotFoundError

from .. import disk
from ..config import NanoGPTError
from ..runs import History, Job, Run, archive, checks, job_of, snapshots
from .feed import GROWING, hash_of, with_our_facts
from .parcel import RUN
from .refusals import Missing, asked

SNAPSHOT = re.compile(r"snapshots/\d{1,12}\.safetensors")


class Damaged(NanoGPTError):
    """Raised when what a job uploaded is not its run."""


def bring_back(api: HfApi, repo: str, run: Run) -> bool:
    """Replace the run's files by those that its job uploaded last. Return False if there are none.

    Raise Damaged, and change nothing, if a file is not a run's or not what its hash says.
    """
    with archive.scratch("returned") as folder:
        try:
            if not _download(api, repo, folder):
                return False
        except Missing:
            return False
        try:
            _check(folder, run)
        except ValueError as error:  # a NanoGPTError is one, too
            why = str(error) if isinstance(error, NanoGPTError) else "run.json cannot be read."
            raise Damaged(why.replace(" Nothing was imported.", "")[:300]) from None
        _put_in_place(folder, run)
    return True


def _download(api: HfApi, repo: str, folder: Path) -> bool:
    """Download what the job uploaded last into an empty folder, as its list says. Return False if there is nothing."""
    with asked(repo):
        head = api.model_info(repo).sha
        there = folder.parent / archive.FETCHED
        fetch = lambda name: Path(api.hf_hub_download(repo, name, revision=head, local_dir=there))
        try:
            about = checks.read_object(fetch("back.json"))
        except RemoteEntryNotFoundError:  # its base class also means that the Hub could not be reached
            return False
        for name, wanted in _listed(about).items():
            if not (name in RUN or SNAPSHOT.fullmatch(name)):
                raise Damaged(f"The job returned {name[:80]!r}, which isn't part of a run.")
            path = fetch(f"back/{name}")
            if hash_of(disk.read(path)) != wanted:
                raise Damaged(f"{name} did not arrive as the job uploaded it.")
            (folder / name).parent.mkdir(exist_ok=True)
            disk.move(path, folder / name)
    return True


def _listed(about: dict[str, Any]) -> dict[str, str]:
    files = about.get("files")
    if not isinstance(files, dict) or not all(isinstance(part, str) for item in files.items() for part in item):
        raise Damaged("The job's list of files cannot be read.")
    return files


def _check(folder: Path, run: Run) -> None:
    """Check that the files are a run, and that it is this one."""
    if not (folder / "run.json").exists():
        raise Damaged("The job returned no run.json.")
    (folder / "run.json").write_text(
        with_our_facts(run, disk.read(folder / "run.json").decode("utf-8")), encoding="utf-8", newline=""
    )
    _cut_off_rest(folder / "metrics.jsonl")
    if (folder / "model.safetensors").exists():
        checks.check_folder(folder)
    elif (folder / "last.safetensors").exists() or (run.folder / "model.safetensors").exists():
        raise Damaged("The job returned no model.safetensors.")
    else:  # it ended before its first save
        checks.check_facts(folder)


def _cut_off_rest(path: Path) -> None:
    """Cut an unfinished last line off metrics.jsonl, if it is there."""
    if path.exists():
        data = disk.read(path)
        path.write_bytes(data[: data.rfind(b"\n") + 1])


def _put_in_place(folder: Path, run: Run) -> None:
    """Move the files into the run folder one by one, the log last: it says how the run ended.

    All of it reaches the disk, because the other copy is deleted afterwards. Earlier snapshots don't go to a job, so
    they stay: up to the step from which it resumed the run.
    """
    if (step := _first_step(folder, run)) is not None:
        snapshots.cut_back(run.folder, step)
    for path in (folder / "snapshots").glob("*"):
        (run.folder / "snapshots").mkdir(exist_ok=True)
        disk.move(path, run.folder / "snapshots" / path.name)
    files = [path for path in folder.iterdir() if path.is_file()]
    for path in sorted(files, key=lambda path: (path.name in GROWING, path.name == "metrics.jsonl")):
        disk.move(path, run.folder / path.name)
    for changed in (run.folder / "snapshots", run.folder):
        if changed.exists():
            disk.sync(changed)


def _first_step(folder: Path, run: Run) -> int | None:
    """Return the step from which the job trained the run, or None if it didn't come to that."""
    job, history = job_of(run.folder), History(folder)
    history.refresh()
    started = [event for event in _since(history.events, job.before if job else {}) if event["event"] == "started"]
    step = started[-1].get("step") if started else None
    return step if isinstance(step, int) else None


def last_event(run: Run, job: Job) -> str:
    """Return the kind of the last event that a run has logged in its job, or "" if there is none."""
    events = _since(run.history().events, job.before)
    return str(events[-1]["event"]) if events else ""


def _since(events: list[dict[str, Any]], before: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events after `before`; all of them if it isn't there, because the job has begun the log again."""
    return events[events.index(before) + 1 :] if before in events else events
