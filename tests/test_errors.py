"""Test that a full disk, a read-only folder or an unreadable file gives a clear error in every interface."""

from __future__ import annotations

import errno
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from conftest import SMALL, Server, ended_run, last_of

from nanogpt import corpus
from nanogpt.cli import runs as commands
from nanogpt.cli.main import main
from nanogpt.config import NanoGPTError
from nanogpt.demo import text_of_argument
from nanogpt.disk import unfinished
from nanogpt.errors import NoRoom, explain, home_problem, open_streams, proxy_problem, shortages
from nanogpt.launch import local
from nanogpt.runs import Run, all_runs, users_of
from nanogpt.ui import api, chosen_text, run_panel, runs_tab, text_panel, train_tab, watching
from nanogpt.ui.web.visit import visitor

ANOTHER = "Another text, which is long enough to be one. " * 40
is_root = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def full_disk(monkeypatch) -> None:
    """Simulate a full disk: every fsync raises ENOSPC."""

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)


@pytest.fixture
def nobody(home) -> Iterator[None]:
    """Run the test without root's permissions: if the user is root, switch to another user until it ends."""
    if sys.platform == "win32":
        pytest.skip("Windows has no permission bits")
    if is_root:
        for path in (home, *home.rglob("*")):
            os.chown(path, 65534, 65534)
        for path in home.parents:
            if path.stat().st_mode & 0o5 != 0o5 and path.is_relative_to(tempfile.gettempdir()):
                os.chmod(path, 0o755)
        os.seteuid(65534)
    yield
    if is_root:
        os.seteuid(0)
    for path in (home, *home.rglob("*")):
        if path.is_dir():
            os.chmod(path, 0o755)


may_mount = pytest.mark.skipif(not (is_root and sys.platform == "linux"), reason="mounts a disk, which only root may")


@pytest.fixture
def disk(tmp_path) -> Iterator[Callable[[str], Path]]:
    """Yield a function that mounts a small tmpfs with the given options."""
    path = tmp_path / "disk"
    path.mkdir()

    def mounted(options: str) -> Path:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True).returncode:
            pytest.skip("this container may not mount")
        return path

    yield mounted
    subprocess.run(["umount", path], capture_output=True)


@pytest.fixture
def no_trainer(monkeypatch) -> None:
    monkeypatch.setattr(local, "start", lambda run: None)


# --- messages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "file", "said"),
    [
        (errno.ENOSPC, None, "There is no space left in {home}. Free some, or set NANOGPT_HOME to a folder on another"),
        (errno.EDQUOT, "{home}/a", "There is no space left in {home}. Free some"),
        (
            errno.ENOSPC,
            "/tmp/a",
            "There is no space left in /tmp/a. Free some, or set TMPDIR to a folder on another disk",
        ),
        (
            errno.ENOSPC,
            "/mnt/usb/a",
            "There is no space left in /mnt/usb/a. Free some, or choose a folder on another disk",
        ),
        (errno.EROFS, "{home}/a", "{home}/a is on a read-only disk. Set NANOGPT_HOME"),
        (errno.EACCES, "{home}/a", "You don't have permission to use {home}/a. Set NANOGPT_HOME to a folder of your"),
        (errno.EACCES, "/other/b", "You don't have permission to use /other/b. Use another file, or change its perm"),
        (
            errno.ENOENT,
            "{home}/a",
            "{home}/a is gone; it was moved, renamed or deleted. Put it back, or choose another.",
        ),
        (errno.EMFILE, None, "Too many files are open. Close other programs"),
        (errno.ENOLCK, "{home}/a", "{home} is on a disk that can't lock files, so training doesn't work there. Set"),
        (errno.ENOMEM, None, "This machine is short of memory. Try again later, or use less text or a"),
        (errno.EAGAIN, None, "This machine can't start another process at the moment. Close other programs, or"),
        (errno.EIO, "{home}/a", "{home}/a can't be read or written (input/output error)."),
    ],
)
def test_an_error_of_the_system_is_a_sentence(home, monkeypatch, number, file, said):
    error = OSError(number, os.strerror(number), file and file.format(home=home))
    assert explain(error).startswith(said.format(home=home))
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    assert str(home) not in explain(error)
    assert explain(error).startswith("The server")


def test_visitors_are_not_told_what_only_the_owner_can_do(home, monkeypatch):
    no_room = NoRoom(errno.ENOSPC, "This takes 2 MB more.", str(home / "corpora"))
    no_process = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    assert explain(no_room) == (
        "This takes 2 MB more. Free some space, or set NANOGPT_HOME to a folder on another disk."
    )
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    assert explain(no_room) == "The server's disk is full. Nothing was saved; try again later."
    assert explain(no_process) == "The server can't start another process at the moment. Try again later."


