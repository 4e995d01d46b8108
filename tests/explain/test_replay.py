"""The replayed lecture: a real process that is paused, stopped and read, and what is kept of it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
from conftest import ROOT, until

from nanogpt import corpus, lecture, rungs
from nanogpt.config import NanoGPTError
from nanogpt.explain import replay
from nanogpt.ui.views import replay as view_replay


@pytest.fixture
def folder(home, tiny_text):
    return corpus.add(tiny_text, "A play").folder


@pytest.mark.slow
def test_a_stage_is_trained_in_a_process_that_can_be_paused_and_ends_with_its_reader(folder, tiny_text):
    answers = iter([True, True])
    events = list(replay.replay(folder / "text.txt", 1, lambda: next(answers, False), max_iters=5))
    assert events[:2] == [dict(paused=True)] * 2
    said = [event for event in events if "step" in event]
    [*plain] = lecture.train_stage(tiny_text, lecture.STAGES[1], max_iters=5)
    for event in (said[-1], plain[-1]):
        del event["seconds"]
    assert said == plain

    running = replay.replay(folder / "text.txt", 1)
    while "step" not in next(running):
        pass
    child = running.gi_frame.f_locals["child"]
    running.close()
    assert child.poll() is not None
    if os.name == "posix":
        with pytest.raises(ProcessLookupError):
            os.kill(child.pid, 0)


SERVER = """
import os, sys
from nanogpt.explain import replay
command = [sys.executable, "-c", "import os, time\\nwhile True: print(os.getpid(), flush=True); time.sleep(0.05)"]
pauses = iter([False])
for event in replay.events_of(command, paused=lambda: next(pauses, True)):
    print(event, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="Windows has no signal that pauses a process")
def test_a_stage_that_is_paused_ends_with_a_server_that_is_killed():
    with subprocess.Popen([sys.executable, "-c", SERVER], cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        child = int(server.stdout.readline())
        assert server.stdout.readline() == "{'paused': True}\n"
        until(lambda: state(child).startswith("T"))
        server.kill()
    until(lambda: state(child)[:1] in ("", "Z"))  # gone, or a zombie if its new parent never waits for it


def state(process: int) -> str:
    """Return what `ps` says of a process, such as "T" of one that is stopped; "" if there is none."""
    return subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True).stdout.strip()


