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

from nanogpt import tickets

ROOT = Path(__file__).resolve().parent.parent

# Waits for its turn, says so, and holds the device until it is told to go on. Light: no torch in it.
TRAINER = """
import sys
from nanogpt import tickets
name, device = sys.argv[1:]
try:
    with tickets.turn(name, device):
        print("began", flush=True)
        sys.stdin.readline()
except tickets.Withdrawn:
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
    return next(tickets.folder().glob(f"[0-9]*.{name}"))


def is_waiting(name) -> bool:
    """Whether a process stands behind the ticket."""
    return any(tickets.is_held(ticket) for ticket in tickets.folder().glob(f"[0-9]*.{name}"))


def age(ticket, seconds=3600) -> None:
    os.utime(ticket, (time.time() - seconds,) * 2)


# --- locks ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_lock_is_held_as_long_as_its_process_lives(tmp_path):
    lock = tmp_path / ".lock"
    assert not tickets.is_held(lock)
    assert not lock.exists()  # looking leaves nothing behind
    with process(HOLDER, lock) as child:
        assert said(child) == "held"
        assert tickets.is_held(lock)
        child.kill()
        child.wait()
        assert not tickets.is_held(lock)
    with FileLock(lock):
        assert tickets.is_held(lock)
    assert not tickets.is_held(lock)


# --- the order -----------------------------------------------------------------------------------------------------


def test_an_empty_queue(home):
    assert tickets.waiting() == tickets.running() == []
    assert tickets.drop("nobody") is False
    assert not (home / "checkpoints").exists()


def test_tickets_stand_in_the_order_in_which_they_were_drawn(home):
    for name in ("zebra", "ant", "mole"):
        tickets.draw(name)
    assert tickets.waiting() == ["zebra", "ant", "mole"]
    tickets.draw("zebra")  # again: at the end, and only once
    assert tickets.waiting() == ["ant", "mole", "zebra"]
    assert tickets.drop("mole") is True
    assert tickets.drop("mole") is False
    assert tickets.waiting() == ["ant", "zebra"]


def test_a_name_at_the_end_of_another_is_another_name(home):
    for name in ("a", "b-a", "a-a"):
        tickets.draw(name)
    tickets.drop("a")
    assert tickets.waiting() == ["b-a", "a-a"]


def test_a_ticket_nobody_stands_behind_is_thrown_away_after_a_while(home):
    for name in ("gone", "new"):
        tickets.draw(name)
    age(ticket_of("gone"))
    assert tickets.waiting() == ["new"]
    assert [path.name.split(".")[1] for path in tickets.folder().iterdir()] == ["new"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lock", "now", "cpu"])
def test_any_name_may_be_a_run_s(home, name):
    with tickets.turn("other", "cpu"):
        tickets.draw(name)
        assert tickets.waiting() == [name]
        assert tickets.running() == ["other"]
        assert tickets.drop(name) is True
        assert tickets.running() == ["other"]  # the device's own lock is none of the tickets
    with process(TRAINER, name, "cpu") as child:
        assert until(lambda: tickets.running() == [name])
        let_go(child)


# --- taking turns --------------------------------------------------------------------------------------------------


def test_a_turn_takes_the_ticket_and_gives_the_device_back(home):
    tickets.draw("one")
    with tickets.turn("one", "cpu"):
        assert tickets.waiting() == []
        assert tickets.running() == ["one"]
    assert tickets.running() == []
    with tickets.turn("two", "cpu"):  # nobody drew for it: it draws by itself
        assert tickets.running() == ["two"]


def test_a_turn_that_ends_in_an_error_gives_the_device_back(home):
    def turn_and_fail():
        with tickets.turn("one", "cpu"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        turn_and_fail()
    assert tickets.running() == tickets.waiting() == []


@pytest.mark.slow
def test_they_take_turns_in_the_order_of_their_tickets_not_of_their_start(home):
    with ExitStack() as stack:
        with tickets.turn("busy", "cpu"):
            for name in ("first", "second"):
                tickets.draw(name)
            children = {}
            for name in ("second", "first"):
                children[name] = stack.enter_context(process(TRAINER, name, "cpu"))
                until(lambda name=name: is_waiting(name))
            assert tickets.waiting() == ["first", "second"]
            assert tickets.running() == ["busy"]
        assert said(children["first"]) == "began"
        assert tickets.running() == ["first"]
        assert tickets.waiting() == ["second"]
        let_go(children["first"])
        assert said(children["second"]) == "began"
        assert tickets.running() == ["second"]
        let_go(children["second"])
    assert tickets.running() == tickets.waiting() == []


@pytest.mark.slow
def test_one_that_is_killed_while_it_waits_or_runs_holds_nobody_up(home):
    with ExitStack() as stack:
        runs = stack.enter_context(process(TRAINER, "runs", "cpu"))
        assert said(runs) == "began"
        children = {}
        for name in ("killed", "next"):
            tickets.draw(name)
            children[name] = stack.enter_context(process(TRAINER, name, "cpu"))
            until(lambda name=name: is_waiting(name))
        assert tickets.waiting() == ["killed", "next"]
        children["killed"].kill()
        children["killed"].wait()
        until(lambda: tickets.waiting() == ["next"])
        runs.kill()
        runs.wait()
        assert said(children["next"]) == "began"
        assert tickets.running() == ["next"]
        let_go(children["next"])


@pytest.mark.slow
def test_an_old_ticket_counts_as_long_as_somebody_stands_behind_it(home):
    with process(TRAINER, "busy", "cpu") as busy:
        assert said(busy) == "began"
        tickets.draw("patient")
        with process(TRAINER, "patient", "cpu") as child:
            until(lambda: is_waiting("patient"))
            age(ticket_of("patient"))
            assert tickets.waiting() == ["patient"]
            let_go(busy)
            assert said(child) == "began"
            let_go(child)


@pytest.mark.slow
def test_one_that_leaves_the_queue_does_not_begin(home):
    with process(TRAINER, "busy", "cpu") as busy:
        assert said(busy) == "began"
        tickets.draw("waits")
        with process(TRAINER, "waits", "cpu") as child:
            until(lambda: is_waiting("waits"))
            assert tickets.drop("waits") is True
            assert said(child) == "withdrawn"
            assert child.wait() == 0
        assert tickets.waiting() == []
        assert tickets.running() == ["busy"]
        let_go(busy)


@pytest.mark.slow
def test_two_devices_run_side_by_side(home):
    with process(TRAINER, "one", "cpu") as one, process(TRAINER, "two", "cuda") as two:
        assert said(one) == said(two) == "began"
        assert sorted(tickets.running()) == ["one", "two"]
        let_go(one)
        until(lambda: tickets.running() == ["two"])
        let_go(two)
