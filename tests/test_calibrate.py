"""What a time budget buys, on a machine whose speed is known."""

from __future__ import annotations

import pytest

from nanogpt import calibrate
from nanogpt.calibrate import SIZES, Plan, choose, step_flops, weight_decay
from nanogpt.config import ModelConfig, NanoGPTError

CHARACTERS = 1_115_394
SPEED = 2e11  # operations a second


@pytest.fixture(autouse=True)
def known_speed(monkeypatch) -> None:
    monkeypatch.setattr(calibrate, "speed", lambda model, train: SPEED)


def expected_decay(plan: Plan) -> float:
    s = plan.settings
    passes = s["max_iters"] * s["batch_size"] * s["block_size"] / (0.9 * CHARACTERS)
    return weight_decay(passes, plan.parameters, CHARACTERS)


def test_weight_decay_goes_by_the_square_of_the_passes_and_for_small_models_by_their_size():
    decays = [weight_decay(p, 803_072, CHARACTERS) for p in (0.5, 1, 5, 10, 14.2, 22.4, 1000)]
    assert decays == [0.001, 0.002, 0.05, 0.2, 0.403, 1.0, 1.0]
    assert weight_decay(10, 10_000_000, CHARACTERS) == weight_decay(10, 803_072, 1000) == 0.2
    assert weight_decay(10, 80_308, CHARACTERS) == 0.021  # 0.2 of 80,308 / (0.7 * 1,115,394)


@pytest.mark.parametrize("budget", [5, 30, 180, 3600, 86400])
def test_more_time_buys_more_and_is_used_up(budget):
    plan = choose(budget, 65, CHARACTERS, {})
    s = plan.settings
    model = ModelConfig.of({**s, "vocab_size": 65})
    taken = s["max_iters"] * step_flops(model, s["batch_size"]) / SPEED
    assert 0.8 * budget < taken <= 0.85 * budget
    assert s["weight_decay"] == expected_decay(plan)
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
    assert s["weight_decay"] == expected_decay(plan)
    assert choose(60, 65, CHARACTERS, dict(weight_decay=0.3)).settings["weight_decay"] == 0.3


def test_a_short_text_is_read_more_often_and_in_shorter_pieces():
    long, short = choose(180, 65, CHARACTERS, {}), choose(180, 65, 2000, {}).settings
    assert short["block_size"] < long.settings["block_size"]
    assert (short["weight_decay"], long.settings["weight_decay"]) == (1.0, expected_decay(long))
    assert "weight decay 1" in str(choose(180, 65, 2000, {}))


def test_the_lectures_layout_keeps_its_weight_decay():
    plan = choose(60, 65, CHARACTERS, dict(layout="classic"))
    assert "weight_decay" not in plan.settings
    assert "weight decay" not in str(plan)


def test_no_time_is_refused():
    with pytest.raises(NanoGPTError, match="at least 5 seconds"):
        choose(4.9, 65, CHARACTERS, {})
