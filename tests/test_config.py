"""Test the settings: a valid value is converted to its type, and any other raises a one-sentence error."""

from __future__ import annotations

import dataclasses
import math

import pytest

from nanogpt.config import ModelConfig, NanoGPTError, SampleConfig, TrainConfig, knobs
from nanogpt.presets import PRESETS, pick, preset, preset_key

CONFIGS = (ModelConfig, TrainConfig, SampleConfig)
ALL = [pytest.param(config, k, id=f"{config.__name__}.{k.name}") for config in CONFIGS for k in knobs(config)]
NUMBERS = [param for param in ALL if not param.values[1].choices and param.values[1].low is not None]
# of a number, and of a budget, which parses "90s", too
WAS = ("^{} (was .*|is empty); it must be a .*number from ", "^({} (was|is empty)|Couldn't read .* as a time)")
NO_NUMBER = ["abc", "", None, [], {}, (1,), b"x", object(), math.nan, "nan", 1j]


@pytest.mark.parametrize(("config", "k"), ALL)
def test_the_default_of_a_knob_is_allowed_and_explained(config, k):
    assert k.parse(k.default) == k.default
    assert k.help.endswith(".")
    assert getattr(config(), k.name) == k.default


@pytest.mark.parametrize(("config", "k"), NUMBERS)
def test_the_ends_of_the_range_belong_to_it_and_what_lies_beyond_does_not(config, k):
    assert k.parse(k.low) == k.low
    assert k.parse(k.high) == k.high
    beyond = 1 if k.kind is int else (k.high - k.low) / 1000
    for value in (k.low - beyond, k.high + beyond, math.inf, -math.inf, "inf", 10**400, -(10**400)):
        with pytest.raises(NanoGPTError, match=WAS[k.name == "budget"].format(k.name)):
            k.parse(value)


@pytest.mark.parametrize(("config", "k"), NUMBERS)
def test_what_is_no_number_is_refused_in_one_sentence(config, k):
    for value in NO_NUMBER:
        with pytest.raises(NanoGPTError, match=WAS[k.name == "budget"].format(k.name)) as refused:
            config(**{k.name: value})
        assert "\n" not in str(refused.value)
        assert (f"{k.name} is empty" in str(refused.value)) == (value is None or value == "")
        assert "None" not in str(refused.value)


def test_a_time_that_is_too_long_is_quoted_as_it_was_given():
    with pytest.raises(NanoGPTError, match=r"^budget was 31d; it must be a time up to 30d, such as 90s, 3m or 1h\.$"):
        TrainConfig(budget="31d")


@pytest.mark.parametrize("value", ["tpu", "CPU", "", None, 0, []])
def test_a_choice_is_one_of_those_named(value):
    with pytest.raises(NanoGPTError, match="^device (was .*|is empty); it must be one of auto, cuda, mps, cpu"):
        TrainConfig(device=value)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (7, 7), (7.0, 7), ("7", 7), ("7.0", 7), (" 7 ", 7), ("1e3", 1000), ("1E+3", 1000), ("1.0e3", 1000),
        ("1_000", 1000), (1e3, 1000),
    ],
)  # fmt: skip
def test_a_whole_number_is_taken_from_what_a_form_or_a_flag_gives(given, taken):
    value = TrainConfig(max_iters=given).max_iters
    assert value == taken
    assert type(value) is int


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("90", 90), ("90s", 90), (" 3m ", 180), ("1.5h", 5400), ("1d", 86400), ("2 minutes", 120), (45, 45)],
)
def test_a_budget_may_have_a_unit(given, seconds):
    assert TrainConfig(budget=given).budget == seconds


@pytest.mark.parametrize("given", [7.5, "7.5", "7,5", "seven", "75e-1", "1e", "1e400"])
def test_a_broken_number_is_not_rounded(given):
    with pytest.raises(NanoGPTError, match="n_layer was"):
        ModelConfig(n_layer=given)


@pytest.mark.parametrize("value", [-0.5, "-1e-3", -1.5, 11])
def test_a_negative_weight_decay_is_minus_one_or_a_mistake(value):
    with pytest.raises(NanoGPTError, match=r"^weight_decay was .*; it must be a number from 0 to 10\.0, or -1\.$"):
        TrainConfig(weight_decay=value)
    assert TrainConfig(weight_decay=-1).weight_decay == -1


