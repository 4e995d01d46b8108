"""The built-in texts: two made from the running Python's own files, and Tiny Shakespeare, downloaded once."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import platform
import sysconfig
import urllib.request
from pathlib import Path

from .. import disk
from ..config import NanoGPTError
from ..similar import did_you_mean
from .reading import Reading
from .store import BUILT_IN, ID, Corpus, corpora, keep, load

BUILTINS = {  # key -> (name, description)
    "python-reference": (
        "Python reference",
        "Python's own reference manual, in English with examples: 0.46 million characters, included with Python.",
    ),
    "python-stdlib": (
        "Python standard library",
        "The source code of Python's standard library, for a model that writes code: up to 5 million characters.",
    ),
    "shakespeare": (
        "Tiny Shakespeare",
        "The lecture's text: 1.1 million characters of plays, downloaded the first time you use it.",
    ),
}
STDLIB_CHARACTERS = 5_000_000
SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
DOWNLOADED = {SHAKESPEARE_SHA256[:16]: "shakespeare"}  # id -> key


def find(reference: str) -> Corpus:
    """Return a built-in text by its key, or a stored text by its id. Raise NanoGPTError if there is no such text."""
    if isinstance(reference, str) and reference in BUILTINS:
        return load_builtin(reference)
    if not isinstance(reference, str) or not ID.fullmatch(reference):
        wanted = str(reference)[:40]
        meant = did_you_mean(wanted, BUILTINS)
        choices = f"; {meant}" if meant else f". Choose {', '.join(BUILTINS)}, or the id of a stored text."
        raise NanoGPTError(f"There is no text {wanted!r}{choices}")
    return load(reference)


def load_builtin(key: str) -> Corpus:
    """Return a built-in text, storing it on first use. Raise NanoGPTError if it is unknown or unavailable.

    The texts differ from one Python to the next, so built-in.json remembers which text belongs to which build.
    """
    if key not in BUILTINS:
        meant = did_you_mean(str(key)[:40], BUILTINS) or f"choose one of {', '.join(BUILTINS)}."
        raise NanoGPTError(f"There is no built-in text {str(key)[:40]!r}; {meant}")
    source = _source(key)
    remembered = {source: SHAKESPEARE_SHA256[:16]} if key == "shakespeare" else _remembered()
    try:
        return load(remembered.get(source, ""))
    except NanoGPTError:
        corpus = keep(Reading(_TEXTS[key](), BUILTINS[key][0], source, "Unicode"))
    if key != "shakespeare":
        disk.write_whole(corpora() / "built-in.json", json.dumps({**_remembered(), source: corpus.id}, indent=1))
    return corpus


def reference(corpus: Corpus) -> str:
    """Return what to call a text on the command line: its key if it is a built-in text of this Python, else its id."""
    return next((key for key in BUILTINS if corpus.source == _source(key)), corpus.id)


def _source(key: str) -> str:
    if key == "shakespeare":
        return BUILT_IN + key
    return f"{BUILT_IN}{key}, Python {platform.python_version()} of {platform.python_build()[1]}"


def _remembered() -> dict[str, str]:
    try:
        return dict(disk.from_json(disk.read(corpora() / "built-in.json")))
    except (OSError, ValueError, TypeError):
        return {}


def _reference() -> str:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise NanoGPTError("This Python was installed without its reference manual; choose another text.") from None
    return "\n".join(topics[name] for name in sorted(topics))


def _stdlib() -> str:
    texts: list[str] = []
    size = 0
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if size + len(text) > STDLIB_CHARACTERS:
            break
        texts.append(text)
        size += len(text) + 1
    if not texts:
        raise NanoGPTError("This Python was installed without its source code; choose another text.")
    return "\n".join(texts)


def _shakespeare() -> str:
    if named := os.environ.get("NANOGPT_TINYSHAKESPEARE"):
        origin = "The file named by NANOGPT_TINYSHAKESPEARE"
        try:
            data = disk.read(Path(named))
        except OSError as error:
            raise NanoGPTError(
                f"{origin} can't be read ({error.strerror}). Correct or unset the variable, or choose another text."
            ) from None
    else:
        origin = "The downloaded file"
        try:
            with urllib.request.urlopen(SHAKESPEARE_URL, timeout=20) as answer:
                data = answer.read(2_000_000)  # slightly more than the file has
        except (OSError, http.client.HTTPException):
            raise NanoGPTError(
                "Couldn't download Tiny Shakespeare. Check your internet connection, or choose another text."
            ) from None
    if hashlib.sha256(data).hexdigest() != SHAKESPEARE_SHA256:
        raise NanoGPTError(f"{origin} is not Tiny Shakespeare (its SHA-256 differs). Choose another text.")
    return data.decode("ascii")


_TEXTS = {"python-reference": _reference, "python-stdlib": _stdlib, "shakespeare": _shakespeare}
