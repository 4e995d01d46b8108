"""Follow a run's job from this machine, as the run's trainer here: python -m nanogpt.jobs.follow NAME

It uploads the run, starts the job, writes its output to the run folder, passes on Stop, and brings the run back. It can
be killed at any moment: the job keeps running, job.json says which stage was reached, and the next follower continues
from there. It never ends a job because this machine has no network.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TypeVar

from huggingface_hub import CommitOperationAdd, JobInfo, get_token

from ..config import NanoGPTError
from ..durations import in_words
from ..errors import PROBLEMS, explain, open_streams, say
from ..publish import hub_errors
from ..publish.hub_client import client
from ..runs import Busy, Job, Run, job_of, queue
from . import parcel
from .back import Damaged, bring_back, last_event
from .leftovers import clean_up
from .output import Output
from .progress import TRIES, Progress
from .refusals import Missing, Unclear, Unreachable, asked
from .stopping import Stopping

LABEL = "nanogpt-run"
INSPECT_EACH = 10.0  # seconds between two questions whether the job still runs
LAST_LINES = 15.0  # seconds to wait for the rest of the output when the job is over
APPEARS = 60.0  # seconds within which the Hub must know a job
OVER = ("COMPLETED", "CANCELED", "ERROR", "DELETED")
NOT_STOPPED = (
    "The Hub can't be reached, so the job could not be stopped. It ends by itself after {} at the latest. Resume the "
    "run to try to stop it again."
)
NOT_BACK = "The Hub can't be reached, so the run could not be brought back yet. Resume the run to try again."
STOPPED = "Stopped before the job started; nothing was billed."
T = TypeVar("T")


class Gone(NanoGPTError):
    """Raised when the job can't be started, so that the run has failed and nothing is billed."""


def main(name: str, tell: Callable[[str], object] = say) -> int:
    """Follow a run's job until the run is back, and return the exit status."""
    run = Run(name)
    try:
        with queue.arrived(name), run.held():
            canceled = queue.withdrawal(name) is not None
            queue.drop(name)  # it waits for no device of this machine
            return attempt(run, canceled, tell)
    except Busy as error:
        say(str(error), sys.stderr)
    except PROBLEMS as error:
        say(f"nanogpt: {explain(error)}", sys.stderr)
    return 1


def attempt(run: Run, canceled: bool, tell: Callable[[str], object]) -> int:
    """Follow a run whose only follower this process is. What goes wrong is written to its folder."""
    job = job_of(run.folder)
    if canceled and job:
        job = withdrawn(run, job)
    if job is None or not job.wants_follower:
        return 0
    follower = Follower(run, job.having(run.folder, problem=""), tell)
    try:
        follower.go()
    except Gone as error:
        follower.give_up(str(error))
        return 1
    except PROBLEMS as error:
        follower.leave(error)
        return 1
    return 1 if follower.job.left else 0


def withdrawn(run: Run, job: Job) -> Job:
    """Do what Stop asked for before the run's follower arrived, and return the job."""
    if job.ended:
        queue.forget(run.name)  # too late: the run is back
    elif job.commit:
        run.stop_file.touch()
    else:
        job = job.having(run.folder, ended=True)
        run.cancel()
    return job


