"""Test batches and validation windows on data in which each id is its own position."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nanogpt import data as data_module
from nanogpt.config import ModelConfig, NanoGPTError
from nanogpt.data import Shuffled, fitting_block_size, forgetting, get_batch, large_file, moved, split, windows
from nanogpt.device import Device


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# --- the split into training and validation set --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "taken"), [(np.uint8, torch.uint8), (np.uint16, torch.int32), (np.uint32, torch.int32)]
)
def test_nine_tenths_are_for_learning_and_nothing_is_lost(kind, taken):
    top = min(np.iinfo(kind).max, 2**31 - 1)
    tokens = np.array([top, *range(123)], dtype=kind)
    train, val = split(tokens)
    assert (len(train), len(val)) == (111, 13)  # int(0.9 * 124), as in the lecture
    assert torch.cat([train, val]).tolist() == tokens.tolist()
    assert train.dtype == val.dtype == taken


def test_the_split_is_in_memory_even_when_the_file_is_only_mapped(tmp_path):
    np.save(tmp_path / "tokens.npy", np.arange(100, dtype=np.uint8))
    mapped = np.load(tmp_path / "tokens.npy", mmap_mode="r")
    train, _ = split(mapped)
    train[0] = 77  # a read-only memory map would raise or warn here
    assert mapped[0] == 0


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32])
def test_a_large_file_stays_on_disk_and_gives_the_same_batches(tmp_path, monkeypatch, kind):
    tokens = np.random.default_rng(1).integers(0, min(np.iinfo(kind).max, 2**31 - 1), 30_000).astype(kind)
    np.save(tmp_path / "tokens.npy", tokens)
    mapped = np.load(tmp_path / "tokens.npy", mmap_mode="c")
    copied = split(mapped)
    monkeypatch.setattr(data_module, "IN_MEMORY", 1000)
    views = split(mapped)
    assert large_file(mapped)
    assert not large_file(tokens)
    for view, copy in zip(views, copied):
        assert np.shares_memory(view.numpy(), mapped)
        assert moved(view, "cpu") is view
        assert moved(view, "meta").dtype == copy.dtype  # "meta" stands for a GPU, which can't index uint16
        assert torch.equal(view.long(), copy.long())
        for some, same in zip(windows(view, 64), windows(copy, 64), strict=True):
            assert torch.equal(some[1], same[1])
    one, other = (Shuffled(part, 64, 12, seed=1) for part in (views[0], copied[0]))
    forgetful = forgetting(one, large_file(mapped), 12)
    assert all(torch.equal(forgetful(step)[0], other(step)[0]) for step in range(50))


@pytest.mark.skipif(sys.platform != "linux", reason="reads its own memory from /proc")
def test_reading_all_of_a_large_file_keeps_little_of_it_in_memory(tmp_path):
    def in_files() -> int:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssFile"))  # kB

    np.save(tmp_path / "tokens.npy", np.zeros(300_000_000, dtype=np.uint8))
    mapped = np.load(tmp_path / "tokens.npy", mmap_mode="c")
    plain = Shuffled(split(mapped)[0], 64, 12, seed=1)
    before, most = in_files(), 0
    forgetful = forgetting(plain, large_file(mapped), 12)
    for step in range(1, 500):
        forgetful(step)
        most = max(most, in_files() - before)
    assert most < 160_000
    for step in range(500):
        plain(step)
    assert in_files() - before > most  # without forgetting


# --- get_batch -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.uint8, torch.int32])
def test_a_batch_is_pieces_of_the_text_and_the_same_one_character_on(kind):
    data = torch.arange(200).to(kind)
    xb, yb = get_batch(data, block_size=8, batch_size=32, generator=seeded())
    assert xb.shape == yb.shape == (32, 8)
    assert xb.dtype == yb.dtype == torch.long
    assert torch.equal(xb, xb[:, :1] + torch.arange(8))
    assert torch.equal(yb, xb + 1)
    assert len(xb[:, 0].unique()) > 16


def test_batches_reach_every_start_equally_often_and_the_last_character():
    data = torch.arange(12)
    xb, yb = get_batch(data, block_size=8, batch_size=8000, generator=seeded(1))
    starts, counts = xb[:, 0].unique(return_counts=True)
    assert starts.tolist() == [0, 1, 2, 3]
    assert yb.max() == 11
    chi_square = ((counts - 2000) ** 2 / 2000).sum()
    assert chi_square < 16.3  # uniform draws exceed this 0.1% of the time; the seed is fixed


def test_the_only_piece_there_is():
    xb, yb = get_batch(torch.arange(9), block_size=8, batch_size=3, generator=seeded())
    assert xb.tolist() == [list(range(8))] * 3
    assert yb.tolist() == [list(range(1, 9))] * 3


def test_the_generator_alone_decides_the_batch():
    data, before = torch.arange(1000), torch.get_rng_state()
    first, _ = get_batch(data, 8, 8, seeded(3))
    torch.rand(5)
    again, _ = get_batch(data, 8, 8, seeded(3))
    other, _ = get_batch(data, 8, 8, seeded(4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.set_rng_state(before)
    get_batch(data, 8, 8, seeded(3))
    assert torch.equal(torch.get_rng_state(), before)


# --- Shuffled ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "block_size", "batch_size", "count"),
    [(1000, 8, 4, 124), (1001, 8, 4, 124), (100, 16, 3, 5), (17, 8, 5, 1), (25, 8, 5, 2), (9, 8, 2, 1)],
)
def test_a_pass_takes_every_piece_once(length, block_size, batch_size, count):
    """An epoch takes each whole sequence once, leaving room for the last target and for a random offset."""
    batches = Shuffled(torch.arange(length), block_size, batch_size, seed=3)
    drawn = [batches(step) for step in range(4 * length)]
    for xb, yb in drawn:
        assert xb.shape == yb.shape == (batch_size, block_size)
        assert torch.equal(yb, xb + 1)
        assert torch.equal(xb, xb[:, :1] + torch.arange(block_size))
        assert yb.max() < length
    firsts = torch.cat([xb[:, 0] for xb, _ in drawn]).tolist()
    passes = [firsts[i : i + count] for i in range(0, len(firsts) - count, count)]
    for one in passes:
        assert sorted(one) == list(range(min(one), min(one) + count * block_size, block_size))
    if count > 10:
        assert len({tuple(one) for one in passes}) == len(passes)  # each epoch in a different order
        assert len({min(one) for one in passes}) > 4  # and from different offsets


def test_a_shuffled_batch_follows_from_the_seed_and_the_step_alone():
    data = torch.arange(5000)
    one, two = Shuffled(data, 8, 7, seed=1), Shuffled(data, 8, 7, seed=1)
    there = [one(step)[0] for step in range(300)]
    for step in (299, 0, 90, 91, 89):  # in any order, across the boundary between two epochs
        assert torch.equal(two(step)[0], there[step])
    assert not torch.equal(Shuffled(data, 8, 7, seed=2)(0)[0], there[0])
    assert Shuffled(data, 8, 7, seed=2**53 - 1)(10**7)[0].shape == (7, 8)


@pytest.mark.parametrize(("length", "at_once"), [(1000, 10), (1007, 31), (1000, 124), (5000, 7)])
def test_a_large_text_is_shuffled_in_turns_that_each_go_through_all_of_it(monkeypatch, length, at_once):
    monkeypatch.setattr(data_module, "PER_TURN", at_once)
    batches, block_size = Shuffled(torch.arange(length), 8, 1, seed=3), 8
    turns, count = batches.turns, batches.count
    assert count <= at_once
    assert length // block_size - turns - 1 <= turns * count <= length // block_size  # few are left out
    epochs = [
        torch.stack([batches(step)[0][0] for step in range(e * turns * count, (e + 1) * turns * count)]) for e in (0, 1)
    ]
    for epoch in epochs:
        starts = sorted(epoch[:, 0].tolist())
        assert starts == list(range(starts[0], starts[0] + 8 * turns * count, 8))
        for turn in epoch[:, 0].split(count):
            assert turn.max() - turn.min() == 8 * turns * (count - 1)
            assert count < 5 or sorted(turn.tolist()) != turn.tolist()
    assert not torch.equal(epochs[0], epochs[1])


@pytest.mark.parametrize(("length", "block_size"), [(400, 16), (380, 16), (399, 16), (17, 8), (9, 8)])
def test_over_many_passes_every_character_is_read_and_foretold(length, block_size):
    batches = Shuffled(torch.arange(length), block_size, 10, seed=0)
    drawn = [batches(step) for step in range(20 * length // block_size + 20)]
    assert set(torch.cat([xb for xb, _ in drawn]).flatten().tolist()) == set(range(length - 1))
    assert set(torch.cat([yb for _, yb in drawn]).flatten().tolist()) == set(range(1, length))


def test_over_many_passes_a_character_stands_at_every_place_of_a_piece():
    batches = Shuffled(torch.arange(400), 8, batch_size=10, seed=0)
    places = {int((200 - xb[:, 0])[(xb == 200).any(1)][0]) for xb, _ in map(batches, range(1000)) if (xb == 200).any()}
    assert places == set(range(8))


# --- windows -------------------------------------------------------------------------------------------------------


def pairs(batches):
    """Return all (input, target) pairs of the batches as a flat list, in order."""
    return [pair for xb, yb in batches for pair in zip(xb.flatten().tolist(), yb.flatten().tolist())]


@pytest.mark.parametrize("block_size", [2, 3, 8, 64])
@pytest.mark.parametrize("length", [2, 3, 8, 9, 10, 16, 17, 18, 1000])
def test_windows_ask_for_every_character_but_the_first_exactly_once(length, block_size):
    batches = list(windows(torch.arange(length), block_size))
    assert pairs(batches) == [(i, i + 1) for i in range(length - 1)]
    assert all(xb.shape == yb.shape and 1 <= xb.shape[1] <= block_size for xb, yb in batches)
    assert all(xb.shape[1] == block_size for xb, _ in batches[:-1])


def test_a_pass_over_windows_stays_small_however_long_the_text_is():
    sizes = [xb.numel() for xb, _ in windows(torch.zeros(100_001, dtype=torch.uint8), 16)]
    assert max(sizes) <= 4096
    assert sum(sizes) == 100_000
    assert max(xb.numel() for xb, _ in windows(torch.zeros(20_000, dtype=torch.uint8), 5000)) == 5000


@pytest.mark.parametrize(
    ("device", "dtype", "usual", "room"),
    [
        ("cpu", torch.float32, 4096, 2**27),
        ("cuda", torch.bfloat16, 65_536, 2**30),
        ("cuda", torch.float32, 65_536, 2**30),
    ],
)
def test_an_evaluation_takes_no_more_memory_for_a_large_vocabulary(device, dtype, usual, room):
    where, shape = Device(device, dtype, "a device"), dict(n_head=6, n_embd=384, block_size=256)
    assert data_module.evaluated_at_once(ModelConfig(vocab_size=65, **shape), where)[0] == usual
    for vocab_size in (5000, 100_000):
        tokens, size = data_module.evaluated_at_once(ModelConfig(vocab_size=vocab_size, **shape), where)
        assert tokens * 10 * vocab_size < size
        assert size < room or tokens == 256
    assert data_module.evaluated_at_once(ModelConfig(vocab_size=2_000_000, **shape), where)[0] == 256  # a window


@pytest.mark.parametrize("most", [*range(1, 8), 13, 20, 27, *range(33, 41)])
def test_some_windows_are_whole_different_and_evenly_spaced(most):
    data, block_size = torch.arange(40 * 8 + 5), 8  # 40 full windows and a shorter one
    chosen = torch.cat([xb for xb, _ in windows(data, block_size, most)])
    assert chosen.shape == (most, block_size)
    assert torch.equal(chosen, chosen[:, :1] + torch.arange(8))
    starts = chosen[:, 0]
    assert (starts % block_size == 0).all()
    gaps = (starts.diff() // block_size).tolist()
    assert all(gap >= 1 for gap in gaps)
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert starts[0] == 0
    assert most == 1 or starts[-1] == 39 * 8  # from the first full window to the last
    again = torch.cat([xb for xb, _ in windows(data, block_size, most)])
    assert torch.equal(chosen, again)


@pytest.mark.parametrize("most", [41, 42, 10_000, None])
def test_more_windows_than_there_are_means_all(most):
    data = torch.arange(40 * 8 + 5)
    assert pairs(windows(data, 8, most)) == [(i, i + 1) for i in range(len(data) - 1)]


# --- fitting_block_size --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "wanted", "fits"),
    [
        (100_000, 256, 256),
        (1290, 64, 64),  # 129 validation tokens: two windows of 64 plus the last target
        (1280, 64, 32),  # 128 validation tokens: one too few
        (1000, 4096, 32),
        (1000, 50, 25),
        (50, 64, 2),
    ],
)
def test_block_size_is_halved_until_the_held_out_tenth_holds_two_windows(tokens, wanted, fits):
    tail = len(split(np.zeros(tokens, dtype=np.uint8))[1])
    assert fitting_block_size(tail, wanted) == fits
    assert tail >= 2 * fits + 1
    assert fits == wanted or tail < 4 * fits + 1


@pytest.mark.parametrize("wanted", [2, 3, 5, 7, 64])
def test_what_fits_is_never_below_the_smallest_block_size(wanted):
    for held_out in range(12):
        if held_out < 5:  # two windows of two plus the last target
            with pytest.raises(NanoGPTError, match="too few for a validation set"):
                fitting_block_size(held_out, wanted)
        else:
            assert 2 <= fitting_block_size(held_out, wanted) <= wanted, held_out
