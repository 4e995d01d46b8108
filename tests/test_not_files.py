"""Test that a pipe, a socket or a device in place of a file that we store is a sentence, and never waited for."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import SMALL, ended_run

from nanogpt import corpus, disk
from nanogpt.cli.main import main
from nanogpt.config import NanoGPTError
from nanogpt.errors import PROBLEMS, explain
from nanogpt.explain import baselines, cache, loss, opened, replay
from nanogpt.launch import local, measured, prepare
from nanogpt.publish import page_export
from nanogpt.runs import Run, archive, job, queue, tickets, users_of
from nanogpt.ui import api, run_panel, runs_tab, text_panel, watching

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")

SECONDS = 20  # in which nothing here may wait


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Fail a test that waits, instead of waiting with it."""

    def waited(*_) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, waited)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/null")


def a_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the full path may be too long for one
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)
    os.chdir(here)


KINDS = [pipe, link_to_a_pipe, link_to_a_device, a_socket]


def replace(path: Path, kind: Callable[[Path], None] = pipe) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    kind(path)


@pytest.mark.parametrize("kind", KINDS)
def test_only_files_are_read(tmp_path, kind):
    kind(tmp_path / "a.json")
    for use in (disk.read, disk.opened, disk.checked, lambda path: disk.opened(path, "ab")):
        with pytest.raises(OSError, match="not a regular file") as caught:
            use(tmp_path / "a.json")
        assert explain(caught.value) == (
            f"{tmp_path / 'a.json'} is not a regular file. Delete it, or restore the file that belongs there."
        )


def test_files_and_links_to_files_are_read_and_new_ones_appended_to(tmp_path):
    (tmp_path / "link").symlink_to("a.txt")
    for use in (disk.read, disk.opened, disk.checked):
        with pytest.raises(FileNotFoundError):
            use(tmp_path / "link")
    with disk.opened(tmp_path / "a.txt", "ab") as file:
        file.write(b"1\n")
    assert (disk.read(tmp_path / "link"), (tmp_path / "a.txt").stat().st_mode & 0o777 & ~0o022) == (b"1\n", 0o644)


# --- runs ---------------------------------------------------------------------------------------------------------

STORED = [
    *archive.FILES, "job.json", "stop", ".lock", "explain/loss.json", "explain/parts.json", "explain/copies.json",
    "explain/neighbors.safetensors", "snapshots/0.safetensors",
]  # fmt: skip


