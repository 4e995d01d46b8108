"""The address that the page is served at: check it before anything is loaded, and keep proxies out of the way."""

from __future__ import annotations

import errno
import os
import socket

from ..config import NanoGPTError
from ..errors import proxy_problem

# hosts at which only this machine can reach the page
ALONE = ("127.0.0.1", "localhost", "::1")


def check(host: str, port: int | None) -> str:
    """Return the host as Gradio takes it. Raise NanoGPTError if the page can't be served there."""
    if port is not None and not 1 <= port <= 65535:
        raise NanoGPTError(f"--port was {port}; it must be between 1 and 65535.")
    bare = host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            bare, port or 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as trial:
            if os.name == "posix":  # on Windows this option would let two servers share a port
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except (OSError, UnicodeError) as error:
        raise NanoGPTError(why_not(host, port, error)) from None
    return f"[{bare}]" if family is socket.AF_INET6 else host


def check_environment() -> None:
    """Raise NanoGPTError for what Gradio reads from the environment when it is imported, and can't use."""
    if problem := proxy_problem():
        raise NanoGPTError(problem)
    for name in ("GRADIO_SERVER_PORT", "GRADIO_NUM_PORTS"):
        if not (value := os.environ.get(name, "1")).isdecimal():
            raise NanoGPTError(
                f"The environment variable {name} is {value!r}, but must be a number. Correct or unset it."
            )
    os.environ.pop("GRADIO_SERVER_NAME", None)  # Gradio would look for free ports there instead of at --host


def why_not(host: str, port: int | None, error: OSError | UnicodeError) -> str:
    """Return a sentence about an address that can't be used, and what to do."""
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return f"Port {port} is in use. Choose another with --port, or leave it out to take the next free one."
    if number in (errno.EACCES, errno.EPERM):
        return f"You may not use port {port}: those below 1024 belong to the system. Choose a higher one, such as 7860."
    return (
        f"The page can't be served at {host}: this machine doesn't have that address. Leave out --host to serve only "
        "this machine, or use 0.0.0.0 to serve its whole network."
    )


def without_proxy(host: str) -> None:
    """Keep requests to this server away from a proxy named in the environment. Gradio makes one when it starts."""
    ours = [*ALONE, *([] if host in ("0.0.0.0", "[::]") else [host.strip("[]")])]
    for name in ("NO_PROXY", "no_proxy"):
        named = [one for one in os.environ.get(name, "").split(",") if one.strip()]
        os.environ[name] = ",".join(dict.fromkeys([*named, *ours]))
