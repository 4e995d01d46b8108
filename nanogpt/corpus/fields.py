"""Take one field out of files of records: of JSON Lines (.jsonl), or a column of a table (.csv, .tsv)."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..config import NanoGPTError

LINES = (".jsonl", ".ndjson")
TABLES = (".csv", ".tsv")
PIECE = 4_000_000  # characters of records that are passed on at a time
START = 1_000_000  # characters in which the first record of a file is looked for
NAMED_MARK = re.compile(r"sep=([^\n\r\"])(?:\r\n?|\n)")  # Excel's way to say what divides the columns
NAMED = 12  # fields in an error message
OFFERED, LONGEST = 500, 100  # fields to choose from, and characters in the name of one


class NoField(NanoGPTError):
    """Raised when no record of a file has text in the field."""


def has_fields(name: str) -> bool:
    """Return True if a file has records with fields, going by its name."""
    return Path(name).suffix.lower() in (*LINES, *TABLES)


def field_of(texts: Iterable[str], name: str, field: str) -> Iterator[str]:
    """Yield the content of a field of all records, a piece of the file `name` at a time, each record on its own lines.

    `texts` are the pieces of the file. Raise NanoGPTError if it isn't such a file, and NoField if no record has the
    field.
    """
    if not has_fields(name):
        raise NanoGPTError(f"{name[:80]} has no fields, because it is not a .jsonl or .csv file. Leave out the field.")
    gathered, size = [], 0
    for value in _values(texts, name[:80], field):
        gathered.append(value if value.endswith("\n") else value + "\n")
        size += len(value)
        if size > PIECE:
            yield _without_surrogates("".join(gathered))
            gathered, size = [], 0
    yield _without_surrogates("".join(gathered))


def fields_in(start: str, name: str) -> list[str]:
    """Return the names of the fields with text in the first record of a file that begins with `start`.

    Of a record with more than OFFERED, return the first ones. Names longer than LONGEST are left out.
    """
    try:
        row = next(_records([start[:START]], name))
    except (StopIteration, NanoGPTError):
        return []
    names = [key for key, value in row.items() if isinstance(key, str) and isinstance(value, str)]
    return [name for name in names if 0 < len(name) <= LONGEST][:OFFERED]


def _values(texts: Iterable[str], name: str, field: str) -> Iterator[str]:
    """Yield the field of each record that has it. Raise NoField if no record does."""
    others: dict[str, None] = {}
    found = False
    for row in _records(texts, name):
        value = row.get(field)
        if isinstance(value, str) and value:
            found = True
            yield value
        elif not found and len(others) < NAMED:
            others |= dict.fromkeys(key[:40] for key in row if key)
    if not found:
        names = ", ".join(list(others)[:NAMED]) or "none"
        raise NoField(f"{name} has no text in a field {field[:40]!r}. Choose one of its fields: {names}.")


def _records(texts: Iterable[str], name: str) -> Iterator[dict[Any, Any]]:
    return (_json_lines if Path(name).suffix.lower() in LINES else _rows)(_lines(texts), name)


def _json_lines(lines: Iterator[str], name: str) -> Iterator[dict[Any, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise NanoGPTError(f"Line {number:,} of {name} is not a JSON object. Correct or delete it.")
        yield row


def _rows(lines: Iterator[str], name: str) -> Iterator[dict[Any, Any]]:
    first = next(lines, "")
    named = NAMED_MARK.match(first)
    first = next(lines, "") if named else first
    mark = named[1] if named else max(",;\t|", key=first.count)  # where decimals have commas, columns have semicolons
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default is 131,072 characters
    try:
        rows = csv.reader(_and_rest(first, lines), delimiter=mark)
        names = next(rows, [])
        last = {name: place for place, name in enumerate(names)}
        # None: of columns of the same name, the last one counts
        columns = [name if last[name] == place else None for place, name in enumerate(names)]
        # as csv.DictReader does, which also adds what a row lacks: with many columns, that takes hours
        yield from (dict(zip(columns, row)) for row in rows if row)
    except csv.Error as error:
        raise NanoGPTError(f"{name} can't be read as a table ({error}). Save it as .csv again.") from None


def _and_rest(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a text that comes in pieces, with their line endings, and without a byte-order mark."""
    rest, mark = "", "\ufeff"
    for text in texts:
        # newline="": lines may end as on Windows or an old Mac, and keep their ends
        *lines, rest = [*io.StringIO(rest + text.removeprefix(mark), newline="")] or [""]
        mark = ""
        yield from lines
    if rest:
        yield rest


def _without_surrogates(text: str) -> str:
    """Replace the unpaired surrogates that JSON may contain by �, because they have no UTF-8 form."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
