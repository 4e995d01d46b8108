"""The job of a run that trains on Hugging Face Jobs: job.json in the run folder, from its start to the run's return.

The run's follower (jobs/follow.py) writes it before and after each stage, so that the next follower can continue from
there. It holds no token.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..disk import from_json, read, write_whole

NAME = "job.json"
LOST = "Training continues on Hugging Face Jobs, but nothing on this machine follows it. Resume the run to follow it."
NOT_STARTED = "Its job on Hugging Face Jobs was not started yet. Resume the run to start it."
UNFOLLOWED = (LOST, NOT_STARTED)
CLEANING = "The text of {} is being deleted from the Hub. Try again in a minute."
WAIT = 86_400.0  # seconds that a job may wait for its hardware: its time limit begins after that


@dataclass(frozen=True)
class Job:
    """A job, and how far its follower has come. Strings are empty until they are known."""

    hardware: str  # by the Hub's name, such as "a100-large"
    timeout: int  # seconds after which the Hub ends the job
    label: str  # random: by it, a follower finds a job whose id it could not write down
    wish: dict[str, Any] = field(default_factory=dict)  # what a time budget chooses the model from, there
    namespace: str = ""  # the account that pays
    commit: str = ""  # what was uploaded
    id: str = ""
    since: float = 0.0  # when it was uploaded, or a follower last tried to start it, in seconds since 1970
    stage: str = ""  # in words, for the page
    pieces: int = 0  # of the job's output that have been written to the run folder
    lines: int = 0  # other lines of its output
    sizes: dict[str, int] = field(default_factory=dict)  # of the files that grow, in bytes, after those pieces
    before: dict[str, Any] = field(default_factory=dict)  # the last event that the run had logged before this job
    ended: bool = False  # the run is back, or its job could not be started
    left: list[str] = field(default_factory=list)  # repositories to delete once the job has ended, also of earlier jobs
    damaged: list[str] = field(default_factory=list)  # repositories that stay: what came back is damaged, or it didn't
    problem: str = ""  # why the follower left, although the job may still run, or something is left to delete
    tries: int = 0  # how often a follower has left with a problem

    @property
    def repo(self) -> str:
        """Return the private repository through which text and run travel."""
        return f"{self.namespace}/nanogpt-job-{self.label}"

    @property
    def wants_follower(self) -> bool:
        """Return True if a follower has something to do: the job is open, or something is left to delete."""
        return not self.ended or bool(self.left)

    @property
    def is_out_of_reach(self) -> bool:
        """Return True if the last follower of the open job left with a problem, and the job must have ended by now.

        It may still come back, unless its account is gone. Nothing runs if nothing was uploaded.
        """
        if self.ended or not self.problem:
            return False
        return not self.commit or 0.0 < self.since < time.time() - self.timeout - WAIT

    @property
    def interrupted(self) -> str:
        """Return why no process follows the open job, in a sentence that says what to do."""
        return self.problem or (LOST if self.commit else NOT_STARTED)

    @property
    def leftover(self) -> str:
        """Return a sentence about what is left to delete once the job has ended, "" if nothing is."""
        if not (self.ended and self.left):
            return ""
        why = f" ({self.problem})" if self.problem else ""
        names, holds = " and ".join(self.left), "holds" if len(self.left) == 1 else "hold"
        return (
            f"{names} could not be deleted, which {holds} your text. Delete it on the Hub, or let the page try again "
            f"from time to time.{why}"
        )

    @property
    def repos(self) -> list[str]:
        """Return the repositories on the Hub that hold the run's text, unless someone has deleted them there."""
        return [*self.to_delete, *self.damaged]

    @property
    def to_delete(self) -> list[str]:
        """Return those repositories that are deleted once the job has ended."""
        own = [self.repo] if self.commit and not self.ended else []
        return [one for one in dict.fromkeys([*self.left, *own]) if one not in self.damaged]

    @property
    def as_text(self) -> str:
        """Return the contents of job.json."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False)

    def having(self, folder: Path, **changes: Any) -> Job:
        """Return the job with some fields changed, after writing it to the run folder."""
        changed = dataclasses.replace(self, **changes)
        write_whole(folder / NAME, changed.as_text)
        return changed


def job_of(folder: Path) -> Job | None:
    """Return the job that a run folder describes, or None if there is none or it can't be read."""
    try:
        known = {one.name for one in dataclasses.fields(Job)}  # another version may know other fields
        return Job(**{key: value for key, value in from_json(read(folder / NAME)).items() if key in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def open_job(folder: Path) -> Job | None:
    """Return the run's job if it has not ended and come back."""
    found = job_of(folder)
    return found if found and not found.ended else None
