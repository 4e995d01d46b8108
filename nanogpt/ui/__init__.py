"""The page: one file per tab, handlers first, one `build` last. Only this room imports gradio.

The page is a view of the run folders: it starts trainers and reads files, and holds no state that matters.
`page.build_app` makes the whole page; `app.py` serves it.
"""

__all__ = ["page"]
