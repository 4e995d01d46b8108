"""Components by name, so that handlers can be plain functions that say what changes and know no component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# How to wire a handler that answers at once: it waits for no other, shows no progress, and is no part of the API.
QUIET: dict[str, Any] = dict(queue=False, show_progress="hidden", api_visibility="private")


class Parts(dict[str, Any]):
    """The components that a tab's handlers write to, by their names there."""

    @property
    def outputs(self) -> list:
        return list(self.values())

    def put(self, updates: Mapping[str, Any]) -> dict:
        """Updates by name as Gradio wants them, by component; what is not named stays as it is."""
        return {self[name]: update for name, update in updates.items()}
