"""The views of the tab Understand, one file each, with the scripts and styles that draw them.

Each `build(run)` draws one view and returns a `View` (view.py): what opens it, and what it shows.
"""
