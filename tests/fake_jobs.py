"""Run the jobs of the fake Hub: each job's own command, for real, as a process in an environment of its own.

As in a container, the process has an empty home, a folder of its own, and no variables but the job's. Its Python has
what nanogpt needs, so nothing is installed, and nanogpt itself can't be imported: the job has to bring it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
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

import prepared

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
# The Python of a job. It writes down the command that trains, with its folder and environment.
PYTHON = """#!/bin/sh
if [ "$2" = nanogpt.jobs.remote ]; then exec {python} -c {write} {last} {python} "$@"; fi
exec {python} "$@"
"""
WRITE = "import json, os, sys; json.dump([sys.argv[2:], os.getcwd(), dict(os.environ)], open(sys.argv[1], 'w'))"
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
        last = self.have_its_last_command_written_down(image)
        self.started = time.time()
        timer = threading.Timer(self.spec["timeoutSeconds"], self.end, ["ERROR", "Job timeout"])
        timer.daemon = True
        timer.start()
        environment = {**image, **self.spec["environment"], **self.spec.get("secrets", {})}
        code = self.process_of(self.spec["command"], self.folder, environment)
        if last.exists():
            command, folder, environment = json.loads(last.read_bytes())
            code = self.process_of(command, Path(folder), environment | {prepared.BARE: "1"})
        timer.cancel()
        self.end("ERROR" if code else "COMPLETED", f"Job failed with exit code: {code}" if code else None)

    def have_its_last_command_written_down(self, image: dict[str, str]) -> Path:
        """Return the file into which the command goes that trains, instead of being run by the job's script.

        Thus it can be a copy of a process that has imported torch. See tests/prepared.py.
        """
        programs, last = self.folder / "programs", self.folder / "last.json"
        if sys.platform == "linux":
            programs.mkdir()
            program = PYTHON.format(python=shlex.quote(sys.executable), write=shlex.quote(WRITE), last=last)
            (programs / "python3").write_text(program, encoding="utf-8")
            (programs / "python3").chmod(0o755)
            image["PATH"] = os.pathsep.join([str(programs), image["PATH"]])
        return last

    def process_of(self, command: list[str], folder: Path, environment: dict[str, str]) -> int:
        """Run a command of the job, and return its exit status."""
        self.process = subprocess.Popen(
            command, cwd=folder, start_new_session=True, stdin=subprocess.DEVNULL, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace",
        )  # fmt: skip
        if self.stage in OVER:  # since just now
            self.kill()
        else:
            self.stage = "RUNNING"
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.lines.append(line.rstrip("\n"))
        return self.process.wait()

    def kill(self) -> None:
        """Kill every process of the job."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def end(self, stage: str, message: str | None = None) -> None:
        """End the job, with every process of it, without a warning."""
        if self.stage in OVER:
            return
        self.stage, self.message = stage, message
        self.seconds = int(time.time() - self.started) if self.started else 0
        self.kill()

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
