"""The run folder: names, reading while another process writes, and a status derived from the folder alone."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from nanogpt import disk, locks
from nanogpt.config import NanoGPTError, TrainConfig
from nanogpt.disk import write_whole
from nanogpt.paths import slug
from nanogpt.runs import Run, all_runs, free_name, judged_percent, kept_loss, kept_step, newest_loss, queue, users_of
from nanogpt.runs.history import forget
from nanogpt.runs.listing import overview
from nanogpt.runs.rows import Tail, _rows, read_jsonl
from nanogpt.runs.run import LONGEST_MESSAGE
from nanogpt.runs.status import CANCELED
from nanogpt.runs.summary import _overviews

ROOT = Path(__file__).resolve().parents[2]
HOLDER = """
import sys
from pathlib import Path
from nanogpt import locks
with locks.held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def a_run(name="one", files=None, **train) -> Run:
    settings = dict(train=TrainConfig(**train).as_dict(), corpus=dict(id="0" * 16, name="a text", characters=5000))
    return Run.create(name, settings, files or {})


@contextmanager
def trainer(run: Run):
    """Start another process that holds the run's lock."""
    command = [sys.executable, "-c", HOLDER, str(run.folder / ".lock")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "held\n"
        try:
            yield child
        finally:
            child.kill()


@contextmanager
def taken(run: Run):
    """Hold the run's lock, as another process would."""
    with locks.held(run.folder / ".lock"):
        yield


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "0", "a-b", "my--run", "run-", "lock", "a" * 64])
def test_a_name_becomes_a_folder_that_is_found_again(home, name):
    run = a_run(name)
    assert run.folder == home / "checkpoints" / name
    assert [found.name for found in all_runs()] == [name]
    assert json.loads((run.folder / "run.json").read_text(encoding="utf-8"))["name"] == name


HOSTILE = [
    "", ".", "..", "../x", "x/../../y", "/etc/passwd", "..\\x", "C:\\x", "a/b", "a\\b", "-a", "--help", "A", "a.b",
    "a b", "a\n", "\na", "a\0", "ä", "名前", "ａ", "a" * 65, "a" * 100_000, ".queue", "~", "~root", "$HOME",
    "%2e%2e", "con:", "a_b", None, 5, b"a", ["a"],
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name)[:20])
def test_what_is_no_name_touches_nothing(home, name):
    for attempt in (Run, a_run):
        with pytest.raises(NanoGPTError, match="can't be used as a name. Use 1 to 64 lower-case letters") as refused:
            attempt(name)
        assert len(str(refused.value)) < 400
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("My Text.txt", "my-text-txt"), ("Großvaters Łódź", "grossvaters-lodz"), ("Æble på Ø", "aeble-pa-o"),
        ("Ünïcode Façade", "unicode-facade"), ("名前", ""), ("--a--", "a"),
        ("a" * 100, "a" * 64), ("../../etc", "etc"), ("", ""), ("x" * 63 + " y", "x" * 63),
    ],
)  # fmt: skip
def test_a_title_as_a_name(title, name):
    assert slug(title) == name
    if name:
        assert Run(name).name == name


def test_a_taken_name_is_refused_and_the_run_left_alone(home):
    run = a_run("one", max_iters=7)
    with pytest.raises(NanoGPTError, match="already a run named one"):
        a_run("one", max_iters=9)
    assert run.settings()["train"]["max_iters"] == 7


def test_a_free_name_is_the_wanted_one_or_the_next(home):
    assert free_name("My Text") == "my-text"
    a_run("my-text")
    assert free_name("My Text") == "my-text-2"
    (home / "checkpoints" / "my-text-2").mkdir()  # a folder without run.json also takes the name
    a_run("my-text-3")
    assert free_name("my text!") == "my-text-4"
    for title in ("", "漢字", "..", "a" * 200, "a" * 55 + "-" * 20 + "b"):
        name = free_name(title)
        assert Run(name).name == name
        a_run(name)
        assert free_name(title) != name
        a_run(free_name(title))


@pytest.mark.parametrize("folder", ["Diary", "DIARY"])
def test_a_folder_that_differs_only_in_case_takes_the_name(home, folder):
    (home / "checkpoints" / folder).mkdir(parents=True)
    assert free_name("diary") == "diary-2"


# --- creating, listing, deleting -----------------------------------------------------------------------------------


