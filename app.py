"""The page: `python app.py` opens it on http://127.0.0.1:7860."""

from __future__ import annotations

import argparse
import contextlib
import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported: nothing is reported home
with contextlib.suppress(ImportError):
    import spaces  # noqa: F401  on ZeroGPU it must come before torch

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
    arguments = parser.parse_args()
    demo.launch(server_name=arguments.host, server_port=arguments.port, **launch_options(arguments.host))


if __name__ == "__main__":
    main()
