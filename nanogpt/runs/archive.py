"""A run to take along: its folder as one archive, and back again as a new run.

An archive is a .zip of the files in FILES, side by side, and of nothing else. Importing one runs no code in it: it is
measured before it is unpacked, unpacked beside the runs, and becomes a run only if checks.py finds nothing wrong.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from .. import corpus
from ..config import NanoGPTError
from ..paths import home
from .checks import TO_CONTINUE, check_folder
from .listing import free_name
from .logs import log_text
from .run import Run

MAX_BYTES = 1_000_000_000  # of an archive, and of what is in it
MB = 1_000_000
FILES = {  # name -> the most bytes it may have
    "run.json": MB, "config.json": MB, "generation_config.json": MB, "tokenizer.json": 50 * MB,
    "tokenizer_config.json": MB, "metrics.jsonl": 50 * MB, "samples.jsonl": 50 * MB, "log.txt": 5 * MB,
    "model.safetensors": MAX_BYTES, "last.safetensors": MAX_BYTES,
}  # fmt: skip
NEEDED = ("run.json", "config.json", "tokenizer.json", "model.safetensors")
DAMAGED = "The archive is damaged or no .zip file, so nothing was imported; save or download it again."
# What zipfile raises on a damaged archive, an encrypted one, and one packed in a way that Python cannot read.
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError, OverflowError)


# ---- out: the folder as an archive -----------------------------------------------------------------------------------


def pack(run: Run, path: Path, to_continue: bool = False) -> None:
    """Write the run's archive, with or without what is needed to train it further. NanoGPTError without weights.

    A run that is being trained can be packed: each file is whole, and what was logged later is cut when it goes on.
    """
    run.settings()
    if not (run.folder / "model.safetensors").exists():
        raise NanoGPTError(f"{run.name} has no weights yet; they come with its first evaluation.")
    names = [name for name in FILES if (run.folder / name).exists() and (to_continue or name != TO_CONTINUE)]
    names.sort(key=lambda name: name != TO_CONTINUE)  # first: the log must not be older than the save
    size = sum((run.folder / name).stat().st_size for name in names)
    if size > MAX_BYTES:
        raise NanoGPTError(f"{run.name} has {size / MB:,.0f} MB; an archive may have {MAX_BYTES / MB:,.0f} MB.")
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            how = zipfile.ZIP_STORED if name.endswith(".safetensors") else zipfile.ZIP_DEFLATED
            info = zipfile.ZipInfo(name)  # without a date: the same run gives the same archive
            info.compress_type, info.external_attr = how, 0o644 << 16
            with archive.open(info, "w") as target, _content(run, name) as source:
                shutil.copyfileobj(source, target, MB)


def _content(run: Run, name: str) -> BinaryIO:
    if name == "log.txt":
        return io.BytesIO(log_text(run).encode("utf-8"))
    if name.endswith(".jsonl"):
        data = (run.folder / name).read_bytes()
        return io.BytesIO(data[: data.rfind(b"\n") + 1])  # without a line that is just being written
    return (run.folder / name).open("rb")


# ---- in: an archive as a new run -------------------------------------------------------------------------------------


def unpack(path: Path, owner: str | None = None, named: Callable[[str], str] = free_name) -> Run:
    """The run in an archive, under a name that is free. NanoGPTError, and nothing left behind, where it is none.

    On a public server it belongs to its `owner`, and `named` makes its name.
    """
    try:
        with scratch() as folder:
            _unpack(path, folder)
            return adopt(folder, owner, named)
    except NanoGPTError as error:
        raise NanoGPTError(str(error)[:300]) from None  # what is quoted from an archive may be long
    except OSError as error:
        raise NanoGPTError(f"The archive could not be imported ({error.strerror or 'it cannot be read'}).") from None


@contextmanager
def scratch(called: str = "archive") -> Iterator[Path]:
    """An empty folder beside the runs, for files that may become one. It is gone afterwards, whatever happened."""
    (home() / "checkpoints").mkdir(parents=True, exist_ok=True)
    above = Path(tempfile.mkdtemp(dir=home() / "checkpoints", prefix=".import-"))  # no run's name begins with a dot
    try:
        folder = above / called
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(above, ignore_errors=True)


def adopt(folder: Path, owner: str | None = None, named: Callable[[str], str] = free_name, **more: Any) -> Run:
    """Move a `scratch` folder among the runs, with `more` in its run.json. NanoGPTError where it is no run's."""
    settings = check_folder(folder)
    name = named(settings["name"])
    text = _text_here(settings, owner)
    about = {**settings, "name": name, "owner": owner, "corpus": text, **more}
    if "public" in settings:
        about["public"] = False  # what was for everybody elsewhere is not so here
    (folder / "run.json").write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf-8", newline="")
    os.rename(folder, home() / "checkpoints" / name)
    return Run(name)


