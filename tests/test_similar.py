"""Test suggestions: a name is suggested only if it is really like the one that was given."""

from __future__ import annotations

import pytest

from nanogpt.cli.flags import ALSO, flags_of
from nanogpt.cli.main import parser
from nanogpt.similar import did_you_mean, similar

NAMES = ["--name", "--html", "--int8", "--code", "--gif", "--text", "--on", "--yes", "--stop", "--processes"]
NAMES += ["--learning-rate", "--batch-size", "--batches", "--max-iters", "--field"]


@pytest.mark.parametrize("wanted", ["--foo", "--fo", "--stepz", "--epochs", "--temp", "--context", "--file", "-n", ""])
def test_an_unlike_name_is_not_suggested(wanted):
    assert similar(wanted, NAMES) == []
    assert did_you_mean(wanted, NAMES) == ""


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("--htm", ["--html"]), ("--giff", ["--gif"]), ("-name", ["--name"]), ("--lr", ["--learning-rate"]),
        ("--Learning_Rate", ["--learning-rate"]), ("--batchsize", ["--batch-size"]), ("--iters", ["--max-iters"]),
        ("--batch", ["--batch-size", "--batches"]), ("--texts", ["--text"]), ("--process", ["--processes"]),
        ("--batchez", ["--batches"]),
    ],
)  # fmt: skip
def test_a_like_name_is_suggested(wanted, names):
    assert similar(wanted, NAMES) == names
    assert did_you_mean(wanted, NAMES) == f"did you mean {' or '.join(names)}?"


def test_a_name_that_fits_three_is_none():
    assert similar("max", ["max-a", "max-b", "max-c"]) == []


def test_a_name_that_begins_a_longer_word_is_not_what_was_meant():
    assert "runs" not in similar("runserver", ["runs", "serve"])


def test_only_the_beginning_of_a_long_name_is_compared():
    assert similar("ab" * 1_000_000, ["ab" * 30, "shakespeare"]) == ["ab" * 30]


def test_other_words_stand_for_what_exists():
    [choices] = [action.choices for action in parser()._actions if action.choices and not action.option_strings]
    flags = {flag for command in choices.values() for flag in flags_of(command)}
    views = set(next(action.choices for action in choices["explain"]._actions if action.dest == "view"))
    assert {also.partition(" ")[0] for also in ALSO.values()} <= flags | set(choices) | views