def test_a_stream_that_is_missing_is_the_null_device(monkeypatch):
    before = sys.stderr
    for name in ("stdin", "stdout"):
        monkeypatch.setattr(sys, name, None)
    open_streams()
    assert sys.stderr is before
    with sys.stdin as stdin, sys.stdout as stdout:
        assert (stdin.read(), stdin.isatty()) == ("", False)
        print("nowhere", flush=True)
        assert os.get_inheritable(stdout.fileno())


def test_a_temporary_name_is_in_no_sentence(home):
    with pytest.raises(OSError, match="(?i)read-only") as found, unfinished(home) as folder:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder / "text.txt"))
    assert explain(found.value) == f"{home} is on a read-only disk. Set NANOGPT_HOME to a folder of your own."


@pytest.mark.parametrize("command", [["runs"], ["--help"], ["serve"]])
def test_the_home_folder_of_a_user_who_has_none_is_a_sentence_at_every_command(monkeypatch, capsys, command):
    monkeypatch.setenv("NANOGPT_HOME", "~no-such-user/x")
    assert main(command) == 2
    assert capsys.readouterr().err == (
        "nanogpt: NANOGPT_HOME is ~no-such-user/x, but this user has no home folder. Set it to a full path.\n"
    )


@pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy", "http_proxy", "HTTPS_PROXY"])
def test_a_proxy_that_cannot_be_used_is_said_without_its_password(monkeypatch, name):
    assert proxy_problem() == ""
    for fine in ("http://me:pw@proxy:3128", "proxy:3128", "socks5h://[::1]:9", "https://proxy"):
        monkeypatch.setenv(name, fine)
        assert proxy_problem() == ""
    for bad in ("foo://proxy", "socks4://me:pw@proxy:1", "http://me:pw@proxy:port", "http://[pw"):
        monkeypatch.setenv(name, bad)
        assert f"The environment variable {name} isn't the address of a proxy" in proxy_problem()
        assert "pw" not in proxy_problem()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_too_little_memory_is_a_sentence(home, monkeypatch, capsys, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(commands, "all_runs", fail)
    assert main(["runs"]) == 2
    assert capsys.readouterr().err == (
        "nanogpt: This machine is short of memory. Try again later, or use less text or a smaller model.\n"
    )
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    assert explain(MemoryError()).startswith("The server is short of memory")


def test_too_few_threads_is_a_sentence(home, monkeypatch, capsys):
    monkeypatch.setattr(commands, "all_runs", lambda: (_ for _ in ()).throw(RuntimeError("can't start new thread")))
    assert main(["runs"]) == 2
    said = "This machine can't start another process at the moment. Close other programs, or try again later."
    assert capsys.readouterr().err == f"nanogpt: {said}\n"


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("CUDA out of memory. Tried to allocate 48.00 MiB.", MemoryError),
        ("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: 9 bytes", MemoryError),
        ("can't start new thread", BlockingIOError),  # an OSError
        ("a bug", RuntimeError),
    ],
)
def test_what_says_that_memory_or_threads_ran_out_is_a_problem_with_a_sentence(words, kind):
    with pytest.raises(kind) as found, shortages():
        raise RuntimeError(words)
    assert words in str(found.value)


