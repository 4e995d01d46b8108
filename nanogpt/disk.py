"""Atomic file writes: a reader sees the old content or the new, never a part."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file atomically, creating its folder if needed: even after a power failure it is all old or all new."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # the content must reach the disk before the new name does
        os.chmod(temporary, 0o644)  # mkstemp's 0o600 would hide runs from other users of a shared machine
        _replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _replace(temporary: str, path: Path) -> None:
    """Call os.replace, retrying for up to two seconds: Windows refuses while another process has the file open."""
    for _ in range(40):
        try:
            return os.replace(temporary, path)
        except PermissionError:
            time.sleep(0.05)
    os.replace(temporary, path)


def size(count: int) -> str:
    """Format a number of bytes: 12.3 kB, 4.5 MB."""
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 else f"{count / 1e3:,.1f} kB"
