"""The page: `python app.py` opens it on http://127.0.0.1:7860. A Hugging Face Space runs this file, too."""

from __future__ import annotations

import argparse
import contextlib
import os
import threading
import time
import traceback

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported: nothing is reported home
import nanogpt  # noqa: F401  it says how torch's threads wait, before anything imports torch

if os.environ.get("SPACES_ZERO_GPU"):
    with contextlib.suppress(ImportError):
        import spaces  # noqa: F401  it must come before torch

from nanogpt import limits
from nanogpt.launch import visitors
from nanogpt.ui.page import build_app, launch_options

demo = build_app()


def main() -> None:
    """Serve the page until Ctrl-C. Trainers go on without it."""
    parser = argparse.ArgumentParser(description="Train a GPT on your own text, in the browser.")
    on_space = bool(os.environ.get("SPACE_ID"))
    parser.add_argument(
        "--host", default="0.0.0.0" if on_space else "127.0.0.1", help="address to listen on [%(default)s]"
    )
    parser.add_argument("--port", type=int, help="port [7860, or the next free one]")
    parser.add_argument(
        "--public", action="store_true", help="strangers share this server: everybody sees their own runs and texts"
    )
    arguments = parser.parse_args()
    if arguments.public:
        os.environ["NANOGPT_PUBLIC"] = "1"  # for the trainers, too
    if limits.is_public():
        threading.Thread(target=tidy, daemon=True).start()
    demo.launch(server_name=arguments.host, server_port=arguments.port, **launch_options(arguments.host))


def tidy() -> None:
    """Every ten minutes, delete what visitors have left behind for too long."""
    while True:
        try:
            visitors.expire()
        except Exception:  # a damaged folder, a limit that is no number: to be read in the log, and tried again
            traceback.print_exc()
        time.sleep(600)


if __name__ == "__main__":
    main()
