"""Run folders of earlier versions open, write and go on; those of later ones say which version they need.

Each file in `old` is a folder for NANOGPT_HOME, as one version wrote it: a text, and a run of six steps per
architecture. The next change of the format (`FORMAT` in runs/about.py) adds another.
"""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from nanogpt import __version__, corpus
from nanogpt.config import NanoGPTError, SampleConfig
from nanogpt.formats import load_model
from nanogpt.launch import prepare
from nanogpt.runs import Run, all_runs, archive
from nanogpt.runs.about import FORMAT
from nanogpt.runs.checkpoint import progress_in
from nanogpt.sample import stream
from nanogpt.tokenizer import load_tokenizer
from nanogpt.train import train

OLD = sorted((Path(__file__).parent / "old").glob("*.zip"))


@pytest.fixture(params=OLD, ids=lambda path: path.stem)
def old(request, home) -> list[Run]:
    with zipfile.ZipFile(request.param) as packed:
        packed.extractall(home)
    return sorted(all_runs(), key=lambda run: run.name)


def is_first(request) -> bool:
    """Return True for the first version, never published, whose optimizer had its parameters in another order."""
    return "1-first" in request.node.name


def test_there_is_one_for_each_version_that_was_used():
    assert [path.stem for path in OLD] == ["1-first", "2-modern", "3-budgets", "4-characters"]


def test_an_old_run_opens_writes_and_goes_on(old, request):
    assert [run.name for run in old] in (["old"], ["old", "old-modern"])
    for run in old:
        assert (run.status().state, run.status().step) == ("finished", 6)
        text = "".join(stream(load_model(run.folder), load_tokenizer(run.folder), "", SampleConfig(length=20)))
        assert len(text) == 20
        assert len(corpus.load(run.settings()["corpus"]["id"]).tokens()) == 4000
        before = run.history().latest("val_loss")
        prepare.to_continue(run, max_iters=30)
        if is_first(request):
            with pytest.raises(NanoGPTError, match="optimizer doesn't match .* You can still sample from it"):
                train(run)
            continue
        train(run)
        ended = run.status()
        assert (ended.state, ended.step) == ("finished", 30)
        assert run.history().latest("val_loss") < before
        steps = [row["step"] for row in run.history().rows]
        assert steps == sorted(set(steps))


def test_an_old_run_can_be_moved(old, tmp_path, request):
    for run in old:
        archive.pack(run, tmp_path / "run.zip", to_continue=True)
        moved = archive.unpack(tmp_path / "run.zip")
        assert moved.history().rows == run.history().rows
        prepare.to_continue(moved, max_iters=8)
        if is_first(request):
            continue
        train(moved)
        assert math.isfinite(moved.history().latest("val_loss"))


@pytest.fixture
def newer(home) -> Run:
    """A run as the next version might write it."""
    with zipfile.ZipFile(OLD[-1]) as packed:
        packed.extractall(home)
    run = Run("old")
    settings = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    settings |= dict(format=FORMAT + 1, versions=dict(nanogpt="7.5"))
    (run.folder / "run.json").write_text(json.dumps(settings), encoding="utf-8")
    return run


def test_a_newer_run_says_which_version_it_needs(newer, tmp_path):
    needs = f"made by nanogpt 7\\.5, and this is {__version__}\\. Update nanogpt to open it"
    for use in (newer.settings, lambda: prepare.to_continue(newer, max_iters=8), newer.status):
        with pytest.raises(NanoGPTError, match=needs):
            use()
    assert {run.name: run.glance().state for run in all_runs()} == {"old": "damaged", "old-modern": "finished"}
    assert needs.replace("\\", "") in newer.glance().message
    with zipfile.ZipFile(tmp_path / "newer.zip", "w") as packed:
        for path in newer.folder.iterdir():
            packed.write(path, path.name)
    with pytest.raises(NanoGPTError, match=needs):
        archive.unpack(tmp_path / "newer.zip")


def test_in_an_old_checkpoint_the_best_loss_is_that_of_regular_evaluations_too():
    found = progress_in({"progress": json.dumps(dict(step=3, best_val_loss=2.0, worse=1))}, "old")
    assert (found.best_val_loss, found.best_regular_loss, found.worse) == (2.0, 2.0, 1)


def test_a_checkpoint_with_more_progress_is_not_resumed(home):
    with zipfile.ZipFile(OLD[-1]) as packed:
        packed.extractall(home)
    path = Run("old").folder / "last.safetensors"
    with safe_open(path, "pt") as file:
        progress = json.loads(file.metadata()["progress"]) | {"epochs_left": 3}
    save_file(load_file(path), path, {"progress": json.dumps(progress)})
    prepare.to_continue(Run("old"), max_iters=8)
    with pytest.raises(NanoGPTError, match="trained with a newer version of nanogpt. Update nanogpt to resume it"):
        train(Run("old"))
