"""Test how much of a run its evaluations may take: the documented percentages, in numbers."""

from __future__ import annotations

import pytest

from nanogpt import timetable
from nanogpt.config import TrainConfig
from nanogpt.timetable import Timetable

MANY = 10**6  # more validation windows than any run may evaluate


def test_by_steps_an_evaluation_takes_a_quarter_of_a_percent_and_the_last_ones_five_percent():
    due = Timetable(TrainConfig(max_iters=1000, batch_size=16), 0.0, MANY)
    work = 1000 * 16 * 3  # forward passes; forward plus backward counts as three
    assert (due.windows, due.final_windows) == (120, 2400) == (0.0025 * work, 0.05 * work)
    due.took(window=1e-6, evaluation=1e6)  # measured times change nothing here
    assert (due.windows, due.final_windows) == (120, 2400)


def test_by_the_clock_an_evaluation_takes_a_quarter_of_a_percent_of_the_time_and_the_last_ones_two_percent():
    due = Timetable(TrainConfig(budget=100.0), 0.0, MANY)
    assert due.windows == 32  # the minimum, until the time per window is known
    due.took(window=0.001)
    assert (due.windows, due.final_windows) == (250, 2000)  # 0.25 s and 2 s
    due.took(window=1.0)  # the machine was busy; only the fastest time counts
    assert (due.windows, due.final_windows) == (250, 2000)
    due.took(window=0.0005)
    assert (due.windows, due.final_windows) == (500, 4000)


@pytest.mark.parametrize("config", [TrainConfig(max_iters=1000, batch_size=16), TrainConfig(budget=100.0)])
def test_no_evaluation_looks_at_more_than_there_is(config):
    due = Timetable(config, 0.0, 20)
    due.took(window=0.001)
    assert (due.windows, due.final_windows) == (20, 20)


@pytest.mark.parametrize("config", [TrainConfig(max_iters=1, batch_size=1), TrainConfig(budget=5.0)])
def test_each_evaluation_looks_at_some(config):
    due = Timetable(config, 0.0, MANY)
    due.took(window=1.0)
    assert (due.windows, due.final_windows) == (32, 32)


def test_a_short_timed_run_begins_without_sample_or_save(monkeypatch):
    clock = type("Clock", (), {"now": 0.0, "perf_counter": lambda self: self.now})()
    monkeypatch.setattr(timetable, "time", clock)
    due = Timetable(TrainConfig(budget=10.0), 0.5, all_windows=100, size=10**8)  # planning took 0.5 s
    due.look(0)
    assert (due.first, due.evaluating, due.sampling, due.saving) == (True, True, False, False)
    assert not due.last
    clock.now = 2.0
    due.took(evaluation=0.01, sample=0.01)
    due.look(50)
    assert (due.evaluating, due.sampling) == (True, True)
    assert due.saving  # saves once at any cost, so that a crash can't lose the whole run
    due.took(save=0.1)
    clock.now = 3.0
    due.look(100)
    assert not due.saving


def test_a_run_with_little_time_in_one_go_saves_three_times_in_it(monkeypatch):
    clock = type("Clock", (), {"now": 0.0, "perf_counter": lambda self: self.now})()
    monkeypatch.setattr(timetable, "time", clock)
    due = Timetable(TrainConfig(budget=180.0), 0.0, all_windows=100, at_a_time=45.0, size=10**10)
    due.starting = 5.0
    due.look(0)
    due.took(save=1.0)
    clock.now = 15.5
    assert due.saving
    clock.now = 40.5
    assert due.makes_room  # startup time counts, too
