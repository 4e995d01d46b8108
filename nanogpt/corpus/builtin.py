"""The texts that come with the project: two made from Python itself, and Tiny Shakespeare, downloaded once."""

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
from .reading import Reading
from .store import BUILT_IN, Corpus, corpora, keep, load

BUILTINS = {  # key -> the name, and what it is
    "python-reference": (
        "Python reference",
        "Python's own reference manual, in English with examples: 0.46 million characters that come with Python.",
    ),
    "python-stdlib": (
        "Python standard library",
        "The source code of Python's standard library, to learn to write code: up to 5 million characters.",
    ),
    "shakespeare": (
        "Tiny Shakespeare",
        "The lecture's text: 1.1 million characters of plays, downloaded once.",
    ),
}
STDLIB_CHARACTERS = 5_000_000
SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


def find(reference: str) -> Corpus:
    """A built-in text by its key, or a stored one by its id. NanoGPTError where there is none."""
    return load_builtin(reference) if isinstance(reference, str) and reference in BUILTINS else load(reference)


def load_builtin(key: str) -> Corpus:
    """A built-in text, put on disk the first time. NanoGPTError where there is none such or it cannot be had.

    Which text that is, is remembered for this very build of Python: another one's reference is another text.
    """
    if key not in BUILTINS:
        raise NanoGPTError(f"The built-in text was {str(key)[:40]!r}; there are {', '.join(BUILTINS)}.")
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
    """What names a text for the command line: the key of a built-in one that is this Python's, else its id."""
    return next((key for key in BUILTINS if corpus.source == _source(key)), corpus.id)


def _source(key: str) -> str:
    if key == "shakespeare":
        return BUILT_IN + key
    return f"{BUILT_IN}{key}, Python {platform.python_version()} of {platform.python_build()[1]}"


def _remembered() -> dict[str, str]:
    try:
        return dict(json.loads((corpora() / "built-in.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _reference() -> str:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise NanoGPTError("This Python comes without its reference; choose another text.") from None
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
        raise NanoGPTError("This Python comes without its source code; choose another text.")
    return "\n".join(texts)


def _shakespeare() -> str:
    if named := os.environ.get("NANOGPT_TINYSHAKESPEARE"):
        origin = "The file that NANOGPT_TINYSHAKESPEARE names"
        try:
            data = Path(named).read_bytes()
        except OSError as error:
            raise NanoGPTError(f"{origin} could not be read ({error.strerror}); correct or unset it.") from None
    else:
        origin = "What was downloaded"
        try:
            with urllib.request.urlopen(SHAKESPEARE_URL, timeout=20) as answer:
                data = answer.read(2_000_000)  # a little more than it has
        except (OSError, http.client.HTTPException):
            raise NanoGPTError(
                "Tiny Shakespeare could not be downloaded; connect to the internet, or choose another text."
            ) from None
    if hashlib.sha256(data).hexdigest() != SHAKESPEARE_SHA256:
        raise NanoGPTError(f"{origin} is not Tiny Shakespeare; its SHA-256 differs. Choose another text.")
    return data.decode("ascii")


_TEXTS = {"python-reference": _reference, "python-stdlib": _stdlib, "shakespeare": _shakespeare}