def test_a_new_run_has_its_files_and_says_what_made_it(home):
    run = a_run(files={"config.json": "{}", "tokenizer.json": "ü"})
    assert sorted(path.name for path in run.folder.iterdir()) == ["config.json", "run.json", "tokenizer.json"]
    assert (run.folder / "tokenizer.json").read_bytes() == "ü".encode()
    settings = run.settings()
    assert settings["versions"].keys() >= {"nanogpt", "torch", "python"}
    assert (settings["parent"], settings["owner"]) == (None, None)
    run.change(train={"max_iters": 5})
    assert run.settings() == {**settings, "train": {"max_iters": 5}}


def test_runs_are_listed_the_newest_first(home):
    assert all_runs() == []
    for age, name in enumerate(("new", "older", "oldest")):
        os.utime(a_run(name).folder / "run.json", (1e9 - age,) * 2)
    (home / "checkpoints" / "half-made").mkdir()
    (home / "checkpoints" / "Not A Name").mkdir()
    write_whole(home / "checkpoints" / "Not A Name" / "run.json", "{}")
    assert [run.name for run in all_runs()] == ["new", "older", "oldest"]


def test_there_is_no_such_run(home):
    run = Run("absent")
    assert not run.exists()
    for ask in (run.settings, run.status, run.delete, lambda: run.change(train={})):
        with pytest.raises(NanoGPTError, match="There is no run named absent"):
            ask()
    assert list(home.iterdir()) == []


BROKEN = [b"", b"{", b"\xff\xfe", b"[]", b"null", b"5", b"[" * 100_000, b'{"train": ' + b"9" * 5000 + b"}"]
BROKEN += [b'{"preset": "\\ud800"}']  # half a character, with which no other entry could be changed
INCOMPLETE = [b"{}", b'{"train": null}', b'{"train": [1]}', b'{"train": {"max_iters": "x"}}']


@pytest.mark.parametrize("content", [*BROKEN, *INCOMPLETE], ids=lambda content: content[:16].decode("latin-1"))
def test_a_broken_run_json_is_a_sentence(home, content):
    run = a_run()
    (run.folder / "run.json").write_bytes(content)
    with pytest.raises(NanoGPTError) as refused:
        run.status()
    assert "\n" not in str(refused.value)
    if content in BROKEN:
        with pytest.raises(NanoGPTError, match=r"run\.json of one cannot be read"):
            run.settings()


@pytest.mark.parametrize("content", [*BROKEN, *INCOMPLETE], ids=lambda content: content[:16].decode("latin-1"))
def test_a_damaged_run_is_listed_and_can_only_be_deleted(home, content):
    a_run("sound")
    run = a_run()
    (run.folder / "run.json").write_bytes(content)
    assert {found.name: found.glance().state for found in all_runs()} == {"sound": "failed", "one": "damaged"}
    status = run.glance()
    assert (status.busy, status.can_continue, status.message[-1]) == (False, False, ".")
    assert users_of("0" * 16)[1][:1] == ["sound"]
    with taken(run), pytest.raises(NanoGPTError, match="is training. Stop it before you"):
        run.delete()
    with pytest.raises(NanoGPTError, match=r"\.$"):
        run.rename("two")
    run.delete()
    assert [found.name for found in all_runs()] == ["sound"]


def test_a_run_json_that_is_no_file(home):
    run = a_run()
    (run.folder / "run.json").unlink()
    (run.folder / "run.json").mkdir()
    assert [found.glance().state for found in all_runs()] == ["damaged"]


def test_a_history_that_cannot_be_read_is_not_overwritten_and_leaves_its_run_a_user_of_its_text(home):
    run = a_run()
    (run.folder / "metrics.jsonl").mkdir()
    with pytest.raises(OSError, match="metrics"):
        run.cut_back(0)
    assert users_of("0" * 16) == ([], ["one"])
    run.request_stop()
    run.delete()
    assert all_runs() == []


def test_ctrl_c_while_the_history_is_read_asks_to_stop(home):
    run = a_run()
    queue.draw("one")
    with run.history()._lock:  # the handler of Ctrl-C runs in the thread that holds it
        asking = threading.Thread(target=run.request_stop, daemon=True)
        asking.start()
        asking.join(10)
    assert not asking.is_alive()
    assert run.status().message == "Canceled before training started."