def test_the_largest_seed_keeps_its_last_digit():
    assert TrainConfig(seed="9007199254740991").seed == 9007199254740991
    assert TrainConfig(seed=9007199254740991).seed == 9007199254740991


def test_heads_divide_the_embedding_and_the_sentence_says_what_would():
    with pytest.raises(NanoGPTError, match=r"n_embd \(128\) must be divisible by n_head \(3\)\. Try n_embd 129\."):
        ModelConfig(n_embd=128, n_head=3)
    assert ModelConfig(n_embd=129, n_head=3).n_embd == 129


@pytest.mark.parametrize("layout", ["classic", "modern"])
def test_what_an_error_advises_is_accepted(layout):
    for n_head in range(1, 20):
        for n_embd in range(8, 300, 7):
            try:
                ModelConfig(layout=layout, n_embd=n_embd, n_head=n_head)
            except NanoGPTError as error:
                advised = int(str(error).split("Try n_embd ")[1].rstrip("."))
                assert ModelConfig(layout=layout, n_embd=advised, n_head=n_head).n_embd == advised


def test_rotary_positions_turn_pairs_of_numbers():
    with pytest.raises(NanoGPTError, match=r"n_embd \(12\) / n_head \(4\) must be even in the modern architecture"):
        ModelConfig(layout="modern", n_embd=12, n_head=4)
    assert ModelConfig(layout="modern", n_embd=16, n_head=4).layout == "modern"
    assert ModelConfig(layout="classic", n_embd=12, n_head=4).layout == "classic"


def test_the_learning_rate_does_not_end_above_where_it_began():
    with pytest.raises(NanoGPTError, match=r"min_lr \(0.01\) must not be larger than learning_rate \(0.001\)"):
        TrainConfig(learning_rate=1e-3, min_lr=1e-2)
    assert TrainConfig(learning_rate=1e-3, min_lr=1e-3).min_lr == 1e-3


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_survives_the_way_through_a_dict_and_cannot_be_changed(config):
    first = next(k for k in knobs(config) if k.kind is int)
    made = config(**{first.name: first.high})
    assert config.of(made.as_dict()) == made
    assert config.of({**made.as_dict(), "from_a_later_version": 1}) == made
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, first.name, 1)


@pytest.mark.parametrize(
    ("max_iters", "eval_interval", "every"), [(2000, 0, 100), (19, 0, 1), (1, 0, 1), (45, 0, 2), (2000, 7, 7)]
)
def test_no_interval_means_twenty_evaluations_a_run(max_iters, eval_interval, every):
    assert TrainConfig(max_iters=max_iters, eval_interval=eval_interval).evaluate_every == every


def test_no_two_knobs_of_a_command_have_the_same_flag():
    for command in ((ModelConfig, TrainConfig), (SampleConfig,)):
        flags = [k.flag for config in command for k in knobs(config)]
        assert len(set(flags)) == len(flags) > 4
        assert all(flag.startswith("--") and "_" not in flag for flag in flags)


# --- presets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", PRESETS)
def test_a_preset_is_found_by_key_and_label_and_names_only_knobs(key):
    assert preset(key) is preset(PRESETS[key].label.upper()) is PRESETS[key]
    assert preset_key(f" {PRESETS[key].label.upper()} ") == key
    known = {k.name for config in (ModelConfig, TrainConfig) for k in knobs(config)}
    assert PRESETS[key].settings.keys() <= known
    model, train = PRESETS[key].configs()
    assert {**model.as_dict(), **train.as_dict()}.items() >= PRESETS[key].settings.items()


def test_the_lecture_s_numbers():
    model, train = preset("lecture").configs()
    assert (model.n_layer, model.n_head, model.n_embd, model.block_size, model.dropout) == (6, 6, 384, 256, 0.2)
    assert (train.batch_size, train.max_iters, train.learning_rate, train.min_lr) == (64, 5000, 3e-4, 3e-4)
    assert (train.eval_interval, train.warmup_iters, train.grad_clip) == (500, 0, 0.0)
    defaults_of_adamw = (0.9, 0.999, 0.01)
    assert (train.beta1, train.beta2, train.weight_decay) == defaults_of_adamw


