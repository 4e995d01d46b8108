"""What a size of model is expected to reach in so many steps, and how long its steps take if others were measured."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import pytest

from nanogpt.launch import sizes
from nanogpt.launch.sizes import SIZES, UNTRAINED


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size.n_layer}x{size.n_embd}-{size.block_size}")
def test_a_curve_falls_goes_through_its_points_and_ends_flat(size):
    assert all(before[0] < after[0] and before[1] > after[1] for before, after in pairwise(size.curve))
    for steps, loss in size.curve:
        assert size.loss(steps) == pytest.approx(loss)
    (first, high), (second, low) = size.curve[:2]
    assert size.loss(math.sqrt(first * second)) == pytest.approx((high + low) / 2)
    assert high < size.loss(first / 2) < size.loss(1) <= UNTRAINED
    assert size.loss(0) == size.loss(1)
    assert size.loss(10**9) == size.curve[-1][1]
    assert sizes.matching({**size.settings, "n_vocab": 1}) is size
    assert sizes.matching({**size.settings, "n_embd": 1}) is None


def test_the_sizes_go_from_small_to_large_with_heads_of_32():
    assert {size.n_embd / size.n_head for size in SIZES} == {32.0}
    widths, ends = [size.n_embd for size in SIZES], [size.curve[-1][1] for size in SIZES]
    assert widths == sorted(widths)
    assert all(larger < smaller + 0.01 for smaller, larger in pairwise(ends))  # each gets as far in the end


def test_models_of_the_same_width_learn_about_as_much_from_as_many_characters():
    per_step = lambda size: (size.n_embd, size.block_size * size.batch_size)
    pairs = [(one, other) for one, other in combinations(SIZES, 2) if per_step(one) == per_step(other)]
    assert len(pairs) == 5
    for one, other in pairs:
        for steps in (30, 60, 100, 200, 400, 800, 1600, 3200):
            assert one.loss(steps) == pytest.approx(other.loss(steps), abs=0.08)


def test_more_time_is_better_and_a_faster_machine_gets_larger_models():
    times = lambda rate: {
        size: size.n_layer * size.n_embd**2 * size.block_size * size.batch_size / rate for size in SIZES
    }
    before = math.inf
    for rate in (1e7, 1e8, 1e9, 1e10):
        size = sizes.best(times(rate), 30.0)
        assert size.loss(30.0 / times(rate)[size]) < before
        before = size.loss(30.0 / times(rate)[size])
    assert sizes.best(times(1e7), 30.0) is SIZES[0]
    assert sizes.best(times(1e10), 3600.0) is SIZES[-1]


def test_times_between_two_that_were_measured_are_between_them():
    flops = {size: 10.0**i for i, size in enumerate(SIZES)}
    one = sizes.fill(flops, {SIZES[2]: 1.0})
    assert one[SIZES[3]] == pytest.approx(10**sizes.SLOPE)
    assert one[SIZES[0]] == pytest.approx(100**-sizes.SLOPE)
    two = sizes.fill(flops, {SIZES[0]: 1.0, SIZES[2]: 4.0})
    assert (two[SIZES[0]], two[SIZES[2]]) == (1.0, 4.0)
    assert two[SIZES[1]] == pytest.approx(2.0)
    assert two[SIZES[3]] == pytest.approx(4 * 10**sizes.SLOPE)
