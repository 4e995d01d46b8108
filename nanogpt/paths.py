"""Paths: where runs and texts are stored, and which names may become part of a path.

They are stored in the first of these folders that applies: NANOGPT_HOME, a Space's persistent storage, the checkout
that the code runs from, or the user's data folder for an installed package.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from pathlib import Path

from . import limits
from .config import NanoGPTError

PACKAGE = Path(__file__).resolve().parent
IN_PROJECT = ("app.py", "requirements.txt", "nanogpt/paths.py")
# A checkout, or a Space made from one, has these two files next to the package; site-packages doesn't.
CHECKOUT = PACKAGE.parent if all((PACKAGE.parent / name).is_file() for name in ("app.py", "requirements.txt")) else None
SHIPPED = (CHECKOUT or PACKAGE) / "checkpoints"  # holds the model that ships with the project; read-only
DURABLE = Path("/data")  # a Space's persistent storage, if it has any
# How this program was started, for hints and commands to copy: as the installed `nanogpt`, or as a module.
PROGRAM = "nanogpt" if Path(sys.argv[0]).stem == "nanogpt" else "python -m nanogpt"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
# Windows can't have a folder with one of these names, and a run may be copied there
DEVICES = {"con", "prn", "aux", "nul", *(f"{kind}{number}" for kind in ("com", "lpt") for number in range(10))}

# Letters that don't decompose into a plain one and its accent; casefold spells ß
SPELLED = str.maketrans({"ł": "l", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "ı": "i"})

QUOTED_PATH = re.compile(r"""(["'])(?:[A-Za-z]:)?[\\/][^"'\n]*[\\/]([^"'\\/\n]*)\1""")
BARE_PATH = re.compile(r"""(?<![\w.:/\\])(?:[A-Za-z]:)?[\\/](?:[^\s"'\\/]+[\\/])+([^\s"'\\/]*)""")


def home() -> Path:
    """Return the folder that holds `checkpoints/` and `corpora/`. It may not exist yet."""
    if named := os.environ.get("NANOGPT_HOME"):
        return expanded(named)
    if limits.on_space() and os.access(DURABLE, os.W_OK):
        return DURABLE  # everything else on a Space is erased at a restart
    return CHECKOUT or data_folder()


def project() -> Path | None:
    """Return the project's folder: the checkout that the code runs from, or the working directory if it is one."""
    here = Path.cwd()
    return CHECKOUT or (here if all((here / name).is_file() for name in IN_PROJECT) else None)


def expanded(folder: str) -> Path:
    """Return a path with ~ replaced. Raise NanoGPTError if this user has no home folder."""
    try:
        return Path(folder).expanduser()
    except RuntimeError:
        raise NanoGPTError(
            f"NANOGPT_HOME is {folder}, but this user has no home folder. Set it to a full path."
        ) from None


def data_folder() -> Path:
    """Return the user's data folder for nanogpt, such as ~/.local/share/nanogpt on Linux."""
    from platformdirs import user_data_path  # imported here because it takes 15 ms and a checkout never needs it

    return user_data_path("nanogpt", appauthor=False)


def environment() -> dict[str, str]:
    """Return an environment in which another Python process imports the same code as this one.

    Without PYTHONSAFEPATH, `python -m` looks in the working directory first: an installed nanogpt that was started in a
    checkout would train with the checkout's code, which looks for runs in the checkout.
    """
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def is_lasting() -> bool:
    """Return True if files written to `home` survive a restart, as far as we can tell."""
    return not limits.on_space() or home() == DURABLE


def without_folders(text: str) -> str:
    """Return a message or a log with only the last part of each full path in it, which is not for visitors to know."""
    return BARE_PATH.sub(r"\1", QUOTED_PATH.sub(r"\1\2\1", text))


def slug(title: str) -> str:
    """Return a title as a name of lower-case letters, digits and hyphens, or "" if none of it can be kept."""
    letters = title.casefold().translate(SPELLED)
    plain = unicodedata.normalize("NFKD", letters).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:64].strip("-")
    return f"{name}-1" if name in DEVICES else name


def checked_name(name: str) -> str:
    """Return the name if it is valid, else raise NanoGPTError. Only names checked here ever become part of a path."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise NanoGPTError(
            f"{str(name)[:80]!r} can't be used as a name. Use 1 to 64 lower-case letters, digits and hyphens, starting "
            f"with a letter or digit, e.g. {slug(str(name)) or 'my-run'}."
        )
    return name


def new_name(name: str) -> str:
    """Return a valid name for something new, else raise NanoGPTError. Folders with other names may already exist."""
    if checked_name(name) in DEVICES:
        raise NanoGPTError(f"{name!r} can't be used as a name: on Windows it means a device. Use, e.g., {slug(name)}.")
    return name
