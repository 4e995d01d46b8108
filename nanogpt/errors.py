"""Errors of the operating system in plain words: what is wrong with a disk or a folder, and what to do about it.

Everything that answers a person (the page, the API, the command line, a trainer's last event) catches `PROBLEMS` and
shows `explain(error)`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

from . import limits
from .config import NanoGPTError
from .paths import home

PROBLEMS = (NanoGPTError, OSError, MemoryError)  # what is answered with a sentence; anything else is a bug
# Out-of-memory errors that are no MemoryError: from the CPU allocator (the second one is Windows'), CUDA and cuBLAS
NO_MEMORY = ("allocate memory", "not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
NO_THREAD = "can't start new thread"  # what Python says if the system allows no more of them
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # EDQUOT: a user's quota; Windows doesn't have it
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK)  # the last one: NFS without a lock server
PROXIES = ("http", "https", "socks5", "socks5h")
ANOTHER = "Set NANOGPT_HOME to a folder of your own"


class NotAFile(OSError):
    """Raised for a pipe, a socket or a device in place of a file."""


class NoRoom(OSError):
    """Raised before anything is written if the disk lacks the space for it. `strerror` is a sentence about that."""


def lacks_memory(error: BaseException) -> bool:
    """Return True for an error that says that memory ran out, from Python, NumPy or torch."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY)


def shortage(error: BaseException) -> MemoryError | OSError | None:
    """Return what to `explain` in place of a RuntimeError that says that memory or threads ran out; None for others."""
    if not isinstance(error, RuntimeError):
        return None
    if lacks_memory(error):
        return MemoryError(str(error))
    return OSError(errno.EAGAIN, str(error)) if NO_THREAD in str(error) else None


@contextlib.contextmanager
def shortages() -> Iterator[None]:
    """Raise MemoryError or OSError, which are PROBLEMS, where a RuntimeError says that memory or threads ran out.

    A context manager or decorator for what computes with torch, or starts a thread, for a person who waits for it.
    """
    try:
        yield
    except RuntimeError as error:
        if found := shortage(error):
            raise found from error
        raise


def say(line: str, stream: TextIO | None = None) -> None:
    """Print a line of a run's progress, to stdout by default.

    If that fails, print nothing more there, but don't raise: a run must not end because the program that read its
    output has exited (`nanogpt train | head`), or because the disk of a file for its output is full.
    """
    stream = stream or sys.stdout
    try:
        print(line, file=stream, flush=True)
    except OSError:
        discard_output(stream)


def discard_output(*streams: TextIO) -> None:
    """Discard what was not printed, because it can't be: the program that read it has exited, e.g. `... | head`.

    Python prints it when it exits; that would fail again, with an exit status of 120. The default is both streams.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams or (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # it is no file, or is closed
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def open_streams() -> None:
    """Open the null device as each of stdin, stdout and stderr that this process was started without.

    Daemons and pythonw.exe start programs like that. Python sets such a stream to None, and the next file that is
    opened would get its number, and with it what a library prints there. Call it before anything else.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115  it stays open
            os.set_inheritable(stream.fileno(), True)  # for the processes that this one starts
            setattr(sys, name, stream)


