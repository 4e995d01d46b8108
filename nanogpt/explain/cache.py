"""Results that take seconds to compute, kept in the run's folder as `explain/VIEW.json`, tensors as VIEW.safetensors.

Each is stored with the hash of the weights that it explains, so a run that has trained on computes it again. So does a
run whose result is of another version, or was measured on text that the model wrote while its own text wasn't here.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import disk
from ..runs import Run
from .opened import WRITTEN, Opened

if TYPE_CHECKING:
    import torch

VERSIONS = dict(parts=2, attention=2, units=3)  # of a view's results, by default 1; increase it if they would differ


def load(opened: Opened, view: str) -> dict[str, Any] | None:
    """Return what was kept for these weights, or None."""
    found = load_for(opened.run, opened.weights, view)
    return found if found is not None and is_current(opened, found.get("on")) else None


def is_current(opened: Opened, on: str | None) -> bool:
    """Return False for what was measured on text that the model wrote, if its own text is here now."""
    return on != WRITTEN or opened.corpus_id is None


def load_for(run: Run, weights: str, view: str) -> dict[str, Any] | None:
    """Return what was kept for a run's weights, given their hash, without opening the model; or None."""
    try:
        kept = disk.from_json(disk.read(run.folder / "explain" / f"{view}.json"))
        same = kept["weights"] == weights and kept.get("version", 1) == VERSIONS.get(view, 1)
        return kept["result"] if same else None
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or damaged: it can be computed again
        return None


def version(run: Run, view: str) -> tuple[int, ...] | None:
    """Return the version of a run's result; None if none was kept."""
    return disk.version(run.folder / "explain" / f"{view}.json")


def keep(opened: Opened, view: str, result: dict[str, Any]) -> None:
    """Keep a result if its folder can be written to. If not, it is computed again next time.

    Do nothing for a run that ships with the project, whose folder may belong to someone else.
    """
    with suppress(OSError):  # the disk is full or read-only, or the run belongs to another user
        if path := _place(opened, f"{view}.json"):
            stored = dict(version=VERSIONS.get(view, 1), weights=opened.weights, result=result)
            disk.write_whole(path, json.dumps(stored, ensure_ascii=False))


def can_keep(opened: Opened) -> bool:
    """Return False for a run that ships with the project, and for one that was deleted."""
    return opened.run.exists() and not opened.run.is_bundled()


def load_tensors(opened: Opened, view: str) -> dict[str, torch.Tensor] | None:
    """Return the tensors that were kept for these weights, or None."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(disk.checked(opened.run.folder / "explain" / f"{view}.safetensors"), framework="pt") as file:
            names = file.keys() if (file.metadata() or {}).get("weights") == opened.weights else ()
            return {name: file.get_tensor(name) for name in names} or None
    except (OSError, SafetensorError):  # none yet, or damaged: they can be computed again
        return None


def keep_tensors(opened: Opened, view: str, tensors: dict[str, torch.Tensor]) -> None:
    """Keep tensors, as `keep` does with a result, but raise OSError if they can't be: they are needed afterwards."""
    from safetensors.torch import save

    if path := _place(opened, f"{view}.safetensors"):
        disk.write_whole(path, save(tensors, metadata=dict(weights=opened.weights)))


def _place(opened: Opened, name: str) -> Path | None:
    """Return where to keep a file, in a folder that exists; None if nothing may be kept."""
    if not can_keep(opened):
        return None
    folder = opened.run.folder / "explain"
    folder.mkdir(exist_ok=True)
    return folder / name
