"""Note in job.json how far a run's job has come, and ask the Hub until it answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from ..runs import Job, Run
from .refusals import Unreachable

PATIENCE = 30.0  # seconds at most between two tries to reach the Hub
TRIES = 4  # while nothing is lost by leaving
WAITING = "Waiting for the Hub to answer"
T = TypeVar("T")


class Progress:
    """A run's job, which the parts of its follower share. What they change is in job.json at once."""

    def __init__(self, run: Run, job: Job):
        self.run, self.job = run, job
        self.before = ""  # the stage before the Hub didn't answer

    # ---- what is noted ---------------------------------------------------------------------------------------------

    def change(self, **changes: object) -> None:
        """Note some fields of the job."""
        self.job = self.job.having(self.run.folder, **changes)

    def stage(self, words: str) -> None:
        """Note what is going on, for the page."""
        if words != self.job.stage:
            self.change(stage=words)

    def end(self) -> None:
        """Note that the job is over: the run is free from now on, and what was uploaded is left to delete."""
        self.change(ended=True, stage="", left=self.job.to_delete)

    def leave(self, message: str) -> None:
        """Note why the follower leaves a job that may still run, or has left something on the Hub."""
        again = "" if self.job.ended or "sume the run" in message else " Then resume the run to follow its job again."
        self.change(problem=f"{message}{again}", stage="", tries=self.job.tries + 1)

    # ---- asking the Hub --------------------------------------------------------------------------------------------

    def patiently(self, attempt: Callable[[], T], tries: int | None = None, cannot: str = "") -> T:
        """Try until the Hub can be reached, waiting longer each time, or raise Unreachable after so many `tries`.

        Stop ends the waiting, too, if a sentence says what `cannot` be done then: the run couldn't be stopped, resumed
        or deleted meanwhile.
        """
        failed = 0
        while True:
            try:
                done = attempt()
                self.hub_answered()
                return done
            except Unreachable:
                failed += 1
                if failed == tries:
                    raise
                if cannot and failed >= TRIES and self.run.stop_file.exists():
                    raise Unreachable(cannot) from None
            self.wait_for_the_hub()
            time.sleep(min(PATIENCE, 2.0 ** min(failed, 9)))

    def wait_for_the_hub(self) -> None:
        """Note for the page that the Hub doesn't answer."""
        if self.job.stage != WAITING:
            self.before = self.job.stage
            self.stage(WAITING)

    def hub_answered(self) -> None:
        """Note for the page what was going on before the Hub didn't answer."""
        if self.job.stage == WAITING:
            self.stage(self.before)
