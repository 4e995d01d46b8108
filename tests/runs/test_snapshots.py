"""Test which snapshots a run keeps, in both layouts, stopped and resumed, and how much time they may take."""

from __future__ import annotations

import errno
import math

import pytest
import torch
from conftest import Clock

from nanogpt import corpus, disk
from nanogpt.config import ModelConfig, NanoGPTError, TrainConfig
from nanogpt.formats import load_model
from nanogpt.launch import prepare
from nanogpt.model import GPT
from nanogpt.runs import Run, archive, snapshots
from nanogpt.train import train

TINY = dict(
    n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, max_iters=12, eval_interval=6, patience=0, device="cpu"
)  # fmt: skip


@pytest.fixture
def new_run(home, tiny_text):
    text = corpus.add(tiny_text, "A play")
    return lambda name, **settings: prepare.new_run(name, text, "quick", **{**TINY, **settings})


def test_the_steps_grow_by_a_factor():
    assert sorted(snapshots.STEPS)[:12] == [0, 1, 2, 3, 4, 7, 10, 17, 27, 43, 69, 110]
    assert sum(step <= 5000 for step in snapshots.STEPS) == 20


@pytest.mark.parametrize("layout", ["classic", "modern"])
def test_a_resumed_run_has_the_same_snapshots(new_run, layout):
    whole = new_run("whole", layout=layout)
    train(whole)
    assert snapshots.steps_in(whole.folder) == [0, 1, 2, 3, 4, 7, 10]

    parted = new_run("parted", layout=layout)
    train(parted, seconds=0.0)  # it makes room for others at once, at step 0
    assert snapshots.steps_in(parted.folder) == [0]
    later = snapshots.path_of(parted.folder, 7)
    later.write_bytes(b"of a step after the last save")
    train(parted)
    contents = [
        {step: snapshots.path_of(run.folder, step).read_bytes() for step in snapshots.steps_in(run.folder)}
        for run in (whole, parted)
    ]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 7

    model, last = snapshots.load(whole.folder, 10), load_model(whole.folder)
    assert model.config == last.config
    assert all(value.dtype == torch.float32 for value in model.state_dict().values())


def test_snapshots_count_but_do_not_travel(new_run, tmp_path):
    run = new_run("one")
    train(run)
    in_snapshots = disk.bytes_in(run.folder / "snapshots")
    assert in_snapshots > 7 * 2 * load_model(run.folder).count_parameters()
    assert run.size() > in_snapshots
    archive.pack(run, tmp_path / "one.zip", to_continue=True)
    assert not (archive.unpack(tmp_path / "one.zip").folder / "snapshots").exists()
    run.delete()
    assert not run.folder.exists()


def test_who_keeps_snapshots(monkeypatch):
    chosen = lambda snapshots_, parameters: snapshots.wanted(TrainConfig(snapshots=snapshots_), parameters)
    assert chosen("auto", 3_000_000)
    assert not chosen("auto", 3_000_001)
    assert chosen("on", 3_000_001)
    assert not chosen("off", 1)
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    assert not chosen("on", 1)


@pytest.fixture
def taking(new_run):
    """Return Snapshots of a run that has not begun."""
    run = new_run("taking")
    model = GPT(ModelConfig(vocab_size=5, n_layer=1, n_head=1, n_embd=4, block_size=4))
    note = lambda step, message: run.event("note", step=step, message=message)
    return snapshots.Snapshots(run.folder, model, TrainConfig(), 100.0, note)


def test_copying_and_writing_take_at_most_two_percent(taking, monkeypatch):
    clock = Clock(0.1)  # each look at it takes this long: copying takes 0.1 s, and so does writing
    monkeypatch.setattr(snapshots, "time", clock)
    assert taking.look(0, 100.0) == pytest.approx(0.1)
    assert list(taking.waiting) == [0]
    assert taking.look(5, 104.0) == 0.0  # 2% of 4 s are less than was spent
    taking.look(6, 106.0)
    assert snapshots.steps_in(taking.folder) == [0]
    assert not taking.waiting
    taking.look(7, 106.0)
    taking.look(10, 107.0)
    assert list(taking.waiting) == [7, 10]
    taking.write()  # at a save
    assert snapshots.steps_in(taking.folder) == [0, 7, 10]


def test_a_run_with_a_time_budget_leaves_out_what_takes_more_than_two_percent_of_it(taking, monkeypatch):
    monkeypatch.setattr(snapshots, "time", Clock(0.1))
    timed = snapshots.Snapshots(taking.folder, taking.model, TrainConfig(budget=20.0), 0.0, taking.note)
    for step in (0, 1, 2, 3, 4):
        timed.look(step, 0.5)
    assert list(timed.waiting) == [0, 1, 2, 3]  # copied in 0.1 s each, which is 2% of 20 s
    timed.write()
    assert timed.pending == 0.0
    timed.look(7, 19.0)
    assert not timed.waiting
    fast = snapshots.Snapshots(taking.folder, taking.model, TrainConfig(budget=20.0), 0.0, taking.note)
    fast.look(7, 0.5)
    fast._writes.add(0.15)  # as measured on a slow disk
    fast.look(10, 0.5)
    assert list(fast.waiting) == [7]
    assert fast.pending == 0.15


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e5])
def test_weights_that_are_nan_or_too_large_for_half_precision_are_no_snapshot(taking, value):
    weights = taking.model.lm_head.weight.data
    for step, weights[0, 0] in ((1, 0.5), (2, value), (3, 60_000.0)):
        taking.look(step, 100.0)
    taking.write()
    assert snapshots.steps_in(taking.folder) == [1, 3]


def test_a_full_disk_is_noted_once(taking, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(snapshots.disk, "write_whole", full)
    taking.look(1, 100.0)
    taking.look(2, 100.0)
    taking.write()
    taking.look(3, 200.0)
    taking.write()
    assert not taking.waiting
    [note] = Run("taking").history().notes
    assert note.startswith("No more snapshots are kept: ")


def test_a_broken_snapshot_is_named(new_run):
    run = new_run("one")
    path = snapshots.path_of(run.folder, 3)
    path.parent.mkdir()
    path.write_bytes(b"broken")
    with pytest.raises(NanoGPTError, match="The snapshot of step 3 can't be read. Delete snapshots/3.safetensors"):
        snapshots.load(Run("one").folder, 3)
