"""Choose a text: a built-in one, one added earlier, an upload or a pasted text. Plain functions of files and names."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import corpus, disk
from ..config import NanoGPTError
from ..errors import PROBLEMS
from ..runs import users_of
from .web import scratch
from .web.visit import visitor

FIELDS = "The model will learn to write such records. For one field only, choose it under “Encoding and clean-up”: {}."
NAMED = 6  # fields
OFF = " To do so, turn it on under “Encoding and clean-up”."


SLASH = " ∕ "  # stands for / in the names of a folder's files, see folders.js


@dataclass(frozen=True)
class Folder:
    """An uploaded folder: the paths of its files, whose names have the folders that they were in."""

    files: tuple[str, ...]


@dataclass(frozen=True)
class Given:
    """What was uploaded or pasted, kept so that it can be read again with other options."""

    source: Path | list[str]  # a file with the pasted text, because a session stays in memory, or the uploaded files
    name: str  # of the field of its records that is read, "" for all of the file
    added: str | None  # the id of the text stored from it, if that text is new
    others: frozenset[str] = frozenset()  # the ids of the texts that were stored before it was given
    encoding: str = ""  # that was chosen for it, "" to detect it
    ticked: dict[str, bool] = field(default_factory=dict)  # the clean-ups that were offered so far, by their keys
    read: str = ""  # the id of the text as it was read last, new or not


@dataclass(frozen=True)
class Choice:
    """The chosen text, its report, and the clean-ups that can be toggled."""

    corpus_id: str
    report: dict[str, Any]
    repairs: list[tuple[str, str]] = field(
        default_factory=list
    )  # (label, key) of every clean-up that applies to the text
    applied: list[str] = field(default_factory=list)  # keys of those that were applied
    given: Given | None = None  # for an upload or a pasted text
    fields: list[str] = field(default_factory=list)  # of the records in an uploaded file


# ---- handlers: plain functions of files, strings and names ---------------------------------------------------------


def choose_builtin(key: str) -> Choice:
    """Choose a built-in text by its key."""
    return choose_stored(visitor().find_text(key).id)


def choose_stored(corpus_id: str) -> Choice:
    """Choose a text that was added earlier."""
    found = visitor().text(corpus_id)
    return Choice(corpus_id, shown(found.name, found.report()))


def choose_new(
    source: str | Path | list[str] | Folder,
    encoding: str | None = None,
    keep: list[str] | None = None,
    earlier: Given | None = None,
    name: str = "",
) -> Generator[float, None, Choice]:
    """Add and choose a pasted text (str), one that was pasted before (Path), files (paths) or a folder. Yield how much
    of a large one is done, from 0 to 1.

    `keep` names the repairs to apply; None means those applied earlier, and the defaults of others. `name` is that of a
    field to read instead of all. `earlier` is the same source as it was read before; the text stored from it gives the
    new one its name, and is deleted, unless a run was trained on it. A browser may ask twice for the same reading, so
    whether a text is new doesn't depend on what is stored by now.
    """
    if isinstance(source, Folder):
        source = [str(gathered(source))]
    earlier = earlier or Given([], "", None, frozenset(one.id for one in visitor().texts()))
    how: dict[str, Any] = dict(encoding=encoding, field=name or None, **repairs_for(keep, earlier.ticked))
    added = yield from adding(contents(source), earlier, how)
    forget_earlier(earlier, added.id)
    kept = set_aside(source) if isinstance(source, str) else source
    repairs = repairs_of(added)
    ticked = earlier.ticked | {one.key: one.applied for one in repairs}
    new = None if added.id in earlier.others else added.id
    given = Given(kept, name, new, earlier.others, encoding or "", ticked, added.id)
    fields = fields_of(source)
    report = shown(added.name, added.report(), [] if name else fields, repairs)
    return Choice(added.id, report, *offered(added), given, fields)


def adding(source: str | list[str], earlier: Given, how: dict[str, Any]) -> Generator[float, None, corpus.Corpus]:
    """Add a text under the name that the one of an earlier reading has by now. Yield how much is done."""
    names = {one.id: one.name for one in visitor().texts()}
    added = yield from visitor().adding_text(source, names.get(earlier.read, ""), **how)
    if earlier.added in (None, *names) or added.id not in names:
        return added
    # asked twice: the first answer has replaced the earlier text, and has its name
    return replace(visitor().rename_text(added.id, names[added.id]), reading=added.reading)


def repairs_for(keep: list[str] | None, ticked: dict[str, bool]) -> dict[str, Any]:
    """Return which repairs to decline and to accept, so that those in `keep` are applied; None means those `ticked`."""
    wanted = ticked if keep is None else {key: key in keep for key in corpus.REPAIRS}
    return dict(decline=[key for key, on in wanted.items() if not on], accept=[key for key, on in wanted.items() if on])


def fields_of(source: str | Path | list[str]) -> list[str]:
    """Return the fields of the records in an uploaded file, if there is just one and it has records."""
    if not isinstance(source, list) or len(source) != 1 or not corpus.has_fields(source[0]) or Path(source[0]).is_dir():
        return []
    with disk.opened(Path(source[0])) as file:
        start = file.read(1_000_000)
    return corpus.fields_in(start.decode("utf-8-sig", "replace"), source[0])


@scratch.writing()
def gathered(folder: Folder) -> Path:
    """Return a folder with the files of an uploaded one, as it was. Raise NanoGPTError if there are none."""
    if not folder.files:
        raise NanoGPTError("The folder has no files in it, except perhaps hidden ones. Choose one with text files.")
    parts = [parts_of(Path(file).name) for file in folder.files]
    with scratch.new_folder(scratch.PER_FILE * len(folder.files)) as new:
        for number, (file, path) in enumerate(zip(folder.files, [new.joinpath(*each) for each in parts])):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():  # Gradio cuts long names off
                path = path.with_name(f"{number}-{path.name}")
            try:
                os.link(file, path)
            except OSError:  # another disk, or a file system without links
                shutil.copyfile(file, path)
    return new / parts[0][0]


def parts_of(name: str) -> list[str]:
    """Return the folders and the name of an uploaded folder's file, none of which leads out of their folder."""
    parts = [re.sub(r"[\\/:]", "_", part) for part in name.split(SLASH) if part.strip(". ")]
    return parts if len(parts) > 1 else ["Folder", *(parts or ["file"])]


