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
import os
import re
import shutil
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from .. import disk, paths
from ..config import NanoGPTError
from ..tokenizer import CharTokenizer
from .prepare import Prepared, check, check_size, prepare, utf8
from .report import Report, count_characters, report

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

    @property
    def folder(self) -> Path:
        return corpora() / self.id

    def text(self) -> str:
        """The text. NanoGPTError where its file is gone or damaged."""
        try:
            return (self.folder / "text.txt").read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError):
            raise _damaged(self.id) from None

    def tokens(self) -> np.ndarray:
        """Its ids, of which only what is used is read from disk. NanoGPTError where their file is gone or damaged."""
        try:
            return np.load(self.folder / "tokens.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            raise _damaged(self.id) from None

    def report(self) -> Report:
        return report(self.text(), self.encoding, repairs=self.repairs)


def id_of(sha256: str, owner: str | None = None) -> str:
    """The id of the text with that hash. A visitor's own copy has one that nobody else arrives at."""
    return (sha256 if owner is None else hashlib.sha256(f"{owner} {sha256}".encode()).hexdigest())[:16]


def add(text: str | Prepared, name: str = "", source: str = "pasted", owner: str | None = None) -> Corpus:
    """Put a text on disk: a Prepared one, or a str exactly as it is. NanoGPTError where it is none to train on.

    The same text is kept once: it keeps its first date and gets the new name. A built-in text keeps its name, too.
    For an owner it is kept apart: another visitor with the same text neither sees nor changes nor deletes it.
    """
    if isinstance(text, str):
        check_size(len(utf8(text)))
        check(text)
        text = Prepared(text, "Pasted text", source, "Unicode")
    data = utf8(text.text)
    sha256 = hashlib.sha256(data).hexdigest()
    id, title = id_of(sha256, owner), _title(name) or _title(text.name) or "Untitled"
    try:
        old = load(id)
    except NanoGPTError:
        tokenizer = CharTokenizer(count_characters(text.text))
        tokens = io.BytesIO()
        np.save(tokens, tokenizer.encode_array(text.text), allow_pickle=False)
        disk.write_whole(corpora() / id / "text.txt", data)
        disk.write_whole(corpora() / id / "tokens.npy", tokens.getvalue())
        created = datetime.now(UTC).isoformat()
        about = (created, text.source, text.encoding, text.done, "".join(tokenizer.chars))
        return _write(Corpus(id, title, sha256, len(text.text), *about, owner))
    keeps_name = old.source.startswith(BUILT_IN)
    return old if keeps_name or old.name == title else rename(id, title)


def add_files(
    paths: Sequence[str | os.PathLike[str]],
    name: str | None = None,
    encoding: str | None = None,
    decline: Collection[str] = (),
    accept: Collection[str] = (),
) -> Corpus:
    """`prepare` some files and `add` them as one corpus, named after the first where no name is given."""
    return add(prepare(list(paths), encoding, decline, accept), name or "")


def load(id: str) -> Corpus:
    """The corpus of that id. NanoGPTError where there is none, or its folder is incomplete."""
    if not isinstance(id, str) or not ID.fullmatch(id):
        raise NanoGPTError(f"The corpus was {str(id)[:40]!r}; its id has 16 of the digits 0-9 and a-f.")
    folder = corpora() / id
    try:
        about: dict[str, Any] = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        found = Corpus(id=id, **{**about, "repairs": tuple(about["repairs"])})
        sizes = [(folder / part).stat().st_size for part in ("text.txt", "tokens.npy")]
        whole = min(sizes) >= found.characters and id == id_of(found.sha256, found.owner)  # a byte or more a character
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


def _write(corpus: Corpus) -> Corpus:
    about = {key: value for key, value in dataclasses.asdict(corpus).items() if key != "id"}
    disk.write_whole(corpus.folder / "corpus.json", json.dumps(about, ensure_ascii=False, indent=1))
    return corpus


def _damaged(id: str) -> NanoGPTError:
    return NanoGPTError(f"The corpus {id} is damaged on disk; add its text again.")


def _title(name: str) -> str:
    """A name as one short line that can be seen: no control or formatting characters."""
    seen = "".join(ch if unicodedata.category(ch)[0] != "C" or ch in "\u200c\u200d" else " " for ch in str(name))
    return " ".join(seen.split())[:100]
