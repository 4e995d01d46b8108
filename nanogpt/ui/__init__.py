"""The page: one file a tab, handlers first, one `build` last. Nothing else in the package imports gradio.

The page is a view of the run folders: it starts trainers and reads files, and holds no state that matters.
"""
