"""Letters' neighbors by hand, and maps that are turned to fit each other."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import CLASSIC, ended_run

from nanogpt import corpus
from nanogpt.disk import write_whole
from nanogpt.explain import neighbors
from nanogpt.explain.opened import open_run
from nanogpt.formats import weights_parts
from nanogpt.model import GPT
from nanogpt.runs import snapshots
from nanogpt.tokenizer import make_tokenizer
from nanogpt.ui.views import neighbors as view_neighbors


def test_neighbors_by_hand():
    rows = np.array([[2.0, 0.0], [0.0, 2.0], [1.0, -1.0], [-3.0, -1.0]]) + 5.0  # of a, b, c, d; they share the 5
    a, b, c, d = neighbors.nearest(rows, make_tokenizer("abcd"))
    assert [one["token"] for one in a["near"]] == ["c", "b", "d"]
    assert [one["cosine"] for one in a["near"]] == pytest.approx([0.5**0.5, 0.0, -3 / 10**0.5], abs=1e-3)
    assert [one["near"][0]["token"] for one in (b, c, d)] == ["a", "a", "b"]
    assert len(neighbors.nearest(np.eye(9), make_tokenizer("abcdefghi"))[0]["near"]) == neighbors.NEAREST


def test_only_rows_that_are_shown_are_compared_with_all():
    rows = np.random.default_rng(2).normal(size=(50, 4))
    tokenizer = make_tokenizer("".join(map(chr, range(65, 65 + 50))))
    every = neighbors.nearest(rows, tokenizer)
    assert neighbors.nearest(rows, tokenizer, [3, 41]) == [every[3], every[41]]
    unit = neighbors.directions(rows)
    alike = unit @ unit[3]
    order = [i for i in np.argsort(-alike, kind="stable") if i != 3][: neighbors.NEAREST]
    assert [one["token"] for one in every[3]["near"]] == [tokenizer.itos[i] for i in order]
    assert neighbors.cosines(rows, np.array([3, 41])).shape == (2, 50)


def test_random_rows_are_not_taken_for_learned_ones():
    rng = np.random.default_rng(1)
    random = rng.normal(size=(65, 96))
    assert neighbors.by_chance(65, 96) == pytest.approx(neighbors.likeness(random), abs=0.05)
    assert not neighbors.learned(random)
    pairs = np.repeat(rng.normal(size=(33, 96)), 2, axis=0)[:65] + 0.5 * random
    assert neighbors.learned(pairs)
    many = rng.normal(size=(2000, 8))  # among so many, the nearest one is near by chance
    assert neighbors.by_chance(2000, 8) == pytest.approx(neighbors.likeness(many), abs=0.02)
    near = neighbors.nearest(many, make_tokenizer("".join(map(chr, range(0x4E00, 0x4E00 + 2000)))), range(100))
    assert all(neighbors.unmoved(near, many))
    for few in (4, 7, 10, 16):  # of which some are alike by luck
        assert not any(neighbors.learned(rng.normal(size=(few, 16))) for _ in range(50)), few


def test_two_characters_do_not_tell_what_a_model_has_learned(home):
    assert neighbors.learned(np.array([[3.0, 1.0], [-2.0, 5.0]])) is None
    one = open_run(ended_run(corpus.add("abba" * 400, "Two"), "one", **CLASSIC))
    assert view_neighbors.shown(one)["words"].endswith(view_neighbors.FEW)


def test_a_character_whose_row_has_not_moved_is_told_from_others():
    rng = np.random.default_rng(1)
    pairs = np.repeat(rng.normal(size=(32, 96)), 2, axis=0) + 0.3 * rng.normal(size=(64, 96))
    rows = np.concatenate([pairs, rng.normal(size=(1, 96))])
    assert neighbors.learned(rows)
    near = neighbors.nearest(rows, make_tokenizer("".join(map(chr, range(65, 65 + 65)))))
    assert neighbors.unmoved(near, rows) == [False] * 64 + [True]


def test_of_a_large_alphabet_the_most_frequent_are_shown(home):
    rare = "".join(map(chr, range(0x4E00, 0x4E00 + 400)))
    common = "".join(map(chr, range(0x9000, 0x9000 + 20)))
    one = open_run(ended_run(corpus.add(rare + "e。" + (common + common[7]) * 100, "Many"), "one", **CLASSIC))
    data = view_neighbors.shown(one)
    assert len(data["tokens"]) == len(data["near"]) == len(data["maps"][-1]["points"]) == 300
    assert set(common) < set(data["tokens"])
    assert data["tokens"][data["at"]] == common[7]
    assert data["words"].startswith("Only the 300 most frequent of 422 characters are shown; other neighbors are only")
    alone = view_neighbors.shown(open_run(one.run, may_read_text=False))
    assert alone["tokens"] == one.tokenizer.chars[:300]
    assert alone["words"].startswith("Only the first 300 of 422 characters")


def test_a_map_keeps_as_much_of_the_distances_as_two_directions_can():
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(12, 2))
    basis, _ = np.linalg.qr(rng.normal(size=(8, 2)))
    points, share = neighbors.flat(flat @ basis.T + 5.0)
    assert share == pytest.approx(1.0)
    apart = lambda x: np.linalg.norm(x[:, None] - x[None], axis=-1)
    assert apart(points) == pytest.approx(apart(flat))
    rows = rng.normal(size=(30, 8))
    values = np.linalg.eigvalsh(np.cov(rows.T))
    assert neighbors.flat(rows)[1] == pytest.approx(values[-2:].sum() / values.sum())


def test_a_map_is_turned_mirrored_and_scaled_to_fit():
    like = np.random.default_rng(0).normal(size=(10, 2))
    like -= like.mean(axis=0)
    angle = 1.1
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    mirrored = (like @ turn) * [1, -1] * 3.0
    assert neighbors.turned(mirrored, like) == pytest.approx(like)
    # no other turn fits better
    other = np.random.default_rng(1).normal(size=(10, 2))
    best = ((neighbors.turned(other, like) - like) ** 2).sum()
    for angle in np.linspace(0, 2 * np.pi, 50):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        for flip in ([1, 1], [1, -1]):
            there = other @ turn * flip
            there *= (there * like).sum() / (there**2).sum()  # the best scale
            assert ((there - like) ** 2).sum() >= best - 1e-9


def test_the_maps_of_a_run_end_with_its_model(home, tiny_text):
    run = ended_run(corpus.add(tiny_text, "A play"), "one", **CLASSIC)
    one = open_run(run)
    alone = view_neighbors.shown(one)
    assert len(alone["maps"]) == 1
    assert "kept no snapshots" in alone["words"]
    assert alone["tokens"][alone["at"]] == max(filter(str.isalpha, alone["tokens"]), key=one.training_text().count)
    (run.folder / "snapshots").mkdir()
    for step, model in ((0, GPT(one.model.config)), (7, GPT(one.model.config)), (49, one.model)):
        write_whole(snapshots.path_of(run.folder, step), weights_parts(model, half=True))
    data = view_neighbors.shown(one)
    assert [one["step"] for one in data["maps"]] == [0, 7, 49, 50]
    assert np.array(data["maps"][2]["points"]) == pytest.approx(np.array(data["maps"][3]["points"]), abs=0.01)
    assert np.abs(data["maps"][-1]["points"]).max() == 1.0
    assert len(data["maps"][0]["points"]) == len(data["near"]) == one.tokenizer.vocab_size
    assert "Move the slider" in data["words"]
    assert data["words"].endswith(view_neighbors.RANDOM)  # it was never trained
