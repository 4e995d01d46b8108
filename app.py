"""The entry point of a Hugging Face Space. On your own machine, `python app.py` does the same as `nanogpt serve`."""

import contextlib
import os
import sys

from nanogpt.cli.main import main  # imports no torch yet

if os.environ.get("SPACES_ZERO_GPU"):
    with contextlib.suppress(ImportError):
        import spaces  # noqa: F401  must be imported before torch

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
