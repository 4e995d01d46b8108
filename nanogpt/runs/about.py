"""The contents of run.json: what a run was made from, and by which version."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .. import __version__, disk
from ..config import NanoGPTError
from ..errors import explain
from .rows import is_number

# Of run folders. Raise it when older versions can't read what this one writes; tests/runs/old then gets another file.
FORMAT = 1


def of_a_new_run(name: str) -> dict[str, Any]:
    """Return what every run.json begins with."""
    return dict(name=name, format=FORMAT, created=now(), parent=None, owner=None, versions=_versions())


def read(path: Path, name: str) -> dict[str, Any]:
    """Return the contents of a run.json. Raise NanoGPTError if it can't be read, FileNotFoundError if it is gone."""
    try:
        settings = disk.from_json(disk.read(path))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise NanoGPTError(f"The run.json of {name} cannot be read. {explain(error)}") from None
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise NanoGPTError(f"The run.json of {name} cannot be read. Restore it from a copy, or delete the run.")
    check_format(name, settings)
    if not isinstance(settings.get("train"), dict) or not _is_about_a_text(settings.get("corpus")):
        raise NanoGPTError(f"The run.json of {name} lacks its settings. Restore it from a copy, or delete the run.")
    return settings


def check_format(name: str, settings: dict[str, Any]) -> None:
    """Raise NanoGPTError if a run's settings are from a version whose format this one doesn't know."""
    given = settings.get("format", 1)
    if not (isinstance(given, int) and given <= FORMAT):
        versions = settings.get("versions")
        by = f"{versions.get('nanogpt')}"[:20] if isinstance(versions, dict) else "a newer version"
        raise NanoGPTError(f"{name} was made by nanogpt {by}, and this is {__version__}. Update nanogpt to open it.")


def _is_about_a_text(about: Any) -> bool:
    """Return True if `corpus` in a run.json has the entries that the rest of the code needs."""
    if not isinstance(about, dict) or not all(isinstance(about.get(key), str) for key in ("id", "name")):
        return False
    return is_number(about.get("characters")) and about["characters"] > 0


def now() -> str:
    """Return the time in the format of run.json and metrics.jsonl."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    return dict(nanogpt=__version__, torch=version("torch"), python=platform.python_version(), system=platform.system())