def test_a_run_that_was_canceled_on_a_full_disk_says_so(home, monkeypatch):
    def no_space(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = a_run()
    queue.draw("one")
    monkeypatch.setattr(os, "fsync", no_space)
    run.request_stop()
    assert (run.status().state, run.status().message) == ("stopped", CANCELED)


def test_a_later_run_of_a_renamed_ones_name_was_not_canceled(home):
    run = a_run()
    queue.draw("one")
    run.request_stop()
    run.rename("two")
    assert a_run().status().message == "The trainer did not start. Resume the run to start it."


@pytest.mark.parametrize("fails", ["the file", "the folder"])
def test_a_run_that_could_not_be_renamed_is_as_before(home, monkeypatch, fails):
    run = a_run()
    before = run.settings()

    def no_space(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*((os, "fsync") if fails == "the file" else (Path, "rename")), no_space)
    with pytest.raises(OSError, match="No space"):
        run.rename("two")
    assert [found.name for found in all_runs()] == ["one"]
    assert run.settings() == before


def test_a_deleted_run_leaves_nothing_in_the_queue(home):
    run = a_run()
    queue.draw("one")
    run.request_stop()
    assert queue.withdrawal("one") is not None
    run.delete()
    assert list(queue.folder().iterdir()) == []


def test_a_run_that_goes_while_it_is_listed(home, monkeypatch):
    for name in ("one", "two"):
        a_run(name)
    glob = Path.glob

    def listed(folder, pattern):
        found = list(glob(folder, pattern))
        shutil.rmtree(home / "checkpoints" / "two", ignore_errors=True)
        return found

    monkeypatch.setattr(Path, "glob", listed)
    assert [run.name for run in all_runs()] == ["one"]


def test_the_size_of_a_run_whose_files_come_and_go(home, monkeypatch):
    run = a_run()
    size = run.size()
    try:
        (run.folder / "gone").symlink_to("nowhere")
    except OSError:
        pytest.skip("this system lets only administrators make links")
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    assert run.size() >= size


def test_a_look_at_a_deleted_run_does_not_bring_it_back(home):
    run = a_run()
    with run.held():
        pass
    shutil.rmtree(run.folder)
    run.glance()
    run.request_stop()
    run.history()
    with pytest.raises(NanoGPTError, match="no run named one"), run.held():
        pytest.fail("it was held")
    assert not run.folder.exists()


def test_who_is_on_a_text(home):
    for name in ("one", "two"):
        a_run(name)
    queue.draw("two")
    assert users_of("0" * 16) == (["two"], ["one"])
    assert users_of("1" * 16) == ([], [])


def test_a_run_is_deleted_unless_it_is_in_use(home):
    run = a_run()
    with taken(run), pytest.raises(NanoGPTError, match="one is training. Stop it before you"):
        run.delete()
    queue.draw("one")
    with pytest.raises(NanoGPTError, match="one is training"):
        run.delete()
    queue.drop("one")
    run.delete()
    assert not run.folder.exists()


# --- creating, deleting and importing at the same time ---------------------------------------------------------------


@contextmanager
def disk_full_at(number: int):
    """Simulate a disk that fills up at the given write, and check that the error is raised."""
    writes = itertools.count(1)

    def fsync(handle):
        if next(writes) >= number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="No space"):
            yield


def visible(home) -> list[str]:
    """List checkpoints/ without its internal folders."""
    return sorted(path.name for path in (home / "checkpoints").iterdir() if path.name not in (".queue", ".writers"))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_disk_that_is_full_while_a_run_is_created_leaves_nothing(home, number):
    with disk_full_at(number):
        a_run(files={"config.json": "{}", "tokenizer.json": "{}"})
    assert visible(home) == []
    assert a_run().exists()


def test_a_run_has_no_name_until_it_is_complete(home, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda handle: seen.append(([run.name for run in all_runs()], visible(home))))
    a_run(files={"config.json": "{}"})
    assert [runs for runs, _ in seen] == [[], []]
    assert all(disk.is_temporary(name) for _, names in seen for name in names)
    assert visible(home) == ["one"]


@pytest.mark.parametrize(
    "left", [[], ["config.json"], ["config.json", "tokenizer.json", ".run.json.abcd1234"], [".lock"]]
)
def test_what_a_launcher_of_an_earlier_version_left_does_not_block_a_name(home, left):
    folder = home / "checkpoints" / "one"
    folder.mkdir(parents=True)
    for name in left:
        (folder / name).write_text("old", encoding="utf-8")
    run = a_run(files={"config.json": "{}"})
    assert sorted(path.name for path in run.folder.iterdir()) == ["config.json", "run.json"]
    assert (run.folder / "config.json").read_text(encoding="utf-8") == "{}"


@pytest.mark.parametrize("name", ["notes.txt", "model.safetensors", "metrics.jsonl"])
def test_other_files_are_left_alone(home, name):
    folder = home / "checkpoints" / "one"
    folder.mkdir(parents=True)
    (folder / name).touch()
    with pytest.raises(NanoGPTError, match="checkpoints/one holds files that are not a run's"):
        a_run()
    assert visible(home) == ["one"]
    assert [path.name for path in folder.iterdir()] == [name]


