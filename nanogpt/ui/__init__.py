"""The web page: one file per tab, with handlers first and `build` last. No other package imports gradio.

The page is a view of the run folders: it starts training processes and reads files, and keeps no state that matters.
`page.build_app` makes the whole page; `server.serve` serves it.
"""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before importing gradio, so that it sends no usage data

__all__ = ["page", "server"]
