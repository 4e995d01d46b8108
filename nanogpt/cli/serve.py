"""`serve`: the page. `python app.py` does the same."""

from __future__ import annotations

import argparse
import os

from .flags import Command


def serve_command(arguments: argparse.Namespace) -> int:
    """Serve the page at http://127.0.0.1:7860. Press Ctrl-C to end; running trainers carry on."""
    if arguments.public:
        os.environ["NANOGPT_PUBLIC"] = "1"  # for the trainers, too
    from ..ui import server

    server.serve(arguments.host, arguments.port)
    return 0


def add_commands(command: Command) -> None:
    """Add `serve` with its flags."""
    on_space = bool(os.environ.get("SPACE_ID"))
    serve = command("serve", serve_command)
    serve.add_argument(
        "--host", default="0.0.0.0" if on_space else "127.0.0.1", help="address to listen on [%(default)s]"
    )
    serve.add_argument("--port", type=int, help="port [7860, or the next free one]")
    serve.add_argument(
        "--public", action="store_true", help="for a class or a lab: each visitor sees only their own runs and texts"
    )
