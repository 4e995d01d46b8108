"""Export a run as a .zip archive, and import one as a new run.

An archive holds the files in FILES at its top level and nothing else; one that was unpacked and compressed again may
have them in a folder. Importing never runs code from it: its size is checked before it is unpacked into a temporary
folder, which becomes a run only if it passes checks.py.
"""

from __future__ import annotations

import errno
import io
import json
import math
import re
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from .. import corpus, disk, limits, zips
from ..config import NanoGPTError
from ..paths import home, new_name
from .checks import TO_CONTINUE, check_folder, check_lengths, known_part
from .listing import free_name
from .logs import log_text
from .rows import as_line, is_number, read_jsonl
from .run import Run

MAX_BYTES = 1_000_000_000  # of an archive, and of its unpacked contents
MB = 1_000_000
FILES = {  # file name -> maximum size in bytes
    "run.json": MB, "config.json": MB, "generation_config.json": MB, "tokenizer.json": 4 * MB,
    "tokenizer_config.json": MB, "metrics.jsonl": 50 * MB, "samples.jsonl": 50 * MB, "log.txt": 5 * MB,
    "model.safetensors": MAX_BYTES, "last.safetensors": MAX_BYTES,
}  # fmt: skip
NEEDED = ("run.json", "config.json", "tokenizer.json", "model.safetensors")
FETCHED = ".fetched"  # next to a `scratch` folder, where downloads go; no run, and no repository, can have this name
DIRECTORY = 10_000  # bytes of an archive's list of files; that of a run has about 600
TOO_MANY = f"The archive contains more than the {len(FILES)} files of a run. Nothing was imported."
DAMAGED = "That file is damaged or not a .zip. Nothing was imported."
BROKEN = (*zips.DAMAGED, ValueError)


# ---- export ----------------------------------------------------------------------------------------------------------


def pack(run: Run, path: Path, to_continue: bool = False, public: Mapping[str, bytes] | None = None) -> None:
    """Write a run to an archive, and its checkpoint, too, if `to_continue`. Raise NanoGPTError if it has no weights.

    If writing fails, there is no archive afterwards.
    For someone who doesn't own the run, `public` has what they may know of some files, and the log is left out.
    A run can be exported while it trains: files are replaced atomically, and resuming discards rows that were logged
    after the checkpoint. Without that, they are left out here, because the weights are those of the last save.
    """
    run.settings()
    if not (run.folder / "model.safetensors").exists():
        raise NanoGPTError(f"{run.name} has no weights yet. Train it until its first checkpoint.")
    left_out = {TO_CONTINUE: not to_continue, "log.txt": public is not None}
    names = [name for name in FILES if (run.folder / name).exists() and not left_out.get(name)]
    names.sort(key=lambda name: name != TO_CONTINUE)  # first: the log must not be older than the checkpoint
    _check_size(run, names)
    last = math.inf if to_continue else run.history().saved_step
    archive = zipfile.ZipFile(path, "w")
    try:
        with archive:
            for name in names:
                with archive.open(_entry(name), "w") as target, _content(run, name, public or {}, last) as source:
                    shutil.copyfileobj(source, target, MB)
    except BaseException:
        if path.is_file():  # and no device
            path.unlink()
        raise


def _entry(name: str) -> zipfile.ZipInfo:
    """Return what an archive says of a file; no date, so that the same run gives the same archive."""
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_STORED if name.endswith(".safetensors") else zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    return info


def _check_size(run: Run, names: list[str]) -> None:
    """Raise NanoGPTError if these files of a run are too large for an archive."""
    size = sum((run.folder / name).stat().st_size for name in names)
    if size > MAX_BYTES:
        smaller = " Leave out the checkpoint." if TO_CONTINUE in names else ""
        raise NanoGPTError(
            f"{run.name} is {size / MB:,.0f} MB; an archive can hold at most {MAX_BYTES / MB:,.0f} MB.{smaller}"
        )


def _content(run: Run, name: str, public: Mapping[str, bytes], last: float) -> BinaryIO:
    """Open a file of a run for reading; of a log of steps, as much as there is up to the step `last`."""
    if name in public:
        return io.BytesIO(public[name])
    if name == "log.txt":
        return io.BytesIO(log_text(run).encode("utf-8"))
    if name.endswith(".jsonl") and last < math.inf:
        rows = [row for row in read_jsonl(run.folder / name) if not is_number(row.get("step")) or row["step"] <= last]
        return io.BytesIO("".join(map(as_line, rows)).encode("utf-8"))
    if name.endswith(".jsonl"):
        data = disk.read(run.folder / name)
        return io.BytesIO(data[: data.rfind(b"\n") + 1])  # without a half-written last line
    return disk.opened(run.folder / name)


# ---- import ----------------------------------------------------------------------------------------------------------


def unpack(
    path: Path, owner: str | None = None, named: Callable[[str], str] = free_name,
    check_room: Callable[[int], None] = lambda size: None,
) -> Run:  # fmt: skip
    """Import an archive as a new run. Raise NanoGPTError, leaving nothing behind, if it is not valid.

    Raise OSError, leaving nothing behind either, if the disk is full or the archive can't be read.
    `owner` is the id of the visitor who will own it, on a public server; `named` turns its name into a free one. Before
    anything is unpacked, `check_room` is called with its size in bytes, and raises NanoGPTError if that is too much.
    """
    try:
        with scratch() as folder:
            _unpack(path, folder, check_room)
            return adopt(folder, owner, named)
    except NanoGPTError as error:
        raise NanoGPTError(str(error)[:300]) from None  # text quoted from an archive may be long


