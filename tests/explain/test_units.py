"""Features of a text by hand, AUC against counting all pairs, and units against the model's own numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest import ended_run

from nanogpt import corpus
from nanogpt.cli.main import main
from nanogpt.config import NanoGPTError
from nanogpt.explain import units
from nanogpt.explain.features import FEATURES, late_in_line, word_start, words
from nanogpt.explain.opened import Opened, open_run
from nanogpt.explain.passages import FIRST
from nanogpt.explain.units import Unit

SMALL = dict(layout="classic", n_layer=2, n_head=2, n_embd=16, block_size=64, batch_size=4, max_iters=50)


@pytest.mark.parametrize(
    ("name", "text", "marks"),
    [
        ("capitals", "I am MR. T, OK", ".....xx.....xx"),
        ("word-start", "it's 3 words", "x..x...x...."),
        ("late", "abcdefgh\\nij\\n", "......xxx..."),
        ("quotes", 'a "bc" “d” "e\\nf', "...xx...x...x.."),
        ("quotes", "„Hallo“ und ging. „Na” ja", ".xxxxx.............xx...."),
        ("quotes", "«a» b »c« d »e» f “g\nh” i", ".x.....x.....x.....x....."),
        ("quotes", "« Oui »\nnon » dit-il", ".xxxxx.............."),
        ("quotes", "ging.“ Er „so“, gut“, er", "...........xx..........."),
        ("quotes", "他说“你好”，「再见」", "...xx...xx."),
        ("quotes", "‘I don’t’ o‘clock ”Ja” sa", ".xxxxxxx...........xx...."),
        ("quotes", "“a ‘b’ c” d", ".xxxxxxx..."),
        ("digits", "a1 23", ".x.xx"),
        ("capitals", "", ""),
        ("late", "", ""),
        ("word-start", "", ""),
    ],
)
def test_features_by_hand(name, text, marks):
    text = text.replace("\\n", "\n")
    assert "".join(".x"[has] for has in FEATURES[name][1](text)) == marks


def test_auc_is_the_share_of_pairs_in_the_right_order():
    rng = np.random.default_rng(0)
    values = np.maximum(0, rng.normal(size=(60, 5))).astype(np.float32).round(1)  # with many equal ones
    has = rng.random(60) < 0.3
    values[:, 0] = has
    pairs = values[has][:, None] - values[~has][None]  # (P, N - P, U)
    by_hand = ((pairs > 0) + 0.5 * (pairs == 0)).mean(axis=(0, 1))
    found = units.auc(values, has)
    assert found == pytest.approx(by_hand)
    assert found[0] == 1.0


def test_units_are_what_the_models_mlps_compute(model):
    seen = []
    see = lambda module, into, out: seen.append(out)
    hooks = [block.ffwd.net[1].register_forward_hook(see) for block in model.blocks]
    idx = torch.randint(11, (4, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model(idx)
    for hook in hooks:
        hook.remove()
    found = list(units.activations(model, idx))
    assert [of_block.shape for of_block in found] == [(4, 16, 64)] * 2
    for of_block, there in zip(found, seen):
        assert of_block == pytest.approx(there.numpy(), abs=1e-5)
    # a feature that is one unit, in the second block
    number = int((found[1] > 0).mean(axis=(0, 1)).argmax())  # one that is alive
    values = found[1][..., number]
    assert units.best_unit(model, idx, values > np.median(values)) == (unit := Unit(1, number), 1.0)
    assert str(unit) == f"block 2, unit {number + 1}"
    assert np.array_equal(units.values_of(model, idx, unit), values)


# --- of a run ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def one(home, tiny_text):
    return open_run(ended_run(corpus.add(tiny_text, "A play"), "one", **SMALL))


def test_a_unit_is_chosen_on_one_half_and_judged_on_the_other(one, monkeypatch, capsys):
    found = units.of_feature(one, "word-start")
    where, on = units.windows(one, units.MEASURED)
    idx, has = where.xb, units.has_feature(one, where, "word-start")
    half = (len(idx) + 1) // 2
    unit = Unit(found["block"], found["number"])
    assert unit == units.best_unit(one.model, idx[:half], has[:half])[0]
    values = units.values_of(one.model, idx, unit)
    there = values[half:, FIRST:].reshape(-1, 1)
    assert found["auc"] == pytest.approx(units.auc(there, has[half:, FIRST:].flatten())[0], abs=1e-4)
    assert found["on"] == on == "held-out text"
    # the strongest place, and none of the five within another's surroundings
    assert found["strongest"][0]["value"] == pytest.approx(values[:, FIRST:].max(), abs=1e-3)
    place = found["strongest"][0]
    assert place["before"] + place["here"] + place["after"] in one.held_out_text()
    assert [place["value"] for place in found["strongest"]] == sorted(
        (place["value"] for place in found["strongest"]), reverse=True
    )
    kept = (one.run.folder / "explain" / "units.json").read_text(encoding="utf-8")
    assert "strongest" not in kept
    monkeypatch.setattr(units, "best_unit", lambda *a: pytest.fail("searched again"))
    assert units.of_feature(open_run(one.run), "word-start") == found
    assert main(["explain", "unit", "one", "--feature", "word-start", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found


def test_a_feature_is_that_of_the_whole_text_and_not_of_a_window(home):
    """The columns of a line that is longer than the context, and quotes that a window begins within."""
    line = 'she said "the mill turns by the old river" and then ' * 10
    text = (line[:499] + "\n") * 30
    one = open_run(ended_run(corpus.add(text, "Long lines"), "one", **SMALL))
    whole, (where, _) = one.held_out_text(), units.windows(one, units.MEASURED)
    assert where.xb.shape == (23, 64)
    for name in ("late", "quotes", "word-start"):
        marks, has = FEATURES[name][1](whole), units.has_feature(one, where, name)
        for row, start, ids in zip(has, where.starts.tolist(), where.xb.tolist()):
            assert row.tolist() == marks[start : start + 64]
            assert one.tokenizer.decode(ids) == whole[start : start + 64]
    late = units.has_feature(one, where, "late").mean()
    assert late == pytest.approx(np.mean(late_in_line(whole)), abs=0.05)


def test_a_unit_found_without_the_text_is_searched_again_once_it_is_here(one):
    alone = open_run(one.run, may_read_text=False)
    assert units.of_feature(alone, "word-start")["on"] == "text it wrote itself"
    assert units.of_feature(one, "word-start")["on"] == "held-out text"
    assert units.of_feature(alone, "word-start")["on"] == "held-out text"


def test_of_what_is_kept_a_model_without_its_text_writes_only_a_little(one, monkeypatch):
    kept, written = units.of_feature(one, "word-start"), []
    alone, write = open_run(one.run, may_read_text=False), Opened.write
    units.windows.cache_clear()
    monkeypatch.setattr(Opened, "write", lambda one, config: written.append(config.length) or write(one, config))
    found = units.of_feature(alone, "word-start")
    assert len(written) == 1
    assert written[0] < units.MEASURED / 5
    assert (found["auc"], found["on"]) == (kept["auc"], "held-out text")
    assert found["strongest"]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("किताब में हिन्दी", 3),
        ("สวัสดี ครับ", 2),
        ("שָׁלוֹם", 1),
        ("re\u0301sume\u0301 it", 2),
        ("a1b_c", 3),
        ("I ❤️ you", 2),
        ("12 :", 0),
        ("", 0),
    ],
)
def test_marks_belong_to_their_letters(text, count):
    assert sum(word_start(text)) == len(list(words(text))) == count


def test_what_cannot_be_found(one):
    with pytest.raises(NanoGPTError, match="no feature 'x'"):
        units.of_feature(one, "x")
    with pytest.raises(NanoGPTError, match="Too few characters"):
        units.of_feature(one, "digits")


def test_the_unit_of_a_selection(one):
    ids = one.tokenizer.encode("The old river turns by the bridge.")
    found = units.of_selection(one, ids, 14, 19)
    has = np.zeros((1, len(ids)), dtype=bool)
    has[0, 14:19] = True
    unit, score = units.best_unit(one.model, torch.tensor([ids]), has)
    assert (found["block"], found["number"], found["auc"]) == (unit.block, unit.number, pytest.approx(score, abs=1e-4))


@pytest.mark.parametrize(
    ("auc", "says"), [(0.98, "almost alone"), (0.9, "well"), (0.75, "in part"), (0.6, "No single")]
)
def test_a_sentence_says_how_well(auc, says):
    assert says in units.words(dict(block=3, number=16, auc=auc, on="held-out text"))
