"""Serve the page, and on a public server delete what visitors have left behind."""

from __future__ import annotations

import threading
import time
import traceback

from .. import limits
from ..config import NanoGPTError
from ..launch import visitors
from .page import build_app, launch_options


def serve(host: str, port: int | None) -> None:
    """Serve the page until Ctrl-C: at `port`, or at the first free one from 7860 on. NanoGPTError if it is taken."""
    if limits.is_public():
        threading.Thread(target=tidy, daemon=True).start()
    demo = build_app()
    try:
        demo.launch(server_name=host, server_port=port, **launch_options(host))
    except OSError:  # Gradio's message is about its own parameters
        raise NanoGPTError(
            f"The page can't be served at {host}, port {port or 7860}: the port is in use, or this machine does not "
            "have that address. Choose another with --port or --host."
        ) from None


def tidy() -> None:
    """Every ten minutes, delete what visitors have left behind for too long."""
    while True:
        try:
            visitors.expire()
        except Exception:  # a damaged folder, or a limit that is not a number: log it and try again
            traceback.print_exc()
        time.sleep(600)
