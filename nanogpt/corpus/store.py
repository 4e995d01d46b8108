"""The text: from files, from the clipboard or from what comes with Python, to one checked corpus on disk.

    corpora/<first 16 hex digits of the text's SHA-256, of a visitor's copy on a public server another 16>/
        text.txt       the text in UTF-8, newlines as they are
        tokens.npy     its ids in its own alphabet, read through a memory map
        corpus.json    name, where it came from, what was assumed and repaired, the alphabet; written last

A folder without corpus.json does not count. Try it: `python -m nanogpt.corpus FILE...` prints what is in a text.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
import shutil
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from .. import disk, paths
from ..config import NanoGPTError
from ..holdout import train_length
from ..tokenizer import Tokenizer, make_tokenizer
from .reading import Reading, Source, read, utf8
from .report import Report

ID = re.compile(r"[0-9a-f]{16}")

BUILT_IN = "built-in: "  # how the source of such a text begins


@dataclass(frozen=True)
class Corpus:
    """A text on disk with its ids. `chars` is its alphabet, sorted, as one string."""

    id: str
    name: str
    sha256: str
    characters: int
    created: str  # ISO 8601, UTC
    source: str
    encoding: str
    repairs: tuple[str, ...]
    chars: str
    owner: str | None = None  # a visitor of a public server, to whom alone this copy belongs
    reading: Reading | None = field(default=None, compare=False, repr=False)  # if `add` has just read it; not stored

    @property
    def folder(self) -> Path:
        return corpora() / self.id

    def text(self) -> str:
        """Return the text. Raise NanoGPTError if its file is gone or damaged."""
        return _text_in(self.folder)

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer that was made for the text. Raise NanoGPTError if the text is gone or damaged."""
        return _tokenizer_for(self.folder)

    def tokens(self) -> np.ndarray:
        """Return the text's ids in its tokenizer, (N,), as a memory map. Raise NanoGPTError if they are damaged."""
        try:
            return np.load(self.folder / "tokens.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            raise _damaged(self.id) from None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed and repaired when the text was read, in sentences."""
        return (*self.reading.notes, *self.reading.done) if self.reading else self.repairs

    def report(self) -> Report:
        """Return what is in the text, with what was assumed and repaired when it was read."""
        return self.reading.report() if self.reading else Report.of(self.text(), self.encoding, repairs=self.repairs)


def id_of(sha256: str, owner: str | None = None) -> str:
    """The id of the text with that hash. A visitor's own copy has one that nobody else arrives at."""
    return (sha256 if owner is None else hashlib.sha256(f"{owner} {sha256}".encode()).hexdigest())[:16]


def add(
    source: Source,
    name: str = "",
    encoding: str | None = None,
    decline: Collection[str] = (),
    accept: Collection[str] = (),
    owner: str | None = None,
) -> Corpus:
    """Read a text, repair it, and store it: a pasted text (str), the bytes of a file, or a list of files (paths).

    `encoding`, `decline` and `accept` are those of `reading.read`. The result has the `reading`: what was assumed, and
    what there was to repair. Raise NanoGPTError if it is not a text to train on.
    """
    return keep(read(source, encoding, decline, accept), name, owner)


def keep(reading: Reading, name: str = "", owner: str | None = None) -> Corpus:
    """Store a text as it was read.

    The same text is kept once: it keeps its first date and gets the new name. A built-in text keeps its name, too.
    For an owner it is kept apart: another visitor with the same text neither sees nor changes nor deletes it.
    """
    data = utf8(reading.text)
    sha256 = hashlib.sha256(data).hexdigest()
    id, title = id_of(sha256, owner), _title(name) or _title(reading.name) or "Untitled"
    try:
        stored = load(id)
    except NanoGPTError:
        tokenizer = _write_text(corpora() / id, reading.text, data)
        created = datetime.now(UTC).isoformat()
        about = (created, reading.source, reading.encoding, reading.done, "".join(tokenizer.chars))
        stored = _write(Corpus(id, title, sha256, len(reading.text), *about, owner))
    if stored.name != title and not stored.source.startswith(BUILT_IN):
        stored = rename(id, title)
    return dataclasses.replace(stored, reading=reading)


def _write_text(folder: Path, text: str, data: bytes) -> Tokenizer:
    """Write a text, as UTF-8, and its ids. Return the tokenizer that was made for it."""
    tokenizer, cut = make_tokenizer(text), train_length(len(text))
    parts = [tokenizer.encode_array(part) for part in (text[:cut], text[cut:])]  # so that no token lies across the cut
    tokens = io.BytesIO()
    np.save(tokens, np.concatenate(parts), allow_pickle=False)
    disk.write_whole(folder / "text.txt", data)
    disk.write_whole(folder / "tokens.npy", tokens.getvalue())
    return tokenizer


def load(id: str) -> Corpus:
    """The corpus of that id. NanoGPTError where there is none, or its folder is incomplete."""
    if not isinstance(id, str) or not ID.fullmatch(id):
        raise NanoGPTError(f"The corpus was {str(id)[:40]!r}; its id has 16 of the digits 0-9 and a-f.")
    folder = corpora() / id
    try:
        about: dict[str, Any] = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        found = Corpus(id=id, **{**about, "repairs": tuple(about["repairs"])})
        size, _ = ((folder / part).stat().st_size for part in ("text.txt", "tokens.npy"))
        whole = size >= found.characters and len(found.tokens()) > 0  # a byte or more per character
        whole = whole and id == id_of(found.sha256, found.owner)
    except FileNotFoundError:
        raise missing(id) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise _damaged(id) from None
    if not whole:
        raise _damaged(id)
    return found


def missing(id: str) -> NanoGPTError:
    """What is said where there is no such text, or none that the asker may know of."""
    return NanoGPTError(f"There is no corpus {id}; its text was deleted, or never added. Add it again.")


def listed() -> list[Corpus]:
    """Every complete corpus, the newest first."""
    found = []
    for folder in corpora().iterdir() if corpora().is_dir() else []:
        try:
            found.append(load(folder.name))
        except NanoGPTError:
            continue  # half written, or not ours
    return sorted(found, key=lambda corpus: (corpus.created, corpus.id), reverse=True)


def size_on_disk(corpus: Corpus) -> int:
    """Bytes of its folder."""
    return sum(path.stat().st_size for path in corpus.folder.glob("*") if path.is_file())


def rename(id: str, name: str) -> Corpus:
    """Give a corpus another name. NanoGPTError where the name is empty or there is no such corpus."""
    if not _title(name):
        raise NanoGPTError("The name was empty; a text needs a name to be found by.")
    return _write(dataclasses.replace(load(id), name=_title(name)))


def delete(id: str) -> None:
    """Remove a corpus, whether or not anything still needs it. NanoGPTError where there is none."""
    folder = load(id).folder
    try:
        (folder / "corpus.json").unlink()  # first: from here on the folder does not count
        shutil.rmtree(folder)
    except OSError as error:
        raise NanoGPTError(f"{id} could not be deleted ({error.strerror}); is something still reading it?") from None


def corpora() -> Path:
    """Return the folder that holds every stored text."""
    return paths.home() / "corpora"


def _text_in(folder: Path) -> str:
    try:
        return (folder / "text.txt").read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        raise _damaged(folder.name) from None


@lru_cache(maxsize=4)
def _tokenizer_for(folder: Path) -> Tokenizer:
    """Return the tokenizer for the text in a folder, which is named after the text's hash: it never changes."""
    return make_tokenizer(_text_in(folder))


def _write(corpus: Corpus) -> Corpus:
    about = {key: value for key, value in vars(corpus).items() if key not in ("id", "reading")}
    disk.write_whole(corpus.folder / "corpus.json", json.dumps(about, ensure_ascii=False, indent=1))
    return corpus


def _damaged(id: str) -> NanoGPTError:
    return NanoGPTError(f"The corpus {id} is damaged on disk; add its text again.")


def _title(name: str) -> str:
    """A name as one short line that can be seen: no control or formatting characters."""
    seen = "".join(ch if unicodedata.category(ch)[0] != "C" or ch in "\u200c\u200d" else " " for ch in str(name))
    return " ".join(seen.split())[:100]
