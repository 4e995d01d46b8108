"""Read how far a run had come at its last save, from the header of its checkpoint: neither torch nor the tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..config import NanoGPTError
from ..disk import from_json, opened


def saved_progress(folder: Path) -> dict[str, Any]:
    """Return the progress in a run folder's checkpoint, unchecked; {} if there is none, or an older or damaged one."""
    from ..formats import check_header  # here, because it imports NumPy

    try:
        with opened(folder / "last.safetensors") as file:
            start = file.read(8)
            check_header(start, "last.safetensors")
            header = from_json(file.read(int.from_bytes(start, "little")))
        progress = from_json(header["__metadata__"]["progress"].encode())
    except (OSError, NanoGPTError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return progress if isinstance(progress, dict) else {}
