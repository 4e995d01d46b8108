"""Results that take seconds to compute, kept in the run's folder as `explain/VIEW.json`.

Each is stored with the hash of the weights that it explains, so a run that has trained on computes it again.
"""

from __future__ import annotations

import json
from typing import Any

from .. import disk
from ..runs import Run
from .opened import Opened


def load(opened: Opened, view: str) -> dict[str, Any] | None:
    """Return what was kept for these weights, or None."""
    return load_for(opened.run, opened.weights, view)


def load_for(run: Run, weights: str, view: str) -> dict[str, Any] | None:
    """Return what was kept for a run's weights, given their hash, without opening the model; or None."""
    try:
        kept = json.loads((run.folder / "explain" / f"{view}.json").read_text(encoding="utf-8"))
        return kept["result"] if kept["weights"] == weights else None
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or damaged: it can be computed again
        return None


def keep(opened: Opened, view: str, result: dict[str, Any]) -> None:
    """Keep a result. Do nothing for a run that ships with the project, whose folder may belong to someone else."""
    if opened.run.is_bundled() or not opened.run.exists():
        return
    folder = opened.run.folder / "explain"
    folder.mkdir(exist_ok=True)
    disk.write_whole(
        folder / f"{view}.json", json.dumps(dict(weights=opened.weights, result=result), ensure_ascii=False)
    )