@contextlib.contextmanager
def writing_to(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Name a folder in the error for a full disk. Use it where files are written elsewhere than in `home()`.

    A write that fails doesn't say where it was, and a copy names what it reads.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            error.filename = str(folder)
        raise


def explain(error: NanoGPTError | OSError | MemoryError) -> str:
    """Return a sentence that says what went wrong and what to do.

    On a public server it names no folder, and advises visitors, who can't change anything there.
    """
    if isinstance(error, NanoGPTError):
        return str(error)
    there = "The server" if limits.is_public() else "This machine"
    if isinstance(error, MemoryError) or error.errno == errno.ENOMEM:
        return f"{there} is short of memory. Try again later, or use less text or a smaller model."
    if error.errno == errno.EAGAIN:
        advice = "Try" if limits.is_public() else "Close other programs, or try"
        return f"{there} can't start another process at the moment. {advice} again later."
    return _for_visitors(error) if limits.is_public() else _for_owner(error)


def _for_visitors(error: OSError) -> str:
    if error.errno in FULL:
        return "The server's disk is full. Nothing was saved; try again later."
    return f"The server can't read or write its files ({_reason(error)}). Try again later."


def _for_owner(error: OSError) -> str:
    where = str(error.filename or home())  # a write that fails for lack of space doesn't say where
    if error.errno in FULL:
        return _full(error, where)
    if error.errno in NO_LOCKS:
        return (
            f"{home()} is on a disk that can't lock files, so training doesn't work there. {ANOTHER} on a local disk."
        )
    if error.errno == errno.EROFS:
        return f"{where} is on a read-only disk. {ANOTHER}."
    if error.errno in (errno.EACCES, errno.EPERM):
        return _not_permitted(where)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "Too many files are open. Close other programs, or raise the limit (ulimit -n), then start again."
    return _about_a_file(error)


def _about_a_file(error: OSError) -> str:
    if isinstance(error, NotAFile):
        return f"{error.filename} is not a regular file. Delete it, or restore the file that belongs there."
    if error.errno == errno.ENOENT and error.filename:
        return f"{error.filename} is gone; it was moved, renamed or deleted. Put it back, or choose another."
    where = error.filename or "A file"
    return f"{where} can't be read or written ({_reason(error)}). Check the disk and the file's permissions."


def _not_permitted(where: str) -> str:
    advice = ANOTHER if _is_ours(where) else "Use another file"
    also = " If a program has it open, close that." if sys.platform == "win32" else ""  # which refuses to delete it
    return f"You don't have permission to use {where}. {advice}, or change its permissions.{also}"


def _full(error: OSError, where: str) -> str:
    if isinstance(error, NoRoom):
        return f"{error.strerror} Free some space, or set NANOGPT_HOME to a folder on another disk."
    if _is_ours(where):
        return f"There is no space left in {home()}. Free some, or set NANOGPT_HOME to a folder on another disk."
    temporary = {"TMPDIR": tempfile.gettempdir(), "GRADIO_TEMP_DIR": os.environ.get("GRADIO_TEMP_DIR")}
    named = [name for name, folder in temporary.items() if folder and Path(where).is_relative_to(folder)]
    advice = f"set {named[0]} to" if named else "choose"
    return f"There is no space left in {where}. Free some, or {advice} a folder on another disk."


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _is_ours(where: str) -> bool:
    """Return True if a path lies in the folder where runs and texts are stored."""
    return Path(where).is_relative_to(home())


def proxy_problem() -> str:
    """Return why a proxy that the environment names can't be used, and what to do; "" if there is no such problem."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        for key in (name, name.lower()):
            if (value := os.environ.get(key, "")) and not _is_proxy(value):
                return (  # without the value, which may hold a password
                    f"The environment variable {key} isn't the address of a proxy that works here. Use a form such as "
                    f"http://host:port with one of {', '.join(PROXIES)}, or unset it."
                )
    return ""


def _is_proxy(address: str) -> bool:
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        return parts.scheme in PROXIES and parts.port != 0  # reading an impossible port raises ValueError
    except ValueError:
        return False


def home_problem() -> str:
    """Return why runs and texts can't be stored in `home()`, and what to do; "" if they can. Writes nothing."""
    as_ourselves = os.access in os.supports_effective_ids
    for folder in (home(), home() / "checkpoints", home() / "corpora"):
        there = folder
        while not os.path.lexists(there) and there != there.parent:  # it will be created in the first folder above it
            there = there.parent
        if not os.path.isdir(there):
            return _no_home(f"{there} is not a folder")
        if not os.access(there, os.R_OK | os.W_OK | os.X_OK, effective_ids=as_ourselves):
            return _no_home(f"{there} is not writable")
    return ""


def _no_home(reason: str) -> str:
    if limits.is_public():
        return "This server can't store anything at the moment, so texts can't be added and training doesn't work."
    return f"Runs and texts can't be stored in {home()}: {reason}. {ANOTHER}."
