"""When a run logs, evaluates and ends, and at how much it looks: by its steps, or by the clock if it has a budget."""

from __future__ import annotations

import time

from .config import TrainConfig

LOGS, EVALUATIONS = 200, 20  # of a timed run; one of fixed steps evaluates each `eval_interval`
SOME = 32  # windows, the fewest an evaluation looks at


class Timetable:
    """Look at it once a step. `share` is how much of the run is over, 0 to 1; the others say what is due.

    An evaluation may cost 0.25 % of the run, the last ones, of the best and of the last weights, 5 % each.
    By steps that is arithmetic (a forward pass is a third of a step), so that it depends on nothing that changes when
    one evaluates more often. By the clock it is measured.
    """

    def __init__(self, config: TrainConfig, seconds: float, all_windows: int, at_a_time: float | None = None):
        self.config = config
        self.at_a_time = at_a_time  # seconds after which the run makes room for others; None: it need not
        self.all_windows = all_windows
        self.share = 0.0
        self.logging = self.evaluating = self.last = False
        work = config.max_iters * config.batch_size * 3  # in windows of one forward pass
        self.windows = min(all_windows, SOME if config.budget else max(SOME, int(0.0025 * work)))
        self.final_windows = min(all_windows, max(SOME, int(0.05 * work)))
        self._reserve = 0.0  # seconds at the end of a timed run for judging its best and last weights
        self._began = time.perf_counter() - seconds  # those of earlier sessions count
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

    def look(self, step: int) -> None:
        """What is due before this step."""
        if not self.config.budget:
            self.share = step / self.config.max_iters
            self.logging = step % self._log_interval == 0
            self.evaluating = step % self.config.evaluate_every == 0
        else:
            before = self.share
            self.share = min(1.0, self.seconds / max(1e-3, self.config.budget - self._reserve))
            crossed = lambda parts: step == 0 or int(before * parts) < int(self.share * parts)
            self.evaluating = crossed(EVALUATIONS)
            self.logging = self.evaluating or crossed(LOGS)
        self.last = self.share >= 1.0

    def evaluated(self, seconds: float) -> None:
        """How long an evaluation took: a timed run looks at as many windows as its time allows, from the second on."""
        if self.config.budget and not self._reserve:
            a_window = seconds / self.windows
            self.windows = min(self.all_windows, max(SOME, int(0.0025 * self.config.budget / a_window)))
            self.final_windows = min(self.all_windows, max(SOME, int(0.02 * self.config.budget / a_window)))
            self._reserve = 1.2 * (2 * self.final_windows + self.windows) * a_window
