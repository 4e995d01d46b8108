"""Start `python app.py` and `python -m nanogpt` in a moment: as forks of a process that has imported all they need.

Importing torch and gradio takes six seconds of processor time, and many tests want a server or a trainer of their own.
So each pytest process keeps one prepared process (this file, run as a program), which imports them once and then waits.
When a test, or the code that it tests, starts such a command with `subprocess`, the prepared process forks a copy of
itself. The copy becomes a child of the process that asked, takes over the arguments, the environment, the folder and
the files, and runs the command from its first line, as Python would. Only the imports are shared: no page was built
before the fork. Each copy has another copy ready, for what it starts in turn: a server its trainers, a trainer the
other processes of its run.

The modules of `benchmarks` are started like those of nanogpt. A program that brings its own nanogpt is a copy of
another process, which has imported torch only.

This is for Linux only. Elsewhere, for other commands, and in tests with the fixture `real_process`, a process is a new
Python process.
"""

from __future__ import annotations

import ctypes
import gc
import io
import json
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 200_000  # bytes of a message
ADOPT = 36  # PR_SET_CHILD_SUBREAPER in sys/prctl.h
LATER = (  # how the variables begin that are read when needed, not by an import, or that an import sets
    "NANOGPT_", "PYTEST_", "HF_TOKEN", "PYTHONIOENCODING", "RANK", "WORLD_SIZE", "MASTER_", "GLOO_SOCKET_IFNAME",
    "ONEDNN_PRIMITIVE_CACHE_", "LRU_CACHE_CAPACITY", "GOMP_SPINCOUNT", "TORCHINDUCTOR_CACHE_DIR", "GRADIO_ANALYTICS_",
    "HF_HUB_DISABLE_TELEMETRY", "NO_PROXY", "no_proxy",
)  # fmt: skip
SAME = ("PYTHONUNBUFFERED", "PYTHONPATH", "PYTHONSAFEPATH")  # `asked` and `become` look at these

new_process: Any = getattr(subprocess, "_fork_exec", None)  # what subprocess.Popen calls
OURS = ("nanogpt", "benchmarks")  # the packages whose modules a copy can run with -m
BARE = "NANOGPT_TESTS_BARE"  # a command with this variable brings its own nanogpt

copies: dict[str, Copies] = {}  # the prepared process, by where its nanogpt is, or "" if it has imported none
usual: dict[str, str] = {}  # the environment in which copies have imported things
lock = threading.Lock()

# --- in a process that starts others ---------------------------------------------------------------------------------


class Copies:
    """A prepared process, as the process sees it that asks for copies."""

    def __init__(self, line: socket.socket, process: subprocess.Popen | None = None):
        self.line, self.process = line, process

    def start(self, *work: Any, files: list[int]) -> int:
        """Have a copy run a command, and return its process id. It is a child of this process."""
        adopt(True)
        try:
            socket.send_fds(self.line, [json.dumps(work).encode()], files)
            answer = self.line.recv(LARGEST)
        finally:
            adopt(False)
        if not answer:
            raise OSError("The prepared process has ended.")
        return int(answer)

    def close(self) -> None:
        """End the prepared process. Its copies go on."""
        self.line.close()
        if self.process:
            self.process.communicate(timeout=60)


