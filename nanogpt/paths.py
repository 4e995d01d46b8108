"""Where runs and texts live, and which names may become part of a path.

They live in the first of these folders that applies: the one NANOGPT_HOME names, a Space's own storage, the checkout
the code runs from, or, for an installed package, the user's data folder.
"""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

from .config import NanoGPTError

PACKAGE = Path(__file__).resolve().parent
# A checkout, and a Space made from one, has these two files beside the package; site-packages does not.
CHECKOUT = PACKAGE.parent if all((PACKAGE.parent / name).is_file() for name in ("app.py", "requirements.txt")) else None
SHIPPED = (CHECKOUT or PACKAGE) / "checkpoints"  # holds the model that comes with the project; read only
DURABLE = Path("/data")  # where a Space mounts its storage, if it has any
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


def home() -> Path:
    """Return the folder that holds `checkpoints/` and `corpora/`. It may not exist yet."""
    if named := os.environ.get("NANOGPT_HOME"):
        return Path(named).expanduser()
    if os.environ.get("SPACE_ID") and os.access(DURABLE, os.W_OK):
        return DURABLE  # the rest of a Space's disk is erased at a restart
    return CHECKOUT or data_folder()


def data_folder() -> Path:
    """Return the user's data folder for nanogpt, such as ~/.local/share/nanogpt on Linux."""
    from platformdirs import user_data_path  # 15 ms, and a checkout never needs it

    return user_data_path("nanogpt", appauthor=False)


def environment() -> dict[str, str]:
    """Return an environment in which another Python process imports the code that runs here.

    Without PYTHONSAFEPATH, `python -m` would look in the working folder first: started in a checkout, an installed
    nanogpt would train with the checkout's code, which looks for runs in the checkout.
    """
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def is_lasting() -> bool:
    """Return whether what is written survives a restart, as far as we can tell."""
    return not os.environ.get("SPACE_ID") or home() == DURABLE


def slug(title: str) -> str:
    """Turn a title into a name: lower-case letters, digits and hyphens. Return "" if nothing of it can be kept."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:64].strip("-")


def checked_name(name: str) -> str:
    """Return the name if it is a valid one, else raise NanoGPTError. Nothing else ever becomes part of a path."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        hint = f" Try {slug(str(name))!r}." if slug(str(name)) else ""
        raise NanoGPTError(
            f"The name was {str(name)[:80]!r}; a name has 1 to 64 lower-case letters, digits and hyphens, "
            f"and begins with a letter or digit.{hint}"
        )
    return name
