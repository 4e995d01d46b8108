"""Paths and atomic file writes."""

from __future__ import annotations

import os
import re
import tempfile
import time
import unicodedata
from pathlib import Path

from .config import NanoGPTError

PROJECT = Path(__file__).resolve().parent.parent  # holds checkpoints/ and corpora/, unless NANOGPT_HOME is set
DURABLE = Path("/data")  # a Space's persistent storage, if it has any
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


def home() -> Path:
    """Return the folder that holds `checkpoints/` and `corpora/`: NANOGPT_HOME, or the project folder by default.

    On a Space with persistent storage, return that; everything else on a Space is lost after a restart.
    """
    if not os.environ.get("NANOGPT_HOME") and os.environ.get("SPACE_ID") and os.access(DURABLE, os.W_OK):
        return DURABLE
    return Path(os.environ.get("NANOGPT_HOME") or PROJECT).expanduser()


def is_lasting() -> bool:
    """Return True if files written to `home` survive a restart, as far as we can tell."""
    return not os.environ.get("SPACE_ID") or home() == DURABLE


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file atomically: readers see the old content or the new, never a part, even after a power failure."""
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
    """Call os.replace, retrying for two seconds: Windows refuses while another process has the file open."""
    for _ in range(40):
        try:
            return os.replace(temporary, path)
        except PermissionError:
            time.sleep(0.05)
    os.replace(temporary, path)


def size(count: int) -> str:
    """Return a number of bytes as text, in kB or MB."""
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 else f"{count / 1e3:,.1f} kB"


def slug(title: str) -> str:
    """Return a title as a name of lower-case letters, digits and hyphens, or "" if none of it can be kept."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:64].strip("-")


def checked_name(name: str) -> str:
    """Return the name if it is valid, else raise NanoGPTError. Only names checked here ever become part of a path."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise NanoGPTError(
            f"{str(name)[:80]!r} can't be used as a name. Use 1 to 64 lower-case letters, digits and hyphens, starting "
            f"with a letter or digit, e.g. {slug(str(name)) or 'my-run'}."
        )
    return name
