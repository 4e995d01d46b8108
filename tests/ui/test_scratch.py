"""The server's own folder for uploads and downloads: private, and deleted when the server ends, even if it crashes."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nanogpt import locks
from nanogpt.config import NanoGPTError
from nanogpt.ui.web import intake, scratch


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of this server's folder, not yet created, next to those of other servers."""
    path = tmp_path / f"{scratch.PREFIX}own"
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(path))
    return path


def left(beside: Path, name: str) -> Path:
    """Create a folder left by another server."""
    folder = beside.parent / name
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "upload.txt").write_text("a line")
    (folder / scratch.LOCK).touch()
    os.utime(folder / scratch.LOCK, (time.time() - 2,) * 2)  # the server was killed two seconds after its start
    return folder


def test_the_folder_is_private_and_goes_with_the_server(own):
    with scratch.private_folder():
        assert stat.S_IMODE(own.stat().st_mode) == 0o700 or sys.platform == "win32"
        (own / "upload.txt").write_text("a line")
    assert not own.exists()


def test_what_killed_servers_left_goes_and_nothing_else(own, tmp_path):
    dead, alive, other = (left(own, name) for name in ("nanogpt-page-dead", "nanogpt-page-alive", "gradio"))
    starting = tmp_path / "nanogpt-page-starting"
    starting.mkdir()
    locking = tmp_path / "nanogpt-page-locking"
    locking.mkdir()
    (locking / scratch.LOCK).touch()
    os.utime(locking, (0, 0))
    linked = tmp_path / "nanogpt-page-link"
    linked.symlink_to(other)
    with locks.held(alive / scratch.LOCK), scratch.private_folder():
        assert not dead.exists()
        assert (alive / "a" / "upload.txt").exists()
        assert starting.exists()
        assert locking.exists()
    assert (linked.is_symlink(), (other / "a" / "upload.txt").exists()) == (True, True)


def test_a_folder_that_is_taken_is_not_used(own):
    own.write_text("somebody else's")
    with pytest.raises(NanoGPTError, match="Set TMPDIR to a folder that you can write to"), scratch.private_folder():
        pytest.fail("used")


def test_a_folder_that_was_named_is_left_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    (tmp_path / "mine.txt").write_text("a line")
    os.utime(tmp_path / "mine.txt", (0, 0))
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    with scratch.private_folder():
        scratch.expire()
    assert (tmp_path / "mine.txt").exists()


def test_old_copies_that_gradio_made_expire_too(own, monkeypatch):
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    with scratch.private_folder():
        for name in ("old", "new"):
            (own / name).mkdir()
            (own / name / "page.html").write_text("<p>")
        os.utime(own / "old", (0, 0))
        scratch.expire()
        assert {path.name for path in own.iterdir()} == {"new", scratch.LOCK}


@pytest.mark.slow
def test_the_folder_is_new_for_each_process_and_not_gradio_s():
    show = "import os, nanogpt.ui; print(os.environ['GRADIO_TEMP_DIR'])"
    environment = os.environ | {"GRADIO_TEMP_DIR": ""}
    run = lambda: subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, env=environment).stdout
    first, second = run().strip(), run().strip()
    assert Path(first).name.startswith(scratch.PREFIX)
    assert Path(second).name.startswith(scratch.PREFIX)
    assert first != second


def test_a_visitor_without_room_gets_no_folder(own, monkeypatch):
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    monkeypatch.setenv("NANOGPT_SERVER_UPLOADS", "1000")
    before = scratch.space.used
    with pytest.raises(NanoGPTError, match="Try again in a few minutes"), scratch.new_folder(1000):
        pytest.fail("it got one")
    assert (scratch.space.used, own.exists()) == (before, False)


def test_what_is_kept_too_long_is_deleted_by_the_watch(monkeypatch):
    asked = []
    monkeypatch.setattr(scratch, "expire", lambda: asked.append(1))
    asyncio.run(intake.expired())
    assert asked == [1]
