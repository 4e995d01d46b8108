"""What a time budget buys on a machine of known speed."""

from __future__ import annotations

import gc
import re
import weakref

import pytest
import torch

from nanogpt import corpus
from nanogpt.config import MOST_STEPS, ModelConfig, NanoGPTError, TrainConfig
from nanogpt.device import pick_device
from nanogpt.launch import pace, plan, prepare, sizes
from nanogpt.launch.pace import step_flops
from nanogpt.launch.plan import Plan, choose
from nanogpt.launch.sizes import SIZES, UNTRAINED
from nanogpt.timetable import overhead
from nanogpt.tokenizer import make_tokenizer

CHARACTERS = 1_115_394
SPEED = 2e11  # operations per second


@pytest.fixture(autouse=True)
def known_speed(home, monkeypatch) -> None:
    monkeypatch.setattr(pace, "speed", lambda model, train, seconds=1.0: SPEED)


@pytest.mark.parametrize("budget", [5, 30, 180, 3600, 86400])
def test_more_time_buys_more_and_is_used_up(budget):
    plan = choose(budget, 65, CHARACTERS, {})
    s = plan.settings
    model = ModelConfig.of({**s, "vocab_size": 65})
    taken = s["max_iters"] * step_flops(model, s["batch_size"]) / SPEED
    passes = s["max_iters"] * s["batch_size"] * s["block_size"] / (0.9 * CHARACTERS)
    assert 0.8 * budget < taken <= 0.85 * budget or 14.9 < passes <= 15  # more epochs would only overfit
    assert plan.epochs == pytest.approx(passes, rel=1e-4)
    more = choose(min(86400, 1.5 * budget), 65, CHARACTERS, {})
    assert more.parameters >= plan.parameters
    lowest = SIZES[-1].curve[-1][1]
    assert more.val_loss < plan.val_loss or more.val_loss == lowest
    assert lowest <= plan.val_loss <= UNTRAINED
    assert plan.settings["budget"] <= budget


def test_what_is_given_is_not_chosen_and_the_rest_follows_from_it():
    given = dict(batch_size=64, n_layer=1, n_embd=32, n_head=2)
    plan = choose(60, 65, CHARACTERS, given)
    s = plan.settings
    assert given.items() <= s.items()
    flops = step_flops(ModelConfig.of({**s, "vocab_size": 65}), 64)
    assert s["max_iters"] == int(0.85 * 60 * SPEED / flops)
    assert choose(60, 65, CHARACTERS, dict(weight_decay=0.3)).settings["weight_decay"] == 0.3


def test_a_short_text_is_read_more_often_and_in_shorter_pieces():
    long, short = choose(180, 65, CHARACTERS, {}), choose(180, 65, 2000, {})
    assert short.settings["block_size"] < long.settings["block_size"]
    assert f" sequences, {short.epochs:.1f} epochs." in str(short)
    assert short.epochs > long.epochs


def test_a_budget_is_shortened_to_a_second_at_least(monkeypatch):
    monkeypatch.setattr(pace, "speed", lambda model, train, seconds=1.0: 1e15)
    chosen = choose(60, 65, sizes.MEMORIZED, {})
    assert chosen.settings["budget"] == 1
    assert " It stops after 1 second: training longer would only overfit." in str(chosen)


def test_the_loss_to_expect_says_of_which_architecture_it_is():
    classic = str(choose(60, 65, CHARACTERS, dict(layout="classic")))
    assert " from the modern architecture on English like Tiny Shakespeare" in classic
    said = str(choose(60, 65, CHARACTERS, {}))
    assert re.search(r"validation loss of about \d\.\d\d on English like Tiny Shakespeare", said)


def test_no_time_is_refused():
    with pytest.raises(NanoGPTError, match="at least 1 second; 10 seconds or more is better"):
        choose(0.9, 65, CHARACTERS, {})
    with pytest.raises(NanoGPTError, match="at most 24 hours. Extend it once it has ended"):
        choose(86401, 65, CHARACTERS, {})


# --- machines that are measured, on a fake clock -------------------------------------------------------------------