def test_a_changed_knob_is_taken_and_none_leaves_the_preset_s():
    model, train = preset("quick").configs(n_layer="2", max_iters=None, dropout=0.1)
    assert (model.n_layer, model.dropout, train.max_iters) == (2, 0.1, PRESETS["quick"].settings["max_iters"])


def test_steps_that_were_asked_for_win_over_a_preset_s_time():
    timed = preset("timed")
    assert [timed.configs(**more)[1].budget for more in ({}, dict(max_iters=30), dict(max_iters=30, budget=5.0))] == [
        60.0, 0.0, 5.0
    ]  # fmt: skip


def test_a_small_learning_rate_pulls_the_hidden_end_down_with_it():
    _, train = preset("quick").configs(learning_rate=1e-6)
    assert (train.learning_rate, train.min_lr) == (1e-6, 1e-6)
    with pytest.raises(NanoGPTError, match="min_lr"):
        preset("quick").configs(learning_rate=1e-6, min_lr=1e-3)


def test_the_modern_layout_brings_its_recipe_and_what_is_set_by_hand_wins():
    model, train = preset("quick").configs(layout="modern", beta1=0.7)
    assert (model.layout, train.optimizer, train.schedule, train.min_lr) == ("modern", "muon", "linear", 0.0)
    assert train.beta1 == 0.7
    assert train.max_iters == PRESETS["quick"].settings["max_iters"]
    model, train = preset("quick").configs(layout="classic")
    assert (model.layout, train.optimizer, train.schedule) == ("classic", "adamw", "cosine")


@pytest.mark.parametrize("value", ["abc", "", [], {}, math.nan, -1, "1e"])
def test_a_bad_learning_rate_is_a_sentence_in_a_preset_too(value):
    with pytest.raises(NanoGPTError, match="^learning_rate (was|is empty)"):
        preset("quick").configs(learning_rate=value)


@pytest.mark.parametrize(
    ("name", "changes", "key", "budget"),
    [
        (None, {}, "quick", 0.0), (None, dict(budget="20s"), "timed", 20.0), (None, dict(budget=0), "quick", 0.0),
        ("LAPTOP", {}, "laptop", 0.0), ("time BUDGET", {}, "timed", 60.0), ("timed", dict(max_iters=9), "timed", 0.0),
    ],
)  # fmt: skip
def test_without_a_name_the_preset_is_the_one_that_goes_with_the_settings(name, changes, key, budget):
    picked, model, train = pick(name, changes)
    assert (picked, train.budget) == (key, budget)
    assert (model, train) == PRESETS[key].configs(**changes)


@pytest.mark.parametrize("name", ["quick", "Laptop", "lecture"])
def test_a_time_chooses_the_model_itself_so_no_other_preset_goes_with_it(name):
    with pytest.raises(NanoGPTError, match=r"^A time budget chooses the model itself\. Leave out the preset, or give"):
        pick(name, dict(budget=60))
    for timed in ("timed", "TIMED", "Time budget"):
        assert pick(timed, dict(budget=30))[2].budget == 30
        with pytest.raises(NanoGPTError, match="^Enter a time budget, such as 60s or 3m, or choose another preset"):
            pick(timed, dict(budget=0))


@pytest.mark.parametrize("name", ["huge", "", "quick look!", "../etc"])
def test_an_unknown_preset_names_those_there_are(name):
    with pytest.raises(NanoGPTError, match=f"Choose one of {', '.join(PRESETS)}"):
        preset(name)


@pytest.mark.parametrize("name", ["../quick", "quik"])
def test_a_preset_that_is_almost_one_names_that(name):
    with pytest.raises(NanoGPTError, match=r"did you mean quick\?$"):
        preset(name)


def test_a_learning_rate_in_a_preset_that_leaves_min_lr_to_its_default():
    _, train = preset("timed").configs(layout="classic", learning_rate=5e-5)
    assert (train.learning_rate, train.min_lr) == (5e-5, 5e-5)
