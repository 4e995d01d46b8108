"""Show what a job would cost, start it once you have agreed, and find running jobs again."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from .. import corpus, limits
from ..config import NanoGPTError
from ..disk import size
from ..durations import in_words
from ..errors import PROBLEMS, explain, say
from ..launch import local, prepare
from ..presets import pick
from ..runs import Job, Run, all_runs, job, job_of, open_job
from . import offer, parcel

FOLLOWER = "nanogpt.jobs.follow"
NOT_BACK = (
    "What the job before trained didn't come back. It may still be in {} on the Hub, together with your text. Delete "
    "that there once you don't need it."
)
AGAIN, DAY = 60.0, 86_400.0  # seconds until a job that was given up is tried again for the first time, and at most

# By run folder: how many followers `find_again` has started since it last saw one alive, and when the last one was
# started, by time.monotonic.
_begun: dict[Path, tuple[int, float]] = {}


@dataclass(frozen=True)
class Terms:
    """What a job would use and cost, to be confirmed before anything is uploaded."""

    hardware: offer.Hardware
    timeout: int  # seconds
    bytes: int  # to be uploaded
    owner: str  # who pays
    again: bool = False  # whether a checkpoint goes along

    def __str__(self) -> str:
        more = ", the checkpoint" if self.again else ""
        return (
            f"{self.hardware.name} ({self.hardware.about}) for {self.hardware.hourly}, billed to {self.owner}. It "
            f"costs at most {offer.at_most(self.hardware, self.timeout)}, since the job ends after "
            f"{in_words(self.timeout)} at the latest; when training is done, it ends at once. Your text leaves this "
            f"machine: the text, the settings{more} and nanogpt's code, {size(self.bytes)} in all, are uploaded to a "
            "private repository, which is deleted when the run is back. Your Hub token is passed to the job as a "
            "secret."
        )


def terms(
    api: HfApi,
    owner: str,
    hardware: str,
    text: corpus.Corpus,
    budget: float,
    timeout: float | None,
    run: Run | None = None,
) -> Terms:
    """Return what a job for a text would use and cost; `budget` is the training time, 0 for a fixed number of steps.

    With `run`, the job resumes that run. Raise NanoGPTError if the hardware or the time limit is not possible.
    """
    limit = offer.time_limit(budget, timeout)
    machine = offer.choose(offer.hardware(api), hardware)
    sent = len(parcel.code()) + sum((text.folder / name).stat().st_size for name in parcel.TEXT)
    kept = [run.folder / name for name in parcel.RUN if (run.folder / name).exists()] if run else []
    again = any(path.name == "last.safetensors" for path in kept)
    return Terms(machine, limit, sent + sum(path.stat().st_size for path in kept), owner, again)


def new_run(name: str, text: corpus.Corpus, preset_name: str, changes: Mapping[str, Any], agreed: Terms) -> Run:
    """Create a run whose job is still to be started, on the terms that were confirmed."""
    if limits.is_public():
        raise NanoGPTError("On a public server, runs train on the server itself.")
    limits.check_training()
    given = {key: value for key, value in changes.items() if value not in (None, "")}
    key, _, train = pick(preset_name, given)
    wish = dict(preset=key, changes=given) if train.budget else {}
    return prepare.for_elsewhere(name, text, key, dict(changes), {job.NAME: _job(agreed, wish).as_text})


def terms_to_resume(
    api: HfApi, owner: str, hardware: str, run: Run, changes: Mapping[str, Any], timeout: float | None
) -> Terms:
    """Return what a job that resumes a run, with `changes` to its length, would use and cost. Nothing is changed.

    Raise NanoGPTError if the run can't be resumed so, if `owner` can still bring back what its last job trained, or if
    the hardware or the time limit is not possible.
    """
    train, about = prepare.resumable(run, **changes), run.settings()["corpus"]
    if (there := open_job(run.folder)) and there.commit and there.namespace == owner:
        raise NanoGPTError(
            f"What the last job of {run.name} trained may still be on the Hub. Resume it without --on to bring it back."
        )
    left = max(1.0, train.budget - run.history().seconds) if train.budget else 0.0
    return terms(api, owner, hardware, corpus.load(about["id"], about["name"]), left, timeout, run)


def resumed(run: Run, agreed: Terms, changes: Mapping[str, Any]) -> None:
    """Give a run a job that resumes it, with `changes` to its length. Raise NanoGPTError if it can't be resumed so.

    If an earlier job was refused or lost before the first save, the new one chooses the model, too, for the new length.
    """
    train = prepare.resumable(run, **changes)
    before = None if (run.folder / "last.safetensors").exists() else job_of(run.folder)
    wish = before.wish if before and train.budget else {}
    if wish:
        wish = {**wish, "changes": {**wish["changes"], **changes}}
    prepare.set_length(run, train)
    known = _repositories(run)
    run.stop_file.unlink(missing_ok=True)  # of an earlier time
    _job(agreed, wish).having(run.folder, before=next(reversed(run.history().events), {}), **known)


def _repositories(run: Run) -> dict[str, list[str]]:
    """Return the repositories of a run's earlier jobs: those that are left to delete, and those that stay.

    That of a job which never came back stays, because it may hold what was paid for. Note that in the run.
    """
    there = job_of(run.folder)
    if there is None:
        return {}
    left, stay = there.to_delete, there.damaged
    if there.commit and not there.ended:
        left, stay = [one for one in left if one != there.repo], [*stay, there.repo]
        run.event("note", step=run.history().step, message=NOT_BACK.format(there.repo))
    return dict(left=left, damaged=stay)


def _job(agreed: Terms, wish: dict[str, Any]) -> Job:
    return Job(agreed.hardware.name, agreed.timeout, secrets.token_hex(6), wish)


def wanted_again(run: Run) -> None:
    """Forget that a run was to stop before its job could be started, because it is resumed now.

    Once its job may run, Stop stays: resuming the run passes it on.
    """
    there = job_of(run.folder)
    if there and not there.commit and not run.glance().busy:
        run.stop_file.unlink(missing_ok=True)


def follow(run: Run) -> None:
    """Start a process that follows the run's job, starting it first if it hasn't been, unless one follows it now."""
    if not is_followed(run):
        local.start(run, FOLLOWER)


def is_followed(run: Run) -> bool:
    """Return True if a process waits, trains or follows a job for the run, or deletes what was uploaded."""
    return run.glance().busy or run.is_being_cleaned_up()


def find_again(given_up: bool = True) -> list[str]:
    """Follow every job that is open or has left something on the Hub, and that no process follows. Return their runs.

    Unless those `given_up` are wanted, leave out jobs whose follower has said why it left, or has died just now, until
    another one `is_due`. A run whose follower can't be started is named on stderr.
    """
    found = []
    for run in all_runs():
        try:
            there = job_of(run.folder)
            if not there or not there.wants_follower or run.glance().state == "damaged":
                continue
            if is_followed(run):
                _begun.pop(run.folder, None)
            elif given_up or is_due(run, there):
                times, _ = _begun.get(run.folder, (0, 0.0))
                _begun[run.folder] = times + 1, time.monotonic()
                local.start(run, FOLLOWER)
                found.append(run.name)
        except PROBLEMS as error:  # the others still have their jobs
            say(f"nanogpt: the job of {run.name} can't be followed: {explain(error)}", sys.stderr)
    return found


def is_due(run: Run, there: Job) -> bool:
    """Return True if another follower is to be started for a job that none follows.

    If the last one has said why it left, only if a text is left on the Hub, or Stop to be passed on. Each time, twice
    as long passes before that: it may need someone to sign in, or a network.
    """
    if not there.problem:
        times, at = _begun.get(run.folder, (0, 0.0))
        return times == 0 or time.monotonic() > at + pause(times)
    waited = time.time() - (run.folder / job.NAME).stat().st_mtime
    return (there.ended or run.stop_file.exists()) and waited > pause(there.tries)


def pause(times: int) -> float:
    """Return how many seconds pass before a follower is started again, after so many that have left or died."""
    return min(AGAIN * 2.0 ** min(times, 20), DAY)
