"""Test how much of a run its evaluations may take: the documented percentages, in numbers."""

from __future__ import annotations

import math

import pytest

from nanogpt import timetable
from nanogpt.config import TrainConfig
from nanogpt.timetable import Timetable, overhead

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
    due.took(opening=0.001)
    assert (due.windows, due.final_windows) == (250, 2000)  # 0.25 s and 2 s
    due.took(opening=1.0)  # the machine was busy; only the fastest time counts
    assert (due.windows, due.final_windows) == (250, 2000)
    due.took(window=0.0005)
    assert (due.windows, due.final_windows) == (250, 4000)  # the same, or losses could not be compared


@pytest.mark.parametrize("config", [TrainConfig(max_iters=5000), TrainConfig(budget=100.0)])
def test_a_resumed_run_evaluates_as_before(config):
    due = Timetable(config, 50.0, MANY, windows=77)
    assert due.windows == 77
    due.took(opening=0.001)
    assert due.windows == 77


def test_a_run_resumed_on_a_slower_device_evaluates_what_it_can_afford():
    due = Timetable(TrainConfig(budget=100.0), 50.0, MANY, windows=1000)
    due.took(opening=0.001)
    assert due.windows == 1000  # 1% of the budget
    due = Timetable(TrainConfig(budget=100.0), 50.0, MANY, windows=1000)
    due.took(opening=0.002)
    assert due.windows == 125  # 0.25%
    due = Timetable(TrainConfig(budget=100.0), 50.0, MANY)  # by an earlier version, which didn't keep the number
    due.took(opening=0.001)
    assert due.windows == 250


def test_what_is_not_training_may_take_a_fifth_of_ten_seconds_and_eight_percent_of_thirty():
    assert [round(overhead(budget), 9) for budget in (1, 5, 10, 20, 30, 100)] == [0.2, 1.0, 2.0, 2.8, 2.4, 8.0]


@pytest.mark.parametrize("improving", [True, False])
def test_the_end_of_a_timed_run_is_reserved_for_what_its_end_takes(improving):
    due = Timetable(TrainConfig(budget=100.0), 0.0, all_windows=50)
    due.took(window=0.01, evaluation=0.3, sample=0.2, save=0.5)
    due.took()  # nothing more: what it took is still what it will take
    due.expect(0.4, improving)
    models = 1 if improving else 2
    assert due.reserve == pytest.approx(1.2 * (models * 50 * 0.01 + 0.3 + 0.2 + 0.5 + 0.4))


def test_a_crash_costs_a_minute(monkeypatch):
    clock = type("Clock", (), {"now": 0.0, "perf_counter": lambda self: self.now})()
    monkeypatch.setattr(timetable, "time", clock)
    for config in (TrainConfig(max_iters=1000, eval_interval=500), TrainConfig(budget=600.0)):
        clock.now = 0.0
        due = Timetable(config, 0.0, all_windows=50)
        due.look(0)
        due.took(save=0.1)
        due.look(1)
        saving = []
        for clock.now in (59.5, 60.5):
            due.evaluating = False
            saving.append(due.saving)
        assert saving == [False, True]


@pytest.mark.parametrize(("seconds", "saves"), [(0.49, True), (0.51, False)])  # of an overhead of two seconds
def test_the_first_save_of_a_short_run_is_left_to_its_end_if_it_takes_long(seconds, saves):
    due = Timetable(TrainConfig(budget=10.0), 0.0, all_windows=50, costs=dict(save=seconds))
    due.first, due.evaluating = False, True
    assert due.saving == saves


@pytest.mark.parametrize("config", [TrainConfig(max_iters=1000, batch_size=16), TrainConfig(budget=100.0)])
def test_no_evaluation_looks_at_more_than_there_is(config):
    due = Timetable(config, 0.0, 20)
    due.took(opening=0.001)
    assert (due.windows, due.final_windows) == (20, 20)


@pytest.mark.parametrize("config", [TrainConfig(max_iters=1, batch_size=1), TrainConfig(budget=5.0)])
def test_each_evaluation_looks_at_some(config):
    due = Timetable(config, 0.0, MANY)
    due.took(opening=0.0015)  # more than 7 take over a quarter of a percent of 5 s, 32 less than one percent
    assert due.windows == 32
    assert due.final_windows >= 32


def test_an_evaluation_that_a_budget_can_hardly_afford_looks_at_four():
    due = Timetable(TrainConfig(budget=5.0), 0.0, MANY)
    assert due.opening == 4  # nothing is known yet
    due.took(opening=1.0)
    assert (due.opening, due.windows, due.final_windows) == (4, 4, 4)