@pytest.mark.slow
def test_a_stage_that_cannot_be_followed_ends(monkeypatch):
    def none_left(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    began = time.monotonic()
    with pytest.raises(BlockingIOError):  # which has a sentence
        next(replay.events_of([sys.executable, "-c", "import time; time.sleep(60)"]))
    assert time.monotonic() < began + 30


@pytest.mark.slow
def test_a_stage_that_fails_says_why(folder):
    (folder / "text.txt").write_text("short")
    with pytest.raises(NanoGPTError, match="at least"):
        list(replay.replay(folder / "text.txt", 1))
    with pytest.raises(NanoGPTError, match="^Training failed without an error message"):  # here and in the Tour
        list(replay.events_of([sys.executable, "-c", "raise SystemExit(3)"]))


EVENTS = [
    dict(stage=1, step=0, train_loss=4.0, val_loss=4.1),
    dict(stage=1, step=300, train_loss=2.5, val_loss=2.6, seconds=3.2, parameters=4225, sample="Thou"),
]


def test_what_is_complete_is_kept_beside_the_text(folder):
    assert replay.kept(folder) == {}
    replay.keep(folder, 1, EVENTS)
    replay.keep(folder, 9, EVENTS)
    assert replay.kept(folder) == {1: EVENTS, 9: EVENTS}
    (folder / "ladder.json").write_text('{"version": 0, "stages": {}}')
    assert replay.kept(folder) == {}
    assert corpus.load(folder.name).folder == folder  # the text is as whole as before


def test_every_stage_has_a_name_and_a_paragraph():
    assert list(replay.LECTURE) == [stage.number for stage in lecture.stages_for("cpu")]
    assert list(replay.MODERN) == [rung.number for rung in rungs.RUNGS]
    for stage in (*replay.LECTURE, *replay.MODERN):
        assert replay.ADDS[stage]
        assert view_replay.names()[stage]


def test_curves_a_table_and_samples(folder):
    plot, table, samples = view_replay.shown({1: EVENTS, 2: EVENTS[:1]}, "lecture")
    assert [one["label"] for one in plot["lines"]] == ["1 bigram model", "2 one head of self-attention"]
    assert plot["lines"][0]["points"] == [[0, 4.1, 0], [300, 2.6, 300]]
    assert plot["end"] == 300
    assert table["rows"] == [["1 bigram model", "2.600", "4,225", "3 s"]]
    assert [one["text"] for one in samples["columns"]] == ["Thou", ""]
    assert samples["columns"][1]["said"] == replay.ADDS[2]
    assert table["said"] == ""
    assert view_replay.shown({1: EVENTS, 2: EVENTS}, "lecture")[1]["said"] == view_replay.NOISE
    plot, table, samples = view_replay.shown({1: EVENTS, 8: EVENTS}, "recipe")
    assert [one["label"] for one in plot["lines"]] == [row[0] for row in table["rows"]] == [view_replay.title(8)]
    assert samples["columns"][0]["said"] == replay.ADDS[8]


@pytest.mark.parametrize("cores", [1, 2])
def test_two_stages_train_at_once_on_two_cores_and_end_with_their_reader(folder, monkeypatch, cores):
    trained, ended = [], []

    def train(path, stage, paused):
        try:
            yield from [{}, *EVENTS]
            trained.append(stage)
        finally:
            ended.append(stage)

    monkeypatch.setattr(replay, "cores", lambda: cores)
    monkeypatch.setattr(replay, "replay", train)
    found = list(replay.in_pairs(folder / "text.txt", [1, 2, 3]))
    assert [stage for stage, _ in found[:4]] == ([1, 2, 1, 2] if cores == 2 else [1] * 4)
    assert [(stage, event) for stage, event in found if event is None] == [(1, None), (2, None), (3, None)]
    assert trained == ended == [1, 2, 3]
    going = replay.in_pairs(folder / "text.txt", [4, 5, 6])
    for _ in range(4):
        next(going)
    going.close()
    assert ended[3:] == ([4, 5] if cores == 2 else [4])


@pytest.mark.parametrize("which", view_replay.WHICH)  # what the page can ask for
def test_only_the_chosen_stages_are_trained_and_only_once(folder, monkeypatch, which):
    asked = []
    monkeypatch.setattr(
        replay, "replay", lambda path, stage, paused: asked.append(stage) or (event for event in EVENTS)
    )
    for _ in range(2):
        *_, (events, said) = view_replay.trained(folder, which)
        assert set(events) == set(asked) == set(view_replay.stages_of(which))
        assert (said["text"][:4], said["state"]) == ("Done", "finished")
    assert asked == list(dict(lecture=replay.LECTURE, recipe=replay.MODERN)[which])


def test_screen_readers_hear_which_stage_trains_and_not_every_step(folder, monkeypatch):
    monkeypatch.setattr(replay, "replay", lambda path, stage, paused: (event for event in EVENTS))
    said = [line for _, line in view_replay.trained(folder, "lecture") if line["state"] == "running"]
    assert len({line["text"] for line in said}) > len({line["spoken"] for line in said}) > 1
    assert not any("step" in line["spoken"] for line in said)


def test_a_public_server_ends_it_in_time(folder, monkeypatch):
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    monkeypatch.setenv("NANOGPT_MAX_SECONDS", "60")
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(replay, "replay", lambda *a: (event for event in [{}, EVENTS[0], {}]))
    going = view_replay.trained(folder, "lecture")
    next(going)
    next(going)
    now[0] = 61.0
    with pytest.raises(NanoGPTError, match="Stage 1 takes longer than the 1 minute this server allows"):
        next(going)


def test_each_stage_has_its_own_time_and_pauses_do_not_count(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def pairs():
        for stage, event, at in (
            (1, {}, 0), (2, {}, 10), (1, EVENTS[0], 20), (1, dict(paused=True), 90), (1, {}, 95), (1, None, 100),
            (2, {}, 101),
        ):  # fmt: skip
            now[0] = at
            yield stage, event

    spent = [(stage, seconds) for stage, _, seconds in replay.timed(pairs())]
    assert spent == [(1, 0), (2, 0), (1, 20), (1, 20), (1, 25), (1, 30), (2, 91)]


def test_a_stage_that_ends_just_after_its_time_is_kept(folder, monkeypatch):
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    monkeypatch.setenv("NANOGPT_MAX_SECONDS", "60")
    monkeypatch.setattr(replay, "cores", lambda: 1)
    monkeypatch.setattr(replay, "replay", lambda *a: (event for event in EVENTS))
    monkeypatch.setattr(replay, "timed", lambda pairs: ((*pair, 61.0 * (pair[1] is None)) for pair in pairs))
    *_, (events, said) = view_replay.trained(folder, "lecture")
    assert set(events) == set(replay.LECTURE)
    assert said["state"] == "finished"
