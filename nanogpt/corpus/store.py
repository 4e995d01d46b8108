"""Store texts on disk, one folder per text.

    corpora/<id: 16 hex digits of the text's SHA-256, or of its hash with the owner for a visitor's copy>/
        text.txt       the text in UTF-8, line endings unchanged
        tokens.npy     its token ids, read through a memory map
        corpus.json    name, source, encoding, guesses, clean-ups and characters
        report.json    the report on it, if the text is large

A folder is written under a temporary name and renamed when it is complete.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import re
import unicodedata
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from .. import disk, paths
from ..config import NanoGPTError
from ..errors import explain
from ..holdout import train_length
from ..tokenizer import Tokenizer, make_tokenizer
from .large import characters_between
from .reading import Reading, utf8
from .report import Report

ID = re.compile(r"[0-9a-f]{16}")

BUILT_IN = "built-in: "  # the prefix of a built-in text's source


@dataclass(frozen=True)
class Corpus:
    """A stored text and its token ids. `chars` holds the distinct characters of the text, sorted, as one string."""

    id: str
    name: str
    sha256: str
    characters: int
    created: str  # ISO 8601, UTC
    source: str
    encoding: str
    repairs: tuple[str, ...]
    chars: str
    owner: str | None = None  # the visitor of a public server who owns this copy
    large: bool = False  # too long to be in memory, so it was stored piece by piece and has a report.json
    guesses: tuple[str, ...] = ()  # what there was to say about the files when they were read; earlier versions lack it
    reading: Reading | None = field(default=None, compare=False, repr=False)  # set by `add`; not stored

    @property
    def folder(self) -> Path:
        return corpora() / self.id

    def text(self) -> str:
        """Return the text. Raise NanoGPTError if its file is missing or damaged."""
        return _text_in(self.folder)

    def between(self, start: int, stop: int) -> str:
        """Return the characters from `start` to `stop`, without having all of a large text in memory."""
        if not self.large:
            return self.text()[start:stop]
        try:
            return characters_between(self.folder / "text.txt", start, stop)
        except (OSError, UnicodeDecodeError):
            raise _damaged(self.id) from None

    def part(self, most: int) -> tuple[str, str]:
        """Return the ends of the training and of the validation set that meet at the split, `most` characters of the
        text in all, divided like all of it. A text that isn't longer is returned whole."""
        cut = train_length(self.characters)
        start = max(0, cut - train_length(most)) if most < self.characters else 0
        text = self.between(start, start + min(most, self.characters))
        return text[: cut - start], text[cut - start :]

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer made for the text. Raise NanoGPTError if the text is missing or damaged."""
        return make_tokenizer(self.chars) if self.large else _tokenizer_for(self.folder)

    def tokens(self) -> np.ndarray:
        """Return the text's token ids, (N,), as a memory map. Raise NanoGPTError if they are missing or damaged."""
        try:
            # "c": torch takes only arrays that could be written to; nothing written would reach the file
            return np.load(disk.checked(self.folder / "tokens.npy"), mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            raise _damaged(self.id) from None

    @property
    def notes(self) -> tuple[str, ...]:
        """The guesses and clean-ups made when the text was read, one sentence each."""
        return (*self.reading.notes, *self.reading.done) if self.reading else (*self.guesses, *self.repairs)

    def report(self) -> Report:
        """Return a report on the text, including the guesses and clean-ups made when it was read."""
        if self.large:
            return _report_in(self.folder)
        if self.reading:
            return self.reading.report()
        return Report.of(self.text(), self.encoding, self.guesses, self.repairs)


def id_of(sha256: str, owner: str | None = None) -> str:
    """Return the id of the text with this hash. A visitor's copy has an id of its own."""
    return (sha256 if owner is None else hashlib.sha256(f"{owner} {sha256}".encode()).hexdigest())[:16]


def keep(reading: Reading, name: str = "", owner: str | None = None) -> Corpus:
    """Store a text that has been read.

    A text is stored only once: adding it again keeps its date and changes its name, unless it is a built-in text.
    Each owner has their own copy, so that visitors with the same text can't see, rename or delete each other's.
    """
    data = utf8(reading.text)
    sha256 = hashlib.sha256(data).hexdigest()
    id, title = id_of(sha256, owner), title_of(name) or title_of(reading.name) or "Untitled"
    try:
        stored = load(id)
    except NanoGPTError:
        created = datetime.now(UTC).isoformat()
        about = (created, reading.source, reading.encoding, reading.done)
        new = Corpus(id, title, sha256, len(reading.text), *about, chars="", owner=owner, guesses=reading.notes)
        stored = _store(new, reading.text, data)
    return dataclasses.replace(titled(stored, title), reading=reading)


def titled(stored: Corpus, title: str) -> Corpus:
    """Return a text under the name that it was added with last, unless it is a built-in one."""
    if stored.name == title or stored.source.startswith(BUILT_IN):
        with suppress(OSError):
            os.utime(stored.folder / "corpus.json")  # it has been used now
        return stored
    return rename(stored.id, title)


def _store(corpus: Corpus, text: str, data: bytes) -> Corpus:
    """Write the folder of a text, given also as UTF-8, and return the corpus.

    Replace a damaged folder. Raise OSError, and leave nothing behind, if the disk is full.
    """
    tokenizer, cut = make_tokenizer(text), train_length(len(text))
    parts = [tokenizer.encode_array(part) for part in (text[:cut], text[cut:])]  # no token may straddle the split
    tokens = io.BytesIO()
    np.save(tokens, np.concatenate(parts), allow_pickle=False)
    corpus = dataclasses.replace(corpus, chars="".join(tokenizer.chars))
    with disk.unfinished(corpora()) as folder:
        disk.write_whole(folder / "text.txt", data)
        disk.write_whole(folder / "tokens.npy", tokens.getvalue())
        write_about(corpus, folder)
        return placed(corpus, folder)


def placed(corpus: Corpus, folder: Path) -> Corpus:
    """Give the folder of a text its name. Return the corpus, or the same one if another process has written it."""
    try:
        disk.rename_folder(folder, corpus.folder)
    except FileExistsError:
        try:
            return load(corpus.id)
        except NanoGPTError:
            disk.delete_folder(corpus.folder)
            disk.rename_folder(folder, corpus.folder)
    return corpus


def load(id: str, name: str = "") -> Corpus:
    """Return the text with this id. Raise NanoGPTError if there is none, or if its folder is incomplete.

    `name` is what messages call it, by default its id.
    """
    folder, called = corpora() / checked_id(id), name or id
    try:
        about: dict[str, Any] = disk.from_json(disk.read(folder / "corpus.json"))
        lists = {key: tuple(about.get(key, ())) for key in ("repairs", "guesses")}
        found = Corpus(id=id, **{**about, **lists})
        whole = _is_whole(found)
    except FileNotFoundError:
        raise missing(id, name) from None
    except PermissionError as error:
        raise NanoGPTError(f"The text {called} can't be read. {explain(error)}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise _damaged(called) from None
    if not whole:
        raise _damaged(called)
    return found


def checked_id(id: Any) -> str:
    """Return the id if it may be one of a text. Raise NanoGPTError if not."""
    if not id:
        raise NanoGPTError("No text is chosen. Choose one, or add your own.")
    if not isinstance(id, str) or not ID.fullmatch(id):
        raise NanoGPTError(f"{str(id)[:40]!r} is not the id of a text, which has 16 characters from 0-9 and a-f.")
    return id


def _is_whole(found: Corpus) -> bool:
    """Return True if a text's files are as long as corpus.json says, and the text is the one its id stands for."""
    size, _ = ((found.folder / part).stat().st_size for part in ("text.txt", "tokens.npy"))
    if size < found.characters or not len(found.tokens()):  # at least one byte per character
        return False
    return found.id == id_of(found.sha256, found.owner)


def missing(id: str, name: str = "") -> NanoGPTError:
    """Return the error for a text that does not exist, or that the visitor may not know about."""
    if name:
        return NanoGPTError(f"The text {name!r} isn't stored here. Add it, then try again.")
    return NanoGPTError(f"There is no text {id}; it was deleted or never added. Add it again.")


def listed() -> list[Corpus]:
    """Return every complete text, newest first."""
    found = []
    for folder in corpora().iterdir() if corpora().is_dir() else []:
        try:
            found.append(load(folder.name))
        except NanoGPTError:
            continue  # incomplete, or not one of ours
    return sorted(found, key=lambda corpus: (corpus.created, corpus.id), reverse=True)


def size_on_disk(corpus: Corpus) -> int:
    """Return the size of a text's folder in bytes, without files that are being written."""
    return disk.bytes_in(corpus.folder)


def rename(id: str, name: str) -> Corpus:
    """Rename a text. Raise NanoGPTError if the name is empty or there is no such text."""
    if not title_of(name):
        raise NanoGPTError("The name is empty. Enter a name for the text.")
    renamed = dataclasses.replace(load(id), name=title_of(name))
    try:
        write_about(renamed, renamed.folder)
    except FileNotFoundError:  # deleted in the meantime
        raise missing(id) from None
    return renamed


def delete(id: str) -> None:
    """Delete a text, even if a run still needs it. Raise NanoGPTError if there is no such text."""
    folder = load(id).folder
    try:
        disk.delete_folder(folder)
    except OSError as error:
        raise NanoGPTError(f"The text {id} can't be deleted. {explain(error)}") from None


def corpora() -> Path:
    """Return the folder that holds every stored text."""
    return paths.home() / "corpora"


def _text_in(folder: Path) -> str:
    try:
        return disk.read(folder / "text.txt").decode("utf-8")
    except (OSError, UnicodeDecodeError):
        raise _damaged(folder.name) from None


def _report_in(folder: Path) -> Report:
    try:
        return Report.restored(disk.from_json(disk.read(folder / "report.json")))
    except (OSError, ValueError, KeyError, TypeError):
        raise _damaged(folder.name) from None


@lru_cache(maxsize=4)
def _tokenizer_for(folder: Path) -> Tokenizer:
    """Return the tokenizer for the text in a folder. Caching is safe: a folder is named after its text's hash."""
    return make_tokenizer(_text_in(folder))


def write_about(corpus: Corpus, folder: Path) -> None:
    about = {key: value for key, value in vars(corpus).items() if key not in ("id", "reading")}
    disk.write_whole(folder / "corpus.json", json.dumps(about, ensure_ascii=False, indent=1))


def _damaged(name: str) -> NanoGPTError:
    return NanoGPTError(f"The text {name} is damaged on disk. Add it again.")


def title_of(name: str | None) -> str:
    """Return a name as one short visible line, without control or formatting characters; "" for None.

    Raise NanoGPTError for anything else that a program may send as a name.
    """
    if not isinstance(name, str | None):
        raise NanoGPTError(f"The name of a text must be a string, not {str(name)[:40]}.")
    seen = "".join(ch if unicodedata.category(ch)[0] != "C" or ch in "\u200c\u200d" else " " for ch in name or "")
    return " ".join(seen.split())[:100]
