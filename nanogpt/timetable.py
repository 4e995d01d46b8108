"""Schedules when a run logs, evaluates, saves and ends, by step or by clock, and how much text evaluations use."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from .config import TrainConfig
from .cost import Cost

LOGS, EVALUATIONS = 200, 20  # per timed run; runs with fixed steps evaluate every `eval_interval` steps
APART = 1.0  # seconds at least between two evaluations of a timed run: steps are worth more in a short one
SOME, FEW = 32, 4  # the fewest windows in an evaluation, and where a time budget can hardly afford those
SAVE_SECONDS = 60  # a crash never costs more than this, even if evaluations are rare, unless saves take over 2 s
SLOWER = 3  # times as long as the fastest evaluation, which the last ones may take on a busy machine
SAVING = 0.03  # of the time: the share that saves may take in a timed run, which has fewer of them if they are slow
DISK, SAMPLE = 400e6, 0.25  # bytes per second and seconds per sample: guesses until the first ones are measured
SLOW_DISK = 4e6  # bytes per second; whatever takes over a second longer than a save to this was held up by something


def overhead(budget: float) -> float:
    """Return the seconds of a budget that may go to anything but training steps: 8% above 30 s, 20% below 10 s."""
    return budget * min(0.20, max(0.08, 0.20 - 0.12 * (budget - 10) / 20))


class Timetable:
    """Decides what is due before each step. Call `look` once per step; `share`, 0 to 1, is how much of the run is done.

    With fixed steps, evaluation sizes are computed, not measured, so that evaluating more often changes nothing else:
    a forward pass counts as a third of a step, and an evaluation may cost 0.25% of the run (5% for the final one,
    or for each of two if the best weights aren't the last). With a time budget, what evaluations, samples and saves
    usually take decides how many there are: together they stay within `overhead`, but for the last evaluation, which
    may always take 1% of the budget. They are evenly spaced over what is left of the run.

    All evaluations of a run but the last use the same windows, because their losses are compared. If that would take
    over 1% of the budget where a run is resumed, it uses fewer from there on. If the machine was busy when a timed run
    began, its first evaluation uses fewer than the others: it is of an untrained model.

    A pause of more than a minute in training isn't counted: a laptop that sleeps must not use up a run's budget. Pauses
    count in the first two steps and what precedes them, in saves and snapshots, and at the end.
    """

    def __init__(
        self,
        config: TrainConfig,
        seconds: float,
        all_windows: int,
        at_a_time: float | None = None,
        size: int = 0,
        costs: Mapping[str, float] | None = None,
        windows: int = 0,
        evaluated: float = 0.0,
    ):
        """Start after `seconds` already spent on the run. A save writes about `size` bytes.

        `costs` are those of an earlier run of this shape on this machine; they replace the guesses. For a resumed run,
        `windows` is how many its evaluations have used so far, and `evaluated` is when the last regular one was, in
        seconds spent on the run.
        """
        self.config = config
        self.starting = 0.0  # seconds of this turn before the run's clock began
        self.at_a_time = at_a_time  # seconds after which the run must make room for others; None for no limit
        self.all_windows = all_windows
        self.share = 0.0
        self.logging = self.evaluating = self.last = False
        work = config.max_iters * config.batch_size * 3  # of the run, in forward passes of one window
        by_work = SOME if config.budget else max(SOME, int(0.0025 * work))
        self.windows = min(all_windows, windows or by_work)
        self._before = windows
        self.final_windows = min(all_windows, max(SOME, int(0.05 * work)))
        self.pending = 0.0  # seconds that the next save will take longer than the last one
        self.judged = 2  # models to evaluate at the end: 1 if the last weights are the best so far
        self._window = math.inf  # seconds to evaluate one, the fastest
        known = {name: cost for name, cost in (costs or {}).items() if isinstance(cost, float) and cost > 0}
        most = 1.0 + size / SLOW_DISK
        self._step, self._per_window, self._evaluations = Cost(most=0.0), Cost(), Cost()  # a single step may be a pause
        self._samples = Cost(known.get("sample", SAMPLE), most)
        self._saves = Cost(known.get("save", size / DISK), most)
        # seconds charged for anything but training steps, without most of a pause; a resumed run has used its share,
        # we assume
        self._charged = overhead(config.budget) * seconds / config.budget if config.budget else 0.0
        self._apart = 0.0  # seconds of this turn spent on anything but training steps
        self._looked = (seconds, 0.0)  # when the last training step began
        self._evaluated = evaluated  # `seconds` at the last regular evaluation
        self._started = self._saved = time.perf_counter()
        self._began = self._started - seconds  # time before a resume counts, too; a pause moves this forward
        self._has_saved, self._has_looked, self.first = False, False, True
        self._log_interval = max(1, config.max_iters // LOGS)

    @property
    def seconds(self) -> float:
        """Return the seconds spent on the run so far, with those before a resume, without long pauses in training."""
        return time.perf_counter() - self._began

    @property
    def makes_room(self) -> bool:
        """Return True if the run has used up its time, in which pauses count, and must make room for others."""
        return self.at_a_time is not None and time.perf_counter() - self._started + self.starting >= self.at_a_time

    @property
    def costs(self) -> dict[str, dict[str, float]]:
        """Return the seconds that a sample and a save of a timed run usually took, as "costs"."""
        seconds = dict(sample=round(self._sample, 4), save=round(self._save, 4))
        return dict(costs=seconds) if self.config.budget else {}

    @property
    def opening(self) -> int:
        """Return how many windows to evaluate before anything else: few if it isn't known what they take."""
        if not self.config.budget:
            return self.windows
        return min(self.all_windows, FEW) if self._window == math.inf else self._affordable(0.0, 0.0025)

    @property
    def reserve(self) -> float:
        """Return the seconds to reserve at the end of a timed run for its last evaluation, sample and save."""
        return min(0.5 * self.config.budget, 1.2 * self._closing(self._sample, self._save))

    def _closing(self, sample: float, save: float) -> float:
        """Return the seconds that the end of a timed run takes, given those of a sample and a save."""
        judging = self.judged * self.final_windows * self._usual
        return judging + self._evaluation + sample + save + self.pending

    @property
    def windows_left(self) -> int:
        """Return how many windows can be evaluated in what is left of a time budget that has run out, before a save."""
        left = 0.8 * (self.config.budget - self.seconds) - self._save
        return int(left / self._usual) if self.last and self._usual and left > 0 else 0

    @property
    def _usual(self) -> float:
        """Return the seconds that a window usually takes, at most SLOWER times the fastest."""
        return min(self._per_window.usual, SLOWER * self._window)

    @property
    def _evaluation(self) -> float:
        """Return the seconds that an evaluation usually takes, at most SLOWER times the fastest windows."""
        return min(self._evaluations.usual, SLOWER * self._window * self.windows)

    @property
    def _sample(self) -> float:
        """Return the seconds that a sample usually takes."""
        return self._samples.usual

    @property
    def _save(self) -> float:
        """Return the seconds that a save usually takes."""
        return self._saves.usual

    def look(self, step: int) -> None:
        """Update what is due before this step."""
        self.first = step == 0
        self._time_step()
        if not self.config.budget:
            self.share = step / self.config.max_iters
            self.logging = step % self._log_interval == 0
            self.evaluating = step % self.config.evaluate_every == 0
        else:
            before = self.share
            self.share = min(1.0, self.seconds / max(1e-3, self.config.budget - self.reserve))
            # neither where a resumed run was evaluated when it stopped, nor just before the end, where it will be
            between = self._has_looked and self.share < 1.0 - 0.5 * self._closest
            is_due = between and self.share >= self._next_evaluation and self._evaluation_fits()
            self.evaluating = self.first or is_due
            if self.evaluating:
                self._evaluated = self.seconds
            self.logging = self.evaluating or int(before * LOGS) < int(self.share * LOGS)
        self._has_looked = True
        self.last = step > 0 and (self.share >= 1.0 or self._no_step_fits())  # every run takes at least one step

    def _time_step(self) -> None:
        """Note how long the last step took, if there was one since the run began or was resumed."""
        if self._has_looked:
            began, apart = self._looked
            seconds = self.seconds - began - (self._apart - apart)
            self._began += self._step.pause(seconds)
            self._step.add(seconds)
        self._looked = (self.seconds, self._apart)

    @property
    def _next_evaluation(self) -> float:
        """Return the `share` at which a timed run evaluates next, to spend evenly what is left of the overhead.

        A single slow sample or save, as when a busy machine loads what they need, must not be the end of evaluations.
        """
        sample, save = self._samples.likely, self._saves.likely
        left = overhead(self.config.budget) - 1.2 * self._closing(sample, save) - self._charged
        cost = self._evaluation + sample + self._save * self._saves_with_evaluations
        more = int(max(0.0, left) / cost)  # evaluations, besides the one at the end
        last = self._evaluated / max(1e-3, self.config.budget - self.reserve)  # as a share
        return last + max(self._closest, (1.0 - last) / (more + 1))

    @property
    def _closest(self) -> float:
        """Return the share of a timed run that is at least between two evaluations."""
        return max(1 / EVALUATIONS, APART / self.config.budget)

    def expect(self, pending: float, improving: bool) -> None:
        """Note what the end of the run will take: `pending` seconds more to save, and one model to judge or two.

        While a run is `improving`, its last weights will be its best.
        """
        self.pending, self.judged = pending, 1 if improving else 2

    def _evaluation_fits(self) -> bool:
        """Return True if an evaluation and a sample that take as long as usual end before the run must end."""
        return self.seconds + self._evaluation + self._sample <= self.config.budget - self.reserve

    def _no_step_fits(self) -> bool:
        """Return True if a timed run's next step, if it takes as long as usual, would end too late."""
        return self.config.budget > 0 and self.seconds + self._step.usual > self.config.budget - self.reserve

    @property
    def sampling(self) -> bool:
        """Return True if an evaluation comes with a sample.

        The first one, which is only noise, is left out of a timed run that is short or where samples take long.
        """
        budget = self.config.budget
        return not budget or not self.first or (budget >= 30 and self._sample <= 0.15 * overhead(budget))

    @property
    def _saves_with_evaluations(self) -> bool:
        """Return True if an evaluation comes with a save: if saves are cheap, or the run was never saved.

        That first save is left to the end of the run if it would take a quarter of the overhead.
        """
        budget = self.config.budget
        if not budget or self._save * EVALUATIONS <= 0.02 * budget:
            return True
        return not (self.first or self._has_saved) and self._save <= 0.25 * overhead(budget)

    @property
    def saving(self) -> bool:
        """Return True if it is time to save: at evaluations if saving is cheap or was never done, and once per minute.

        A run with a time limit per turn saves at least three times per turn; a timed one whose saves are slow, less
        often than once per minute.
        """
        often = max(SAVE_SECONDS, self._save / SAVING) if self.config.budget else SAVE_SECONDS
        if self.at_a_time is not None:
            often = min(SAVE_SECONDS, self.at_a_time / 3)
        at_evaluation = self.evaluating and self._saves_with_evaluations
        return at_evaluation or time.perf_counter() - self._saved > often

    def took(self, *, opening=0.0, window=0.0, evaluation=0.0, sample=0.0, save=0.0, other=0.0) -> None:
        """Record seconds spent on something other than training steps.

        `window` is the time per window of an evaluation, already included in `evaluation`. `opening` is that of a look
        before the first one of a turn, by which a timed run chooses how many windows its evaluations use.
        """
        timed = ((self._evaluations, evaluation), (self._samples, sample))  # a slow save is a slow disk, and counts
        pause = sum(cost.pause(seconds) for cost, seconds in timed)
        self._began += pause
        self._apart += evaluation + sample + save + other - pause
        self._per_window.add(window)
        before = self._window
        self._window = min(self._window, window or math.inf, opening or math.inf)
        self._evaluations.add(evaluation)
        self._samples.add(sample)
        self._saves.add(save)
        if save:
            self._saved, self._has_saved = time.perf_counter(), True
        usual = ((evaluation, self._evaluation), (sample, self._samples.likely), (save, self._save))
        self._charged += other + sum(min(seconds, SLOWER * one) for seconds, one in usual)
        if self.config.budget:
            # the looks before the first evaluation took much longer than that itself: the machine was busy
            busy = self.first and SLOWER * self._window < before < math.inf
            self._choose_windows(bool(opening) or busy)

    def _choose_windows(self, again: bool) -> None:
        """Choose how many windows a timed run evaluates at its end, from what one takes; `again`: also before that."""
        if again:
            self.windows = self._as_before() or self._affordable(0.0025, 0.01)
        if self._window < math.inf:
            left = overhead(self.config.budget) - self._charged - self._evaluation - self._sample - self._save
            # what a run reports should mean something
            share = max(0.01, min(0.02, left / self.judged / self.config.budget))
            self.final_windows = self._affordable(share, 0.02)

    def _as_before(self) -> int:
        """Return how many windows a resumed run's evaluations have used so far, or 0 if those would take too long."""
        return min(self.all_windows, self._before) if self._before <= self._affordable(0.01, 0.01) else 0

    def _affordable(self, share: float, most: float) -> int:
        """Return how many windows fit into a share of the budget: at least SOME, or FEW if those take over `most`."""
        fit = lambda part: int(part * self.config.budget / self._window)
        return min(self.all_windows, max(FEW, min(SOME, fit(most)), fit(share)))
