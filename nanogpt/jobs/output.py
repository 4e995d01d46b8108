"""Read what a job prints, as it prints it, and write it to the run folder."""

from __future__ import annotations

import contextlib
import queue as queues
import threading
import time

from huggingface_hub import HfApi

from ..config import NanoGPTError
from .feed import Mirror
from .progress import Progress
from .refusals import asked

EACH = 0.5  # second for which the output is read at a time
MOST = 10.0  # seconds at most between two connections


class Output:
    """A job's output. A thread reads it, over one connection after another, each of which repeats all of it."""

    def __init__(self, progress: Progress, api: HfApi):
        self.progress, self.api = progress, api
        self.mirror = Mirror(progress)
        self.lines: queues.Queue[str | None] = queues.Queue()  # None: the connection has ended
        self.pause = 1.0  # seconds before the next connection

    def connect(self) -> None:
        """Listen to the output, which comes from its beginning."""
        self.mirror.begin()
        try:
            threading.Thread(target=self.listen, daemon=True).start()
        except RuntimeError:  # the system allows no more threads for now
            self.lines.put(None)

    def connect_again(self) -> None:
        """Listen again after a while, because the connection has ended."""
        time.sleep(self.pause)
        self.pause = min(2 * self.pause, MOST)
        self.connect()

    def listen(self) -> None:
        """Put each line that the job prints into the queue, and None at the end, or when the connection breaks."""
        job = self.progress.job
        try:
            with asked():
                for line in self.api.fetch_job_logs(job_id=job.id, namespace=job.namespace, follow=True):
                    self.lines.put(line)
        except NanoGPTError:
            pass  # the follower finds out why
        finally:
            self.lines.put(None)

    def take(self) -> bool:
        """Write what has arrived, for up to `EACH` seconds. Return True if no more will come."""
        until = time.monotonic() + EACH
        line: str | None = ""
        with contextlib.suppress(queues.Empty):
            while line is not None and (left := until - time.monotonic()) > 0:
                line = self.lines.get(timeout=left)
                if line is not None:
                    self.mirror.take(line)
                    self.pause = 1.0
        self.mirror.count()
        return line is None
