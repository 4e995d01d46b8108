"""What something in a run usually costs in seconds, though a single time may have been a pause."""

from __future__ import annotations

import math

PAUSE, UNUSUAL = 60.0, 20  # seconds, and times as long as usual: longer than both, it was a pause and no work


class Cost:
    """The seconds that something usually takes: the median of its last three times, the smaller one of two.

    A single slow one may be a pause (Ctrl-Z, a laptop that slept, a disk that stalled), which must not end a run.
    """

    def __init__(self, guess: float = 0.0, most: float = math.inf):
        """Until it is measured, it takes as long as `guess`. Neither that nor a single time counts for over `most`."""
        self._guess, self._most = guess, most
        self._last: list[float] = []

    def add(self, seconds: float) -> None:
        """Note how long it took this time; 0 if it wasn't done."""
        if seconds > 0:
            self._last = [*self._last[-2:], seconds]

    def pause(self, seconds: float) -> float:
        """Return how many of the seconds that it took this time were a pause of minutes or hours, and no work.

        The second of two in a row still counts as one; from the third on, that is what it usually takes.
        """
        known = len(self._last) > 1
        return seconds - self.usual if known and seconds > max(PAUSE, UNUSUAL * self.usual) else 0.0

    @property
    def usual(self) -> float:
        """Return the seconds that it usually takes."""
        if len(self._last) < 2:
            return min(self._most, *self._last or [self._guess])
        return sorted(self._last)[(len(self._last) - 1) // 2]

    @property
    def likely(self) -> float:
        """Return the same, but while it was measured only once, no more than the guess: the first may be a slow one."""
        return min(self.usual, self._guess) if len(self._last) < 2 else self.usual