@contextmanager
def scratch(called: str = "archive") -> Iterator[Path]:
    """Create an empty folder on the same disk as the runs, and delete it in the end if `adopt` has not moved it."""
    with disk.unfinished(home() / "checkpoints") as above:
        folder = above / called
        folder.mkdir()
        yield folder


def adopt(folder: Path, owner: str | None = None, named: Callable[[str], str] = free_name, **more: Any) -> Run:
    """Turn a `scratch` folder into a run, adding `more` to what is known of its run.json.

    Raise NanoGPTError if it is not valid.
    """
    check_lengths(folder)
    settings = known_part(check_folder(folder))
    name = new_name(named(settings["name"]))
    text = {**_text_here(settings, owner), "name": corpus.title_of(settings["corpus"]["name"]) or "Untitled"}
    about = {**settings, "name": name, "owner": owner, "corpus": text, **more}
    if "public" in settings:
        about["public"] = False  # being public elsewhere does not make it public here
    if not (folder / TO_CONTINUE).exists():
        about["checkpoint"] = False  # it was left out, so the run can't be resumed
    (folder / "run.json").write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf-8", newline="")
    for path in folder.iterdir():
        disk.sync(path)  # before the folder gets its name, as if it had been written by `write_whole`
    run = Run(name)
    run.take(folder)
    return run


def _unpack(path: Path, folder: Path, check_room: Callable[[int], None]) -> None:
    """Check the archive's size and contents, then unpack it into the folder."""
    size = disk.checked(path).stat().st_size
    if size > MAX_BYTES:
        raise NanoGPTError(
            f"The archive is {size / MB:,.0f} MB; at most {MAX_BYTES / MB:,.0f} MB are allowed. Export the run without "
            "its checkpoint."
        )
    try:
        with zips.Archive(path, DIRECTORY, TOO_MANY) as archive:
            entries = _entries(archive, size)
            check_room(sum(info.file_size for _, info in entries))
            for name, info in entries:
                with archive.open(info) as source, (folder / name).open("xb") as target:
                    shutil.copyfileobj(source, target, MB)
    except BROKEN as error:
        raise error if isinstance(error, NanoGPTError) else NanoGPTError(DAMAGED) from None
    except OSError as error:
        if error.errno == errno.EINVAL and not error.filename:  # it names a place before its own beginning
            raise NanoGPTError(DAMAGED) from None
        raise


def _entries(archive: zipfile.ZipFile, size: int) -> list[tuple[str, zipfile.ZipInfo]]:
    """Return the archive's entries with their names in FILES. What the archive calls them is only compared."""
    entries = _without_folder([info for info in archive.infolist() if not _is_from_macos(info.orig_filename)])
    _check_names([name for name, _ in entries])
    for name, info in entries:
        _check_entry(name, info)
    most = limits.archive_bytes(MAX_BYTES)
    if sum(info.file_size for _, info in entries) > most or sum(info.compress_size for _, info in entries) > size:
        raise NanoGPTError("The archive would unpack to more than is allowed. Nothing was imported.")
    return entries


def _is_from_macos(name: str) -> bool:
    """Return True for what the Finder adds to an archive: how a folder is shown, and attributes of the files."""
    last = name.rpartition("/")[2]
    return name.startswith("__MACOSX/") or last.startswith("._") or last == ".DS_Store"


def _without_folder(infos: list[zipfile.ZipInfo]) -> list[tuple[str, zipfile.ZipInfo]]:
    """Return the entries with their names, without the one folder that they are all in, if they are.

    Safari, for example, unpacks a download into a folder, which is then what people compress again.
    """
    names = [info.orig_filename for info in infos]
    folder = names[0].partition("/")[0] + "/" if names else ""
    if not all(name.startswith(folder) for name in names):
        folder = ""
    return [(name.removeprefix(folder), info) for name, info in zip(names, infos) if name != folder]


def _check_names(names: list[str]) -> None:
    if unknown := [name for name in names if name not in FILES]:
        raise NanoGPTError(
            f"The archive contains {unknown[0][:80]!r}, which isn't part of a run. Nothing was imported."
        )
    if len(set(names)) < len(names):
        raise NanoGPTError("The archive contains the same file twice. Nothing was imported.")
    if missing := [name for name in NEEDED if name not in names]:
        raise NanoGPTError(f"The archive has no {missing[0]}, so it is not a run. Nothing was imported.")


def _check_entry(name: str, info: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise NanoGPTError(f"{name} in the archive is not a regular file. Nothing was imported.")
    if info.flag_bits & 1 or info.compress_type not in zips.METHODS:
        raise NanoGPTError(f"{name} in the archive is encrypted or compressed by an unsupported method.")
    is_zip_bomb = info.file_size > MB and info.file_size > 100 * info.compress_size
    if info.file_size > FILES[name] or is_zip_bomb:
        raise NanoGPTError(f"{name} in the archive is too large: {info.file_size:,} bytes when unpacked.")


def _text_here(settings: dict[str, Any], owner: str | None) -> dict[str, Any]:
    """Return the run.json's `corpus` entry, with the id that this text has (or would have) here for this owner."""
    text = settings["corpus"]
    sha256 = text.get("sha256")
    if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
        return text if owner is None else {**text, "id": corpus.id_of("unknown", owner)}  # never another visitor's
    for known in corpus.listed():
        if known.owner is None and known.sha256 == sha256 and known.source.startswith(corpus.BUILT_IN):
            return {**text, "id": known.id}
    return {**text, "id": corpus.id_of(sha256, owner)}
