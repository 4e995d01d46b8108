"""`serve`: start the web app. `python app.py` does the same."""

from __future__ import annotations

import argparse
import os

from .. import limits
from .flags import Command


def serve_command(arguments: argparse.Namespace) -> int:
    """Start the web app at http://127.0.0.1:7860. Ctrl-C stops the server; runs in progress keep training."""
    if arguments.public:
        os.environ["NANOGPT_PUBLIC"] = "1"  # in the environment, so that trainer processes inherit it
    limits.check_limits()
    from ..ui import address

    address.check(arguments.host, arguments.port)  # before the page is loaded, which takes seconds
    address.check_environment()
    from ..ui import server

    server.serve(arguments.host, arguments.port)
    return 0


def add_commands(command: Command) -> None:
    """Add `serve` with its flags."""
    serve = command("serve", serve_command)
    serve.add_argument(
        "--host", default="0.0.0.0" if limits.on_space() else "127.0.0.1", help="address to bind to [%(default)s]"
    )
    serve.add_argument("--port", type=int, help="port to listen on [7860, or the next free one]")
    serve.add_argument(
        "--public", action="store_true", help="multi-user mode: each visitor sees only their own runs and texts"
    )
