"""Test the baselines: their values, and how they are kept next to a text."""

from __future__ import annotations

import json
import lzma
import math
import random
import string

import pytest

from nanogpt import corpus
from nanogpt.explain import adaptive, baselines
from nanogpt.explain.baselines import BASELINES, Counted, count, counted
from nanogpt.holdout import train_length


def test_shakespeare_s_baselines(shakespeare):
    found = counted(shakespeare)
    assert found["7-gram"] == pytest.approx(1.5165, abs=0.0005)
    assert found["5-gram"] == pytest.approx(1.5612, abs=0.0005)
    assert found["bigram"] == pytest.approx(2.4909, abs=0.0005)
    assert found["uniform"] == math.log(65)


def test_the_compressors_learn_from_the_validation_set(tiny_text):
    pytest.importorskip("pyppmd")
    state = random.Random(1)
    noise = "".join(state.choice("abcdefghijklmnop") for _ in range(3000))  # 4 bits per character
    for name in ("xz", "ppmd"):
        repeated = adaptive.compressed(name, tiny_text, noise[:1000] * 3) / math.log(2)  # bits per character
        once = adaptive.compressed(name, tiny_text, noise) / math.log(2)
        assert 4 < once < 5.2  # what can't be predicted can't be learned either
        assert repeated < 2.0  # the second and third time, it is known


ENGLISH = string.ascii_uppercase + string.ascii_lowercase
CYRILLIC = "".join(chr(first + i) for first in (0x410, 0x430) for i in range(26))


def test_a_letter_counts_as_one_whatever_its_script(tiny_text):
    """PPMd's order counts bytes, of which a Cyrillic letter has two in UTF-8."""
    pytest.importorskip("pyppmd")
    cut, other = train_length(len(tiny_text)), tiny_text.translate(str.maketrans(ENGLISH, CYRILLIC))
    assert len(other.encode()) > 1.5 * len(tiny_text)
    losses = [adaptive.compressed("ppmd", text[:cut], text[cut:]) for text in (tiny_text, other)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("size", [129, 256, 257])
def test_a_text_has_one_byte_per_character_if_its_alphabet_allows(size):
    alphabet = "\n az" + "".join(chr(0x4E00 + i) for i in range(size - 4))
    text = alphabet * 2
    data = adaptive.as_bytes(text)
    if size > 256:
        assert data == text.encode()
        return
    assert len(data) == len(text)
    assert len(set(data)) == size
    assert data[:4] == b"\n az"
    assert data[:size] == data[size:]
    assert adaptive.as_bytes("plain\n") == b"plain\n"


def test_ppmd_is_said_to_know_bytes_where_characters_have_several():
    knows = lambda size: BASELINES["ppmd"].knows_of({"uniform": math.log(size)})
    assert knows(256).startswith("knows the previous 6 characters, ")
    assert knows(257).startswith("knows the previous 6 bytes, ")
    assert BASELINES["7-gram"].knows_of({"uniform": math.log(257)}) == "knows the previous 6 characters"


def test_compressors_of_an_earlier_version_are_computed_again(home, tiny_text, monkeypatch):
    text = corpus.add(tiny_text, "play")
    found = baselines.keep(text)
    path = text.folder / "baselines.json"
    stored = json.loads(path.read_text())
    del stored["version"]
    stored["losses"]["xz"] = 9.0
    path.write_text(json.dumps(stored))
    assert baselines.kept(text).losses.keys() == {key for key, one in BASELINES.items() if not one.adaptive}
    monkeypatch.setattr(baselines, "counted", None)  # the others are the same as before
    assert baselines.keep(text) == found


def test_xz_is_as_small_as_with_its_preset(tiny_text):
    data = tiny_text.encode()
    preset = lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)
    assert abs(adaptive.xz_bytes(data) - len(preset)) <= 8  # the header names a smaller dictionary


def test_a_text_of_1000_characters_and_one_with_a_large_alphabet_have_all_baselines(tiny_text):
    for text in (tiny_text[:1000], "".join(chr(0x4E00 + i % 900) for i in range(1000)), "ab" * 500):
        *_, found = count(text)
        assert found.missing() == []
        assert all(math.isfinite(loss) and loss >= 0 for loss in found.losses.values())


def test_a_part_of_a_long_text_is_split_at_the_same_character(monkeypatch):
    monkeypatch.setattr(baselines, "MOST", 100)
    text = "".join(chr(0x4E00 + i) for i in range(1000))
    part = baselines.part_of(text)
    assert len(part) == 100
    assert part[train_length(100) :] == text[train_length(1000) :][:10]
    assert next(count(text)).losses["uniform"] == pytest.approx(math.log(1000))  # of the whole alphabet


def test_the_alphabet_is_that_of_the_whole_text_even_if_a_part_is_counted(home, monkeypatch):
    text = corpus.add("".join(map(chr, range(0x4E00, 0x4E00 + 300))) + "abc \n" * 400, "Rare at the start")
    monkeypatch.setattr(baselines, "MOST", 1000)  # which has none of the rare ones
    assert len(set("".join(text.part(1000)))) == 5
    assert baselines.keep(text).losses["uniform"] == pytest.approx(math.log(305))


def test_results_are_kept_with_the_text_and_computed_once(home, tiny_text, monkeypatch):
    text = corpus.add(tiny_text, "play")
    before = corpus.size_on_disk(text)
    assert baselines.kept(text) is None
    found = baselines.keep(text)
    assert found == baselines.kept(corpus.load(text.id))
    assert found.missing() == []
    assert corpus.size_on_disk(text) == before + (text.folder / "baselines.json").stat().st_size
    monkeypatch.setattr(baselines, "count", None)  # not called again
    assert baselines.keep(text) == found
    corpus.delete(text.id)
    assert not text.folder.exists()


@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"sha256": 1, "losses": {}, "characters": 5}'])
def test_a_damaged_file_is_computed_again(home, tiny_text, damage):
    text = corpus.add(tiny_text, "play")
    (text.folder / "baselines.json").write_text(damage)
    assert baselines.kept(text) is None
    assert baselines.keep(text).missing() == []


def test_without_pyppmd_the_rest_is_there_and_ppmd_is_added_once_it_is_installed(home, tiny_text, monkeypatch):
    text, installed = corpus.add(tiny_text, "play"), adaptive.pyppmd
    monkeypatch.setattr(adaptive, "pyppmd", None)
    found = baselines.keep(text)
    assert found.losses.keys() == BASELINES.keys() - {"ppmd"}
    assert found.missing() == []
    if installed:
        monkeypatch.setattr(adaptive, "pyppmd", installed)
        monkeypatch.setattr(baselines, "counted", None)  # only what is missing is computed
        assert baselines.keep(text).losses.keys() == BASELINES.keys()


def test_counts_are_written_before_the_slower_compressors(home, tiny_text, monkeypatch):
    text, seen = corpus.add(tiny_text, "play"), []
    monkeypatch.setattr(baselines, "compressed", lambda *a: seen.append(baselines.kept(text)) or 1.0)
    baselines.keep(text)
    assert isinstance(seen[0], Counted)
    assert "7-gram" in seen[0].losses
    assert json.loads((text.folder / "baselines.json").read_text())["losses"]["xz"] == 1.0


def test_a_baseline_has_the_same_name_on_the_plot_on_the_ruler_and_on_the_card():
    for one in BASELINES.values():
        assert one.label.removesuffix(" (compressor)").lower() == one.short.lower()
        assert one.label.endswith(" (compressor)") == one.adaptive
