"""Schedules when a run logs, evaluates, saves and ends, by step or by clock, and how much text evaluations use."""

from __future__ import annotations

import math
import time

from .config import TrainConfig

LOGS, EVALUATIONS = 200, 20  # per timed run; runs with fixed steps evaluate every `eval_interval` steps
SOME = 32  # the fewest windows in an evaluation
SAVE_SECONDS = 60  # a crash never costs more than this, even if evaluations are rare
DISK, SAMPLE = 400e6, 0.25  # bytes per second and seconds per sample: guesses until the first ones are measured


def overhead(budget: float) -> float:
    """Return the seconds of a budget that may go to anything but training steps: 8% above 30 s, 20% below 10 s."""
    return budget * min(0.20, max(0.08, 0.20 - 0.12 * (budget - 10) / 20))


class Timetable:
    """Decides what is due before each step. Call `look` once per step; `share`, 0 to 1, is how much of the run is done.

    With fixed steps, evaluation sizes are computed, not measured, so that evaluating more often changes nothing else:
    a forward pass counts as a third of a step, and an evaluation may cost 0.25% of the run (5% each for the two final
    ones, of the best and the last weights). With a time budget, the measured cost of evaluations, samples and saves
    decides how many there are.
    """

    def __init__(
        self, config: TrainConfig, seconds: float, all_windows: int, at_a_time: float | None = None, size: int = 0
    ):
        """Start after `seconds` already spent on the run. A save writes about `size` bytes."""
        self.config = config
        self.starting = 0.0  # seconds of this turn before the run's clock began
        self.at_a_time = at_a_time  # seconds after which the run must make room for others; None for no limit
        self.all_windows = all_windows
        self.share = 0.0
        self.logging = self.evaluating = self.last = False
        work = config.max_iters * config.batch_size * 3  # of the run, in forward passes of one window
        self.windows = min(all_windows, SOME if config.budget else max(SOME, int(0.0025 * work)))
        self.final_windows = min(all_windows, max(SOME, int(0.05 * work)))
        self._window = math.inf  # seconds to evaluate one
        self._spent = 0.0  # seconds on anything but training steps
        self._evaluation, self._sample = 0.0, SAMPLE  # seconds of the last one
        self._save = size / DISK
        self._began = self._saved = time.perf_counter()
        self._began -= seconds  # time before a resume counts, too
        self._earlier = seconds
        self._has_saved, self.first = False, True
        self._log_interval = max(1, config.max_iters // LOGS)

    @property
    def seconds(self) -> float:
        """Return the seconds spent on the run so far, including those before a resume."""
        return time.perf_counter() - self._began

    @property
    def makes_room(self) -> bool:
        """Return True if the run has used up its time and must make room for others."""
        return self.at_a_time is not None and self.seconds - self._earlier + self.starting >= self.at_a_time

    @property
    def reserve(self) -> float:
        """Return the seconds to reserve at the end of a timed run for its last evaluation, sample and save."""
        final = 0.0 if self._window == math.inf else 2 * self.final_windows * self._window
        return min(0.5 * self.config.budget, 1.2 * (final + self._evaluation + self._sample + self._save))

    def look(self, step: int) -> None:
        """Update what is due before this step."""
        self.first = step == 0
        if not self.config.budget:
            self.share = step / self.config.max_iters
            self.logging = step % self._log_interval == 0
            self.evaluating = step % self.config.evaluate_every == 0
        else:
            before = self.share
            self.share = min(1.0, self.seconds / max(1e-3, self.config.budget - self.reserve))
            crossed = lambda parts: step == 0 or int(before * parts) < int(self.share * parts)
            # spend the overhead in proportion to the run's progress, so that expensive evaluations are rare but evenly
            # spaced
            affordable = self.share * (overhead(self.config.budget) - self.reserve)
            cost = self._evaluation + self._sample
            self.evaluating = step == 0 or (crossed(EVALUATIONS) and self._spent + cost <= affordable)
            self.logging = self.evaluating or crossed(LOGS)
        self.last = self.share >= 1.0 and step > 0  # every run takes at least one step

    @property
    def sampling(self) -> bool:
        """Return True if an evaluation comes with a sample. The first one of a short timed run would only be noise."""
        return not self.config.budget or not self.first or self.config.budget >= 30

    @property
    def saving(self) -> bool:
        """Return True if it is time to save: at evaluations if saving is cheap or was never done, and once per minute.

        A run with a time limit per turn saves at least three times per turn.
        """
        cheap = not self.config.budget or self._save * EVALUATIONS <= 0.02 * self.config.budget
        often = SAVE_SECONDS if self.at_a_time is None else min(SAVE_SECONDS, self.at_a_time / 3)
        at_evaluation = self.evaluating and (cheap or not (self.first or self._has_saved))
        return at_evaluation or time.perf_counter() - self._saved > often

    def took(self, *, window=0.0, evaluation=0.0, sample=0.0, save=0.0, other=0.0) -> None:
        """Record seconds spent on something other than training steps.

        `window` is the time per window of an evaluation, already included in `evaluation`. Timed runs use it to choose
        how many windows they can afford.
        """
        self._spent += evaluation + sample + save + other
        self._evaluation, self._sample = evaluation or self._evaluation, sample or self._sample
        if save:
            self._save, self._saved, self._has_saved = save, time.perf_counter(), True
        if window and self.config.budget:
            self._window = min(self._window, window)
            most = lambda part: min(self.all_windows, max(SOME, int(part * self.config.budget / self._window)))
            self.windows, self.final_windows = most(0.0025), most(0.02)
