"""The web page. A file per tab, view or panel, handlers first and `build` last. No other package imports gradio.

The page is a view of the run folders: it starts training processes and reads files, and keeps no state that matters.
`page.build_app` makes the whole page; `server.serve` serves it, at an address that `address.check` has accepted.
"""

import os
import secrets
import tempfile

from ..config import NanoGPTError


def _own_folder() -> str:
    """Return the name of a new folder for uploads. Raise NanoGPTError if there is no folder to make it in."""
    try:
        return os.path.join(tempfile.gettempdir(), f"nanogpt-page-{secrets.token_hex(8)}")
    except FileNotFoundError:
        raise NanoGPTError(
            "No temporary folder can be written to. Set TMPDIR to a folder of your own, on a disk with some space."
        ) from None


# Gradio reads these when it is imported.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # send no usage data
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "10")  # keep few events in memory instead of 10,000
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000000")  # and never summarize them, which is slow
if not os.environ.get("GRADIO_TEMP_DIR"):  # by default /tmp/gradio, which may belong to another user
    os.environ["GRADIO_TEMP_DIR"] = _own_folder()

__all__ = ["address", "page", "server"]