def test_a_run_killed_while_it_is_deleted_is_all_there_or_gone(home, monkeypatch):
    run = a_run()
    with monkeypatch.context() as patch:
        patch.setattr(disk.shutil, "rmtree", lambda *_, **__: None)
        run.delete()
    assert all_runs() == []
    assert not run.folder.exists()
    a_run("two")
    assert visible(home) == ["two"]


def test_temporary_files_do_not_count(home):
    run = a_run()
    size = run.size()
    (run.folder / f".last.safetensors.{'1' * 16}").write_bytes(b"x" * 1000)
    (run.folder / ".model.safetensors.abcd_123").write_bytes(b"x" * 1000)
    (run.folder / "explain").mkdir()
    (run.folder / "explain" / f".parts.json.{'1' * 16}").write_bytes(b"x" * 1000)
    assert run.size() == size
    with run.held():
        assert not list((run.folder / "explain").iterdir())
        assert not (run.folder / f".last.safetensors.{'1' * 16}").exists()


@pytest.mark.parametrize(
    ("events", "settings", "lacks"),
    [
        ([], {}, False), (["started"], {}, False), (["started", "failed"], {}, False),
        (["started", "stopped"], {}, True), (["started", "finished"], {}, True),
        (["started"], dict(checkpoint=False), True), (["started"], dict(pulled=dict(repo="a/b")), True),
    ],
)  # fmt: skip
def test_a_killed_run_is_told_from_one_that_came_without_its_checkpoint(home, events, settings, lacks):
    run = a_run()
    run.change(**settings)
    for event in events:
        run.event(event, **({"message": "No."} if event == "failed" else {"step": 0}))
    assert not run.lacks_checkpoint()  # no weights either: it starts from step 0
    (run.folder / "model.safetensors").touch()
    assert run.lacks_checkpoint() is lacks
    if events == ["started"]:
        was = "exported while it trained, without its checkpoint. You can still sample"
        assert (was in run.status().message) is lacks
        assert ("Resume the run" in run.status().message or "resume the run" in run.status().message) is not lacks
    (run.folder / "last.safetensors").touch()
    assert not run.lacks_checkpoint()


@pytest.mark.parametrize("logged", [True, False])
def test_a_list_of_runs_keeps_no_long_message_and_nothing_of_a_deleted_run(home, logged):
    run = a_run()
    if logged:
        run.event("failed", message="x" * 100_000)
    else:
        (run.folder / "log.txt").write_text("x" * 100_000, encoding="utf-8")
    assert len(overview(run).status.message) == LONGEST_MESSAGE
    assert overview(run) is overview(run)
    renamed = run.rename("two")
    assert overview(renamed).status.state == "failed"
    assert run.folder not in _overviews
    renamed.delete()
    assert renamed.folder not in _overviews


def test_a_run_canceled_before_it_began_again_is_still_one_of_our_own(home):
    run = a_run()
    run.event("started", step=0)
    run.event("stopped", message="Canceled before training started.")
    (run.folder / "model.safetensors").touch()
    assert not run.lacks_checkpoint()


def test_while_a_run_trains_the_kept_weights_are_those_of_its_last_save(home):
    """A timed run does not save at each evaluation."""
    run = a_run()
    kept = lambda: (kept_step(run.history()), kept_loss(run.history()))
    save = lambda **progress: save_file({}, run.folder / "last.safetensors", dict(progress=json.dumps(progress)))
    assert kept() == (0, None)
    run.event("started", step=0)
    run.log(step=0, val_loss=4.0)
    assert kept() == (0, 4.0)  # there is no checkpoint yet
    run.log(step=10, val_loss=3.0)
    save(step=10, best_step=10, best_val_loss=3.0)
    run.log(step=20, val_loss=2.0)
    assert kept() == (10, 3.0)
    assert [row["step"] for row in run.history().saved_rows] == [0, 10]
    save(step=25, best_step=20, best_val_loss=2.0)
    assert kept() == (20, 2.0)
    run.log(step=30, val_loss=1.0)
    assert kept() == (20, 2.0)
    for damaged in (dict(best_step="x", best_val_loss=2.0), dict(best_step=20, best_val_loss=math.inf)):
        save(**damaged)
        assert kept() == (30, 1.0)
    save(step=30, best_step=20, best_val_loss=2.0)
    run.event("stopped", message=CANCELED)  # resumed after it was killed, and canceled before it began
    assert kept() == (20, 2.0)
    run.event("failed", message="There is no GPU.")  # at its turn
    assert kept() == (20, 2.0)
    run.event("stopped", step=30)
    assert kept() == (30, 1.0)