class Machine:
    """A machine where trials take time on a fake clock: each step `fixed` seconds and its operations over `rate`."""

    def __init__(self, monkeypatch, rate: float, fixed: float = 0.005):
        self.now, self.rate, self.fixed, self.trials = 0.0, rate, fixed, 0
        monkeypatch.setattr(plan, "time", self)
        monkeypatch.setattr(pace, "speed", self.speed)

    def perf_counter(self) -> float:
        return self.now

    def seconds(self, model, train) -> float:
        return self.fixed + step_flops(model, train.batch_size) / self.rate

    def speed(self, model, train, seconds: float = 1.0) -> float:
        step = min(self.seconds(model, train), self.fixed + pace.TRIAL_FLOPS / self.rate)
        self.now += 0.02 + max(seconds, 3 * step)
        self.trials += 1
        return step_flops(model, train.batch_size) / self.seconds(model, train)


@pytest.mark.parametrize("budget", [1, 3, 10, 30, 180, 86400])
@pytest.mark.parametrize("rate", [2e9, 2e10, 2e11])
def test_planning_takes_at_most_a_tenth_or_two_seconds(monkeypatch, budget, rate):
    machine = Machine(monkeypatch, rate)
    chosen = choose(budget, 65, CHARACTERS, {})
    assert machine.now <= min(0.1 * budget, 2.0) + (0.7 if rate == 2e9 else 0.0)  # the smallest model takes that long
    assert (machine.trials == 0) == (budget == 1)
    assert chosen.settings["max_iters"] >= 20


@pytest.mark.parametrize("fixed", [0.0, 0.01])
@pytest.mark.parametrize("budget", [10, 30, 180])
def test_the_best_size_of_all_is_chosen_after_a_few_trials(monkeypatch, fixed, budget):
    """Measuring every size would take too long; the guesses between those measured have to be good enough."""
    for rate in (1e10, 3e10, 1e11, 3e11):
        machine = Machine(monkeypatch, rate, fixed)
        chosen = choose(budget, 65, CHARACTERS, {})
        trained = budget - overhead(budget)
        made = {size: plan._configs(size.settings | dict(budget=budget), 65) for size in SIZES}
        reached = {size: size.loss(trained / machine.seconds(*made[size])) for size in SIZES}
        assert reached[sizes.matching(chosen.settings)] <= 1.02 * min(reached.values())
        assert chosen.val_loss == pytest.approx(min(reached.values()), abs=0.02)
        assert machine.trials <= 5


def test_what_was_measured_is_not_measured_again(monkeypatch):
    machine = Machine(monkeypatch, 5e10)
    known = lambda model, train: step_flops(model, train.batch_size) / machine.seconds(model, train)
    monkeypatch.setattr(pace, "known_speed", known)
    for budget in (1, 10, 30, 3600):
        choose(budget, 65, CHARACTERS, {})
    assert machine.trials == 0


@pytest.mark.parametrize("first", [SIZES[0], SIZES[-2]])
def test_a_size_that_is_known_does_not_keep_better_ones_from_being_measured(monkeypatch, first):
    """After a run of a few seconds, the smallest size is known; its speed says little about that of larger ones."""
    machine = Machine(monkeypatch, 3e11, fixed=0.01)
    model, train = plan._configs(first.settings | dict(budget=30), 65)
    rate = step_flops(model, train.batch_size) / machine.seconds(model, train)
    monkeypatch.setattr(pace, "known_speed", lambda *configs: rate if configs[0].n_layer == first.n_layer else None)
    chosen = choose(30, 65, CHARACTERS, {}).settings
    assert (chosen["n_layer"], chosen["n_embd"], chosen["block_size"]) == (3, 96, 128)
    assert 0 < machine.trials <= 4


def test_a_trial_of_many_characters_has_a_small_batch(monkeypatch):
    shapes = []
    step = lambda xb, yb, rate: (shapes.append(tuple(xb.shape)) or torch.tensor(1.0), None)
    monkeypatch.setattr(pace, "make_step", lambda *_: step)
    monkeypatch.setattr(pace, "TRIAL_PREDICTIONS", 1000)
    for characters, batch_size in ((10, 25), (100, 2), (1000, 1)):
        shapes.clear()
        model = ModelConfig(characters, block_size=4, n_layer=1, n_head=1, n_embd=4)
        pace.trial(pick_device("cpu"), model, TrainConfig(batch_size=64), 0.001)
        assert shapes[0] == (batch_size, 4)


