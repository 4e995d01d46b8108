"""A run's settings can be loaded from its file, and its command reproduces the run."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import pytest

from nanogpt import corpus
from nanogpt.cli.flags import settings_in
from nanogpt.cli.main import parser
from nanogpt.cli.train import check_flags
from nanogpt.config import ModelConfig, NanoGPTError, TrainConfig
from nanogpt.formats import read_config
from nanogpt.launch import prepare
from nanogpt.presets import PLANNED, PRESETS, preset
from nanogpt.runs import Run
from nanogpt.runs.settings import command, read_settings, settings_json, settings_of

SMALL = dict(n_layer=1, n_head=2, n_embd=16, block_size=16)


@pytest.fixture
def text(home, tiny_text, known_speed):
    return corpus.add(tiny_text, "A play")


def words_of(run: Run) -> list[str]:
    return shlex.split(command(run))


def repeated(run: Run) -> tuple[ModelConfig, TrainConfig]:
    """Return the configs that the command line parses from the run's command, with a file in place of --text."""
    words = words_of(run)
    assert words[:5] == ["python", "-m", "nanogpt", "train", "--text"]
    arguments = parser().parse_args(["train", "a-play.txt", *words[6:]])
    return preset(arguments.preset).configs(**settings_in(arguments, ModelConfig, TrainConfig))


@pytest.mark.parametrize("key", PRESETS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        dict(seed=7),
        dict(learning_rate=1e-5),
        dict(learning_rate=2e-6, min_lr=1e-6),
        dict(layout="modern"),
        dict(layout="modern", learning_rate=1e-3, optimizer="adamw", dropout=0.1),
        dict(max_iters=10_000_000, eval_interval=3),
        dict(min_lr=0.0, grad_clip=0.5, device="cpu"),
    ],
    ids=str,
)
def test_the_command_repeats_the_run_and_no_flag_of_it_is_too_many(text, key, changes):
    run = prepare.new_run("one", text, key, **{**SMALL, **changes})
    model, train = repeated(run)
    wanted = TrainConfig.of(run.settings()["train"])
    if wanted.budget:  # the clock decides; the number of steps was only an estimate
        train, wanted = replace(train, max_iters=1), replace(wanted, max_iters=1)
    assert train == wanted
    assert model == ModelConfig.of({**read_config(run.folder).as_dict(), "vocab_size": 0})
    flags = [word for word in words_of(run)[6:] if word.startswith("--")]
    assert flags[0] == "--preset"
    asked = {"--" + name.replace("_", "-") for name in {**SMALL, **changes}}
    # measured, so always included; by steps, they are changes to the quick preset
    planned = {"--" + name.replace("_", "-") for name in (*PLANNED, "layout")}
    followed = {"--min-lr"} | (planned if key == "timed" else set())
    assert set(flags[1:]) <= asked | followed


@pytest.mark.parametrize("key", ["quick", "timed"])
@pytest.mark.parametrize("longer", [dict(budget=120.0), dict(max_iters=50)], ids=str)
def test_the_command_of_a_run_that_was_given_another_length_is_accepted(text, key, longer):
    run = prepare.new_run("one", text, key, **SMALL)
    prepare.to_continue(run, **longer)
    arguments = parser().parse_args(["train", "a-play.txt", *words_of(run)[6:]])
    check_flags(arguments, settings_in(arguments, ModelConfig, TrainConfig))
    train = repeated(run)[1]
    assert train.budget == longer.get("budget", 0.0)
    assert train.budget or train.max_iters == 50


def test_a_run_with_a_preset_s_own_settings_needs_no_flags(text):
    assert words_of(prepare.new_run("one", text, "quick"))[5:] == [text.id, "--preset", "quick"]


