"""Start `python app.py` in a moment: fork it off a process that has already imported torch, gradio and the page.

Importing them takes six seconds of processor time, and many tests want a server of their own. So each pytest
process keeps one prepared process (this file, run as a program), which imports all that once and then waits. For each
server, it forks a copy of itself; the copy takes over the environment, the folder and the output that the test named,
and runs app.py from its first line, as Python would. Only the imports are shared: no page was built before the fork.

This is for Linux only. Elsewhere, for other commands, and in tests with the fixture `real_process`, a server is a new
Python process.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 1_000_000  # bytes of a message

# --- in the tests ----------------------------------------------------------------------------------------------------


class Prepared:
    """The prepared process, which starts with the first server that a test asks for."""

    def __init__(self) -> None:
        self.environment = imported(os.environ)
        self.line, its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its_end:
            self.process = subprocess.Popen(
                [sys.executable, __file__, str(its_end.fileno())], cwd=ROOT, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"}, pass_fds=[its_end.fileno()],
            )  # fmt: skip

    def ask(self, *message: Any, files: tuple[int, ...] = ()) -> Any:
        socket.send_fds(self.line, [json.dumps(message).encode()], files)
        if answer := self.line.recv(LARGEST):
            return json.loads(answer)
        raise OSError(f"the prepared process has ended: {self.close()}")

    def close(self) -> str:
        """End the prepared process and return what it printed. Servers that were forked off it go on."""
        self.line.close()
        return self.process.communicate(timeout=60)[0]


class Forked:
    """A server that was forked off the prepared process, with the parts of `subprocess.Popen` that tests use."""

    def __init__(self, prepared: Prepared, arguments: list[str], environment: dict[str, str]):
        self.prepared, self.returncode = prepared, None
        sys.audit("subprocess.Popen", sys.executable, arguments, ROOT, environment)  # conftest.py counts processes
        reading, writing = os.pipe()
        self.pid: int = prepared.ask("start", arguments, environment, files=(writing,))
        os.close(writing)
        self.stdout = os.fdopen(reading, encoding="utf-8")

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, or None while the server runs."""
        if self.returncode is None:
            self.returncode = self.prepared.ask("poll", self.pid)
        return self.returncode

    def wait(self, timeout: float = 600) -> int:
        end = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("app.py", timeout)
            time.sleep(0.01)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # otherwise the number may belong to another process by now
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def imported(environment: Any) -> dict[str, str]:
    """Return the variables that an import may read. nanogpt reads its own later, each time it needs them."""
    later = ("NANOGPT_", "PYTEST_", "PYTHONUNBUFFERED")
    return {name: value for name, value in environment.items() if not name.startswith(later)}


_prepared: list[Prepared] = []  # at most one


def fork(command: list[str], cwd: Path, environment: dict[str, str]) -> Forked | None:
    """Fork a server, or return None if only a real process will do: the command or the environment is another."""
    if sys.platform != "linux" or command[:2] != [sys.executable, "app.py"] or cwd != ROOT:
        return None
    if not _prepared:
        _prepared.append(Prepared())
    [prepared] = _prepared
    if imported(environment) != prepared.environment:
        return None
    return Forked(prepared, command[1:], environment)


def close() -> None:
    """End the prepared process if there is one."""
    while _prepared:
        _prepared.pop().close()


# --- in the prepared process -----------------------------------------------------------------------------------------


def answer(line: socket.socket) -> list[str] | None:
    """Fork servers and report on them until the tests are done. Return in a fork, with the arguments of its server."""
    while True:
        message, files, _, _ = socket.recv_fds(line, LARGEST, 1)
        if not message:
            return None
        wish, *details = json.loads(message)
        if wish == "poll":
            pid, status = os.waitpid(details[0], os.WNOHANG)
            line.send(json.dumps(os.waitstatus_to_exitcode(status) if pid else None).encode())
            continue
        if pid := os.fork():
            os.close(files[0])
            line.send(json.dumps(pid).encode())
            continue
        arguments, environment = details
        become(environment, output=files[0])
        return arguments


def become(environment: dict[str, str], output: int) -> None:
    """Take over what a new process would be given."""
    os.setsid()
    for standard in (1, 2):
        os.dup2(output, standard)
    os.close(output)
    os.environ.clear()
    os.environ.update(environment)


def main() -> None:
    sys.path[0] = str(ROOT)  # as for app.py
    import nanogpt.ui.server  # noqa: F401  with the page, gradio and torch

    assert len(os.listdir("/proc/self/task")) == 1, "a fork would lack the threads that an import has started"
    gc.collect()
    gc.freeze()  # keeps garbage collection from writing to what forks share, which would copy it
    with socket.socket(fileno=int(sys.argv[1])) as line:
        arguments = answer(line)
    if arguments is not None:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main()
