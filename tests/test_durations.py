"""Test durations as words, as a clock, and as a flag that parses back to the same value."""

from __future__ import annotations

import random

import pytest

from nanogpt.config import duration
from nanogpt.durations import clock, in_words, short


@pytest.mark.parametrize(
    ("seconds", "exact", "rough"),
    [
        (0, "0 seconds", "0 seconds"), (1, "1 second", "1 second"), (1.3, "1 second", "1 second"),
        (45, "45 seconds", "45 seconds"), (119.4, "119 seconds", "119 seconds"), (120, "2 minutes", "2 minutes"),
        (150, "150 seconds", "2 minutes"), (1234.5, "1,234 seconds", "21 minutes"), (1800, "30 minutes", "30 minutes"),
        (5340, "89 minutes", "89 minutes"), (5400, "90 minutes", "1.5 hours"),
        (3600, "60 minutes", "60 minutes"),
        (7200, "2 hours", "2 hours"), (9000, "150 minutes", "2.5 hours"), (35_999, "35,999 seconds", "10 hours"),
        (37_800, "630 minutes", "10 hours"), (86400, "24 hours", "24 hours"),
        (172_800, "48 hours", "2 days"), (428_400, "119 hours", "5 days"),
    ],
)  # fmt: skip
def test_a_time_in_words(seconds, exact, rough):
    assert in_words(seconds) == exact
    assert in_words(seconds, rough=True) == rough


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00"), (7.9, "0:07"), (205, "3:25"), (3599, "59:59"), (3600, "1:00:00"), (3723, "1:02:03")],
)
def test_a_time_on_a_clock(seconds, shown):
    assert clock(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.5, "0.5s"), (59, "59s"), (60, "1m"), (90, "90s"), (180, "3m"), (3600, "1h"), (5400, "90m"), (86400, "24h")],
)
def test_a_short_time_is_read_back_as_the_same(seconds, written):
    assert short(seconds) == written
    assert duration(written) == seconds


def test_a_short_time_is_read_back_as_the_same_to_the_millisecond():
    rng = random.Random(1)
    times = [0, 0.001, 59.999, 1_000_000, 1_000_001, 1_234_567, 1_234_567.125, 2_591_999, 2_592_000]
    times += [rng.randrange(2_592_000) for _ in range(1000)]
    times += [round(rng.uniform(0, 2_592_000), rng.randint(1, 3)) for _ in range(1000)]
    assert [(one, short(one)) for one in times if duration(short(one)) != one] == []