def adopt(wanted: bool) -> None:
    """Start or stop taking in the children of descendants that end."""
    if ctypes.CDLL(None, use_errno=True).prctl(ADOPT, int(wanted), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def install() -> None:
    """Have `subprocess` start copies from now on."""
    global usual
    if sys.platform == "linux" and new_process:
        usual = imported(os.environ)
        subprocess._fork_exec = start  # type: ignore[attr-defined]


def prepare(where: str) -> Copies:
    """Start a prepared process."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        process = subprocess.Popen(
            [sys.executable, __file__, str(its.fileno()), where, " " * 1000], cwd=ROOT, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, env={**usual, "PYTHONUNBUFFERED": "1"}, pass_fds=[its.fileno()],
        )  # fmt: skip
    return Copies(ours, process)


def imported(environment: Any) -> dict[str, str]:
    """Return the variables that an import may read."""
    return {name: value for name, value in environment.items() if not name.startswith(LATER) and name not in SAME}


def start(*given: Any) -> int:
    """Start a process as `subprocess.Popen` would, or as a copy of the prepared one. Return its process id."""
    command, environment, folder, where = asked(given)
    if command is None:
        return new_process(*given)
    with lock:
        if where not in copies:
            copies[where] = prepare(where)
        standard = [given[6], given[9], given[11]]  # stdin, stdout and stderr, or -1 to keep those of this process
        files = [number if other == -1 else other for number, other in enumerate(standard)]
        return copies[where].start(command, environment, folder, given[15], files=files)


def asked(given: tuple) -> tuple[list[str] | None, dict[str, str], str, str]:
    """Return the arguments, the environment and the folder of what is started, and where its nanogpt is.

    If only a new process will do, return None as the first.
    """
    # in the order of the parameters of CPython's _posixsubprocess.fork_exec
    arguments, _, closes, kept, folder, variables, *_ = given
    python, *command = map(os.fsdecode, arguments)
    environment = dict(os.environ)
    if variables is not None:
        environment = dict(os.fsdecode(one).split("=", 1) for one in variables)
    ours = command[:1] == ["app.py"] or (command[:1] == ["-m"] and command[1].partition(".")[0] in OURS)
    plain = closes and len(kept) == 1 and given[16:22] == (-1, None, None, None, -1, None)  # no other user and so on
    folder = os.path.abspath(folder or ".")
    where = environment.get("PYTHONPATH", "").split(os.pathsep)[0] or folder  # Python looks for nanogpt there
    if environment.pop(BARE, None):
        where, known = "", True
    else:
        here = where == folder or not os.path.exists(os.path.join(folder, "nanogpt"))
        known = here and where in (str(ROOT), *copies) and imported(environment) == usual
    return (command if python == sys.executable and ours and plain and known else None), environment, folder, where


def close() -> None:
    """End the prepared processes."""
    while copies:
        copies.popitem()[1].close()


# --- in the prepared process -----------------------------------------------------------------------------------------


def serve(line: socket.socket) -> tuple[bytes, list[int]] | None:
    """Make copies until the process that asks for them is gone. Return in a copy, with its message and files."""
    while True:
        message, files, _, _ = socket.recv_fds(line, LARGEST, 3)
        if not message:
            return None
        reading, writing = os.pipe()
        if between := os.fork():
            for file in (writing, *files):
                os.close(file)
            number = os.read(reading, 20)
            os.close(reading)
            os.waitpid(between, 0)  # the copy loses its parent, and the process that asked takes it in
            line.send(number)
            continue
        if copy := os.fork():
            os.write(writing, str(copy).encode())
            os._exit(0)
        for file in (reading, writing):
            os.close(file)
        line.close()
        return message, files


def become(message: bytes, files: list[int]) -> list[str]:
    """Take over what a new process would be given, keep a copy ready for what it starts, and return its command."""
    global usual
    while True:
        command, environment, folder, alone = json.loads(message)
        if alone:
            os.setsid()
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork():
            break
        ours.close()
        # a pipe ends when nothing can write into it any more
        take([os.open(os.devnull, os.O_RDWR), *files], standard=[0, 0, 0])
        if (work := serve(its)) is None:
            os._exit(0)
        message, files = work
    its.close()
    take(files, standard=[0, 1, 2])
    show([sys.executable, *command])
    os.environ.clear()
    os.environ.update(environment)
    open_streams()
    random.seed()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    path = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = filter(None, ["" if environment.get("PYTHONSAFEPATH") else folder, *path])
    copies[path[0] or folder], usual = Copies(ours), imported(environment)
    return command


def take(files: list[int], standard: list[int]) -> None:
    """Replace stdin, stdout and stderr by some of the files, and close all of these."""
    for number, index in enumerate(standard):
        os.dup2(files[index], number)
    for file in files:
        os.close(file)


def show(command: list[str]) -> None:
    """Have `ps` show the command, for tests that look for a process by what it runs."""
    start, end = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:47])  # as in proc(5)
    shown = "\0".join(command).encode()[: end - start - 1]
    ctypes.memmove(start, shown.ljust(end - start, b"\0"), end - start)


def open_streams() -> None:
    """Open sys.stdin, sys.stdout and sys.stderr, as Python does when it starts."""
    at_once = bool(os.environ.get("PYTHONUNBUFFERED"))
    for number, (name, mode) in enumerate([("stdin", "r"), ("stdout", "w"), ("stderr", "w")]):
        old = getattr(sys, name)
        direct = at_once and mode == "w"
        file = open(number, f"{mode}b", 0 if direct else -1, closefd=False)  # noqa: SIM115
        encoding = os.environ.get("PYTHONIOENCODING") or old.encoding
        new = io.TextIOWrapper(file, encoding, old.errors, line_buffering=name == "stderr", write_through=direct)
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


def run(command: list[str]) -> None:
    """Run `app.py` or `-m nanogpt.something`, as Python does."""
    sys.argv = list(command)
    if command[0] != "-m":
        runpy.run_path(command[0], run_name="__main__")
        return
    _, name, *_ = command
    del sys.argv[0]
    for module in (name, f"{name}.__main__"):
        if not hasattr(sys.modules.get(module), "__path__"):
            sys.modules.pop(module, None)  # it runs as a second copy in a new process, too
    sys.modules["__main__"] = ModuleType("__main__")
    runpy._run_module_as_main(name)  # what Python calls for -m


def main() -> None:
    import torch._dynamo  # noqa: F401

    _, line, where, _ = sys.argv  # the last one is room for `show`
    if where:
        sys.path[0] = where
        import nanogpt.cli.main
        import nanogpt.launch.plan
        import nanogpt.launch.trainer
        import nanogpt.ui.server  # noqa: F401  with the page and gradio

    assert len(os.listdir("/proc/self/task")) == 1, "a fork would lack the threads that an import has started"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which then end this process
    gc.collect()
    gc.freeze()  # keeps garbage collection from writing to what forks share, which would copy it
    subprocess._fork_exec = start  # type: ignore[attr-defined]
    if (work := serve(socket.socket(fileno=int(line)))) is not None:
        run(become(*work))


if __name__ == "__main__":
    main()