def test_what_is_left_of_a_budget_at_its_end_goes_into_the_last_evaluation(monkeypatch):
    clock = type("Clock", (), {"now": 0.0, "perf_counter": lambda self: self.now})()
    monkeypatch.setattr(timetable, "time", clock)
    due = Timetable(TrainConfig(budget=5.0), 0.0, MANY)
    assert due.windows_left == 0  # it isn't known what one takes
    due.took(window=0.002)
    due.took(window=0.001)
    due.took(window=0.004, save=0.1)
    clock.now = 4.5
    assert due.windows_left == 0  # the run may have ended early, for another reason
    due.last = True
    assert due.windows_left == 150  # in 80% of half a second, less a save, at the usual 2 ms
    clock.now = 6.0
    assert due.windows_left == Timetable(TrainConfig(), 0.0, MANY).windows_left == 0


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


class Machine:
    """A machine of known speed, on a fake clock, that runs through a timetable as the training loop does."""

    def __init__(self, monkeypatch, step=0.03, window=0.001, sample=0.12, save=0.05):
        self.now, self.step, self.window, self.sample, self.save = 0.0, step, window, sample, save
        self.steps, self.other = 0, 0.0
        self.evaluations: list[tuple[float, int]] = []  # seconds at which they began, and windows
        self.cold = self.cold_again = 1.0  # how many times as long the first look takes, and the second one
        self.pause: tuple[str, float, float] | None = None  # in which kind of work, from when on, and its seconds
        monkeypatch.setattr(timetable, "time", self)

    def perf_counter(self) -> float:
        return self.now

    def spend(self, due: Timetable, seconds: float, **kind: float) -> None:
        self.now += seconds
        self.other += seconds
        due.took(**kind)

    def took(self, what: str) -> float:
        """Return the seconds that a step, a window, a sample or a save takes this time."""
        seconds = getattr(self, what)
        if self.pause and self.pause[0] == what and self.now >= self.pause[1]:
            seconds, self.pause = seconds + self.pause[2], None
        return seconds

    def train(
        self, budget: float, costs: dict[str, float] | None = None, spent: float = 0.0, improving: bool = True,
        resumed: dict[str, float] | None = None, until: float = math.inf,
    ) -> Machine:  # fmt: skip
        """Train until the timetable says it is over, and judge one model if the run was `improving`, else two.

        1,742 windows are as in Tiny Shakespeare. A run killed at `until` is `resumed` with what its checkpoint has.
        """
        self.now = spent
        given = dict(costs=costs, **(resumed or {}))
        due = Timetable(TrainConfig(budget=budget), spent, all_windows=1742, size=6_000_000, **given)
        due.look(self.steps)
        for slower in (self.cold, self.cold_again):
            took = due.opening * self.window
            self.spend(due, took, other=took, opening=slower * self.window)
        while True:
            if due.evaluating or due.last:
                self.evaluations.append((self.now, due.windows))
                took = self.took("window") + (due.windows - 1) * self.window
                self.spend(due, took, evaluation=took, window=took / due.windows)
                if due.sampling or due.last:
                    took = self.took("sample")
                    self.spend(due, took, sample=took)
            if due.saving or due.last:
                took = self.took("save")
                self.spend(due, took, save=took)
            if due.last:
                break
            self.now += self.took("step")
            self.steps += 1
            if self.now > until:
                return self
            due.expect(0.0, improving)
            due.look(self.steps)
        self.spend(due, due.judged * due.final_windows * self.window)
        return self


USUAL, SLOW, BUSY = dict(step=0.03), dict(step=0.3, window=0.01, sample=0.5, save=0.3), dict(step=0.09, window=0.003)
SLOW_DISK, SLOW_TO_EVALUATE = dict(save=0.8), dict(step=1.5, window=2 / 32)


@pytest.mark.parametrize(
    "machine", [USUAL, SLOW, BUSY, SLOW_DISK, SLOW_TO_EVALUATE], ids=["usual", "slow", "busy", "disk", "eval"]
)
@pytest.mark.parametrize("budget", [10.0, 30.0, 180.0])
@pytest.mark.parametrize("improving", [True, False])
def test_what_is_not_training_stays_within_its_share(monkeypatch, budget, machine, improving):
    """The first run on a machine knows no costs, so a slow save or sample may surprise it once; the second does."""
    first = Machine(monkeypatch, **machine).train(budget, improving=improving)
    known = {name: float(getattr(first, name)) for name in ("sample", "save")}
    second = Machine(monkeypatch, **machine).train(budget, known, improving=improving)
    assert second.other <= overhead(budget) * 1.1
    assert first.other <= overhead(budget) * 1.1 + first.save + first.sample
    for run in (first, second):
        assert 0.93 * budget - run.step < run.now <= budget  # a step that would end too late isn't taken
        assert run.steps * run.step >= 0.7 * budget