@pytest.mark.parametrize("kind", ["stopped", "failed"])
def test_a_finished_run_that_was_not_trained_on_keeps_its_result(home, kind):
    run = a_run(max_iters=20)
    run.event("started", step=0)
    run.log(step=0, val_loss=4.0)
    run.log(step=20, val_loss=3.0)
    run.event("finished", step=20, val_loss=2.5, best_val_loss=3.0, last_val_loss=2.5, val_characters=499)
    result = lambda: (kept_step(run.history()), kept_loss(run.history()), judged_percent(run.history(), run.settings()))
    assert result() == (20, 2.5, 100)
    run.event(kind, message="It was canceled, or there was no GPU, at its turn.")
    assert result() == (20, 2.5, 100)
    assert newest_loss(run.history()) == 2.5
    assert run.history().ended
    run.event("started", step=20)
    assert result() == (20, 3.0, None)


def test_canceling_a_run_that_has_trained_does_not_say_that_it_never_started(home):
    run = a_run()
    run.event("started", step=0)
    run.log(step=20, val_loss=3.0)
    run.event("stopped", step=20)
    queue.draw("one")
    run.request_stop()
    assert run.status().message == "Canceled before training resumed."
    run.cancel()  # by its trainer, which finds no ticket
    assert run.status().message == "Canceled before training resumed."


@pytest.mark.parametrize("wrong", ["x", None, [1]])
def test_a_last_word_without_numbers_names_the_best_weights_and_no_loss(home, wrong):
    run = a_run()
    run.log(step=10, val_loss=3.0)
    run.event("finished", step=20, val_loss=wrong, best_val_loss=3.0, last_val_loss=wrong)
    assert (kept_step(run.history()), kept_loss(run.history())) == (10, None)


# --- status: every state, from the folder alone --------------------------------------------------------------------


def states(run: Run) -> tuple[str, bool, bool]:
    """Return the run's status, after checking that a fresh `Run` object reports the same."""
    status = run.status()
    assert Run(run.name).status() == status
    return status.state, status.busy, status.can_continue


def test_never_begun(home):
    run = a_run(max_iters=10)
    (run.folder / "log.txt").write_text("one\nMemoryError: no more\n", encoding="utf-8")
    assert states(run) == ("failed", False, True)
    assert run.status().message == "The trainer did not start. MemoryError: no more"


def test_a_launcher_killed_before_it_started_the_trainer(home):
    run = a_run(max_iters=10)
    assert states(run) == ("failed", False, True)
    assert run.status().message == "The trainer did not start. Resume the run to start it."


def test_a_killed_run_says_from_where_it_can_be_resumed(home):
    run = a_run(max_iters=10)
    run.event("started", step=0)
    assert "Nothing was saved yet, so resume the run to start it from step 0." in run.status().message
    (run.folder / "model.safetensors").touch()  # the first of a checkpoint's two files
    assert "from step 0" in run.status().message
    (run.folder / "last.safetensors").touch()
    assert run.status().message.endswith("Resume the run to continue from its last checkpoint.")


def test_waiting(home):
    run = a_run(max_iters=10)
    for name in ("before", "one", "after"):
        queue.draw(name)
    assert states(run) == ("queued", True, False)
    assert run.status().place == 2
    run.request_stop()
    assert queue.waiting() == ["before", "after"]
    assert not run.stop_file.exists()
    assert not run.status().busy


@pytest.mark.slow
def test_a_life(home):
    run = a_run(max_iters=10)
    with trainer(run) as child:
        assert states(run) == ("running", True, False)
        run.event("started", step=0)
        run.log(step=4, seconds=1.5, train_loss=2.0)
        assert states(run) == ("running", True, False)
        assert (run.status().step, run.status().max_iters, run.status().seconds) == (4, 10, 1.5)
        run.request_stop()
        assert run.stop_file.exists()
        assert states(run) == ("stopping", True, False)
        child.kill()  # like an out-of-memory kill: no cleanup
        child.wait()
        assert states(run) == ("crashed", False, True)
    with trainer(run):
        run.stop_file.unlink()
        assert states(run) == ("running", True, False)
        run.event("started", step=4)
        run.event("stopped", step=5, message="Stopped.")
        assert states(run) == ("running", True, False)  # still holds the lock, so the last event doesn't count yet
    assert states(run) == ("stopped", False, True)
    assert run.status().message == "Stopped."
    queue.draw("one")
    assert states(run) == ("queued", True, False)  # about to resume
    queue.drop("one")
    run.event("failed", message="No.")
    assert states(run) == ("failed", False, True)
    run.event("started", step=5)
    run.event("finished", step=10, message="Done.")
    assert states(run) == ("finished", False, True)  # after resuming with more steps
    run.request_stop()
    assert not run.stop_file.exists()  # no trainer to stop


