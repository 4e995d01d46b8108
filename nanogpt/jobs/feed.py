"""Carry a run's growing files from a job to this machine, in the lines that the job prints.

In the job, `Feed` prints a line for whatever was added to a file: a number, the file, and the text. Here, `Mirror` adds
it to the same file of the run folder. Lines arrive in order but may arrive again, as after a restart.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import disk
from ..config import TrainConfig
from ..disk import from_json, write_whole
from ..runs import Run, checks
from .progress import Progress

MARK = "nanogpt: "  # begins each of these lines
WHOLE = ("run.json", "config.json", "generation_config.json", "tokenizer_config.json")  # small; sent when they change
GROWING = ("samples.jsonl", "log.txt", "metrics.jsonl")  # the last one says how a run ended
MOST = 4000  # characters in a line
OURS = ("name", "created", "owner", "parent", "corpus")  # of run.json: facts about this machine, which a job can't know


# ---- in the job ------------------------------------------------------------------------------------------------------


class Feed:
    """Prints what is new in a run folder, as pieces numbered from 1. What is there already is known here."""

    def __init__(self, folder: Path, out: Callable[[str], Any]):
        self.folder, self.out, self.number = folder, out, 0
        self.versions = {name: disk.version(folder / name) for name in WHOLE}
        self.sent = {name: disk.read(folder / name) if (folder / name).exists() else b"" for name in GROWING}

    def look(self) -> None:
        """Print what was added since the last look."""
        for name in WHOLE:
            if (version := disk.version(self.folder / name)) not in (None, self.versions[name]):
                self.versions[name] = version
                self.say(name, disk.read(self.folder / name).decode("utf-8"), start=True)
        for name in GROWING:
            with contextlib.suppress(FileNotFoundError):
                self.grow(name, disk.read(self.folder / name))

    def grow(self, name: str, content: bytes) -> None:
        """Print the complete lines that a file has more than before; all of it if it doesn't begin as before."""
        content, before = content[: content.rfind(b"\n") + 1], self.sent[name]
        start = not content.startswith(before)  # a resumed run has been cut back
        lines = content[0 if start else len(before) :].decode("utf-8", errors="replace").splitlines(keepends=True)
        piece = ""
        for line in lines:
            if piece and len(piece) + len(line) > MOST:
                self.say(name, piece, start)
                piece, start = "", False
            piece += line
        if piece or start:
            self.say(name, piece, start)
        self.sent[name] = content

    def say(self, name: str, text: str, start: bool = False) -> None:
        """Print one piece. It begins the file if `start`."""
        self.number += 1
        self.out(MARK + json.dumps(dict(n=self.number, file=name, text=text, start=start)))


# ---- on this machine -------------------------------------------------------------------------------------------------


class Mirror:
    """Writes a job's pieces to the run folder, each once, even if the process is killed in between.

    job.json says how many were written and how long the files were then. It is written by `count`, not for each piece,
    because it is synced to the disk. What was written but not counted is cut off again by the next Mirror; in log.txt,
    to which other processes write, it comes twice.
    """

    def __init__(self, progress: Progress):
        self.progress, self.run = progress, progress.run
        self.pieces, self.lines = progress.job.pieces, progress.job.lines  # that have been written
        self.seen = 0  # lines of this connection
        sizes = progress.job.sizes
        if not sizes:
            progress.change(sizes=self._sizes())
        for name, size in sizes.items():
            with contextlib.suppress(FileNotFoundError):
                if name != "log.txt" and (self.run.folder / name).stat().st_size > size:
                    os.truncate(self.run.folder / name, size)

    def begin(self) -> None:
        """Expect the output from its beginning: a new connection repeats it."""
        self.seen = 0

    def take(self, line: str) -> None:
        """Write a line of the job's output, unless it has been written before. `count` it later."""
        piece = _piece(line)
        if piece is None:
            self.seen += 1
            if self.seen > self.lines:
                self._add("log.txt", line.rstrip("\n") + "\n")
                self.lines = self.seen
        elif piece["n"] > self.pieces:
            self._write(piece)
            self.pieces = piece["n"]

    def count(self) -> None:
        """Write down in job.json what was taken since the last time."""
        job = self.progress.job
        if (self.pieces, self.lines) != (job.pieces, job.lines):
            stage = "" if self.pieces > job.pieces else job.stage  # a piece says that the job has begun
            self.progress.change(pieces=self.pieces, lines=self.lines, stage=stage, sizes=self._sizes())

    def _sizes(self) -> dict[str, int]:
        return {name: _size(self.run.folder / name) for name in GROWING}

    def _write(self, piece: dict[str, Any]) -> None:
        name, text = piece["file"], piece["text"]
        if name in WHOLE:
            with contextlib.suppress(ValueError):  # keep the file that is there
                write_whole(
                    self.run.folder / name, with_our_facts(self.run, text) if name == "run.json" else _sound(text)
                )
        elif piece["start"] and name != "log.txt":  # which also has what the container printed
            write_whole(self.run.folder / name, text)
        else:
            self._add(name, text)

    def _add(self, name: str, text: str) -> None:
        with disk.opened(self.run.folder / name, "ab") as file:
            file.write(text.encode("utf-8", errors="replace"))


def _piece(line: str) -> dict[str, Any] | None:
    """Return the piece in a line of output, or None for any other line."""
    if not line.startswith(MARK):
        return None
    try:
        found = from_json(line[len(MARK) :].encode("utf-8", errors="replace"))
        right = isinstance(found["n"], int) and isinstance(found["text"], str) and isinstance(found["start"], bool)
        return found if right and found["file"] in WHOLE + GROWING else None
    except (ValueError, KeyError, TypeError):
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def with_our_facts(run: Run, text: str) -> str:
    """Return a run.json that comes from a job, with this machine's facts about the run: its name, its owner, its text.

    Raise ValueError if it can't be read.
    """
    there, here = from_json(_sound(text).encode()), run.settings()
    TrainConfig.of(there.get("train") or {})
    ours = {key: here.get(key) for key in OURS}
    return json.dumps({**checks.known_part(there), **ours}, indent=1, ensure_ascii=False)


def _sound(text: str) -> str:
    """Return the text of a JSON object. Raise ValueError if it isn't one."""
    if not isinstance(from_json(text.encode()), dict):
        raise ValueError("not a JSON object")
    return text


def hash_of(content: bytes) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    return hashlib.sha256(content).hexdigest()