@scratch.writing()
def set_aside(pasted: str) -> Path:
    """Write a pasted text to a temporary file, and return its path."""
    data = pasted.encode("utf-8")
    with scratch.new_folder(len(data)) as folder:
        path = folder / "pasted.txt"
        path.write_bytes(data)
    return path


def contents(source: str | Path | list[str]) -> str | list[str]:
    """Return a source, or the text that was set aside in it. Raise NanoGPTError if that has been deleted."""
    if not isinstance(source, Path):
        return source
    try:
        return disk.read(source).decode("utf-8")
    except OSError:
        raise NanoGPTError("The pasted text is no longer kept. Paste it again.") from None


def repairs_of(added: corpus.Corpus) -> Sequence[corpus.Repaired]:
    """Return the clean-ups that found something when a text was read just now."""
    return added.reading.repairs if added.reading else ()


def offered(added: corpus.Corpus) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the clean-ups that apply to a text, as (label, key), and the keys of those that were applied."""
    repairs = repairs_of(added)
    return [(one.label, one.key) for one in repairs], [one.key for one in repairs if one.applied]


def forget_earlier(earlier: Given, corpus_id: str) -> None:
    """Delete the text of an earlier reading, unless the new one gave the same."""
    if earlier.added and earlier.added != corpus_id:
        forget(earlier.added)


def forget(corpus_id: str) -> None:
    """Delete a text that no run was trained on."""
    if not any(users_of(corpus_id)):
        with suppress(NanoGPTError):  # already deleted
            visitor().delete_text(corpus_id)


def builtin_key(corpus_id: str | None) -> str | None:
    """Return the key of a built-in text; None for any other text, or none."""
    try:
        key = corpus.reference(visitor().text(corpus_id or ""))
    except PROBLEMS:
        return None
    return key if key in corpus.BUILTINS else None


def shown(
    name: str, report: corpus.Report, offer: Sequence[str] = (), repairs: Sequence[corpus.Repaired] = ()
) -> dict[str, Any]:
    """Return a report in the form that report.js draws. `offer` are the fields to choose from, and `repairs` what was
    found when the text was read."""
    facts = [
        ("Characters", f"{report.characters:,}"),
        ("Lines", f"{report.lines:,}"),
        ("Unique characters", f"{report.distinct:,}"),
        ("Training set (90%)", f"{report.train_characters:,}"),
        ("Validation set (10%)", f"{report.val_characters:,}"),
    ]
    facts += [("Encoding", report.encoding)] if report.encoding != "Unicode" else []
    advice = [FIELDS.format(", ".join(offer[:NAMED])), *report.advice] if offer else report.advice
    notes = [dict(kind="advice", text=text) for text in advice]
    notes += [dict(kind="note", text=text) for text in (*report.notes, *report.repairs)]
    notes += [dict(kind="note", text=rare(report))] if report.rare else []
    places = [dict(label=one.label + ("" if one.applied else OFF), **asdict(one.place)) for one in repairs if one.place]
    return dict(title=name, facts=facts, notes=notes, preview=report.first_lines, places=places)


def rare(report: corpus.Report) -> str:
    """Return the sentence about the characters of a text that occur only a few times."""
    name = lambda one: one.ch if one.ch.isprintable() and one.ch.strip() else one.name
    some = ", ".join(f"{name(one)} ({one.count})" for one in report.rare[:12])
    more = f" and {len(report.rare) - 12:,} more" if len(report.rare) > 12 else ""
    return f"These characters appear fewer than 10 times, so the model will barely learn them: {some}{more}."
