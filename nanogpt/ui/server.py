"""Serve the page, and on a public server delete expired runs and texts of visitors."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import threading
import time
import traceback
from importlib.util import find_spec

from .. import disk, limits
from ..config import NanoGPTError
from ..errors import PROBLEMS, explain, home_problem, say
from ..heap import give_memory_back
from ..launch import counting, expiry
from . import address
from .page import build_app, launch_options
from .web import guard, scratch

UNGUARDED = " They can change and delete everything; --public gives each visitor their own runs and texts."
SOON, LATER = 5.0, 60.0  # seconds until the second look for jobs that nothing follows, and between later ones


def serve(host: str, port: int | None) -> None:
    """Serve the page until Ctrl-C, at `port` or the first free port from 7860 on. Raise NanoGPTError if it is taken."""
    host = address.check(host, port)
    address.without_proxy(host)
    if problem := home_problem():
        say(f"nanogpt: {problem}", sys.stderr)  # and go on: the models that ship with the project can be sampled
    threading.Thread(target=disk.sweep_home, daemon=True).start()  # what killed processes left
    if limits.is_public():
        allow_open_files()
        give_memory_back()
        threading.Thread(target=tidy, daemon=True).start()
    share_the_interpreter()
    keep_few_products()
    with scratch.private_folder():  # first, because drawing the page may already write into it
        demo = build_app()
        counting.start()
        try:
            # quiet, because Gradio would also tell the user to edit a call in our code
            demo.launch(
                server_name=host, server_port=port, quiet=True, prevent_thread_lock=True, **launch_options(host)
            )
        except OSError:  # Gradio's message names its own parameters
            taken = f"Port {port} was just taken" if port else "The ports from 7860 to 7959 are all in use"
            raise NanoGPTError(f"{taken}. Choose another with --port.") from None
        threading.Thread(target=import_torch, daemon=True).start()
        if not limits.is_public():
            threading.Thread(target=find_jobs, daemon=True).start()
        say(f"nanogpt is running at {str(demo.local_url).rstrip('/')}. Press Ctrl-C to stop it.")
        if others := for_others(host, demo.server_port):
            say(others)
        demo.block_thread()


def for_others(host: str, port: int) -> str:
    """Return where others on the network can open the page, and what they can do there, or "" if they can't open it."""
    unguarded = "" if limits.is_public() else UNGUARDED
    if others := guard.from_outside(host):
        at = " or ".join(f"http://{one}:{port}" for one in others)
        return f"Others on your network can open it at {at}.{unguarded}"
    exposed = unguarded and host.strip("[]") not in address.ALONE
    return f"Others on your network can open it, too.{unguarded}" if exposed else ""


def import_torch() -> None:
    """Import what training and sampling need. The page is drawn without it, and the first click finds it loaded."""
    from ..launch import plan  # noqa: F401


def find_jobs() -> None:
    """Follow the jobs on Hugging Face that were left when this machine was turned off or a process was killed.

    Look again from time to time: a process may have been killed since, or a moment ago, so that it still held its run.
    """
    from ..jobs import start

    for looks in itertools.count():
        try:
            for name in start.find_again(given_up=looks == 0):
                say(f"Following the job of {name} on Hugging Face again.")
        except PROBLEMS as error:
            say(f"nanogpt: {explain(error)}", sys.stderr)
        time.sleep(SOON if looks == 0 else LATER)


def share_the_interpreter() -> None:
    """Let threads take turns more often, and spare Gradio a search for matplotlib before and after each call.

    The thread that generates texts gives up the interpreter for each matrix product. By default it may wait 5 ms to get
    it back from a thread that handles requests: 150 ms for a character of each of 48 texts instead of 40.
    """
    sys.setswitchinterval(0.0005)
    if find_spec("matplotlib") is None:
        sys.modules["matplotlib"] = None  # type: ignore[assignment]


def keep_few_products() -> None:
    """Have oneDNN, and torch for it, keep the machine code of 32 products, not of 1,024. Call it before the first one.

    Each is compiled for a number of rows, which takes 0.6 MB, and prompts and batches have hundreds of lengths: the
    server grew by a quarter within an hour.
    """
    for variable in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(variable, "32")


def allow_open_files() -> None:
    """Allow as many open files as this process may have: each request at once is one, and the usual limit is 1,024."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has no such limit
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def tidy() -> None:
    """Delete expired runs and texts of visitors, every ten minutes."""
    while True:
        try:
            expiry.expire()
        except Exception:  # a damaged folder or an invalid limit: log it and try again
            traceback.print_exc()
        time.sleep(600)
