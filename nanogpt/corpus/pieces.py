"""Read files piece by piece: decode each piece and clean it up, so that a text of any size takes little memory.

A small file is one piece, so that everything about it is looked at together. A larger one is cut at line ends, and each
piece is decoded and cleaned up like a file of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from .books import Books, uncut
from .cutting import WHOLE, cut
from .decoding import Decoded, NotText, certain, decode
from .encoding import is_utf8, label
from .fields import NoField, field_of, has_fields
from .files import File, OnDisk, readable
from .repairs import Repaired, repair, successful, together
from .wide import is_narrow, orders, parts_of

NOTES = 20  # on single files, before the rest are only counted


class Pieces:
    """The text of some files, one after another, as decoded and cleaned-up pieces, and what was found on the way."""

    def __init__(
        self, files: Sequence[File], encoding: str | None = None, decline: Collection[str] = (),
        accept: Collection[str] = (), field: str | None = None, title: str = "",
    ):  # fmt: skip
        self.files, self.wanted, self.decline, self.accept, self.field = files, encoding, decline, accept, field
        self.named = title
        self.read = 0  # bytes so far
        self.names: list[str] = []
        self.left_out: list[str] = []
        self.refusal: NotText | NoField | None = None  # of the first file that was left out after a look into it
        self._about: Decoded | None = None  # the file that is being read
        self._notes: list[str] = []
        self._encodings: dict[str, None] = {}
        self._found: list[Repaired] = []  # by all repairs so far

    def __iter__(self) -> Iterator[str]:
        """Yield the pieces. A file that doesn't end with a newline gets one if another file follows."""
        last = "\n"
        for file in self.files:
            for number, text in enumerate(self.texts(file)):
                if number == 0 and last != "\n":
                    text = "\n" + text
                yield text
                last = text[-1:] or last

    def texts(self, file: File) -> Iterator[str]:
        """Yield the pieces of one file. Leave out one of a folder that isn't text, or has no text in the field."""
        if file.optional and self.is_no_text(file):
            self.left_out.append(file.name)
            return
        begun = False
        try:
            for text in self.repaired(file):
                begun = True
                yield text
        except (NotText, NoField) as error:
            if begun or not file.optional:
                raise
            self.refusal = self.refusal or error
            self.left_out.append(file.name)
        else:
            self.note(file)

    def repaired(self, file: File) -> Iterator[str]:
        """Yield the pieces of one file, or of the field in it, cleaned up."""
        pieces: Iterator[str] = self.decoded(file)
        if self.field:
            pieces = field_of(pieces, file.name, self.field)
        is_whole = file.size <= WHOLE and not self.field
        instead = {} if is_whole else {"gutenberg": Books().fix}
        for text in pieces if is_whole else uncut(pieces):
            text, repaired = repair(text, self.decline, self.accept, instead)
            self._found = together(self._found, repaired)
            yield text

    def is_no_text(self, file: File) -> bool:
        """Return True for a file without fields if one is wanted, for a pipe, and for a link to nothing."""
        if self.field and not has_fields(file.name):
            return True
        return isinstance(file, OnDisk) and not file.path.is_file()

    def decoded(self, file: File) -> Iterator[str]:
        """Yield the pieces of one file as they are."""
        self._about = None
        for data, decoded in decoded_pieces(file, self.wanted):
            self._about = decoded if self._about is None else joined(self._about, decoded)
            self.read += len(data)
            yield decoded.text

    def note(self, file: File) -> None:
        """Note what there is to say about a file that has been read."""
        about, self._about = self._about, None
        assert about is not None
        self.names.append(file.name)
        self._encodings[about.encoding] = None
        if about.text or not file.optional:
            self._notes += notes(file.name[:80], about)

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is to say about the files, one sentence each."""
        more = len(self._notes) - NOTES
        sentences = self._notes[:NOTES]
        if more > 0:
            sentences.append(f"There are {more:,} more notes like these on other files.")
        if self.left_out:
            sentences.append(without(self.left_out, self.field))
        return tuple(sentences)

    @property
    def title(self) -> str:
        """A name for the text, from those of its files."""
        more = len(self.names) - 1
        return self.named or Path(self.names[0]).stem + (f" + {more} more file{'s' * (more > 1)}" if more else "")

    @property
    def source(self) -> str:
        """Where the text comes from."""
        return f"files: {listed(self.names, 20)}" + (f", field {self.field}" if self.field else "")

    @property
    def encoding(self) -> str:
        """The labels of the encodings of the files."""
        return ", ".join(self._encodings)

    @property
    def repairs(self) -> tuple[Repaired, ...]:
        """The clean-ups that found something, whether they were applied or declined."""
        return successful(self._found)


def without(names: list[str], field: str | None) -> str:
    """Return a sentence on files that were left out, because they aren't text or lack the field that is wanted."""
    files, are, have, were = ("file", "is", "has", "was") if len(names) == 1 else ("files", "are", "have", "were")
    why = f"{have} no text in a field {field[:40]!r}" if field else f"{are} not text"
    return f"{len(names):,} {files} {why} and {were} left out: {listed(names, 5)}."


