"""Components by name, so that handlers can be plain functions that return updates without importing components."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# Options for a handler that reads a text, which takes 100 MB and a core for a moment: two at once, API included.
READING: dict[str, Any] = dict(concurrency_id="read-texts", concurrency_limit=2)
# Options for a handler that answers at once: no queue, no progress display, not in the API.
QUIET: dict[str, Any] = dict(queue=False, show_progress="hidden", api_visibility="private")
NO_SECRET = "nanogpt"  # Gradio's default is random, so a restarted server couldn't read what browsers have stored


class Parts(dict[str, Any]):
    """The components that a tab's handlers update, by name."""

    @property
    def outputs(self) -> list:
        """The components, as a list for Gradio."""
        return list(self.values())

    def some(self, names: Iterable[str]) -> list:
        """Return the components of these names, as a list for Gradio."""
        return [self[name] for name in names]

    def put(self, updates: Mapping[str, Any]) -> dict:
        """Turn updates by name into updates by component, as Gradio expects. Other components stay as they are."""
        return {self[name]: update for name, update in updates.items()}
