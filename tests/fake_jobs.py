"""Run the jobs of the fake Hub: each job's own command, for real, as a process in an environment of its own.

As in a container, the process has an empty home, a folder of its own, and no variables but the job's. Its Python has
what nanogpt needs, so nothing is installed, and nanogpt itself can't be imported: the job has to bring it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

HARDWARE = [
    dict(name="cpu-upgrade", prettyName="CPU Upgrade", cpu="8 vCPU", ram="32 GB", accelerator=None,
         unitCostMicroUSD=500, unitCostUSD=0.0005, unitLabel="minute"),
    dict(name="t4-small", prettyName="Nvidia T4 - small", cpu="4 vCPU", ram="15 GB",
         accelerator=dict(type="gpu", model="T4", quantity="1", vram="16 GB", manufacturer="Nvidia"),
         unitCostMicroUSD=6667, unitCostUSD=0.006667, unitLabel="minute"),
    dict(name="a100-large", prettyName="Nvidia A100 - large", cpu="12 vCPU", ram="142 GB",
         accelerator=dict(type="gpu", model="A100", quantity="1", vram="80 GB", manufacturer="Nvidia"),
         unitCostMicroUSD=41667, unitCostUSD=0.041667, unitLabel="minute"),
    dict(name="h200x8", prettyName="Nvidia H200 - 8x", cpu="184 vCPU", ram="2048 GB",
         accelerator=dict(type="gpu", model="H200", quantity="8", vram="1128 GB", manufacturer="Nvidia"),
         unitCostMicroUSD=666667, unitCostUSD=0.666667, unitLabel="minute"),
]  # fmt: skip
OVER = ("COMPLETED", "CANCELED", "ERROR", "DELETED")
EACH = 0.05  # seconds between two looks
TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


class FakeJob:
    """One job: its specification, its process, and what it printed."""

    def __init__(self, number: int, spec: dict, owner: str, waits: float):
        self.id, self.spec, self.owner, self.waits = f"{number:024x}", spec, owner, waits
        self.stage, self.message, self.lines = "SCHEDULING", None, []
        self.created, self.started, self.seconds = time.time(), 0.0, 0
        self.folder = Path(tempfile.mkdtemp(prefix="fake-job-"))
        self.process: subprocess.Popen | None = None
        self.cut = False  # whether connections to the log break
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        time.sleep(self.waits)
        if self.stage != "SCHEDULING":
            return
        (self.folder / "home").mkdir()
        (self.folder / "tmp").mkdir()
        image = dict(
            PATH=os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]), OMP_NUM_THREADS="1",
            HOME=str(self.folder / "home"), TMPDIR=str(self.folder / "tmp"), HF_HUB_DISABLE_XET="1",
            HF_HUB_DISABLE_TELEMETRY="1",
        )  # fmt: skip
        self.started = time.time()
        self.process = subprocess.Popen(
            self.spec["command"], cwd=self.folder, start_new_session=True, stdin=subprocess.DEVNULL,
            env={**image, **self.spec["environment"], **self.spec.get("secrets", {})},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace",
        )  # fmt: skip
        self.stage = "RUNNING"
        timer = threading.Timer(self.spec["timeoutSeconds"], self.end, ["ERROR", "Job timeout"])
        timer.daemon = True
        timer.start()
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
        code = self.process.wait()
        timer.cancel()
        self.process.stdout.close()
        self.end("ERROR" if code else "COMPLETED", f"Job failed with exit code: {code}" if code else None)

    def end(self, stage: str, message: str | None = None) -> None:
        """End the job, with every process of it, without a warning."""
        if self.stage in OVER:
            return
        self.stage, self.message = stage, message
        self.seconds = int(time.time() - self.started) if self.started else 0
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        self.end("DELETED")
        if self.process is not None:
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def facts(self) -> dict:
        """Return what the Hub says about the job. Secrets are left out."""
        at = datetime.fromtimestamp(self.created, UTC).strftime(TIME)
        ran = self.seconds or (int(time.time() - self.started) if self.started else 0)
        return dict(
            id=self.id, createdAt=at, dockerImage=self.spec.get("dockerImage"), command=self.spec["command"],
            environment=self.spec["environment"], flavor=self.spec["flavor"], labels=self.spec["labels"],
            status=dict(stage=self.stage, message=self.message), owner=dict(id="1", name=self.owner, type="user"),
            durations=dict(schedulingSecs=0, runningSecs=ran, totalSecs=ran),
        )  # fmt: skip

    def events(self) -> Iterator[bytes]:
        """Yield the log as server-sent events until the job is over."""
        sent = 0
        while not self.cut:
            over = self.stage in OVER
            for line in self.lines[sent:]:
                sent += 1
                at = datetime.now(UTC).strftime(TIME)
                yield b"data: " + json.dumps(dict(data=line, timestamp=at)).encode() + b"\n\n"
            if over:
                return
            time.sleep(EACH)


class Jobs:
    """All jobs of the fake Hub."""

    def __init__(self) -> None:
        self.made: dict[str, FakeJob] = {}
        self.waits = 0.0  # seconds that the next jobs wait for hardware

    def new(self, spec: dict, owner: str) -> FakeJob:
        job = FakeJob(len(self.made) + 1, spec, owner, self.waits)
        self.made[job.id] = job
        return job

    def close(self) -> None:
        for job in self.made.values():
            job.close()