def listed(names: list[str], most: int) -> str:
    """Return the first names, divided by commas."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def decoded_pieces(file: File, encoding: str | None) -> Iterator[tuple[bytes, Decoded]]:
    """Yield the bytes and the text of each piece of a file.

    Each piece is looked at for its encoding, because the first ones may have no letters that tell. An older encoding
    that was found once is kept for all pieces that aren't UTF-8, so that they aren't guessed at differently.
    """
    found: str | None = None
    with readable(), file.open() as content:
        for data in cut(content, file.size, encoding):
            if encoding is None and file.size > WHOLE:
                refuse_joined(data, found, file.name[:80])
            keeps = encoding or is_wide(found) or not is_utf8(data)
            decoded = decode(data, file.name[:80], encoding, found if keeps or found is None else "")
            found = decoded.codec if decoded.codec != "utf-8" else found or ""
            yield data, decoded


def is_wide(codec: str | None) -> bool:
    """Return True for an encoding in which a character takes two or four bytes."""
    return str(codec).startswith(("utf-16", "utf-32"))


def refuse_joined(data: bytes, found: str | None, name: str) -> None:
    """Raise NotText if a piece of a large file is UTF-16 and an earlier one was not, or was of the other byte order.

    Where such parts meet can't be told from a piece, whose ends depend on the encoding.
    """
    if found is None:
        changes = False
    elif is_wide(found):
        changes = is_narrow(data) or len(orders(data, found)) > 1
    else:
        changes = is_wide(certain(data))
    if changes or len(parts_of(data)) > 1:
        raise NotText(
            f"{name} mixes UTF-16 with another encoding, or two byte orders of it. A file of more than "
            f"{WHOLE // 10**6} MB must be in one encoding: save all of it as UTF-8, or add its parts as separate files."
        )


def joined(one: Decoded, other: Decoded) -> Decoded:
    """Return what is to be said about two pieces of a file, one after the other."""
    return dataclasses.replace(
        one if one.codec != "utf-8" else other,
        text="…",
        guessed=one.guessed or other.guessed,
        broken=one.broken + other.broken,
        headless=one.headless,
        cut=other.cut,
        others=one.others + other.others,
        other=one.other or other.other,
        parts=tuple(dict.fromkeys((*one.parts, *other.parts))),
    )


def notes(name: str, decoded: Decoded) -> Iterator[str]:
    """Yield what a reader should know about how a file was decoded, one sentence each."""
    if not decoded.text:
        yield f"{name} is empty."
    yield from notes_on_encodings(name, decoded)
    if decoded.headless:
        yield f"{name} begins in the middle of a character, which was left out."
    if decoded.cut:
        yield f"{name} ends in the middle of a character, which was left out."
    if decoded.broken:
        s = "" if decoded.broken == 1 else "s"
        yield f"{name} has {decoded.broken:,} place{s} that can't be read as {decoded.encoding}, shown as �."


def notes_on_encodings(name: str, decoded: Decoded) -> Iterator[str]:
    """Yield which encodings a file was read in, unless it is all UTF-8."""
    if decoded.parts:
        yield (
            f"{name} is {' in some parts and '.join(decoded.parts)} in others, as when files are joined. Each part was "
            "read in its own encoding."
        )
    if decoded.guessed:
        yield (
            f"{name} is not UTF-8. Our best guess is {label(decoded.codec)}; if letters look wrong, choose "
            "another encoding."
        )
    elif decoded.codec != "utf-8" and not decoded.parts:
        yield f"{name} was read as {decoded.encoding}."
    if decoded.others:
        s = "" if decoded.others == 1 else "s"
        main = decoded.codec if decoded.other == label("utf-8") else "utf-8"
        yield f"{name} is {label(main)}, except for {decoded.others:,} line{s}, which we read as {decoded.other}."
