"""The page: one file per tab, handlers first, one `build` last. Only this room imports gradio.

The page is a view of the run folders: it starts trainers and reads files, and holds no state that matters.
`page.build_app` makes the whole page; `server.serve` opens it.
"""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported: nothing is reported home

__all__ = ["page", "server"]