def test_a_bug_is_not_called_a_lack_of_memory(home, monkeypatch):
    monkeypatch.setattr(commands, "all_runs", lambda: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        main(["runs"])


def test_our_own_errors_stay_as_they_are(home):
    assert explain(NanoGPTError("Choose a text.")) == "Choose a text."


def test_a_folder_that_can_be_used_is_no_problem(home, monkeypatch):
    assert home_problem() == ""
    monkeypatch.setenv("NANOGPT_HOME", str(home / "not" / "yet"))
    assert home_problem() == ""
    assert not (home / "not").exists()


def test_a_file_in_place_of_the_folder_is_named(home, monkeypatch):
    (home / "file").write_text("")
    monkeypatch.setenv("NANOGPT_HOME", str(home / "file" / "deeper"))
    assert home_problem() == (
        f"Runs and texts can't be stored in {home}/file/deeper: {home}/file is not a folder. "
        "Set NANOGPT_HOME to a folder of your own."
    )


@pytest.mark.parametrize("inner", ["", "checkpoints", "corpora"])
def test_a_folder_that_may_not_be_written_is_named(home, nobody, monkeypatch, inner):
    (home / inner).mkdir(exist_ok=True)
    os.chmod(home / inner, 0o555)
    assert f"{(home / inner)} is not writable. Set NANOGPT_HOME" in home_problem()
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    assert str(home) not in home_problem() != ""


# --- a full disk ----------------------------------------------------------------------------------------------------


def started(text: corpus.Corpus) -> str:
    """Return the Train tab's status line after a press of Start."""
    start = lambda: visitor().start(text.id, "one", "quick", **SMALL)
    return next(train_tab.attempt(start))["said"].value["text"]


def test_the_train_tab_says_that_the_disk_is_full(text, no_trainer, full_disk):
    assert started(text).startswith("There is no space left in ")
    assert all_runs() == []


def test_the_api_says_that_the_disk_is_full(text, home, no_trainer, full_disk):
    with pytest.raises(gr.Error, match="There is no space left in"):
        api.spoken()(api.start_training)(text.id, "one", "quick", SMALL)
    with pytest.raises(gr.Error, match="There is no space left in"):
        api.spoken()(api.add_corpus)(ANOTHER)
    assert corpus.listed() == [text]


def test_the_command_line_says_that_the_disk_is_full(home, tiny_text, full_disk, capsys):
    (home / "play.txt").write_text(tiny_text, encoding="utf-8")
    assert main(["train", str(home / "play.txt"), "--max-iters", "5"]) == 2
    assert capsys.readouterr().err == (
        f"nanogpt: There is no space left in {home}. Free some, or set NANOGPT_HOME to a folder on another disk.\n"
    )
    assert corpus.listed() == []


def test_the_corpus_tab_says_that_the_disk_is_full_and_takes_the_text_later(home, tiny_text, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
        report = last_of(chosen_text.attempt_new(tiny_text))["report"]
    assert "There is no space left" in report["notes"][0]["text"]
    assert corpus.listed() == []
    assert last_of(chosen_text.attempt_new(tiny_text))["corpus_id"] == corpus.listed()[0].id
    assert not [path for path in home.rglob(".*") if path.is_file()]


@contextmanager
def page_of(home: Path, browser) -> Iterator[Any]:
    """Start a server with this folder, open its page, and check at the end that Gradio showed no bare "Error"."""
    server = Server(home)
    try:
        page = browser.new_page()
        page.goto(server.url)
        yield page
        assert page.locator(".toast-body").count() == 0
        page.close()
    finally:
        server.stop()


@pytest.mark.slow
@may_mount
def test_the_page_on_a_disk_that_is_full(browser, disk):
    """End to end: a real 100 kB disk, a real server and a real browser."""
    with page_of(disk("size=100k"), browser) as page:
        page.wait_for_function("document.querySelector('#corpus-report')?.innerText.includes('There is no space left')")
        page.get_by_role("tab", name="Train", exact=True).click()
        page.locator("#train-start").click()
        page.wait_for_function("document.querySelector('#train-said')?.innerText.includes('No text is chosen')")


# --- an unreadable file doesn't hide the others ---------------------------------------------------------------------


def unreadable_log(run: Run) -> None:
    (run.folder / "metrics.jsonl").unlink(missing_ok=True)
    (run.folder / "metrics.jsonl").mkdir()


def unreadable_samples(run: Run) -> None:
    (run.folder / "samples.jsonl").unlink(missing_ok=True)
    (run.folder / "samples.jsonl").mkdir()


def unreadable_settings(run: Run) -> None:
    (run.folder / "run.json").unlink()
    (run.folder / "run.json").mkdir()


@pytest.mark.parametrize("spoil", [unreadable_log, unreadable_samples, unreadable_settings])
def test_a_run_that_cannot_be_read_hides_no_other(text, capsys, spoil):
    good, bad = ended_run(text, name="good", **SMALL), ended_run(text, name="bad", **SMALL)
    spoil(bad)
    states = {told["name"]: told for told in api.list_runs()}
    assert states["good"]["state"] == "finished"
    assert states["bad"]["state"] == "damaged"
    assert "is a directory" in states["bad"]["message"]
    listed = {row["name"]: row["cells"]["state"][0] for row in runs_tab.rows()["rows"]}
    assert listed == {"good": "Finished", "bad": "Damaged"}
    assert watching.view("bad")["status"]["state"] == "damaged"
    assert watching.view("good")["status"]["state"] == "finished"
    assert "good" in users_of(text.id)[1]
    assert main(["runs"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["good"].startswith("Finished")
    assert lines["bad"].startswith("Damaged")
    assert "is a directory" in lines["bad"]
    assert set(watching.names()) == {good.name, bad.name}


def test_a_log_that_cannot_be_read_is_no_error_of_the_panel(text):
    run = ended_run(text, **SMALL)
    (run.folder / "log.txt").unlink(missing_ok=True)
    (run.folder / "log.txt").mkdir()
    assert "is a directory" in run_panel.log(run.name)
    assert run.glance().state == "finished"


def test_weights_that_cannot_be_read_are_not_called_absent(text):
    from nanogpt.formats import load_model

    run = ended_run(text, **SMALL)
    (run.folder / "model.safetensors").unlink()
    with pytest.raises(NanoGPTError, match="has no weights yet"):
        load_model(run.folder)
    (run.folder / "model.safetensors").mkdir()
    with pytest.raises(NanoGPTError, match=r"The weights of one can't be read\. .*is a directory"):
        load_model(run.folder)


def test_a_text_that_may_not_be_read_hides_no_other(home, text, nobody):
    other = corpus.add(ANOTHER, "Other")
    os.chmod(text.folder, 0)
    assert corpus.listed() == [other]
    assert [row[0] for row in text_panel.table()] == ["Other"]
    with pytest.raises(NanoGPTError, match=f"The text {text.id} can't be read. You don't have permission"):
        corpus.load(text.id)


def test_runs_that_may_not_be_read_are_not_said_to_be_absent(home, text, nobody, capsys):
    (home / "checkpoints").mkdir(exist_ok=True)
    os.chmod(home / "checkpoints", 0)
    assert main(["runs"]) == 0
    assert "No runs yet" not in (said := capsys.readouterr().out)
    assert f"{home / 'checkpoints'} is not writable" in said


# --- a read-only folder ---------------------------------------------------------------------------------------------


def test_start_says_that_the_folder_may_not_be_written(home, text, nobody, no_trainer, monkeypatch):
    monkeypatch.setattr("nanogpt.runs.about._versions", dict)  # another user may not be able to read site-packages
    (home / "checkpoints").mkdir(exist_ok=True)
    os.chmod(home / "checkpoints", 0o555)
    assert started(text).startswith(f"You don't have permission to use {home / 'checkpoints'}")


def test_stop_says_that_the_folder_may_not_be_written(home, text, monkeypatch):
    run = ended_run(text, **SMALL)

    def refuse(self):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.stop_file))

    monkeypatch.setattr(Run, "request_stop", refuse)
    shown = train_tab.stop(run.name)
    assert shown["said"].value["text"].startswith(f"You don't have permission to use {run.stop_file}")


@pytest.mark.slow
@may_mount
def test_the_page_says_that_the_folder_may_not_be_written(browser, disk):
    closed = disk("ro")
    with page_of(closed, browser) as page:
        page.wait_for_function("document.querySelector('#page-asked')?.innerText.includes('is not writable')")
        said = f"Runs and texts can't be stored in {closed}: {closed} is not writable. Set NANOGPT_HOME"
        assert said in page.locator("#page-asked").inner_text()


# --- modules that are tried on a file -------------------------------------------------------------------------------


@pytest.fixture(params=["lecture", "data", "tokenizer"])
def tried(request, monkeypatch) -> Callable[..., Any]:
    """Return a function that runs a module as `python -m` does, and returns the message or status of its exit."""
    name = f"nanogpt.{request.param}"

    def run(*arguments: Any) -> Any:
        monkeypatch.delitem(sys.modules, name, raising=False)  # or runpy warns
        monkeypatch.setattr(sys, "argv", ["", *map(str, arguments)])
        try:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            return ended.code
        return 0

    run.module = request.param
    return run


def test_a_module_that_is_tried_on_a_file_says_what_is_wrong_with_it(tried, tmp_path, capsys):
    usage = f"usage: python -m nanogpt.{tried.module} FILE    (for more options: python -m nanogpt --help)"
    assert tried() == tried("a.txt", "b.txt") == usage
    file = tmp_path / "diary.txt"
    assert tried(file) == f"{file} can't be read (No such file or directory). Choose a text file."
    file.write_bytes("Voilà, élève. ".encode("cp1252") * 100)
    assert tried(file) == f"{file} is not in UTF-8. Save it in this encoding, then try again."
    file.write_text("ab" * 15, encoding="utf-8")
    expected = {
        "lecture": "The text has only 30 characters. Stage 1 needs at least 81, so that",
        "data": "The last tenth of the text has only 3 tokens, too few for a validation set.",
    }
    if tried.module in expected:
        assert tried(file).startswith(expected[tried.module])
    assert "Traceback" not in capsys.readouterr().err


def test_a_module_that_is_tried_on_a_file_prints_what_it_makes_of_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "play.txt")])
    (tmp_path / "play.txt").write_text("to be or not to be, " * 10, encoding="utf-8")
    shown = dict(data="training set: 180 characters, validation set: 20\n", tokenizer="8 characters:  ,benort\n[")
    for module, first in shown.items():
        monkeypatch.delitem(sys.modules, f"nanogpt.{module}", raising=False)
        runpy.run_module(f"nanogpt.{module}", run_name="__main__", alter_sys=True)
        assert capsys.readouterr().out.startswith(first)


def test_a_module_that_is_tried_on_a_file_ends_quietly_when_it_is_interrupted(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["lecture.py", str(tmp_path / "play.txt")])
    (tmp_path / "play.txt").write_text("to be", encoding="utf-8")

    def interrupted() -> None:
        with text_of_argument() as text:
            assert text == "to be"
            raise KeyboardInterrupt

    with pytest.raises(SystemExit, match="^130$"):
        interrupted()
