"""The queue, with real processes that wait, hold, and are killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from nanogpt.runs import queue

ROOT = Path(__file__).resolve().parents[2]

# Waits for its turn, says so, and holds the device until it is told to go on. Light: no torch in it.
TRAINER = """
import sys
from nanogpt.runs import queue
name, device = sys.argv[1:]
try:
    with queue.turn(name, device):
        print("began", flush=True)
        sys.stdin.readline()
except queue.Withdrawn:
    print("withdrawn", flush=True)
"""
HOLDER = "import sys, filelock\nwith filelock.FileLock(sys.argv[1]):\n print('held', flush=True)\n sys.stdin.readline()"


@contextmanager
def process(script, *arguments):
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], cwd=ROOT, **pipes) as child:
        try:
            yield child
        finally:
            child.kill()


def said(child) -> str:
    return child.stdout.readline().strip()


def let_go(child) -> None:
    child.stdin.write("\n")
    child.stdin.flush()
    child.wait()


def until(true, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not (result := true()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)
    return result


def ticket_of(name):
    return next(queue.folder().glob(f"[0-9]*.{name}"))


def is_waiting(name) -> bool:
    """Whether a process stands behind the ticket."""
    return any(queue.is_held(ticket) for ticket in queue.folder().glob(f"[0-9]*.{name}"))


def age(ticket, seconds=3600) -> None:
    os.utime(ticket, (time.time() - seconds,) * 2)


# --- locks ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_lock_is_held_as_long_as_its_process_lives(tmp_path):
    lock = tmp_path / ".lock"
    assert not queue.is_held(lock)
    assert not lock.exists()  # looking leaves nothing behind
    with process(HOLDER, lock) as child:
        assert said(child) == "held"
        assert queue.is_held(lock)
        child.kill()
        child.wait()
        assert not queue.is_held(lock)
    with FileLock(lock):
        assert queue.is_held(lock)
    assert not queue.is_held(lock)


# --- the order -----------------------------------------------------------------------------------------------------


def test_an_empty_queue(home):
    assert queue.waiting() == queue.running() == []
    assert queue.drop("nobody") is False
    assert not (home / "checkpoints").exists()


def test_tickets_stand_in_the_order_in_which_they_were_drawn(home):
    for name in ("zebra", "ant", "mole"):
        queue.draw(name)
    assert queue.waiting() == ["zebra", "ant", "mole"]
    queue.draw("zebra")  # again: at the end, and only once
    assert queue.waiting() == ["ant", "mole", "zebra"]
    assert queue.drop("mole") is True
    assert queue.drop("mole") is False
    assert queue.waiting() == ["ant", "zebra"]


def test_a_name_at_the_end_of_another_is_another_name(home):
    for name in ("a", "b-a", "a-a"):
        queue.draw(name)
    queue.drop("a")
    assert queue.waiting() == ["b-a", "a-a"]


def test_a_ticket_nobody_stands_behind_is_thrown_away_after_a_while(home):
    for name in ("gone", "new"):
        queue.draw(name)
    age(ticket_of("gone"))
    assert queue.waiting() == ["new"]
    assert [path.name.split(".")[1] for path in queue.folder().iterdir()] == ["new"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lock", "now", "cpu"])
def test_any_name_may_be_a_run_s(home, name):
    with queue.turn("other", "cpu"):
        queue.draw(name)
        assert queue.waiting() == [name]
        assert queue.running() == ["other"]
        assert queue.drop(name) is True
        assert queue.running() == ["other"]  # the device's own lock is none of the tickets
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
    with queue.turn("two", "cpu"):  # nobody drew for it: it draws by itself
        assert queue.running() == ["two"]


def test_a_turn_that_ends_in_an_error_gives_the_device_back(home):
    def turn_and_fail():
        with queue.turn("one", "cpu"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        turn_and_fail()
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
                until(lambda name=name: is_waiting(name))
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
            until(lambda name=name: is_waiting(name))
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
def test_an_old_ticket_counts_as_long_as_somebody_stands_behind_it(home):
    with process(TRAINER, "busy", "cpu") as busy:
        assert said(busy) == "began"
        queue.draw("patient")
        with process(TRAINER, "patient", "cpu") as child:
            until(lambda: is_waiting("patient"))
            age(ticket_of("patient"))
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
            until(lambda: is_waiting("waits"))
            assert queue.drop("waits") is True
            assert said(child) == "withdrawn"
            assert child.wait() == 0
        assert queue.waiting() == []
        assert queue.running() == ["busy"]
        let_go(busy)


@pytest.mark.slow
def test_two_devices_run_side_by_side(home):
    with process(TRAINER, "one", "cpu") as one, process(TRAINER, "two", "cuda") as two:
        assert said(one) == said(two) == "began"
        assert sorted(queue.running()) == ["one", "two"]
        let_go(one)
        until(lambda: queue.running() == ["two"])
        let_go(two)