def test_a_trainer_that_has_not_logged_its_last_word_yet(home):
    """The trainer has released the device and the run's lock, but has yet to log why it failed."""
    run = a_run(max_iters=10)
    with queue.turn("one", "cpu"), run.held():
        run.event("started", step=0)
    with queue.arrived("one"):
        queue.drop("one")
        assert states(run) == ("running", True, False)
        run.event("failed", message="No.")
        assert states(run) == ("failed", False, True)


SESSIONS = """
import sys
from nanogpt.runs import queue
from nanogpt.runs import Run
for name in sys.argv[1:]:
    run = Run(name)
    with queue.turn(name, "cpu"), run.held():
        run.event("started", step=0)
        run.event("stopped", step=1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("runs", [30, 1], ids=["beginning", "going on"])
def test_a_status_is_never_wrong_in_passing(home, runs):
    """A page that saw "crashed" or "failed", even for a moment, would stop polling."""
    names = [a_run(f"run-{i}", max_iters=2).name for i in range(runs)]
    for name in names:
        queue.draw(name)
    command = [sys.executable, "-c", SESSIONS, *names * (30 // runs)]
    with subprocess.Popen(command, cwd=ROOT) as child:
        for name in names:
            seen = []
            while child.poll() is None and not (runs > 1 and seen[-1:] == ["stopped"]):
                seen.append(Run(name).status().state)
            assert set(seen) <= {"queued", "running", "stopped"}
            assert runs == 1 or seen == sorted(seen, key=("queued", "running", "stopped").index)
    assert child.returncode == 0
    assert {Run(name).status().state for name in names} == {"stopped"}


@pytest.mark.slow
def test_the_lock_is_one_s_alone(home):
    run = a_run()
    with trainer(run) as child:
        with pytest.raises(NanoGPTError, match="already being trained by another process"), run.held():
            raise AssertionError("it was held twice")
        child.kill()
        child.wait()
        with run.held():
            assert locks.is_held(run.folder / ".lock")
    assert not locks.is_held(run.folder / ".lock")


def test_a_look_does_not_keep_a_trainer_from_its_lock(home):
    run = a_run()
    with locks.held(run.folder / ".lock"):
        pass
    assert not locks.is_held(run.folder / ".lock")
    with run.held():
        assert run.status().state == "running"


# --- the log -------------------------------------------------------------------------------------------------------


def test_the_history_is_what_was_logged(home, monkeypatch):
    run = a_run()
    run.event("started", step=0)
    rows = [dict(step=0, seconds=0.0, val_loss=4.0), dict(step=5, seconds=1.0, train_loss=3.0, val_loss=2.5)]
    rows += [dict(step=10, seconds=2.0, train_loss=2.0, val_loss=2.75)]
    for row in rows:
        run.log(**row)
        run.sample(row["step"], f"text {row['step']}\n\u2028ü")
    history = run.history()
    assert history.rows == rows
    assert [event["event"] for event in history.events] == ["started"]
    assert history.best == rows[1]
    assert (history.step, history.seconds) == (10, 2.0)
    assert history.samples[-1] == dict(step=10, text="text 10\n\u2028ü")
    version = history.version
    assert run.history().version == version
    forget(run.folder)  # as when others are looked at
    history = run.history()
    assert history.version == version
    os.utime(run.folder / "metrics.jsonl", (1000, 1000))
    run.history()
    monkeypatch.setattr("nanogpt.runs.history.time.time", lambda: 1007.5)
    assert history.age == 7.5  # since the last row
    run.log(step=11)
    assert run.history().version != version


def test_rows_that_no_trainer_logged_are_passed_over(home):
    run = a_run()
    run.log(step=1, seconds=1.0, train_loss=2.0, val_loss=float("nan"))
    for row in (dict(step="2"), dict(train_loss=1.0), dict(step=3, val_loss="low"), dict(event=5), dict(seconds="x")):
        run.log(**row)
    run.sample(1, "text")
    for sample in ('{"step":2}', '{"step":2,"text":5}', '{"text":"x"}'):
        with (run.folder / "samples.jsonl").open("a", encoding="utf-8") as file:
            file.write(sample + "\n")
    history = run.history()
    assert (len(history.rows), history.events, history.seconds, len(history.samples)) == (1, [], 1.0, 1)
    assert (history.latest("train_loss"), history.latest("val_loss")) == (2.0, None)
    assert run.glance().state == "failed"


def test_an_unfinished_last_line_waits(tmp_path):
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    tail.refresh()
    assert (tail.rows, tail.version) == ([], None)
    whole = '{"step":1,"text":"ü"}\n{"step":2}\n'.encode()
    for end in range(len(whole) + 1):
        path.open("ab").close()
        with path.open("r+b") as file:
            file.seek(0, os.SEEK_END)
            file.write(whole[file.tell() : end])
        tail.refresh()
        assert [row["step"] for row in tail.rows] == list(range(1, 1 + whole[:end].count(b"\n")))
    assert tail.version == disk.version(path)
    assert read_jsonl(path) == tail.rows == [dict(step=1, text="ü"), dict(step=2)]


def test_a_new_row_is_added_to_what_is_known_already(home, monkeypatch):
    run = a_run()
    for step in range(300):
        run.log(
            step=step, seconds=step / 10, tokens=1, train_loss=3.0, **({"val_loss": 2.0 + step} if step % 100 else {})
        )
    known, parsed = run.history(), []
    rows = known.rows
    monkeypatch.setattr("nanogpt.runs.rows._rows", lambda lines: parsed.extend(lines) or _rows(lines))
    run.log(step=300, seconds=30.0, tokens=1, val_loss=1.0)
    run.event("note", message="slow")
    assert run.history().rows is rows
    assert (len(rows), len(parsed), known.step, known.latest("train_loss"), known.latest("val_loss")) == (
        301,
        2,
        300,
        3,
        1,
    )
    assert (known.best, known.evaluations[-1], known.notes) == (rows[-1], rows[-1], ["slow"])
    run.cut_back(100)  # the file is replaced
    again = run.history()
    assert (again.step, again.best["step"], again.notes) == (100, 1, ["slow"])


def test_lines_that_are_no_rows_are_passed_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step":1}\nnot json\n[1]\n\n5\n\xff\xfe\n{"step":2}\n' + b"[" * 100_000 + b'\n{"step":3}\n')
    assert read_jsonl(path) == [dict(step=1), dict(step=2), dict(step=3)]
    assert read_jsonl(tmp_path / "none.jsonl") == []


def test_rows_share_their_keys(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(1, 2))
    one, two = read_jsonl(path)
    assert next(iter(one)) is next(iter(two))


BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize("odd", [b"", b'{"step":1},{"step":2}', b"[", b'{"text":"\\ud800"}', BOM + b'{"step":2}'])
def test_an_odd_line_hides_no_other(tmp_path, odd):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step":1}\n' + odd + b'\n{"step":3}\n')
    assert read_jsonl(path) == [dict(step=step) for step in ((1, 2, 3) if odd.startswith(BOM) else (1, 3))]


def lines(*steps) -> str:
    return "".join(f'{{"step":{step}}}\n' for step in steps)


@pytest.mark.parametrize("times", [1, 2, 3, 4])
@pytest.mark.parametrize("after", [(1,), (1, 2, 3), (1, 2, 3, 4, 5), (7, 8, 9), ()], ids=str)
def test_a_file_that_was_replaced_is_read_anew(tmp_path, times, after):
    path = tmp_path / "metrics.jsonl"
    write_whole(path, lines(1, 2, 3))
    tail = Tail(path)
    tail.refresh()
    for _ in range(times):  # the file system may reuse an inode number
        write_whole(path, lines(*after))
    tail.refresh()
    assert [row["step"] for row in tail.rows] == list(after)
    with path.open("ab") as file:
        file.write(lines(10).encode())
    tail.refresh()
    assert [row["step"] for row in tail.rows] == [*after, 10]


def test_a_file_that_is_gone_is_empty(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_whole(path, lines(1, 2))
    tail = Tail(path)
    tail.refresh()
    path.unlink()
    tail.refresh()
    assert tail.rows == []
    write_whole(path, lines(3))
    tail.refresh()
    assert tail.rows == [dict(step=3)]


def test_a_new_run_under_an_old_name_has_no_past(home):
    run = a_run(max_iters=10)
    run.event("started", step=0)
    run.log(step=10, val_loss=1.0)
    run.event("finished", step=10)
    assert run.status().state == "finished"
    shutil.rmtree(run.folder)
    run = a_run(max_iters=10)
    run.event("started", step=0)
    assert run.history().rows == []
    assert run.status().state == "crashed"


def test_what_is_logged_after_the_last_save_is_forgotten(home):
    run = a_run()
    run.event("started", step=0)
    for step in range(0, 50, 10):
        run.log(step=step, train_loss=1.0)
        run.sample(step, "text")
    run.event("stopped", step=40)
    with (run.folder / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step":20,"half')  # killed while writing
    assert run.history().step == 40
    run.cut_back(20)
    history = run.history()
    assert [row["step"] for row in history.rows] == [0, 10, 20]
    assert [row["step"] for row in history.samples] == [0, 10, 20]
    assert [event["event"] for event in history.events] == ["started"]
    run.log(step=30)
    assert [row["step"] for row in read_jsonl(run.folder / "metrics.jsonl")] == [0, 0, 10, 20, 30]
    run.cut_back(-1)
    assert run.history().rows == []


def test_a_trainer_starts_in_the_same_write_that_forgets(home):
    run = a_run()
    for step in (0, 10, 20):
        run.log(step=step, seconds=float(step))
        run.sample(step, "text")
    with disk_full_at(2):  # between the two files
        run.cut_back(10, step=10, seconds=20.0)
    assert ([row["step"] for row in run.history().samples], run.history().seconds) == ([0, 10], 20.0)
    run.cut_back(10, step=10, seconds=20.0)
    assert [row["step"] for row in run.history().rows] == [0, 10]
    assert ([event["event"] for event in run.history().events], run.history().seconds) == (["started"], 20.0)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
def test_a_line_for_which_the_disk_has_no_room_is_not_begun(home):
    import resource

    run = a_run()
    run.log(step=1)
    content = (run.folder / "metrics.jsonl").read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) + 5, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            run.log(step=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (run.folder / "metrics.jsonl").read_bytes() == content


def test_a_word_after_a_torn_line_is_still_heard(home):
    run = a_run()
    run.event("started", step=0)
    with (run.folder / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step":20,"half')  # the last trainer was killed while writing, and the next one can't start
    run.event("failed", message="There is no corpus.")
    assert (run.status().state, run.status().message) == ("failed", "There is no corpus.")


def test_the_end_of_the_log(home):
    run = a_run()
    assert run.log_tail() == ""
    (run.folder / "log.txt").write_bytes(b"first\nsecond \xff\n\n")
    assert run.log_tail() == "second \ufffd"
    assert run.log_tail(5) == "first\nsecond \ufffd"


@pytest.mark.parametrize(("public", "file"), [("0", "/srv/me/x.bin"), ("1", "x.bin")])
def test_visitors_are_not_told_where_a_trainer_failed(home, monkeypatch, public, file):
    monkeypatch.setenv("NANOGPT_PUBLIC", public)
    run = a_run()
    (run.folder / "log.txt").write_text("OSError: /srv/me/x.bin is full", encoding="utf-8")
    assert run.status().message == f"The trainer did not start. OSError: {file} is full"


@pytest.mark.parametrize("name", ["con", "nul", "com1", "lpt9"])
def test_no_new_run_gets_a_name_that_windows_cannot_have(home, name):
    run = a_run()
    for act in (lambda: Run.create(name, {}, {}), lambda: run.rename(name)):
        with pytest.raises(NanoGPTError, match=f"on Windows it means a device. Use, e.g., {name}-1"):
            act()
    assert free_name(name) == f"{name}-1"
    run.folder.rename(run.folder.parent / name)  # as an earlier version allowed
    assert [one.name for one in all_runs()] == [name]
    assert Run(name).glance().state != "damaged"
    assert Run(name).rename("two").name == "two"


@pytest.mark.parametrize("at", ["before the run's name is written", "after it"])
def test_a_stop_at_the_moment_when_a_run_gets_the_device_is_not_lost(home, monkeypatch, at):
    """The trainer writes the run's name and then looks for a withdrawal; Stop withdraws and then looks for the name."""
    run, write, trained = a_run(), queue.write_whole, []

    def stop_meanwhile(path, text):
        if path.suffix != ".now":
            return write(path, text)
        if at == "after it":
            write(path, text)
        run.request_stop()
        if at != "after it":
            write(path, text)

    queue.draw(run.name)
    monkeypatch.setattr(queue, "write_whole", stop_meanwhile)
    with contextlib.suppress(queue.Withdrawn), queue.turn(run.name, "cpu"):
        trained.append(run.stop_file.exists())
    assert trained in ([], [True])  # it never began, or it knows that it has to stop
    assert queue.running() == queue.waiting() == []
