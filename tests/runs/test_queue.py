"""The queue, with real processes that wait, hold the device, and are killed."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from children import process, said, tell
from conftest import until

from nanogpt import locks
from nanogpt.runs import queue

ROOT = Path(__file__).resolve().parents[2]

# Waits for its turn, says so, and holds the device until told to continue. Fast, because it doesn't import torch.
TRAINER = """
import sys
from nanogpt.runs import queue
name, *devices = sys.argv[1:]
count = int(devices.pop()) if devices[-1].isdigit() else 1
try:
    with queue.turn(name, *devices, count=count) as taken:
        print("began" if taken == devices[:1] == devices else " ".join(taken), flush=True)
        sys.stdin.readline()
except queue.Withdrawn:
    print("withdrawn", flush=True)
except queue.Busy:
    print("busy", flush=True)
"""
# Follows the job of a run, which needs no device here, until told to end.
FOLLOWER = """
import sys
from nanogpt import locks
from nanogpt.paths import home
from nanogpt.runs import queue
name = sys.argv[1]
(home() / "checkpoints" / name).mkdir(parents=True, exist_ok=True)
try:
    with queue.arrived(name), locks.held(home() / "checkpoints" / name / ".lock"):
        queue.drop(name)
        print("began", flush=True)
        sys.stdin.readline()
except queue.Busy:
    print("busy", flush=True)
"""
# Queues a run as the page does, and is killed before its trainer starts.
LAUNCHER = """
import sys
from nanogpt.runs import queue
queue.draw(sys.argv[1])
print("drawn", flush=True)
sys.stdin.readline()
"""


def let_go(child) -> None:
    tell(child)
    child.wait()


def ticket_of(name):
    return next(queue.folder().glob(f"[0-9]*.{name}"))


def files() -> list[str]:
    """Return the names of the files in the queue's folder."""
    return sorted(path.name.lstrip("0123456789.") for path in queue.folder().iterdir())


# --- the order -----------------------------------------------------------------------------------------------------


def test_an_empty_queue(home):
    assert queue.waiting() == queue.running() == []
    assert queue.drop("absent") is False
    assert not (home / "checkpoints").exists()


def test_tickets_stand_in_the_order_in_which_they_were_drawn(home):
    for name in ("zebra", "ant", "mole"):
        queue.draw(name)
    assert queue.waiting() == ["zebra", "ant", "mole"]
    queue.draw("zebra")  # drawing again moves it to the end, without a duplicate
    assert queue.waiting() == ["ant", "mole", "zebra"]
    assert queue.drop("mole") is True
    assert queue.drop("mole") is False
    assert queue.waiting() == ["ant", "zebra"]


def test_a_name_at_the_end_of_another_is_another_name(home):
    for name in ("a", "b-a", "a-a"):
        queue.draw(name)
    queue.drop("a")
    assert queue.waiting() == ["b-a", "a-a"]


def test_a_ticket_nobody_stands_behind_is_thrown_away(home):
    """This includes tickets left by an older version, which have no locks."""
    for name in ("gone", "new"):
        queue.draw(name)
    queue.disown(ticket_of("gone"))  # its trainer exited before it joined the queue
    (queue.folder() / "00000000000000000001.old").touch()
    assert queue.waiting() == ["new"]
    assert files() == ["new", "new.start"]


def test_locks_that_killed_processes_left_go_with_the_run_or_when_it_is_queued_again(home):
    queue.draw("another")
    for name in ("one.trainer", f"{1:020}.one.start", "another.trainer", f"{1:020}.another.start"):
        (queue.folder() / name).touch()
    queue.forget("one")
    assert files() == ["another", "another.start", "another.start", "another.trainer"]
    queue.draw("another")
    assert files() == ["another", "another.start", "another.trainer"]
    with queue.arrived("another"):
        queue.forget("another")
        assert queue.has_trainer("another")  # as of a run that was renamed or deleted while its trainer ended


