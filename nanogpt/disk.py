"""Where things live, and how a file gets there: whole, or not at all."""

from __future__ import annotations

import os
import re
import tempfile
import time
import unicodedata
from pathlib import Path

from .config import NanoGPTError

PROJECT = Path(__file__).resolve().parent.parent  # checkpoints/ and corpora/ stand here unless NANOGPT_HOME moves them
DURABLE = Path("/data")  # where a Space has its storage, if it has any that lasts
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


def home() -> Path:
    """The folder that holds `checkpoints/` and `corpora/`: the one named by NANOGPT_HOME, else the project itself.

    On a Space with storage of its own it is that: everything else there is gone after a restart.
    """
    if not os.environ.get("NANOGPT_HOME") and os.environ.get("SPACE_ID") and os.access(DURABLE, os.W_OK):
        return DURABLE
    return Path(os.environ.get("NANOGPT_HOME") or PROJECT).expanduser()


def is_lasting() -> bool:
    """Whether what is written survives a restart of the machine, as far as we can tell."""
    return not os.environ.get("SPACE_ID") or home() == DURABLE


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a machine that loses power, sees the old content or the new, never a part."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # the name must not reach the disk before the content does
        os.chmod(temporary, 0o644)  # mkstemp's 0o600 would hide a run from other users of a shared machine
        _replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _replace(temporary: str, path: Path) -> None:
    """os.replace; where a reader has the file open Windows refuses for a moment, so try again for two seconds."""
    for _ in range(40):
        try:
            return os.replace(temporary, path)
        except PermissionError:
            time.sleep(0.05)
    os.replace(temporary, path)


def size(count: int) -> str:
    """Bytes as a reader counts them."""
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 else f"{count / 1e3:,.1f} kB"


def slug(title: str) -> str:
    """A title as a name: lower-case letters, digits and hyphens. Empty where nothing of it can be kept."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:64].strip("-")


def checked_name(name: str) -> str:
    """The name itself when it is one; the only thing that ever becomes part of a path."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        hint = f" Try {slug(str(name))!r}." if slug(str(name)) else ""
        raise NanoGPTError(
            f"The name was {str(name)[:80]!r}; a name has 1 to 64 lower-case letters, digits and hyphens, "
            f"and begins with a letter or digit.{hint}"
        )
    return name