def test_a_trial_leaves_no_model_behind(monkeypatch):
    """The run's memory is checked next, in the same process."""
    made, build = [], pace.GPT
    monkeypatch.setattr(pace, "GPT", lambda config: made.append(weakref.ref(model := build(config))) or model)
    model = ModelConfig(65, "modern", block_size=8, n_layer=1, n_head=2, n_embd=16)
    gc.disable()
    try:
        pace.trial(pick_device("cpu"), model, TrainConfig(optimizer="muon", batch_size=4), 0.001)
        assert [one() for one in made] == [None]
    finally:
        gc.enable()


# --- the promise ---------------------------------------------------------------------------------------------------


def test_a_loss_is_promised_only_for_the_settings_it_was_measured_with():
    promises = lambda **given: choose(60, 65, CHARACTERS, given).promises
    assert promises()
    assert promises(seed=1, device="cpu", layout="modern")
    assert not promises(learning_rate=1e-4)
    assert not promises(n_layer=1)
    assert not choose(600, 65, 30_000, {}).promises  # read more often than the text it was measured on
    assert "Expect" in str(choose(60, 65, CHARACTERS, {}))
    assert "Expect" not in str(choose(60, 65, CHARACTERS, dict(dropout=0.5)))


def test_a_loss_is_promised_from_20_000_characters_on_if_most_letters_are_latin():
    chosen = choose(60, 65, CHARACTERS, {})
    fits = lambda characters, letters: plan.fits(chosen, characters, make_tokenizer(letters))
    assert [fits(characters, "ab ") for characters in (19_999, 20_000)] == [False, True]
    assert [fits(20_000, letters) for letters in ("abя", "aя", "aяю", "1 ")] == [True, False, False, False]


def test_the_operations_of_a_step_worked_out_by_hand():
    model = ModelConfig.of(dict(vocab_size=10, block_size=8, n_layer=2, n_head=1, n_embd=4))
    weights = 2 * (4 * 12 + 4 * 4 + 4 * 16 + 16 * 4) + 4 * 10  # queries, keys, values; projection; MLP; and the head
    attention = 2 * (2 * 8 * 4) / 2 * 1  # scores and sums over 8 positions, of which half come before
    assert step_flops(model, 3) == 3 * 8 * (6 * weights + 6 * 6 * attention)


def test_a_run_keeps_its_promise_and_what_was_measured_before(home, tiny_text, monkeypatch):
    monkeypatch.setattr(pace, "known_costs", lambda model, train: dict(save=0.8))
    monkeypatch.setattr(prepare, "known_costs", pace.known_costs)
    latin, russian = tiny_text * 10, "Мельник ждал у старой реки, пока лодка плыла под мостом.\n" * 900
    settings = [
        prepare.new_run(name, corpus.add(text), "timed", budget=1.0, **more).settings()
        for name, text, more in (
            ("latin", latin, {}), ("russian", russian, {}), ("short", tiny_text, {}), ("thin", latin, dict(n_embd=48)),
        )
    ]  # fmt: skip
    promised = settings[0]["promise"]
    assert f"validation loss of about {promised:.2f}" in settings[0]["plan"]
    for made in settings[1:]:
        assert "promise" not in made
        assert "loss" not in made["plan"]
    assert all(made["costs"] == {"save": 0.8} for made in settings)


def test_a_timed_run_is_resumed_for_a_time_in_words():
    before = TrainConfig(budget=60.0)
    assert prepare.new_length(before, 100, None, "4m") == prepare.new_length(before, 100, None, 240)
    assert prepare.new_length(before, 100, None, "4m") == dict(budget=240.0, max_iters=400)
    assert prepare.new_length(before, 50_000, None, "5h") == dict(budget=18000.0, max_iters=MOST_STEPS)
    with pytest.raises(NanoGPTError, match="Try 90s, 3m or 1h 30m"):
        prepare.new_length(before, 100, None, "soon")


def test_a_plan_with_one_layer_and_one_head_says_so():
    settings = dict(SIZES[0].settings, layout="modern", max_iters=20, budget=10.0, n_layer=1, n_head=1, n_embd=32)
    assert str(Plan(settings, 100, 1.4)).startswith("1 layer, 1 head, width 32, context ")


def test_a_budget_that_is_not_used_up_says_when_the_run_stops():
    settings = dict(SIZES[0].settings, layout="modern", max_iters=20, budget=2760.0)
    made = lambda asked: str(Plan(settings, 100, 1.4, asked=asked))
    assert " It stops after 46 minutes: training longer would only overfit." in made(86400.0)
    assert "overfit" not in made(2760.0)
