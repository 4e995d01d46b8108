"""Passages: windows that are evenly spaced, and texts that begin with a line unless that leaves too little."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace

import pytest
import torch
from conftest import CLASSIC, ended_run

from nanogpt import corpus
from nanogpt.config import NanoGPTError
from nanogpt.explain import passages, tour
from nanogpt.explain.opened import HELD_OUT, WRITTEN, Opened, open_run
from nanogpt.tokenizer import make_tokenizer
from nanogpt.ui import view


@pytest.fixture
def one(home, tiny_text):
    return open_run(ended_run(corpus.add(tiny_text, "A play"), "one", **CLASSIC))


def made(block_size: int, alphabet: str = "ab") -> Opened:
    """Return what `windows` looks at of a run."""
    model = SimpleNamespace(config=SimpleNamespace(block_size=block_size), device="cpu")
    return Opened(None, model, make_tokenizer(alphabet), "", None)  # type: ignore[arg-type]


def test_windows_are_evenly_spaced_from_the_first_token_to_the_last(one):
    text = one.held_out_text()
    found = passages.windows(one, text, 160)
    assert found.xb.shape == found.yb.shape == (10, 16)
    ids = one.tokenizer.encode(text)
    for start, x, y in zip(found.starts.tolist(), found.xb.tolist(), found.yb.tolist()):
        assert (x, y) == (ids[start : start + 16], ids[start + 1 : start + 17])
    assert (found.starts[0], found.starts[-1]) == (0, len(ids) - 17)
    apart = found.starts.diff()
    assert apart.max() - apart.min() <= 1
    assert passages.windows(one, text[:40], 160, 5).xb.shape == (2, 16)  # they don't overlap
    assert passages.windows(one, text[:10], 160, 5).xb.shape == (1, 9)
    assert passages.windows(one, text, 16, 5).xb.shape == (5, 16)


def test_the_last_window_of_a_long_text_ends_with_it():
    """float32 can't tell 17,999,935 from 17,999,936, where there would be one character too few."""
    found = passages.windows(made(64), "a" * 17_999_999 + "b", 128)
    assert found.starts.tolist() == [0, 18_000_000 - 65]
    assert found.yb[-1, -1] == 1


def test_a_model_without_its_text_writes_as_much_as_a_sample_may_have(one, monkeypatch):
    assert passages.to_measure(one, 64)[1] == HELD_OUT
    alone, asked = open_run(one.run, may_read_text=False), []
    monkeypatch.setattr(Opened, "write", lambda self, config: asked.append(config.length) or "a" * config.length)
    found, on = passages.to_measure(alone, 64, 6)
    assert (on, asked, found.xb.shape) == (WRITTEN, [6 * 17], (6, 16))
    monkeypatch.setattr(alone.model, "config", SimpleNamespace(block_size=4096))
    found, _ = passages.to_measure(alone, 64, 6)
    assert (asked[-1], found.xb.shape) == (10_000, (2, 4096))


LINES = "".join(f"{i:04} is the number of this line\n" for i in range(200))


def test_a_passage_begins_with_a_line_and_is_as_long_as_asked():
    for seed in range(50):
        passage = passages.from_a_line(LINES, 600, Random(seed))
        assert len(passage) == 600
        assert passage[4:8] == " is " or "\n" not in LINES[LINES.index(passage) : -600]


@pytest.mark.parametrize("text", ["a" * 99 + "\n", "a" * 700 + "\n", ("a" * 300 + "\n") * 2, "a" * 650 + "\nb", "\n"])
def test_a_line_break_near_the_end_of_a_text_cuts_no_passage_short(text):
    for seed in range(20):
        assert len(passages.from_a_line(text, 600, Random(seed))) == min(600, len(text))


@pytest.mark.parametrize("end", ["\n", "\nEnd."])
def test_the_tour_and_held_out_text_read_enough_of_a_text_with_one_line_break(home, monkeypatch, end):
    words = "the mill turns by the river and the bridge is old "
    text = (words * 30)[: 1400 - len(end)] + end
    one = open_run(ended_run(corpus.add(text, "One line"), "one", **CLASSIC | dict(block_size=128)))
    assert one.held_out_text().endswith(end)
    for seed in range(10):
        assert len(tour.text_of(one, seed)) == tour.LENGTH
    assert len(tour.lesson(one)["tokens"]) == one.model.config.block_size - 1 > 60
    monkeypatch.setattr(view, "PASSAGE", 100)
    assert {len(view.a_passage(one)) for _ in range(10)} == {100}


def test_without_the_text_there_is_no_passage(one):
    with pytest.raises(NanoGPTError, match="isn't here"):
        view.a_passage(open_run(one.run, may_read_text=False))


def test_the_first_positions_of_a_window_lack_context():
    assert [passages.first_counted(T) for T in (2, 8, 16, 512)] == [1, 4, 8, 8]
    assert torch.equal(passages.windows(made(4), "abab" * 5, 4).starts, torch.tensor([0]))
