"""Test the time machine: its rules on the texts of a real run, and runs with and without snapshots."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import CLASSIC, ended_run

from nanogpt import corpus
from nanogpt.config import SampleConfig
from nanogpt.explain import timemachine
from nanogpt.explain.opened import open_run
from nanogpt.explain.timemachine import Measure, Written, first_from, half_real, milestones, real_words, words_of
from nanogpt.formats import weights_bytes
from nanogpt.runs import snapshots

RECORDED = json.loads((Path(__file__).parent / "written" / "timed.json").read_text(encoding="utf-8"))
TEXTS = [Written(**one) for one in RECORDED["texts"]]
TRAINING = Measure(RECORDED["spaces"], RECORDED["breaks"], frozenset(RECORDED["words"]))
EXPECTED = {
    "Spaces about as often as in your text": 7,
    "First real words: “sure”, “thin”": 43,
    "Half of the words are real": 176,
}


def test_the_milestones_of_a_real_run():
    found = {one.says: one.step for one in milestones(TEXTS, TRAINING)}
    assert found == EXPECTED


def test_without_the_training_text_no_word_is_called_real():
    found = milestones(TEXTS, None)
    assert {one.says for one in found} >= {"Spaces about as often as at the end"}
    assert not [one for one in found if "real" in one.says]


def test_clauses_of_a_script_without_spaces_are_not_called_words():
    text = "，我们明天再去看他们，今天没有时间。" * 5
    found = milestones([Written(1, text)] * 3, timemachine.measure(text + "\n" + text))
    assert not [one for one in found if "real" in one.says]


def test_words_that_may_be_cut_off_do_not_count():
    assert words_of("he mill-Wheel turn") == ["mill", "wheel"]
    known = frozenset({"mill", "wheel", "the"})
    assert real_words("The the wheel wheel mill mill ", known) == ["wheel", "mill"]
    assert real_words("The the wheel wheel ", known) == []
    assert half_real("- the the mill xyzw qqq abc.", known)
    assert not half_real("- the the xyz xyzw qqq abc.", known)
    assert not half_real("- the the mill.", known)  # too few to tell


def test_words_are_whole_in_scripts_with_vowel_signs():
    assert words_of("क किताब में हिन्दी ह") == ["किताब", "में", "हिन्दी"]
    assert timemachine.measure("किताब में").words == {"किताब", "में"}


def test_a_rule_must_go_on_holding():
    assert first_from([True, False, False, True, True, True, False, True]) == 3
    assert first_from([False, False]) is None
    assert first_from([]) is None


@pytest.fixture
def one(home, tiny_text):
    return open_run(ended_run(corpus.add(tiny_text, "A play"), "one", **CLASSIC))


def test_each_snapshot_writes_from_the_same_prompt_and_seed(one):
    one.run.folder.joinpath("snapshots").mkdir()
    for step in (0, 10, 7):
        snapshots.path_of(one.run.folder, step).write_bytes(weights_bytes(one.model))
    *_, found = timemachine.travel(one, "The ", 5)
    assert [text["step"] for text in found["texts"]][:3] == [0, 7, 10]
    texts = [text["text"] for text in found["texts"]]
    assert len(set(texts[:3])) == 1
    assert len(texts[0]) == timemachine.LENGTH
    assert one.write(SampleConfig(length=timemachine.LENGTH, seed=5)) != texts[0]  # without the prompt
    assert not found["samples"]


def test_what_was_written_is_kept_until_there_are_more_snapshots(one, monkeypatch):
    one.run.folder.joinpath("snapshots").mkdir()
    snapshots.path_of(one.run.folder, 0).write_bytes(weights_bytes(one.model))
    *_, found = timemachine.travel(one)
    monkeypatch.setattr(timemachine, "_text", lambda *_: "written again")
    assert list(timemachine.travel(one)) == [found]
    snapshots.path_of(one.run.folder, 1).write_bytes(weights_bytes(one.model))
    *_, again = timemachine.travel(one)
    assert again["texts"][0]["text"] == "written again"


def test_a_run_without_snapshots_shows_its_samples(one):
    *_, found = timemachine.travel(one, "The ")
    assert found["samples"]
    assert [text["text"] for text in found["texts"]] == [row["text"] for row in one.run.history().samples]
