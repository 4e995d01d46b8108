"""Test atomic writes, and that a sweep deletes the leftovers of killed processes but no files of live ones."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nanogpt import disk, locks
from nanogpt.cli import runs

ROOT = Path(__file__).resolve().parent.parent
WRITER = """
import sys
from pathlib import Path
from nanogpt import disk, locks
folder = Path(sys.argv[1])
with disk.unfinished(folder) as new, disk._temporary(folder / "file.json") as temporary:
    (new / "text.txt").write_text("half")
    temporary.write_text("half")
    print("written", flush=True)
    sys.stdin.readline()
"""


@contextlib.contextmanager
def writer(folder: Path):
    """Start a process that is in the middle of writing a file and a folder, and yield it."""
    command = [sys.executable, "-c", WRITER, str(folder)]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with subprocess.Popen(command, cwd=ROOT, **pipes) as child:
        assert child.stdout.readline() == "written\n"
        try:
            yield child
        finally:
            child.kill()


@pytest.mark.parametrize(
    "data",
    [b"{", b"", b"\xff", b"[" * 100_000, b'"\\ud800"', b'{"a": ["\\uDFFFx"]}', b'{"\\ud83d\\ud83d\\ude00": 1}'],
    ids=["cut", "empty", "no utf-8", "nested", "half a character", "its other half", "one and a half"],
)
def test_json_that_could_not_be_written_again_is_refused(data):
    with pytest.raises(ValueError):  # noqa: PT011  # of several libraries
        disk.from_json(data)


def test_json_may_name_characters_by_their_halves():
    assert disk.from_json(b'\xef\xbb\xbf{"\\ud83d\\ude00": "\\\\ud800"}') == {"😀": "\\ud800"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def held_locks(home: Path) -> list[Path]:
    return list((home / "checkpoints" / ".writers").iterdir())


@pytest.mark.slow
def test_a_sweep_deletes_what_a_killed_process_left_and_nothing_of_a_live_one(home):
    folder = home / "corpora"
    with writer(folder) as child:
        assert [disk.is_temporary(name) for name in names(folder)] == [True, True]
        disk.sweep(folder)
        assert len(names(folder)) == 2
        child.kill()
        child.wait()
        assert len(names(folder)) == len(held_locks(home)) == 2
        disk.sweep(folder)
    assert (names(folder), held_locks(home)) == (set(), [])


@pytest.mark.slow
def test_the_next_text_or_run_sweeps_too(home):
    for folder in (home / "corpora", home / "checkpoints"):
        with writer(folder):
            pass  # leaving the block kills the writer
        with disk.unfinished(home / "corpora" / "other") as new:
            assert names(folder) - {".writers", "other"} == set()
        assert not new.exists()
    assert held_locks(home) == []


def test_all_folders_are_swept_at_a_start_of_the_server(home):
    left = []
    for folder in disk.shared_folders() + [home / "checkpoints" / "one", home / "corpora" / ("0" * 16)]:
        folder.mkdir(parents=True, exist_ok=True)
        left.append(folder / f".machine.json.{'1' * 16}")
        left[-1].touch()
    disk.sweep_home()
    assert [path for path in left if path.exists()] == []


def test_a_sweep_leaves_your_own_files_in_the_home_folder(home):
    """NANOGPT_HOME may be a project folder with other files in it."""
    for name in (f".notes.{'1' * 16}", ".config.json.original"):
        (home / name).touch()
        os.utime(home / name, (0, 0))
        disk.sweep_home()
        assert (home / name).exists()


def test_in_your_own_folders_only_what_was_left_of_the_same_file_is_swept(home):
    folder = home / "yours"
    folder.mkdir()
    left, other = (folder / f".{name}.{'1' * 16}" for name in ("page.html", "notes.txt"))
    for path in (left, other):
        path.touch()
    runs.write(str(folder / "page.html"), b"<p>")
    assert names(folder) == {"page.html", other.name}


@pytest.mark.parametrize("name", ["run.json", ".lock", ".gitignore", ".run.json", ".a.b", ".notes.txt.original"])
def test_a_sweep_leaves_all_other_files(home, name):
    left = an_old_file(home / "checkpoints" / name)
    disk.sweep(left.parent)
    assert left.exists()
    assert not disk.is_temporary(name)


@pytest.mark.parametrize("name", [f".one.{disk.NO_LOCK}12345678", ".last.safetensors.abcd_123", ".import-0a1b2c3d"])
def test_where_no_lock_can_tell_a_day_does(home, name):
    """Without a lock (an earlier version, or a file system without locking), a file's age decides."""
    left = an_old_file(home / "checkpoints" / name)
    os.utime(left)
    disk.sweep(left.parent)
    assert left.exists()
    os.utime(left, (0, 0))
    disk.sweep(left.parent)
    assert not left.exists()


