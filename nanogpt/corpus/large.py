"""Write and read texts that are too long to be in memory: the text first, then, once its alphabet is known, its tokens.

Everything here goes through a text piece by piece. What takes long yields how much of it is done, from 0 to 1, so that
it can be shown, and stopped between two pieces.
"""

from __future__ import annotations

import codecs
import errno
import hashlib
import os
import shutil
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from .. import disk
from ..errors import NoRoom
from ..holdout import train_length
from ..tokenizer import Tokenizer
from .cutting import PIECE
from .pieces import Pieces
from .reading import utf8
from .report import as_counts, count_into

T = TypeVar("T")
SAMPLE = 8_000_000  # characters of a text that its report looks at, or up to twice as many; all of them are counted
AT_LEAST = 4_000  # characters of the sample from a piece


@dataclass(frozen=True)
class Written:
    """What is known about a text once it has been written."""

    sha256: str
    counts: dict[str, int]  # how often each character occurs, in code point order
    sample: str  # beginnings of its pieces, in order


class Sample:
    """Beginnings of the pieces of a text, evenly spread over it, although how long it is isn't known before its end.

    Of many short files, which are a piece each, only each second one is kept, then each fourth, and so on.
    """

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.length = self.seen = 0  # in characters, and in pieces
        self.every = 1  # piece of so many is kept

    def add(self, text: str, most: int) -> None:
        """Take up to `most` characters of the next piece."""
        if self.seen % self.every == 0:
            self.parts.append(text[:most])
            self.length += len(self.parts[-1])
        self.seen += 1
        if self.length >= 2 * SAMPLE:
            self.every *= 2
            self.parts = self.parts[::2]
            self.length = sum(map(len, self.parts))


def finished(steps: Generator[float, None, T]) -> T:
    """Do the work to its end, and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


def scaled(steps: Generator[float, None, T], start: float, end: float) -> Generator[float, None, T]:
    """Yield what is done of a part of the work that goes from `start` to `end` of the whole, and return its result."""
    while True:
        try:
            share = next(steps)
        except StopIteration as done:
            return done.value
        yield start + (end - start) * share


def write_text(path: Path, pieces: Pieces, size: int) -> Generator[float, None, Written]:
    """Write the pieces of a text in UTF-8, made from files of `size` bytes. Yield how much is done.

    Raise OSError if the disk has no room for the tokens of what has been written.
    """
    digest, counts, sample, characters = hashlib.sha256(), np.zeros(0x110000, dtype=np.int64), Sample(), 0
    with path.open("xb") as file:
        for text in pieces:
            data = utf8(text)
            file.write(data)
            digest.update(data)
            count_into(counts, text)
            sample.add(text, max(AT_LEAST, len(text) * SAMPLE // size))
            characters += len(text)
            check_room(path.parent, characters)  # or more, but only the whole alphabet will tell
            yield pieces.read / size
        _finish(file)
    return Written(digest.hexdigest(), as_counts(counts), "".join(sample.parts))


def check_room(folder: Path, needed: int) -> None:
    """Raise OSError if fewer than `needed` bytes of the disk that a folder is on are free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        room = f"this disk has only {disk.size(free)} free"
        sentence = f"Storing this text takes at least {disk.size(needed)} more, but {room}."
        raise NoRoom(errno.ENOSPC, sentence, str(folder))


def write_tokens(path: Path, text: Path, tokenizer: Tokenizer, characters: int) -> Generator[float, None, None]:
    """Write the ids of a text of `characters` characters, as np.save does. Yield how much is done.

    Raise OSError if the disk has no room for them.
    """
    count, done, kind = 0, 0, tokenizer.encode_array("").dtype
    check_room(path.parent, characters * kind.itemsize)
    with path.open("xb") as file:
        _write_header(file, count, kind)
        for part in parts(text, train_length(characters)):
            ids = tokenizer.encode_array(part)
            file.write(ids.data)
            count, done = count + len(ids), done + len(part)
            yield done / characters
        file.seek(0)
        _write_header(file, count, kind)  # as long as before, because NumPy leaves room for a larger count
        _finish(file)


def _write_header(file, count: int, kind: np.dtype) -> None:
    about = dict(descr=np.lib.format.dtype_to_descr(kind), fortran_order=False, shape=(count,))
    np.lib.format.write_array_header_1_0(file, about)


def _finish(file) -> None:
    """Have a file reach the disk before its folder gets its name."""
    file.flush()
    os.fsync(file.fileno())


def parts(path: Path, split: int) -> Iterator[str]:
    """Yield a text in parts, one of which ends at the split, because no token may straddle it."""
    done = 0
    for text in decoded(path):
        cut = split - done
        if 0 < cut < len(text):
            yield text[:cut]
            yield text[cut:]
        else:
            yield text
        done += len(text)


def decoded(path: Path) -> Iterator[str]:
    """Yield a file in UTF-8 piece by piece."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with disk.opened(path) as file:
        while data := file.read(PIECE):
            yield decoder.decode(data)


def characters_between(path: Path, start: int, stop: int) -> str:
    """Return the characters of a file in UTF-8 from `start` to `stop`, which must fit into memory."""
    with disk.opened(path) as file:
        file.seek(_place_of(path, start))
        decoder, found, wanted = codecs.getincrementaldecoder("utf-8")(), [], stop - start
        while wanted > 0 and (data := file.read(min(PIECE, 4 * wanted))):
            found.append(decoder.decode(data)[:wanted])
            wanted -= len(found[-1])
    return "".join(found)


def _place_of(path: Path, character: int) -> int:
    """Return where a character begins in a file in UTF-8, in bytes."""
    place = 0
    with disk.opened(path) as file:
        while data := file.read(PIECE):
            begins = (np.frombuffer(data, dtype=np.uint8) & 0xC0) != 0x80  # (N,) not in the middle of a character
            count = int(np.count_nonzero(begins))
            if count > character:
                return place + int(np.flatnonzero(begins)[character])
            character, place = character - count, place + len(data)
    return place
