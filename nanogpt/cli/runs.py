"""`runs` and `export`: list the runs, and export one as a single file."""

from __future__ import annotations

import argparse
import contextlib
import filecmp
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import disk
from ..config import NanoGPTError
from ..errors import FULL, PROBLEMS, home_problem, say
from ..paths import PROGRAM
from ..runs import Run, Status, all_runs, kept_loss, newest_loss, queue
from .flags import Command

CHUNK = 1_000_000  # bytes of a text that are copied at once


@queue.one_look()
def runs_command(arguments: argparse.Namespace) -> int:
    """List your runs, one per line or as a JSON array."""
    rows = [facts(run) for run in all_runs() if run.exists()]  # or it has just been deleted
    if arguments.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    elif rows:
        print("\n".join(map(line, rows)))
    else:
        print(home_problem() or f"No runs yet. Train one: {PROGRAM} train")
    return 0


def facts(run: Run) -> dict[str, Any]:
    """Return one row of the list. The losses are those of the API's `run_status`."""
    status, history = run.glance(), run.history()
    settings: dict[str, Any] = {}
    if status.state != "damaged":
        with contextlib.suppress(*PROBLEMS):  # just deleted
            settings = run.settings()
    return dict(
        name=run.name,
        state=status.state,
        step=status.step,
        max_iters=status.max_iters,
        val_loss=newest_loss(history),
        best_val_loss=kept_loss(history),
        seconds=status.seconds,
        corpus=settings["corpus"]["name"] if settings else None,
        created=settings.get("created"),
        message=status.message,
        notes=history.notes,
    )


def line(row: dict[str, Any]) -> str:
    """Format a row of `facts` as a line of text: with the loss of the saved weights, or why the run can't be read."""
    begins = f"{row['name']:<32} {Status(row['state']).word:<11}"
    if row["state"] == "damaged":
        return f"{begins} {row['message']}"
    loss = f"{row['best_val_loss']:.4f}" if row["best_val_loss"] else "-"
    steps = f"{row['step']:,}/{row['max_iters']:,}"
    return f"{begins} {steps:>17}  val {loss:<7} {row['corpus']}"


def export_command(arguments: argparse.Namespace) -> int:
    """Export a run: a web page that generates text offline, a script that retrains the model, or an animation.

    An existing file is overwritten, except by --text. Use - to write to stdout.
    """
    if arguments.int8 and not arguments.html:
        raise NanoGPTError("--int8 makes a web page smaller. Add --html FILE.")
    check_outputs(arguments)
    files = contents(arguments)
    report = sys.stderr if "-" in files else sys.stdout
    for file, content in files.items():
        if file == "-":
            sys.stdout.buffer.writelines(chunks(content))
            continue
        write(file, content)
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        say(f"{file}: {size / 1e6:.2f} MB", report)
    return 0


def check_outputs(arguments: argparse.Namespace) -> None:
    """Raise NanoGPTError if there is no output, or if two of them are the same file."""
    files = [file for file in (arguments.html, arguments.code, arguments.gif, arguments.text) if file]
    if not files:
        raise NanoGPTError("Choose an output: --html FILE, --code FILE, --gif FILE or --text FILE.")
    places = ["-" if file == "-" else os.path.realpath(file) for file in files]
    for file, place in zip(files, places):
        if places.count(place) > 1:
            raise NanoGPTError(f"{file} is given for two outputs. Choose a file for each.")


def contents(arguments: argparse.Namespace) -> dict[str, bytes | Path]:
    """Return the contents to write, by file name: of a text, which may be longer than the memory, the file."""
    from .. import corpus
    from ..publish import code_export, gif, page_export

    run = Run(arguments.name)
    files: dict[str, bytes | Path] = {}
    if arguments.html:
        files[arguments.html] = page_export.html(run, arguments.int8).encode("utf-8")
    if arguments.code:
        files[arguments.code] = code_export.python(run).encode("utf-8")
    if arguments.gif:
        files[arguments.gif], problem = gif.animation(run)
        if problem:
            say(problem, sys.stderr)
    if arguments.text:
        about = run.settings()["corpus"]
        files[arguments.text] = corpus.load(about["id"], about["name"]).folder / "text.txt"
    return files


def write(file: str, content: bytes | Path) -> None:
    """Write a file atomically. Raise NanoGPTError if it is a text that would replace another one."""
    path = Path(file)
    try:
        if isinstance(content, Path) and path.is_file() and not filecmp.cmp(path, content, shallow=False):
            raise NanoGPTError(f"{file} already exists with different contents. Choose another file name for --text.")
        if path.is_file() or not path.exists():
            path = Path(os.path.realpath(path))  # of a link, the file that it points to
            disk.sweep_file(path)
            disk.write_whole(path, chunks(content))
        else:  # a device such as /dev/null, or a pipe such as /dev/stdout, can't be replaced
            with path.open("wb") as device:
                device.writelines(chunks(content))
    except OSError as error:
        if isinstance(content, Path) and str(error.filename) == str(content):
            raise  # the stored text can't be read
        where = "folder on another disk" if error.errno in FULL else "file name"
        raise NanoGPTError(f"Couldn't write {file}: {error.strerror}. Choose another {where}.") from None


def chunks(content: bytes | Path) -> Iterator[bytes]:
    """Yield some content in parts that fit into memory."""
    if isinstance(content, bytes):
        yield content
        return
    with disk.opened(content) as file:
        while part := file.read(CHUNK):
            yield part


def add_commands(command: Command) -> None:
    """Add `runs` and `export` with their flags."""
    runs = command("runs", runs_command)
    runs.add_argument("--json", action="store_true", help="print a JSON array")

    export = command("export", export_command)
    export.add_argument("name", metavar="NAME", help="the run")
    export.add_argument("--html", metavar="FILE", help="a web page that generates text offline in any browser")
    export.add_argument("--int8", action="store_true", help="with --html: round to 8 bits, for a third of the size")
    export.add_argument("--code", metavar="FILE", help="a Python script that retrains the model and needs only torch")
    export.add_argument("--gif", metavar="FILE", help="an animation, 15 seconds long: samples above the falling loss")
    export.add_argument("--text", metavar="FILE", help="the training text, which that script reads")