def test_a_short_run_has_fewer_evaluations_and_a_long_one_twenty(monkeypatch):
    count = lambda budget, **machine: len(Machine(monkeypatch, **machine).train(budget).evaluations)
    assert count(1.0) < count(5.0) < count(180.0) <= 22
    assert count(86400.0, step=20.0) in (21, 22)
    assert count(10.0, **SLOW_TO_EVALUATE) in (2, 3)  # the first, the last, and one between if it fits


@pytest.mark.parametrize("machine", [USUAL, BUSY])
@pytest.mark.parametrize("budget", [10.0, 30.0, 40.0, 180.0])
@pytest.mark.parametrize("improving", [True, False])
def test_evaluations_are_evenly_spaced(monkeypatch, budget, machine, improving):
    """The first run on a machine guesses what they cost; later ones know it."""
    first = Machine(monkeypatch, **machine).train(budget, improving=improving)
    known = {name: float(getattr(first, name)) for name in ("sample", "save")}
    times = [at for at, _ in Machine(monkeypatch, **machine).train(budget, known, improving=improving).evaluations]
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    assert max(gaps) < 2 * min(gaps) + machine["step"]
    assert max(gaps) < 0.5 * budget


def test_a_run_that_is_killed_again_and_again_is_evaluated_as_often(monkeypatch):
    """Every 50 minutes of a day; evaluations are 72 minutes apart."""
    run, evaluated = Machine(monkeypatch, step=20.0, window=0.05, sample=3.0, save=12.0), 0.0
    for turn in range(29):
        resumed = dict(windows=1742, evaluated=evaluated) if turn else {}
        run.train(86400.0, spent=run.now, resumed=resumed, until=(turn + 1) * 3000)
        evaluated = run.evaluations[-1][0]
    times = [at for at, _ in run.evaluations]
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    assert len(times) in (20, 21, 22)
    assert max(gaps) < 1.2 * 86400 / 20


@pytest.mark.parametrize("machine", [USUAL, SLOW, BUSY, SLOW_DISK, SLOW_TO_EVALUATE])
@pytest.mark.parametrize("budget", [1.0, 10.0, 180.0])
def test_all_evaluations_of_a_timed_run_use_the_same_windows(monkeypatch, budget, machine):
    cold = Machine(monkeypatch, **machine)
    cold.cold = 30.0  # the first look loads libraries
    (windows,) = {count for _, count in cold.train(budget).evaluations}
    assert windows == Machine(monkeypatch, **machine).train(budget).evaluations[0][1]


@pytest.mark.parametrize("machine", [USUAL, SLOW, BUSY, SLOW_DISK])
@pytest.mark.parametrize("budget", [5.0, 10.0, 180.0])
def test_two_slow_looks_do_not_decide_how_many_windows_are_evaluated(monkeypatch, budget, machine):
    """The machine may be busy for a moment. Only the untrained model is then evaluated on fewer windows."""
    usual, slow = Machine(monkeypatch, **machine).train(budget), Machine(monkeypatch, **machine)
    slow.cold = slow.cold_again = 50.0
    (_, first), *others = slow.train(budget).evaluations
    [windows] = {windows for _, windows in others}
    assert windows == pytest.approx(usual.evaluations[0][1], abs=1)  # but for rounding
    assert first < windows
    assert slow.now <= budget
    assert slow.steps > 0.9 * usual.steps


@pytest.mark.parametrize("machine", [USUAL, SLOW, BUSY, SLOW_DISK, SLOW_TO_EVALUATE])
@pytest.mark.parametrize("spent", [0.0, 0.2])
def test_no_run_ends_before_it_has_trained(monkeypatch, machine, spent):
    run = Machine(monkeypatch, **machine).train(1.0, spent=spent)
    assert run.steps >= 1
    assert run.now < 1.0 + run.step + run.other


def test_a_day_is_a_day(monkeypatch):
    run = Machine(monkeypatch, step=20.0, window=0.05, sample=3.0, save=12.0).train(86400.0)
    assert 0.995 * 86400 < run.now <= 86400
    assert run.other < 0.08 * 86400


def test_a_resumed_run_ends_within_what_was_left(monkeypatch):
    run = Machine(monkeypatch, **USUAL).train(30.0, spent=25.0)
    assert 29.0 < run.now <= 30.0


def test_a_slow_first_evaluation_does_not_end_a_run_early(monkeypatch):
    """On a GPU, it compiles kernels for seconds."""
    usual = Machine(monkeypatch, **USUAL).train(10.0)
    cold = Machine(monkeypatch, **USUAL)
    cold.cold = 1000.0
    assert cold.train(10.0).steps > 0.95 * usual.steps
    due = Timetable(TrainConfig(budget=10.0), 0.0, all_windows=200)
    due.took(opening=0.001)
    due.took(window=0.5)  # a single one
    assert due.reserve < 2.0
    due.took(window=0.001)
    assert due.reserve < 1.5


