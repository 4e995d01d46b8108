"""The web page: one file per tab, with handlers first and `build` last. No other package imports gradio.

The page is a view of the run folders: it starts training processes and reads files, and keeps no state that matters.
`page.build_app` makes the whole page; `server.serve` serves it, at an address that `address.check` has accepted.
"""

import os
import secrets
import tempfile

# Gradio reads these when it is imported.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # send no usage data
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "10")  # keep few events in memory instead of 10,000
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000000")  # and never summarize them, which is slow
if not os.environ.get("GRADIO_TEMP_DIR"):  # by default /tmp/gradio, which may belong to another user
    os.environ["GRADIO_TEMP_DIR"] = os.path.join(tempfile.gettempdir(), f"nanogpt-page-{secrets.token_hex(8)}")

__all__ = ["address", "page", "server"]
