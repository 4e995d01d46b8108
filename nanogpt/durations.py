"""Format seconds: in words, as a clock, and in the form that `--budget` accepts.

`config.duration` does the reverse, from "3m" to 180 seconds.
"""

from __future__ import annotations


def in_words(seconds: float, rough: bool = False) -> str:
    """Return "45 seconds", "30 minutes" or "2 hours".

    Use minutes, and from two hours on hours, only if they are whole, unless the time may be `rough`.
    """
    if seconds == 60:
        return "1 minute"
    if rough and seconds >= 5400:
        return _roughly(seconds)
    if seconds >= 7200 and seconds % 3600 == 0:
        return f"{seconds / 3600:,.0f} hours"
    if seconds >= 120 and (rough or seconds % 60 == 0):
        return f"{seconds / 60:,.0f} minutes"
    count = f"{seconds:,.0f}"
    return f"{count} second" if count == "1" else f"{count} seconds"


def _roughly(seconds: float) -> str:
    """Return a time of an hour and a half or more in hours, and one of two days or more in days."""
    return f"{_about(seconds / 3600)} hours" if seconds < 2 * 86400 else f"{_about(seconds / 86400)} days"


def _about(count: float) -> str:
    """Return a number with a decimal below 10, because half an hour more or less is a lot then."""
    return f"{count:.1f}".removesuffix(".0") if count < 9.95 else f"{count:.0f}"


def clock(seconds: float) -> str:
    """Return seconds as 0:07, 3:25 or 1:02:03."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def short(seconds: float) -> str:
    """Return seconds, to the millisecond, as 90s, 3m or 1h, a form that `config.duration` can read."""
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    number = f"{seconds:.3f}".rstrip("0").rstrip(".")
    return f"{number}s"
