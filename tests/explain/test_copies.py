"""Copied stretches, against a plain search for every one of them."""

from __future__ import annotations

import random

import numpy as np
import pytest
from conftest import CLASSIC, ended_run

from nanogpt import corpus
from nanogpt.config import NanoGPTError
from nanogpt.explain import copies
from nanogpt.explain.copies import Index, Span
from nanogpt.explain.opened import open_run


def plain_spans(training: str, text: str, shortest: int) -> list[Span]:
    found, end = [], 0
    for i in range(len(text)):
        length = 0
        while i + length < len(text) and text[i : i + length + 1] in training:
            length += 1
        if length >= shortest and i + length > end:
            piece = text[i : i + length]
            places = [at for at in range(len(training)) if training.startswith(piece, at)]
            found.append(Span(i, length, len(places), places[0]))
            end = i + length
    return found


@pytest.mark.parametrize("seed", range(8))
def test_every_maximal_stretch_is_found_and_counted(seed):
    draw = random.Random(seed)
    training = "".join(draw.choice("ab\nЖ") for _ in range(500))
    training += training[40:90] + "".join(draw.choice("ab") for _ in range(100))
    text = training[45:80] + "b" + "".join(draw.choice("ab") for _ in range(60)) + training[-30:] + "Q" + training[3:23]
    index = Index(training)
    assert index.shortest == 20
    assert index.spans(text) == plain_spans(training, text, 20)


def test_short_texts_and_long_repeats():
    assert Index("abc").spans("abc") == []
    assert Index("a" * 5000).spans("short") == []
    [span] = Index("a" * 5000).spans("a" * 3000)
    assert (span.start, span.length) == (0, 3000)
    assert span.times == copies.MOST  # it stops counting there


@pytest.mark.parametrize("number", [3, 1400, 1499])  # the beginning has more places than are compared
def test_a_copy_is_found_whole_though_it_begins_like_many_places(number):
    lines = [f"{' ' * 24}call({i * 7919 % 10007:05}) and some more\n" for i in range(1500)]
    training, text = "".join(lines), "".join(lines[number : number + 2])
    assert Index(training).spans(text) == plain_spans(training, text, 20)
    assert Index(training).spans("?" + text + "?") == plain_spans(training, "?" + text + "?", 20)


def test_eight_characters_count_where_there_are_many_different_ones():
    training = "".join(chr(0x4E00 + i) for i in range(600))
    assert [(span.start, span.length) for span in Index(training).spans("x" + training[100:108] + "y")] == [(1, 8)]


@pytest.mark.parametrize("length", [1, 2, 3, 8, 20, 37])
def test_a_hash_depends_on_all_its_characters_and_on_no_others(length):
    codes = np.random.default_rng(0).integers(0, 200, 70_000).astype(np.uint8)  # more than one piece
    found = copies.hashes(codes, length)
    assert len(found) == len(codes) - length + 1
    for place in (0, 1, 65_535, 65_536, len(found) - 1):
        assert found[place] == copies.hashes(codes[place : place + length], length)[0]
    changed = codes.copy()
    changed[1000] += 1
    differ = np.flatnonzero(found != copies.hashes(changed, length))
    assert list(differ) == list(range(1000 - length + 1, 1001))


# --- of a run ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def one(home, tiny_text):
    return open_run(ended_run(corpus.add(tiny_text, "A play"), "one", **CLASSIC))


def test_the_share_counts_each_character_once_and_names_a_yardstick(one):
    training = one.training_text()
    text = training[100:160] + "~" * 40
    found = copies.checked(one, text)
    assert found["share"] == pytest.approx(0.6)
    assert found["longest"] == 60
    assert found["spans"][0]["at"] == training.index(training[100:160])
    held_out = copies.yardstick(one, 2000)
    assert 0 < held_out["share"] <= 1
    assert 20 <= held_out["longest"] <= len(one.held_out_text())


def test_the_yardstick_measures_passages_of_the_same_length(one, monkeypatch):
    text = one.held_out_text()
    size = 100
    starts = [int(start) for start in np.linspace(0, len(text) - size, len(text) // size)]
    each = [copies.index_of(one).spans(text[start : start + size]) for start in starts]
    found = copies.yardstick(one, size)
    assert found["longest"] == int(np.median([max((span.length for span in spans), default=0) for spans in each]))
    assert found["share"] == pytest.approx(np.mean([copies.share(spans, size) for spans in each]))


def test_a_short_text_is_compared_with_passages_as_short(one):
    found = copies.checked(one, one.training_text()[:30])
    assert found["longest"] == 30
    assert found["held_out"] == copies.yardstick(one, 30)
    assert found["held_out"]["longest"] <= 30


def test_the_longest_come_first_and_of_those_the_rarest(one):
    training = one.training_text()
    found = copies.checked(one, training[:30] + "~" + training[200:250] + "~" + training[300:330])
    lengths = [span["length"] for span in found["spans"]]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == 50


def test_a_verdict_compares_with_new_text():
    found = dict(share=0.04, longest=41, shortest=20, held_out=dict(share=0.05, longest=38))
    assert copies.verdict(found) == (
        "4.0% lies in stretches of 20 characters or more that appear word for word in the training text, at most 41 in "
        "a row. Held-out text, which the model hasn't seen, has 5.0%, usually up to 38 characters in a row."
    )
    nothing = dict(share=0.0, longest=0, shortest=20, held_out=dict(share=0.0, longest=0))
    assert copies.verdict(nothing) == (
        "Nothing of 20 characters or more is copied from the training text. Held-out text, which the model hasn't "
        "seen, has 0.0%."
    )


def test_a_sample_is_judged_once_and_kept_without_its_text(one, monkeypatch):
    found = copies.of_a_sample(one)
    assert "spans" not in found
    kept = (one.run.folder / "explain" / "copies.json").read_text()
    assert one.training_text()[:20] not in kept
    monkeypatch.setattr(copies, "checked", lambda *a: pytest.fail("judged again"))
    assert copies.of_a_sample(open_run(one.run)) == found


def test_without_the_text_it_says_so(one):
    with pytest.raises(NanoGPTError, match="isn't here, so copies can't be found"):
        copies.of_a_sample(open_run(one.run, may_read_text=False))