@pytest.mark.parametrize("what", ["step", "window", "sample", "save"])
@pytest.mark.parametrize(
    ("budget", "at", "seconds", "share"),  # that is trained, of what the pause leaves: evaluations go by the budget
    [(600.0, 60.0, 280.0, 0.85), (180.0, 20.0, 75.0, 0.85), (180.0, 0.0, 75.0, 0.85), (60.0, 0.0, 35.0, 0.75)],
)
def test_a_single_pause_does_not_end_a_run_early(monkeypatch, what, budget, at, seconds, share):
    """Such as Ctrl-Z, a laptop that sleeps, or a disk that stalls. It isn't counted once it is known what is usual.

    Except in a save: slow disks take so long, too.
    """
    run = Machine(monkeypatch, step=0.1)
    run.pause = (what, at, seconds)
    run.train(budget)
    assert run.pause is None
    lost = 0.0 if at and what != "save" else seconds
    assert 0.93 * budget < run.now - seconds + lost <= budget
    assert run.steps * run.step > share * (budget - lost)
    assert sum(began > at + seconds for began, _ in run.evaluations) >= (8 if at else 1)


@pytest.mark.parametrize(
    ("what", "budget", "least", "share"),
    [("sample", 10.0, 6, 0.25), ("sample", 25.0, 7, 0.25), ("sample", 60.0, 7, 0.25),
     ("save", 10.0, 3, 0.6), ("save", 25.0, 5, 0.5), ("save", 60.0, 7, 0.25)],
)  # fmt: skip
def test_a_run_is_evaluated_after_a_slow_first_sample_or_save_too(monkeypatch, what, budget, least, share):
    """A busy machine may take a second for the first one, with all that it loads; a save may be slow again."""
    run = Machine(monkeypatch, step=0.03)
    run.pause = (what, 0.0, 1.5)
    times = [at for at, _ in run.train(budget).evaluations]
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    assert len(times) >= least
    assert max(gaps) < share * budget
    assert run.now <= budget


@pytest.mark.parametrize("budget", [10.0, 30.0, 60.0, 180.0])
@pytest.mark.parametrize("machine", [dict(sample=3.0), dict(sample=2.0, save=1.0, step=0.3)])
def test_a_run_whose_samples_are_slow_indeed_ends_in_time(monkeypatch, budget, machine):
    assert Machine(monkeypatch, **machine).train(budget).now <= budget


@pytest.mark.parametrize("what", ["step", "window", "sample"])
def test_a_night_asleep_does_not_use_up_an_hour(monkeypatch, what):
    usual, asleep = Machine(monkeypatch, **USUAL).train(3600.0), Machine(monkeypatch, **USUAL)
    asleep.pause = (what, 600.0, 8 * 3600.0)
    asleep.train(3600.0)
    assert asleep.now > 8 * 3600.0
    assert asleep.steps > 0.97 * usual.steps


def test_a_machine_that_stays_slow_has_no_pauses(monkeypatch):
    """From the third step on, they are slow steps. A run makes room for others by the clock, whatever a pause was."""
    clock = type("Clock", (), {"now": 0.0, "perf_counter": lambda self: self.now})()
    monkeypatch.setattr(timetable, "time", clock)
    due, counted = Timetable(TrainConfig(budget=86400.0), 0.0, all_windows=50, at_a_time=200.0), []
    for step, seconds in enumerate([0.0, 1.0, 1.0, 1.0, 70.0, 70.0, 70.0, 70.0]):
        clock.now += seconds
        due.look(step)
        counted.append(due.seconds)
    assert counted == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 75.0, 145.0]
    assert due.makes_room


def test_costs_that_nothing_usual_explains_do_not_end_a_run_early(monkeypatch):
    """They may be those of a run with a pause."""
    for costs in (dict(save=40.0), dict(sample=40.0)):
        run = Machine(monkeypatch, **USUAL).train(60.0, costs=costs)
        assert 0.93 * 60 < run.now <= 60


def test_what_a_run_hands_on_is_what_a_save_usually_took():
    due = Timetable(TrainConfig(budget=60.0), 0.0, all_windows=50, size=6_000_000)
    for seconds in (0.05, 40.0, 0.06):
        due.took(sample=seconds, save=seconds)
    assert due.costs == dict(costs=dict(sample=0.06, save=0.06))
    due.took(save=40.0)
    due.took(save=40.0)
    assert due.costs["costs"]["save"] == 40.0  # it is slow