def looks(run: Run, text: corpus.Corpus, path: Path) -> list[Callable[[], object]]:
    """Return what reads a run's files."""
    view = lambda: opened.open_run(run)
    return [
        run.status, run.lacks_checkpoint, view, lambda: loss.ruler(view()), lambda: cache.load(view(), "copies"),
        lambda: cache.load_tensors(view(), "neighbors"), lambda: run_panel.save(run.name, "archive", True),
        lambda: archive.pack(run, path, True), lambda: page_export.html(run), lambda: run_panel.facts(run.name),
        lambda: run_panel.log(run.name), lambda: prepare.to_continue(run, max_iters=60), lambda: job.job_of(run.folder),
        lambda: run.event("note", message="a"), lambda: run.cut_back(50), run.request_stop,
        lambda: main(["sample", run.name, "--length", "1"]), lambda: main(["explain", "doctor", run.name]),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", STORED)
def test_what_is_not_a_file_in_a_run_hides_no_other(text, tmp_path, capsys, name, kind):
    good, bad = ended_run(text, name="good", **SMALL), ended_run(text, name="bad", **SMALL)
    replace(bad.folder / name, kind)
    states = {row["name"]: row["state"] for row in api.list_runs()}
    damages = ("run.json", "metrics.jsonl", "samples.jsonl")
    assert states == dict(good="finished", bad="damaged" if name in damages else "finished")
    assert {row["name"] for row in runs_tab.rows()["rows"]} == {"good", "bad"}
    assert watching.view("good")["status"]["state"] == "finished"
    assert watching.view("bad")["status"]["state"] == states["bad"]
    assert set(watching.names()) == {good.name, bad.name}
    assert "good" in users_of(text.id)[1]
    assert main(["runs"]) == 0
    out, err = capsys.readouterr()
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["good"].startswith("Finished")
    assert lines["bad"].startswith("Damaged") == ("is not a regular file" in lines["bad"]) == (name in damages)
    assert err == ""
    for look in looks(bad, text, tmp_path / "out.zip"):
        with suppress(*PROBLEMS):
            look()


def test_a_run_that_has_not_begun_is_damaged_if_its_log_is_a_pipe(text, monkeypatch):
    run = prepare.new_run("one", text, "quick", **SMALL)
    replace(run.folder / "log.txt")
    assert "log.txt is not a regular file" in run.glance().message
    with pytest.raises(OSError, match="not a regular file"):
        local.start(run)
    assert queue.waiting() == []


def test_pipes_in_the_queue_are_passed_over(text):
    run = ended_run(text, **SMALL)
    for path in (tickets.withdrawal(run.name), tickets.folder() / f"{1:020d}.{run.name}", tickets.folder() / "cpu.now"):
        replace(path)
    assert run.glance().state == "finished"
    assert (queue.waiting(), queue.running()) == ([], [])


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_file_is_imported(home, tmp_path, kind):
    kind(tmp_path / "run.zip")
    with pytest.raises(OSError, match="not a regular file"):
        archive.unpack(tmp_path / "run.zip")


# --- texts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*KINDS, lambda path: path.symlink_to("nothing")])
def test_what_is_not_a_file_in_a_folder_is_left_out_and_named(tmp_path, tiny_text, kind):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "b.txt").write_text(tiny_text, encoding="utf-8")
    kind(tmp_path / "texts" / "a.txt")
    found = corpus.read([tmp_path / "texts"])
    assert found.text == tiny_text
    assert "left out: a.txt" in found.notes[-1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["corpus.json", "text.txt", "tokens.npy", "report.json", "baselines.json", "ladder.json"]
)
def test_what_is_not_a_file_in_a_text_hides_no_other(text, tiny_text, name, kind):
    other = corpus.add(tiny_text.upper(), "Another")
    replace(text.folder / name, kind)
    damages = name in ("corpus.json", "text.txt", "tokens.npy")
    assert {one.id for one in corpus.listed()} == ({other.id} if damages else {other.id, text.id})
    assert len(text_panel.table()) == 2 - damages
    if damages:
        with pytest.raises(NanoGPTError, match=f"The text {text.id} is damaged on disk. Add it again."):
            corpus.load(text.id)
    for look in (text.text, text.tokens, text.tokenizer, text.report, lambda: text.between(0, 9)):
        with suppress(NanoGPTError):
            look()
    assert baselines.kept(text) is None
    assert replay.kept(text.folder) == {}
    assert corpus.add(tiny_text, "A play").text() == tiny_text  # which mends what is damaged


def test_pipes_in_the_home_folder_are_passed_over(home):
    for path in (home / "machine.json", home / "corpora" / "built-in.json"):
        replace(path)
    assert measured._all() == {}
    assert corpus.find("python-reference").characters > 1000


@pytest.mark.parametrize("command", [["train"], ["eval", "one"], ["ladder"], ["baselines"]])
def test_a_pipe_on_the_command_line_is_refused_in_a_sentence(home, text, tmp_path, capsys, command):
    ended_run(text, **SMALL)
    os.mkfifo(tmp_path / "pipe")
    for path in [tmp_path / "pipe", *([Path("/dev/null")] if os.path.exists("/dev/null") else [])]:
        assert main([*command, str(path)]) == 2
        said = capsys.readouterr().err
        assert f"{str(path)[-80:]} isn't a regular file. Save the text in one, and choose that." in said
        assert said.count("\n") == 1


def test_the_text_that_a_variable_names_must_be_a_file(home, tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setenv("NANOGPT_TINYSHAKESPEARE", str(tmp_path / "pipe"))
    with pytest.raises(NanoGPTError, match=r"can't be read \(it is not a regular file\)"):
        corpus.find("shakespeare")