class Follower:
    """Takes a run to its job and back."""

    def __init__(self, run: Run, job: Job, tell: Callable[[str], object]):
        self.run, self.tell = run, tell
        self.progress = Progress(run, job)
        self.api, self.owner = client(None), ""  # until `sign_in`
        self.began = time.monotonic()  # or when the job was started

    @property
    def job(self) -> Job:
        """Return the job as it is noted now."""
        return self.progress.job

    # ---- the stages, each of which may be repeated -------------------------------------------------------------------

    def go(self) -> None:
        """Do the remaining stages."""
        self.progress.stage("Signing in to the Hub")
        self.sign_in()
        if self.job.ended:
            return clean_up(self.progress, self.api, self.owner)
        if not self.job.id:
            self.begin()
        else:
            self.progress.stage("")  # until its output or `inspect` says more
        self.come_back(self.watch())
        self.close()

    def sign_in(self) -> None:
        """Sign in with this machine's saved token. Raise Gone if there is none and nothing has begun."""
        try:
            token = get_token()
            if not token:
                raise NanoGPTError(hub_errors.NO_TOKEN)
            self.api = client(token)
            # once something may run or wait on the Hub, a machine that has no network yet is no reason to leave
            tries = TRIES if self.job.ended else None if self.job.commit else 1
            self.owner = self.progress.patiently(self.whoami, tries, cannot=self.not_stopped)
        except NanoGPTError as error:
            raise self.fatal(error) from None
        if not self.job.namespace:
            self.progress.change(namespace=self.owner)
        elif self.owner != self.job.namespace and not self.job.ended:
            raise NanoGPTError(
                f"The job belongs to {self.job.namespace}, and {self.owner} is signed in. Sign in as its owner."
            )

    @property
    def not_stopped(self) -> str:
        """Return what can't be done if Stop comes while the Hub can't be reached."""
        return NOT_STOPPED.format(in_words(self.job.timeout))

    def whoami(self) -> str:
        """Return the name of the account that is signed in."""
        with asked():
            return str(self.api.whoami()["name"])

    def begin(self) -> None:
        """Upload the run and start its job, unless a follower that was killed has started it."""
        if self.job.commit and (found := self.progress.patiently(self.find, cannot=self.not_stopped)):
            self.progress.change(id=found, stage="")
            return
        self.heed_stop()
        if not self.job.commit:
            # noted before it is there: if this process is killed, the next one deletes it
            self.progress.change(
                stage="Uploading the text and the settings", left=[*dict.fromkeys([*self.job.left, self.job.repo])]
            )
            self.progress.change(commit=self.or_give_up(self.upload), since=time.time())
            self.heed_stop()
        self.progress.change(stage="Starting the job", since=time.time())
        self.progress.change(id=self.or_give_up(self.start))
        self.began = time.monotonic()
        self.tell(f"Job {self.job.namespace}/{self.job.id} is waiting for {self.job.hardware}.")
        self.progress.stage(f"Waiting for {self.job.hardware}")

    def heed_stop(self) -> None:
        """Raise Gone if the run is to stop, now that there is no job yet."""
        if self.run.stop_file.exists():
            raise Gone(STOPPED)

    def upload(self) -> str:
        """Upload the run to a private repository of its own. Return the commit."""
        files, job = parcel.offered(self.run, self.job), self.job
        with asked(job.repo):
            self.api.create_repo(job.repo, private=True, exist_ok=True)
            if not self.api.model_info(job.repo).private:
                raise NanoGPTError(f"{job.repo} is public, so the text was not uploaded. Delete it and try again.")
            steps = [CommitOperationAdd(name, content) for name, content in files.items()]
            return self.api.create_commit(job.repo, steps, commit_message="nanogpt: a run").oid

    def start(self) -> str:
        """Start the job and return its id. A try whose answer was lost may have started it, so look first."""
        if found := self.find():
            return found
        with asked(starting=True):
            return self.api.run_job(
                image=parcel.IMAGE, command=parcel.command(self.run, self.job), flavor=self.job.hardware,
                timeout=self.job.timeout, env=parcel.environment(), secrets={"HF_TOKEN": self.api.token},
                labels={LABEL: self.job.label}, name=f"nanogpt-{self.run.name}", namespace=self.job.namespace,
            ).id  # fmt: skip

    def find(self) -> str:
        """Return the id of this run's job, or "" if there is none."""
        with asked():
            found = self.api.list_jobs(labels={LABEL: self.job.label}, namespace=self.job.namespace)
            return next((one.id for one in found), "")

    def watch(self) -> str:
        """Write the job's output to the run folder until the job is over. Return why it ended, "" if by itself."""
        output, stopping = Output(self.progress, self.api), Stopping(self.progress, self.api, self.tell)
        looked = over = 0.0
        output.connect()
        while True:
            closed = output.take()
            stopping.pass_on()
            if closed or time.monotonic() > looked + INSPECT_EACH:
                looked = time.monotonic()
                reason = self.inspect()
                over = 0.0 if reason is None else over or looked
                if reason is not None and (closed or looked > over + LAST_LINES):
                    return reason
            if closed:
                output.connect_again()

    def inspect(self) -> str | None:
        """Return why the job ended, "" if by itself, or None if it still runs or the Hub can't be reached."""
        try:
            with asked():
                found = self.api.inspect_job(job_id=self.job.id, namespace=self.job.namespace)
        except Unreachable:
            self.progress.wait_for_the_hub()
            return None
        except Missing:  # a new job may take a moment to appear
            return "The Hub doesn't know the job anymore." if time.monotonic() > self.began + APPEARS else None
        self.progress.hub_answered()
        stage = found.status.stage
        if stage in OVER:
            return why_ended(found, self.job.timeout)
        if not self.job.pieces:
            waits = f"Waiting for {self.job.hardware}"
            self.progress.stage("Installing PyTorch on the job's machine" if stage == "RUNNING" else waits)
        return None

    def come_back(self, reason: str) -> None:
        """Bring the run back, and say in its folder how it ended."""
        self.progress.stage("Bringing the run back")
        try:
            there = self.progress.patiently(lambda: bring_back(self.api, self.job.repo, self.run), cannot=NOT_BACK)
        except Damaged as error:
            self.run.event("failed", message=f"{error} What the job uploaded is kept in {self.job.repo} on the Hub.")
            self.progress.change(damaged=[*dict.fromkeys([*self.job.damaged, self.job.repo])])
            return
        last = last_event(self.run, self.job)
        if last in ("", "started") or (last != "failed" and not there):
            self.last_words(reason, there)

    def last_words(self, reason: str, there: bool) -> None:
        """Say in the run folder how a run ended that could not say so itself."""
        stopped, before = self.run.stop_file.exists(), (self.run.folder / "last.safetensors").exists()
        if stopped and not there:
            new = "new " if before else ""
            return self.run.event("stopped", message=f"Stopped before anything {new}was saved.")
        if there:
            kept = "The run is back as it was saved last; resume it to continue."
        elif before:
            kept = "Nothing new was saved; resume it to continue from its last checkpoint."
        else:
            kept = "Nothing had been saved."
        why = reason or f"The job {'ended early' if there else 'could not upload the run'}; see the log."
        self.run.event("stopped" if stopped else "failed", message=f"{why} {kept}")

    def close(self) -> None:
        """Note that the job is over, and delete what was uploaded."""
        self.progress.end()
        clean_up(self.progress, self.api, self.owner)

    # ---- what goes wrong ---------------------------------------------------------------------------------------------

    def give_up(self, message: str) -> None:
        """End a run whose job could not be started, or was stopped before."""
        stopped = self.run.stop_file.exists()
        self.progress.end()
        self.run.event("stopped" if stopped else "failed", message=STOPPED if stopped else message)
        if self.owner:  # without an account, the Hub would say that there is nothing to delete
            clean_up(self.progress, self.api, self.owner)

    def leave(self, error: NanoGPTError | OSError | MemoryError) -> None:
        """Leave a job that may still run; or give it up if it hasn't begun and the run is to stop."""
        if self.run.stop_file.exists() and not self.job.commit and not self.job.ended:
            self.give_up(STOPPED)
        else:
            self.progress.leave(explain(error))

    def fatal(self, error: NanoGPTError) -> NanoGPTError:
        """Return the error that ends the run, if it has no job and trying again can't help; else the error itself."""
        if self.job.commit or self.job.ended or isinstance(error, Unreachable | Unclear):
            return error
        return Gone(str(error))

    def or_give_up(self, attempt: Callable[[], T]) -> T:
        """Try `TRIES` times to reach the Hub. Raise Gone if it refuses."""
        try:
            return self.progress.patiently(attempt, TRIES)
        except (Unreachable, Unclear):
            raise
        except NanoGPTError as error:
            raise Gone(str(error)) from None


def why_ended(found: JobInfo, timeout: int) -> str:
    """Return why a job is over, in a sentence; "" if it ended by itself."""
    if found.status.stage == "COMPLETED":
        return ""
    if found.status.stage == "CANCELED":
        return "The job was canceled."
    if found.durations and (found.durations.running_secs or 0) >= timeout - 2:
        return f"The job reached its time limit of {in_words(timeout)}."
    message = " ".join(str(found.status.message or "").split())[:200].rstrip(".")
    return f"The job's machine ended it{f' ({message})' if message else ''}."


if __name__ == "__main__":
    open_streams()
    sys.exit(main(sys.argv[1]))