def an_old_file(path: Path) -> Path:
    path.parent.mkdir()
    path.touch()
    os.utime(path, (0, 0))
    return path


def test_files_are_written_where_none_can_be_locked(home, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(locks, "_take", refuse)
    with disk.unfinished(home / "corpora") as folder:
        disk.write_whole(folder / "a", "text")
        disk.sweep(home / "corpora")
        disk.rename_folder(folder, home / "corpora" / "b")
    assert (home / "corpora" / "b" / "a").read_text() == "text"


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(home, monkeypatch):
    path = home / "a"
    disk.write_whole(path, "old")

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        disk.write_whole(path, "new")
    assert path.read_text() == "old"
    assert names(home) == {"a", "checkpoints"}
    assert held_locks(home) == []


def test_a_move_is_tried_again_while_another_program_has_the_file_open(home, monkeypatch):
    replace, tries = os.replace, iter(range(100))

    def refuse_twice(*paths):
        if next(tries) < 2:
            raise PermissionError(errno.EACCES, "The process cannot access the file")
        replace(*paths)

    monkeypatch.setattr(os, "replace", refuse_twice)
    (home / "new").write_text("new")
    (home / "a").write_text("old")
    disk.move(home / "new", home / "a")
    assert (home / "a").read_text() == "new"
    assert not (home / "new").exists()


def test_a_write_does_not_bring_a_deleted_folder_back(home):
    with pytest.raises(FileNotFoundError):
        disk.write_whole(home / "gone" / "a", "text")
    assert not (home / "gone").exists()


def test_a_folder_takes_a_free_name_only(home):
    for name in ("taken", "empty"):
        (home / name).mkdir()
    (home / "taken" / "a").touch()
    for name in ("free", "empty"):
        with disk.unfinished(home) as folder:
            (folder / "b").touch()
            if name == "empty" and sys.platform == "win32":
                (home / name).rmdir()
            disk.rename_folder(folder, home / name)
        assert names(home / name) == {"b"}
    with disk.unfinished(home) as folder, pytest.raises(FileExistsError):
        disk.rename_folder(folder, home / "taken")
    assert names(home / "taken") == {"a"}
    assert not folder.exists()


def test_a_folder_that_is_being_deleted_has_no_name(home, monkeypatch):
    folder = home / "checkpoints"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "b").touch()
    with monkeypatch.context() as patch:
        patch.setattr(disk.shutil, "rmtree", lambda *_, **__: None)  # as if killed before the deletion
        disk.delete_folder(folder / "a")
    [left] = names(folder) - {".writers"}
    assert disk.is_temporary(left)
    disk.sweep(folder)
    assert names(folder) == {".writers"}


def test_the_size_of_a_folder_leaves_out_what_is_being_written(home):
    folder = home / "checkpoints" / "one"
    (folder / "deeper").mkdir(parents=True)
    (folder / "a").write_bytes(b"x" * 10)
    (folder / "deeper" / "b").write_bytes(b"x" * 5)
    (folder / ".run.json.0123456789abcdef").write_bytes(b"x" * 100)
    (folder / ".new.0123456789abcdef").mkdir()
    (folder / ".new.0123456789abcdef" / "c").write_bytes(b"x" * 100)
    assert disk.bytes_in(folder) == 15
    assert disk.bytes_in(home / "gone") == 0
