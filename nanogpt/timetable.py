"""When a run logs, evaluates, saves and ends, and on how much text it is evaluated: by steps, or by the clock."""

from __future__ import annotations

import math
import time

from .config import TrainConfig

LOGS, EVALUATIONS = 200, 20  # of a timed run; one of fixed steps evaluates each `eval_interval`
SOME = 32  # windows, the fewest an evaluation looks at
SAVE_SECONDS = 60  # a crash never costs more than this, however rare the evaluations are
DISK, SAMPLE = 400e6, 0.25  # bytes per second, and seconds: guesses until the first save and sample were measured


def overhead(budget: float) -> float:
    """Return the seconds of a budget that may go to anything but training steps: 8 % from 30 s on, 20 % up to 10 s."""
    return budget * min(0.20, max(0.08, 0.20 - 0.12 * (budget - 10) / 20))


class Timetable:
    """Look at it once per step. `share` is how much of the run is over, 0 to 1; the others say what is due.

    By steps everything is arithmetic (a forward pass is a third of a step; an evaluation may cost 0.25 % of the run,
    the last ones, of the best and the last weights, 5 % each), so that evaluating more often changes nothing else.
    By the clock it is measured: what an evaluation, a sample and a save cost decides how many of them there are.
    """

    def __init__(
        self, config: TrainConfig, seconds: float, all_windows: int, at_a_time: float | None = None, size: int = 0
    ):
        """`seconds` have been spent on the run already; `size` is about how many bytes a save writes."""
        self.config = config
        self.at_a_time = at_a_time  # seconds after which the run makes room for others; None: it need not
        self.all_windows = all_windows
        self.share = 0.0
        self.logging = self.evaluating = self.last = False
        work = config.max_iters * config.batch_size * 3  # in windows of one forward pass
        self.windows = min(all_windows, SOME if config.budget else max(SOME, int(0.0025 * work)))
        self.final_windows = min(all_windows, max(SOME, int(0.05 * work)))
        self._window = math.inf  # seconds to evaluate one
        self._spent = 0.0  # seconds on anything but training steps
        self._evaluation, self._sample = 0.0, SAMPLE  # seconds of the last one
        self._save = size / DISK
        self._began = self._saved = time.perf_counter()
        self._began -= seconds  # those of earlier sessions count
        self._earlier = seconds
        self._log_interval = max(1, config.max_iters // LOGS)

    @property
    def seconds(self) -> float:
        """Spent on the run so far."""
        return time.perf_counter() - self._began

    @property
    def makes_room(self) -> bool:
        """Whether the seconds at a time are over."""
        return self.at_a_time is not None and self.seconds - self._earlier >= self.at_a_time

    @property
    def reserve(self) -> float:
        """Seconds at the end of a timed run for its last evaluation, sample and save."""
        final = 0.0 if self._window == math.inf else 2 * self.final_windows * self._window
        return min(0.5 * self.config.budget, 1.2 * (final + self._evaluation + self._sample + self._save))

    def look(self, step: int) -> None:
        """Find out what is due before this step."""
        if not self.config.budget:
            self.share = step / self.config.max_iters
            self.logging = step % self._log_interval == 0
            self.evaluating = step % self.config.evaluate_every == 0
        else:
            before = self.share
            self.share = min(1.0, self.seconds / max(1e-3, self.config.budget - self.reserve))
            crossed = lambda parts: step == 0 or int(before * parts) < int(self.share * parts)
            # as much of the overhead as of the run: what is dear comes less often, and evenly spread
            affordable = self.share * (overhead(self.config.budget) - self.reserve)
            cost = self._evaluation + self._sample
            self.evaluating = step == 0 or (crossed(EVALUATIONS) and self._spent + cost <= affordable)
            self.logging = self.evaluating or crossed(LOGS)
        self.last = self.share >= 1.0 and step > 0  # no run ends before it has trained

    @property
    def sampling(self) -> bool:
        """Whether an evaluation comes with a sample: not the first one of a short timed run, which is noise."""
        return not self.config.budget or self.share > 0 or self.config.budget >= 30

    @property
    def saving(self) -> bool:
        """Whether it is time to save: at evaluations where that is cheap, and once a minute."""
        cheap = not self.config.budget or self.share > 0 and self._save * EVALUATIONS <= 0.02 * self.config.budget
        return (self.evaluating and cheap) or time.perf_counter() - self._saved > SAVE_SECONDS

    def took(self, *, window=0.0, evaluation=0.0, sample=0.0, save=0.0, other=0.0) -> None:
        """Note how many seconds were spent on something other than training steps.

        `window` is one of an evaluation, which counts it already. A timed run then looks at as many as its time allows.
        """
        self._spent += evaluation + sample + save + other
        self._evaluation, self._sample = evaluation or self._evaluation, sample or self._sample
        if save:
            self._save, self._saved = save, time.perf_counter()
        if window and self.config.budget:
            self._window = min(self._window, window)
            most = lambda part: min(self.all_windows, max(SOME, int(part * self.config.budget / self._window)))
            self.windows, self.final_windows = most(0.0025), most(0.02)
