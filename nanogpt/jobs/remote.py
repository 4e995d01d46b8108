"""The program inside a job: python -m nanogpt.jobs.remote REPO RUN SECONDS

It settles the run's settings on the job's hardware, starts the trainer, prints what the run folder gains, and uploads
the folder every ten minutes and at the end. It ends training in time: before the job's limit, when the repository has a
file `stop`, and when the container is told to end. The trainer never sees the token.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from huggingface_hub import CommitOperationAdd

from .. import corpus, disk, paths
from ..config import NanoGPTError
from ..errors import PROBLEMS, explain, open_streams, say
from ..launch import trainer
from ..publish.hub_client import client
from ..runs import Run, snapshots
from .feed import Feed, hash_of
from .parcel import RUN
from .refusals import Unreachable, asked

EACH = 1.0  # second between two looks at the run folder
STOP_EACH = 5.0  # seconds between two looks for `stop`
UPLOAD_EACH = 600.0  # seconds of training that a lost machine may cost
LONGEST = 360.0  # seconds that an upload takes at most, when the Hub stays silent at each of the client's tries
RESERVE = 90.0  # seconds before the limit at which training ends, to bring the run back
MARGIN = 20.0  # seconds before that at which the trainer ends by itself, and says why; it takes seconds to start
PAUSE = 30.0  # seconds at most between two tries of the last upload


class Errand:
    """One run inside a job."""

    def __init__(self, repo: str, name: str, limit: float):
        self.api, self.repo, self.run = client(os.environ.pop("HF_TOKEN", None)), repo, Run(name)
        self.ends = float(os.environ.get("NANOGPT_JOB_BEGAN") or time.time()) + limit
        self.deadline = self.ends - RESERVE
        self.feed = Feed(self.run.folder, say)
        self.uploaded: Any = None  # the version of the checkpoint that was uploaded last

    def go(self) -> int:
        """Train the run and bring it back. Return the exit status."""
        try:
            settle(self.run)
        except Exception as error:  # as the trainer would, so that the run says why
            trainer.record(self.run, error)
        else:
            self.train()
        self.feed.look()
        return 0 if self.upload(ended=True) else 1

    def train(self) -> None:
        """Run the trainer until it ends, and follow it."""
        left = max(1, int(self.deadline - time.time() - MARGIN))
        environment = {**paths.environment(), "NANOGPT_MAX_SECONDS": str(left)}
        command = [sys.executable, "-m", "nanogpt.launch.trainer", self.run.name]
        with disk.opened(self.run.folder / "log.txt", "ab") as log:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
        signal.signal(signal.SIGTERM, lambda *_: self.run.stop_file.touch())
        asked_at, uploaded_at = 0.0, time.monotonic()
        while child.poll() is None:
            self.feed.look()
            now = time.monotonic()
            if now > asked_at + STOP_EACH:
                asked_at = now
                if time.time() > self.deadline or self.is_asked_to_stop():
                    self.run.stop_file.touch()
            if now > uploaded_at + UPLOAD_EACH and self.has_time_to_upload():
                uploaded_at = now
                self.upload()
            time.sleep(EACH)

    def has_time_to_upload(self) -> bool:
        """Return True if an upload that begins now is over at the deadline: the last one waits for it."""
        return time.time() + LONGEST < self.deadline

    def is_asked_to_stop(self) -> bool:
        """Return True if the repository has a file `stop`."""
        try:
            with asked(self.repo):
                return bool(self.api.file_exists(self.repo, "stop"))
        except NanoGPTError:
            return False  # the network; the next look will tell

    def upload(self, ended: bool = False) -> bool:
        """Upload the run folder in one commit, with the hash of each file. Return False if that failed.

        Once the run has `ended`, this is all that is left of it, so try as long as the job may run.
        """
        version = disk.version(self.run.folder / "last.safetensors")
        if not ended and version in (None, self.uploaded):
            return True
        files = self.files()
        about = dict(ended=ended, files={name: hash_of(content) for name, content in files.items()})
        packed = {f"back/{name}": content for name, content in files.items()} | {
            "back.json": json.dumps(about).encode()
        }
        steps = [CommitOperationAdd(name, content) for name, content in packed.items()]
        commit = lambda: self.api.create_commit(self.repo, steps, commit_message="nanogpt: the run so far")
        try:
            done = again(lambda: self.attempt(commit), self.ends if ended else 0.0)
        except NanoGPTError as error:  # another try can't help
            done = say_failed(error)
        if done:
            self.uploaded = version
        return done

    def files(self) -> dict[str, bytes]:
        """Return the contents of the run's files and of its snapshots, by name."""
        found = {name: disk.read(path) for name in RUN if (path := self.run.folder / name).exists()}
        kept = [snapshots.path_of(self.run.folder, step) for step in snapshots.steps_in(self.run.folder)]
        return found | {f"snapshots/{path.name}": disk.read(path) for path in kept}

    def attempt(self, commit: Callable[[], Any]) -> bool:
        """Commit. Print why if the Hub can't be reached, and return False. Raise NanoGPTError if it refuses."""
        try:
            with asked(self.repo):
                commit()
            return True
        except Unreachable as error:
            return say_failed(error)


def say_failed(error: NanoGPTError) -> bool:
    """Print why the run could not be uploaded, and return False."""
    say(f"The run could not be uploaded: {error}")
    return False


def settle(run: Run) -> None:
    """Settle what depends on the hardware: for a time budget, the model. Raise NanoGPTError if it can't be trained."""
    wish: dict[str, Any] = disk.from_json(disk.read(paths.home().parent / "wish.json"))
    if wish:
        from ..launch import prepare  # here, because it imports torch, which the trainer does, too

        about = run.settings()["corpus"]
        text = corpus.load(about["id"], about["name"])
        prepare.settle(run, text, wish["preset"], wish["changes"])


def again(attempt: Callable[[], bool], until: float) -> bool:
    """Attempt something until it succeeds, waiting longer each time, or until then (`time.time`). Return True if so."""
    pause = 1.0
    while not attempt():
        if time.time() + pause > until:
            return False
        time.sleep(pause)
        pause = min(2 * pause, PAUSE)
    return True


if __name__ == "__main__":
    open_streams()
    try:
        sys.exit(Errand(sys.argv[1], sys.argv[2], float(sys.argv[3])).go())
    except PROBLEMS as error:
        sys.exit(f"nanogpt: {explain(error)}")
