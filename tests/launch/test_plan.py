"""What a time budget buys on a machine of known speed."""

from __future__ import annotations

import re

import pytest

from nanogpt.config import ModelConfig, NanoGPTError
from nanogpt.launch import plan
from nanogpt.launch.plan import SIZES, Plan, choose, step_flops
from nanogpt.optim import weight_decay

CHARACTERS = 1_115_394
SPEED = 2e11  # operations per second


@pytest.fixture(autouse=True)
def known_speed(monkeypatch) -> None:
    monkeypatch.setattr(plan, "speed", lambda model, train, seconds=1.0: SPEED)


def expected_decay(plan: Plan) -> float:
    s = plan.settings
    passes = s["max_iters"] * s["batch_size"] * s["block_size"] / (0.9 * CHARACTERS)
    return weight_decay(passes, s["max_iters"], plan.parameters, CHARACTERS)


@pytest.mark.parametrize("budget", [5, 30, 180, 3600, 86400])
def test_more_time_buys_more_and_is_used_up(budget):
    plan = choose(budget, 65, CHARACTERS, {})
    s = plan.settings
    model = ModelConfig.of({**s, "vocab_size": 65})
    taken = s["max_iters"] * step_flops(model, s["batch_size"]) / SPEED
    assert 0.8 * budget < taken <= 0.85 * budget
    assert plan.weight_decay == expected_decay(plan)
    more = choose(min(86400, 1.5 * budget), 65, CHARACTERS, {})
    assert more.parameters >= plan.parameters
    assert more.val_loss < plan.val_loss or more.val_loss == SIZES[-1].val_loss
    assert SIZES[-1].val_loss <= plan.val_loss <= SIZES[0].val_loss


def test_what_is_given_is_not_chosen_and_the_rest_follows_from_it():
    given = dict(batch_size=64, n_layer=1, n_embd=32, n_head=2)
    plan = choose(60, 65, CHARACTERS, given)
    s = plan.settings
    assert given.items() <= s.items()
    flops = step_flops(ModelConfig.of({**s, "vocab_size": 65}), 64)
    assert s["max_iters"] == int(0.85 * 60 * SPEED / flops)
    assert plan.weight_decay == expected_decay(plan)
    assert choose(60, 65, CHARACTERS, dict(weight_decay=0.3)).weight_decay == 0.3


def test_a_short_text_is_read_more_often_and_in_shorter_pieces():
    long, short = choose(180, 65, CHARACTERS, {}), choose(180, 65, 2000, {})
    assert short.settings["block_size"] < long.settings["block_size"]
    assert (short.weight_decay, long.weight_decay) == (1.0, expected_decay(long))
    assert ", weight decay 1. " in str(short)


def test_the_lectures_layout_keeps_its_weight_decay():
    plan = choose(60, 65, CHARACTERS, dict(layout="classic"))
    assert plan.weight_decay == 0.1
    assert " from the modern architecture on Tiny Shakespeare" in str(plan)
    assert re.search(r"validation loss of about \d\.\d\d on Tiny Shakespeare", str(choose(60, 65, CHARACTERS, {})))


def test_no_time_is_refused():
    with pytest.raises(NanoGPTError, match="at least 5 seconds"):
        choose(4.9, 65, CHARACTERS, {})