def test_on_a_full_disk_a_run_leaves_the_queue_too(home, monkeypatch):
    def no_space(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    queue.draw("one")
    monkeypatch.setattr(os, "fsync", no_space)
    assert queue.withdraw("one", "0 events")
    assert queue.waiting() == []
    with pytest.raises(queue.Withdrawn), queue.turn("one", "cpu"):  # its trainer was still starting
        pytest.fail("it began")


def test_a_run_is_not_queued_if_the_system_allows_no_more_threads(home, monkeypatch):
    def none_left(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    with pytest.raises(BlockingIOError):
        queue.draw("one")
    assert files() == []


def test_a_trainer_that_does_not_arrive_in_time_is_waited_for_no_longer(home):
    queue.draw("late", seconds=0.05)
    queue.draw("new")
    until(lambda: queue.waiting() == ["new"])
    assert files() == ["new", "new.start"]
    with queue.turn("new", "cpu"):
        pass
    with queue.turn("late", "cpu"):  # it starts after all, and queues again
        assert queue.running() == ["late"]


@pytest.mark.parametrize("ahead", [86_400, -86_400], ids=["a day ahead", "a day behind"])
def test_the_clock_decides_nothing(home, ahead, monkeypatch):
    """A ticket keeps its place as long as its process is alive, whatever the clock says."""
    wrong = time.time() + ahead
    dead = queue.folder() / f"{int(wrong * 1e9):020d}.dead"
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: int(wrong * 1e9))
        patch.setattr(time, "time", lambda: wrong)
        first = queue.draw("first")
    dead.touch()
    for ticket in (first, dead):
        os.utime(ticket, (wrong, wrong))
    queue.draw("second")
    assert queue.waiting() == ["first", "second"]
    assert not dead.exists()


@pytest.mark.slow
def test_a_launcher_that_is_killed_leaves_no_ticket(home):
    with process(LAUNCHER, "gone") as launcher:
        assert said(launcher) == "drawn"
        assert queue.waiting() == ["gone"]
        launcher.kill()
        launcher.wait()
        assert queue.waiting() == []
    queue.draw("next")
    assert files() == ["next", "next.start"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lock", "now", "cpu"])
def test_any_name_may_be_a_run_s(home, name):
    with queue.turn("other", "cpu"):
        queue.draw(name)
        assert queue.waiting() == [name]
        assert queue.running() == ["other"]
        assert queue.drop(name) is True
        assert queue.running() == ["other"]  # the device's own lock isn't a ticket
    with process(TRAINER, name, "cpu") as child:
        assert until(lambda: queue.running() == [name])
        let_go(child)


# --- taking turns --------------------------------------------------------------------------------------------------


def test_a_turn_takes_the_ticket_and_gives_the_device_back(home):
    queue.draw("one")
    with queue.turn("one", "cpu"):
        assert queue.waiting() == []
        assert queue.running() == ["one"]
    assert queue.running() == []
    with queue.turn("two", "cpu"):  # has no ticket yet, so it draws one itself
        assert queue.running() == ["two"]


def test_a_turn_that_ends_in_an_error_gives_the_device_back(home):
    def turn_and_fail():
        with queue.turn("one", "cpu"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        turn_and_fail()
    assert queue.running() == queue.waiting() == []


def test_a_turn_ends_without_an_error_while_a_look_has_its_file_open(home, monkeypatch):
    unlink = Path.unlink

    def refuse(path, missing_ok=False):
        if path.suffix == ".now":
            raise PermissionError(13, "The process cannot access the file")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    with queue.turn("one", "cpu"):
        assert queue.running() == ["one"]
    assert queue.running() == []
    with queue.turn("two", "cpu"):
        assert queue.running() == ["two"]


@pytest.mark.slow
def test_each_of_several_gpus_trains_a_run(home):
    gpus = ("cuda-0", "cuda-1")
    with ExitStack() as stack, queue.turn("busy", *gpus) as taken:
        assert taken == ["cuda-0"]
        second = stack.enter_context(process(TRAINER, "second", *gpus))
        assert said(second) == "cuda-1"
        third = stack.enter_context(process(TRAINER, "third", *gpus))
        until(lambda: queue.waiting() == ["third"])
        assert queue.running() == ["busy", "second"]
        tell(second)
        assert said(third) == "cuda-1"
        assert queue.running() == ["busy", "third"]
        let_go(third)
    assert queue.running() == queue.waiting() == []


def test_of_several_free_gpus_a_run_takes_the_first_in_the_order_that_it_is_given(home):
    asked, gpus = [], ("cuda-0", "cuda-1", "cuda-2")
    last_first = lambda free: asked.append(list(free)) or sorted(free, reverse=True)
    with ExitStack() as stack:
        turns = [stack.enter_context(queue.turn(name, *gpus, in_order=last_first)) for name in ("one", "two", "three")]
    assert turns == [["cuda-2"], ["cuda-1"], ["cuda-0"]]
    assert asked == [[*gpus], ["cuda-0", "cuda-1"]]  # with a single one left, there is nothing to ask


@pytest.mark.slow
def test_a_run_on_several_gpus_takes_all_of_them_or_none(home):
    gpus = ("cuda-0", "cuda-1", "cuda-2")
    with ExitStack() as stack:
        with queue.turn("busy", *gpus):
            wide = stack.enter_context(process(TRAINER, "wide", *gpus, "3"))
            until(lambda: queue.waiting() == ["wide"])
            later = stack.enter_context(process(TRAINER, "later", *gpus))
            until(lambda: queue.waiting() == ["wide", "later"])  # also while there are two free ones
            for gpu in gpus[1:]:
                with locks.held(queue.folder() / f"{gpu}.lock", patience=5.0):  # it holds none while it waits
                    pass
        assert said(wide) == " ".join(gpus)
        assert queue.running() == ["wide"]
        assert queue.waiting() == ["later"]
        let_go(wide)
        assert said(later) == "cuda-0"
        let_go(later)
    with queue.turn("two", *gpus, count=2) as taken, queue.turn("one", *gpus) as third:
        assert (taken, third) == (["cuda-0", "cuda-1"], ["cuda-2"])
    assert queue.running() == queue.waiting() == []


@pytest.mark.slow
def test_they_take_turns_in_the_order_of_their_tickets_not_of_their_start(home):
    with ExitStack() as stack:
        with queue.turn("busy", "cpu"):
            for name in ("first", "second"):
                queue.draw(name)
            children = {}
            for name in ("second", "first"):
                children[name] = stack.enter_context(process(TRAINER, name, "cpu"))
                until(lambda name=name: queue.has_trainer(name))
            assert queue.waiting() == ["first", "second"]
            assert queue.running() == ["busy"]
        assert said(children["first"]) == "began"
        assert queue.running() == ["first"]
        assert queue.waiting() == ["second"]
        let_go(children["first"])
        assert said(children["second"]) == "began"
        assert queue.running() == ["second"]
        let_go(children["second"])
    assert queue.running() == queue.waiting() == []


@pytest.mark.slow
def test_one_that_is_killed_while_it_waits_or_runs_holds_nobody_up(home):
    with ExitStack() as stack:
        runs = stack.enter_context(process(TRAINER, "runs", "cpu"))
        assert said(runs) == "began"
        children = {}
        for name in ("killed", "next"):
            queue.draw(name)
            children[name] = stack.enter_context(process(TRAINER, name, "cpu"))
            until(lambda name=name: queue.has_trainer(name))
        assert queue.waiting() == ["killed", "next"]
        children["killed"].kill()
        children["killed"].wait()
        until(lambda: queue.waiting() == ["next"])
        runs.kill()
        runs.wait()
        assert said(children["next"]) == "began"
        assert queue.running() == ["next"]
        let_go(children["next"])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a process can't be stopped and continued there")
def test_a_process_that_is_stopped_keeps_what_it_has_until_it_is_continued(home):
    with ExitStack() as stack:
        children = []
        for name in ("trains", "next", "last"):
            queue.draw(name)
            children.append(stack.enter_context(process(TRAINER, name, "cpu")))
            until(lambda name=name: queue.has_trainer(name))
        trains, following, last = children
        assert said(trains) == "began"
        for child in (trains, following):
            child.send_signal(signal.SIGSTOP)
        assert (queue.running(), queue.waiting()) == (["trains"], ["next", "last"])  # answered at once
        trains.send_signal(signal.SIGCONT)
        let_go(trains)
        until(lambda: queue.running() == [])
        assert queue.waiting() == ["next", "last"]
        following.send_signal(signal.SIGCONT)
        for child in (following, last):
            assert said(child) == "began"
            let_go(child)
    assert queue.running() == queue.waiting() == []


@pytest.mark.slow
def test_a_ticket_counts_as_long_as_its_trainer_waits(home):
    with process(TRAINER, "busy", "cpu") as busy:
        assert said(busy) == "began"
        with process(LAUNCHER, "patient") as launcher:
            assert said(launcher) == "drawn"
            with process(TRAINER, "patient", "cpu") as child:
                until(lambda: queue.has_trainer("patient"))
                launcher.kill()
                launcher.wait()
                os.utime(ticket_of("patient"), (0, 0))
                assert queue.waiting() == ["patient"]
                let_go(busy)
                assert said(child) == "began"
                let_go(child)


@pytest.mark.slow
def test_one_that_leaves_the_queue_does_not_begin(home):
    with process(TRAINER, "busy", "cpu") as busy:
        assert said(busy) == "began"
        queue.draw("waits")
        with process(TRAINER, "waits", "cpu") as child:
            until(lambda: queue.has_trainer("waits"))
            assert queue.drop("waits") is True
            assert said(child) == "withdrawn"
            assert child.wait() == 0
        assert queue.waiting() == []
        assert queue.running() == ["busy"]
        let_go(busy)


def once_held(monkeypatch, name: str, act: Callable[[], object]) -> None:
    """Have `act` called at the moment at which a lock is taken."""
    held = locks.held

    @contextmanager
    def late(path, **options):
        with held(path, **options):
            if path.name == name:
                act()
            yield

    monkeypatch.setattr(locks, "held", late)


def test_one_that_is_withdrawn_at_the_moment_of_its_turn_does_not_begin(home, monkeypatch):
    once_held(monkeypatch, "cpu.lock", lambda: queue.withdraw("one"))
    queue.draw("one")
    with pytest.raises(queue.Withdrawn), queue.turn("one", "cpu"):
        pytest.fail("it began")
    assert not locks.is_held(queue.folder() / "cpu.lock")


def test_one_that_is_withdrawn_at_the_moment_of_its_arrival_does_not_begin(home, monkeypatch):
    places = []  # it has no launcher, and yet a ticket
    once_held(monkeypatch, "one.trainer", lambda: [places.append(queue.place_of("one")), queue.withdraw("one")])
    with pytest.raises(queue.Withdrawn), queue.turn("one", "cpu"):
        pytest.fail("it began")
    assert places == [1]
    assert queue.withdrawal("one") is not None


@pytest.mark.slow
def test_two_devices_run_side_by_side(home):
    with process(TRAINER, "one", "cpu") as one, process(TRAINER, "two", "cuda") as two:
        assert said(one) == said(two) == "began"
        assert sorted(queue.running()) == ["one", "two"]
        let_go(one)
        until(lambda: queue.running() == ["two"])
        let_go(two)


# --- a run that was started twice ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_second_trainer_of_a_run_that_trains_leaves(home):
    with process(TRAINER, "one", "cpu") as first:
        assert said(first) == "began"
        queue.draw("one")
        queue.draw("two")
        assert queue.waiting() == ["two"]  # the second ticket doesn't hold up other runs
        assert queue.place_of("two") == 1
        with process(TRAINER, "one", "cpu") as second:
            assert said(second) == "busy"
            second.wait()
        assert "one" not in files()
        let_go(first)


@pytest.mark.slow
@pytest.mark.parametrize("second", [TRAINER, FOLLOWER], ids=["trainer", "follower"])
def test_a_second_follower_of_a_job_holds_up_no_other_run(home, second):
    with process(FOLLOWER, "one") as first:
        assert said(first) == "began"
        queue.draw("one")
        queue.draw("two")
        assert queue.waiting() == ["two"]
        with process(second, "one", "cpu") as late:
            assert said(late) == "busy"
            late.wait()
        assert not list(queue.folder().glob("*.one"))
        let_go(first)


@pytest.mark.slow
def test_a_second_trainer_of_a_run_that_waits_leaves_it_its_place(home):
    with process(TRAINER, "busy", "cpu") as busy:
        assert said(busy) == "began"
        queue.draw("one")
        with process(TRAINER, "one", "cpu") as first:
            until(lambda: queue.has_trainer("one"))
            ticket = queue.draw("one")
            with process(TRAINER, "one", "cpu") as second:
                assert said(second) == "busy"
                second.wait()
            queue.disown(ticket)
            assert queue.waiting() == ["one"]
            let_go(busy)
            assert said(first) == "began"
            assert queue.waiting() == []
            let_go(first)
    assert files() == ["cpu.lock"]


@pytest.mark.slow
def test_one_that_is_started_again_while_its_trainer_ends_keeps_its_place(home):
    with process(TRAINER, "one", "cpu") as first:
        assert said(first) == "began"
        queue.draw("one")
        let_go(first)
        assert queue.waiting() == ["one"]
        with process(TRAINER, "one", "cpu") as second:
            assert said(second) == "began"
            let_go(second)
    assert queue.waiting() == []


# --- the cost of waiting ---------------------------------------------------------------------------------------------


def looked_at(monkeypatch) -> list[str]:
    """Record and return the names of the locks checked from here on."""
    names: list[str] = []
    is_held = locks.is_held
    monkeypatch.setattr(locks, "is_held", lambda path: names.append(path.name.lstrip("0123456789.")) or is_held(path))
    return names


def test_one_that_waits_looks_at_the_first_that_counts_and_no_further(home, monkeypatch):
    for i in range(20):
        queue.draw(f"run-{i:02}")
    queue.disown(ticket_of("run-00"))
    looks, paused = looked_at(monkeypatch), []

    def pause(seconds):
        paused.append(seconds)
        if len(paused) == 2:
            queue.drop("run-19")

    monkeypatch.setattr(time, "sleep", pause)
    with pytest.raises(queue.Withdrawn):
        queue.wait_for_place("run-19", 1)
    assert paused == [queue.LATER, queue.LATER]
    assert set(looks) == {"run-00.start", "run-00.trainer", "run-01.start", "run-01.trainer"}
    assert len(looks) == 6  # the dead ticket is checked only once, then deleted


def test_a_run_that_is_not_queued_is_told_without_a_lock(home, monkeypatch):
    for i in range(20):
        queue.draw(f"run-{i:02}")
    looks = looked_at(monkeypatch)
    assert queue.place_of("another") == 0
    assert looks == []
    assert queue.place_of("run-02") == 3
    assert {name.partition(".")[0] for name in looks} == {"run-00", "run-01", "run-02"}


def test_in_one_look_every_answer_is_of_the_same_moment(home):
    def answers() -> tuple:
        trained = [name for name in ("one", "two", "three") if queue.has_trainer(name)]
        withdrawn = [queue.withdrawal(name) for name in ("one", "two", "three")]
        return queue.waiting(), queue.place_of("two"), queue.running(), trained, withdrawn

    queue.draw("one")
    queue.draw("three")
    queue.withdraw("three", "3 events")
    before = (["one"], 0, [], [], [None, None, "3 events"])
    with queue.one_look():
        assert answers() == before
        with queue.turn("one", "cpu"), queue.one_look():  # an inner one is the outer one
            queue.draw("two")
            assert answers() == before
    assert answers() == (["two"], 1, [], [], [None, None, "3 events"])
    with queue.turn("five", "cuda", alone=True):
        assert answers() == (["two"], 1, ["five"], [], [None, None, "3 events"])
    with pytest.raises(ZeroDivisionError), queue.one_look():
        raise ZeroDivisionError
    queue.drop("two")
    assert answers() == ([], 0, [], [], [None, None, "3 events"])
