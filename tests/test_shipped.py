"""Test the model that ships with the project: small, public, and as good as its README says."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest
from conftest import ROOT

from nanogpt.config import SampleConfig
from nanogpt.data import split
from nanogpt.device import pick_device
from nanogpt.evaluate import estimate_loss
from nanogpt.formats import load_model
from nanogpt.sample import stream
from nanogpt.tokenizer import CharTokenizer

FOLDER = ROOT / "checkpoints" / "shakespeare"


def test_it_is_small_and_says_what_it_is():
    files = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert sum(files.values()) < 10_000_000
    assert not {"last.safetensors", "log.txt"} & files.keys()
    settings = json.loads((FOLDER / "run.json").read_text(encoding="utf-8"))
    assert settings["public"] is True
    assert settings["owner"] is None


def test_the_guide_says_where_its_heads_look():
    found = json.loads((FOLDER / "explain" / "attention.json").read_text(encoding="utf-8"))["result"]
    heads = [head for block in found["heads"] for head in block]
    guide = (ROOT / "docs" / "understand.md").read_text(encoding="utf-8").replace("\n", " ")
    [said] = re.findall(r"In the bundled model two heads look.*? a little there\.", guide)
    shares = [re.match(r"\d+%", head["says"]) for head in heads]
    assert sorted(re.findall(r"\d+%", said)) == sorted(share[0] for share in shares if share)
    far = [head["distance"] for head, share in zip(heads, shares) if not share]
    assert f"The other {len(far)} heads" in said
    assert f"look back {min(far):.0f} to {max(far):.0f} places on average" in said
    assert f"the best heads of these three models score {found['copying']}," in guide


def test_it_writes():
    text = "".join(stream(load_model(FOLDER), CharTokenizer.load(FOLDER), "ROMEO:", SampleConfig(length=300, seed=1)))
    assert len(text) == 300
    assert len(set(text.split())) > 20


def test_what_was_measured_of_it_is_used():
    """A view that finds only what an older version kept measures for up to a minute each time it is opened."""
    from nanogpt.explain import cache
    from nanogpt.explain.opened import hash_of

    weights, run = hash_of((FOLDER / "model.safetensors").read_bytes()), SimpleNamespace(folder=FOLDER)
    views = sorted(path.stem for path in (FOLDER / "explain").glob("*.json"))
    assert views == ["attention", "copies", "loss", "parts", "readout", "units"]
    assert [view for view in views if cache.load_for(run, weights, view) is None] == []


@pytest.mark.slow
def test_its_loss_is_the_one_its_readme_names(shakespeare):
    [said] = re.findall(r"validation loss of (\d\.\d{3})", (FOLDER / "README.md").read_text(encoding="utf-8"))
    _, tail = split(CharTokenizer.load(FOLDER).encode_array(shakespeare))
    assert estimate_loss(load_model(FOLDER), tail, pick_device("cpu")) == pytest.approx(float(said), abs=0.002)
