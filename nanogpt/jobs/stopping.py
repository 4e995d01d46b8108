"""Pass Stop on to a job: ask it to save and end, or cancel it if it has nothing to save or takes too long."""

from __future__ import annotations

import time
from collections.abc import Callable

from huggingface_hub import HfApi

from ..config import NanoGPTError
from .progress import Progress
from .refusals import Missing, Unreachable, asked

GRACE = 180.0  # seconds that a job has to save and bring the run back before it is canceled
STOP_EACH = 5.0  # seconds between two tries to pass on Stop while the Hub doesn't accept it


class Stopping:
    """Looks whether a run is to stop, and sees to it that its job ends."""

    def __init__(self, progress: Progress, api: HfApi, tell: Callable[[str], object]):
        self.progress, self.api, self.tell = progress, api, tell
        self.stopped_at = 0.0  # when the Hub first answered to Stop, by time.monotonic
        self.next = 0.0  # when Stop is passed on next
        self.refused = ""  # why it was refused last

    def pass_on(self) -> None:
        """If the run is to stop, ask the job to save and end. Cancel it if it has nothing to save or takes too long."""
        now = time.monotonic()
        if now < self.next or not self.progress.run.stop_file.exists():
            return
        late = 0.0 < self.stopped_at <= now - GRACE
        self.next = now + STOP_EACH  # unless it is accepted
        try:
            if not late and (self.progress.job.pieces or self.has_begun()):
                self.ask_to_save()
            else:
                self.cancel()
            self.next = now + GRACE
        except (Unreachable, Missing):  # the follower finds out whether the job is gone, or new
            return
        except NanoGPTError as error:  # the job may be over; if not, try again: its time is billed
            if str(error) != self.refused:
                self.refused = str(error)
                self.tell(f"The job could not be stopped: {error}")
        self.stopped_at = self.stopped_at or now

    def has_begun(self) -> bool:
        """Return True if the job has a machine: it may have trained for hours, although no output was read yet."""
        job = self.progress.job
        with asked():
            return self.api.inspect_job(job_id=job.id, namespace=job.namespace).status.stage == "RUNNING"

    def ask_to_save(self) -> None:
        """Leave a file `stop` in the repository, which the job looks for. Cancel the job if the repository is gone."""
        repo = self.progress.job.repo
        try:
            with asked(repo):
                self.api.upload_file(path_or_fileobj=b"stop\n", path_in_repo="stop", repo_id=repo)
        except Missing:
            return self.cancel()
        self.tell("Asked the job to save and stop.")
        self.progress.stage("Waiting for the job to save")

    def cancel(self) -> None:
        """End the job now."""
        with asked():
            self.api.cancel_job(job_id=self.progress.job.id, namespace=self.progress.job.namespace)