def _unpack(path: Path, folder: Path) -> None:
    """Measure the archive, then write its files into the folder."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise NanoGPTError(f"The archive has {size / MB:,.0f} MB; at most {MAX_BYTES / MB:,.0f} MB are allowed.")
    _check_directory(path)
    try:
        with zipfile.ZipFile(path) as archive:
            for info in _entries(archive, size):
                with archive.open(info) as source, (folder / info.filename).open("xb") as target:
                    shutil.copyfileobj(source, target, MB)
    except BROKEN as error:
        raise error if isinstance(error, NanoGPTError) else NanoGPTError(DAMAGED) from None


def _check_directory(path: Path) -> None:
    """Look at the .zip's last record by hand: zipfile would read a directory of millions of entries into memory."""
    with path.open("rb") as file:
        file.seek(-min(42, path.stat().st_size), os.SEEK_END)
        end = file.read()
    record, before = end[-22:], end[:-22]
    if len(record) < 22 or not record.startswith(b"PK\5\6") or record[20:] != b"\0\0":
        raise NanoGPTError(DAMAGED)
    count, directory = int.from_bytes(record[10:12], "little"), int.from_bytes(record[12:16], "little")
    if count > len(FILES) or directory > 10_000 or before.startswith(b"PK\6\7"):  # the latter: zip64 says otherwise
        raise NanoGPTError(f"The archive has more in it than the {len(FILES)} files of a run; nothing was imported.")


def _entries(archive: zipfile.ZipFile, size: int) -> list[zipfile.ZipInfo]:
    """Return what is in the archive, if it is what a run has and no more. Names are compared, never followed."""
    infos = archive.infolist()
    _check_names([info.orig_filename for info in infos])
    for info in infos:
        _check_entry(info)
    if sum(info.file_size for info in infos) > MAX_BYTES or sum(info.compress_size for info in infos) > size:
        raise NanoGPTError("The archive would unpack to more than it can have in it; nothing was imported.")
    return infos


def _check_names(names: list[str]) -> None:
    if strange := [name for name in names if name not in FILES]:
        raise NanoGPTError(f"The archive has {strange[0][:80]!r} in it, no file of a run; nothing was imported.")
    if len(set(names)) < len(names):
        raise NanoGPTError("The archive has a file in it twice; nothing was imported.")
    if missing := [name for name in NEEDED if name not in names]:
        raise NanoGPTError(f"The archive has no {missing[0]} in it, so it is no run; nothing was imported.")


def _check_entry(info: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise NanoGPTError(f"{info.filename} in the archive is a link or a device; nothing was imported.")
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise NanoGPTError(f"{info.filename} in the archive is encrypted or packed in an unusual way.")
    many_times = info.file_size > MB and info.file_size > 100 * info.compress_size
    if info.file_size > FILES[info.filename] or many_times:
        raise NanoGPTError(f"{info.filename} in the archive would unpack to {info.file_size:,} bytes, too many.")


def _text_here(settings: dict[str, Any], owner: str | None) -> dict[str, Any]:
    """`corpus` of a run.json with the id that the same text has here, for this owner, if it is here or comes later."""
    text = settings["corpus"]
    sha256 = text.get("sha256")
    if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
        return text if owner is None else {**text, "id": corpus.id_of("unknown", owner)}  # never another visitor's
    for everybody in corpus.listed():
        if everybody.owner is None and everybody.sha256 == sha256 and everybody.source.startswith(corpus.BUILT_IN):
            return {**text, "id": everybody.id}
    return {**text, "id": corpus.id_of(sha256, owner)}