def test_the_text_is_named_by_key_by_id_or_by_its_file(text, home):
    run = prepare.new_run("one", text, **SMALL)
    assert words_of(run)[4:6] == ["--text", text.id]
    builtin = corpus.find("python-reference")
    assert words_of(prepare.new_run("two", builtin, **SMALL))[4:6] == ["--text", "python-reference"]
    corpus.rename(text.id, "-rf $(x); 'quoted'")
    run = prepare.new_run("three", corpus.load(text.id), **SMALL)
    corpus.delete(text.id)
    assert words_of(run)[4] == "rf-x-quoted.txt"  # nothing that a shell would run or that looks like a flag
    run.change(corpus={**run.settings()["corpus"], "id": next(iter(corpus.DOWNLOADED))})
    assert words_of(run)[4:6] == ["--text", "shakespeare"]  # as of the model that ships with the project


@pytest.mark.parametrize("stored", ["gone", "timed", "Time budget", None, "Laptop"])
def test_a_preset_that_does_not_fit_a_run_is_spelled_out(text, stored):
    run = prepare.new_run("one", text, "laptop", **SMALL)
    run.change(preset=stored)
    assert settings_of(run)["preset"] == ("laptop" if stored == "Laptop" else "quick")
    assert repeated(run)[1] == TrainConfig.of(run.settings()["train"])


@pytest.mark.parametrize("key", PRESETS)
def test_settings_come_back_from_their_file(text, key):
    run = prepare.new_run("one", text, key, **SMALL, dropout=0.25, seed=99)
    back = read_settings(settings_json(run).encode())
    assert back == settings_of(run)
    assert (back["preset"], back["dropout"], back["seed"]) == (key, 0.25, 99)


def test_settings_that_are_not_named_are_the_preset_s():
    assert read_settings(b'{"preset": "laptop", "n_layer": 2}')["max_iters"] == PRESETS["laptop"].settings["max_iters"]
    assert read_settings(b"\xef\xbb\xbf{}")["preset"] == next(iter(PRESETS))


@pytest.mark.parametrize(
    ("given", "key", "layout", "budget", "steps"),
    [
        (dict(max_iters=500), "quick", "classic", 0.0, 500),
        (dict(preset="Laptop"), "laptop", "classic", 0.0, 2000),
        (dict(preset="timed", max_iters=500), "quick", "modern", 0.0, 500),
        (dict(preset="TIMED", budget=0, max_iters=500), "quick", "modern", 0.0, 500),
        (dict(budget="3m"), "timed", "modern", 180.0, 1000),
        (dict(preset="Time budget", budget=90), "timed", "modern", 90.0, 1000),
    ],
    ids=str,
)
def test_settings_have_the_timed_preset_if_they_have_a_time_and_only_then(given, key, layout, budget, steps):
    back = read_settings(json.dumps(given).encode())
    assert (back["preset"], back["layout"], back["budget"], back["max_iters"]) == (key, layout, budget, steps)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a settings file"),
        (b"[]", "not a settings file"),
        (b"\xff", "not a settings file"),
        (b"[" * 90_000, "not a settings"),
        (b"{" + b" " * 100_000 + b"}", "not a settings file"),
        (b'{"n_layr": 3, "seed": 1}', "unknown settings: n_layr."),
        (json.dumps({f"k{i}" * 100: 0 for i in range(50)}).encode(), "and 45 more"),
        (b'{"preset": "huge"}', "no preset"),
        (b'{"preset": [1]}', "no preset"),
        (b'{"preset": null}', "no preset"),
        (b'{"preset": "laptop", "budget": "3m"}', "A time budget chooses the model itself. Leave out the preset"),
        (b'{"preset": "timed", "budget": 0}', "Enter a time budget, such as 60s or 3m"),
        (b'{"n_layer": "many"}', "n_layer"),
        (b'{"n_layer": 1e999}', "n_layer"),
        (b'{"n_embd": 10, "n_head": 4}', "must be divisible by n_head"),
        (b'{"seed": {}}', "seed"),
        (b'{"device": "tpu"}', "device"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_settings_file_is_a_sentence(data, said):
    with pytest.raises(NanoGPTError, match=said) as error:
        read_settings(data)
    assert len(str(error.value)) < 400


def test_of_a_run_that_is_not_there(home):
    for read in (settings_json, command):
        with pytest.raises(NanoGPTError, match="no run named one"):
            read(Run("one"))
