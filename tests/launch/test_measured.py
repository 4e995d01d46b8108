"""Stored speeds: measured once, looked up by everything they depend on, and learned from runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nanogpt import corpus, memory
from nanogpt.device import pick_device
from nanogpt.launch import measured, pace, plan, prepare, sizes, trainer
from nanogpt.presets import PRESETS
from nanogpt.runs import queue


@pytest.fixture(autouse=True)
def idle(home, monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0), raising=False)


def test_a_speed_is_measured_once(monkeypatch):
    calls = []
    monkeypatch.setattr(pace, "trial", lambda *_: calls.append(1) or 3e9)
    model, train = PRESETS["quick"].configs(n_layer=1, n_embd=16, n_head=2, device="cpu")
    assert pace.speed(model, train) == pace.speed(model, train) == 3e9
    wider, _ = PRESETS["quick"].configs(n_layer=1, n_embd=32, n_head=2, device="cpu")
    pace.speed(wider, train)
    assert len(calls) == 2


def test_the_speed_of_a_model_too_large_for_a_trial_is_guessed(monkeypatch):
    monkeypatch.setattr(pace, "GPT", lambda config: pytest.fail("it is built"))
    small, train = PRESETS["quick"].configs(n_layer=1, n_embd=16, n_head=2, device="cpu")
    wide, _ = PRESETS["quick"].configs(n_embd=4096, n_head=32)  # 200 million parameters, even with a single block
    many = replace(small, vocab_size=2_000_000)
    assert pace.speed(wide, train) == pace.speed(many, train) == sizes.SLOW
    measured.keep(measured.key_of(pick_device("cpu"), small, train), 7e10)
    assert pace.speed(wide, train) == pace.speed(many, train) == 7e10  # the typical one
    assert pace.known_speed(wide, train) is None
    given = dict(n_embd=4096, n_head=32, device="cpu")
    assert plan.choose(60, 65, 1_115_394, given).settings["max_iters"] == 20  # so it can be refused for its memory


def test_a_trial_takes_half_of_the_free_memory_at_most(monkeypatch):
    monkeypatch.setattr(pace, "trial", lambda *_: 3e9)
    model, train = PRESETS["quick"].configs(n_layer=1, n_embd=16, n_head=2, device="cpu")
    needed = memory.needed(*pace.reduced(model, train), pick_device("cpu")) - memory.TORCH
    for free, speed in ((2 * needed - 2, sizes.SLOW), (2 * needed, 3e9), (0, 3e9)):  # 0: it isn't known
        monkeypatch.setattr(memory, "free_now", lambda device, free=free: free)
        assert pace.speed(replace(model, dropout=0.1 if free == 0 else 0.0), train) == speed


def test_another_version_is_measured_anew(monkeypatch):
    key = lambda: measured.key_of(pick_device("cpu"), *PRESETS["quick"].configs())
    before = key()
    monkeypatch.setattr("nanogpt.launch.measured.__version__", "0.2.0")
    assert key() != before


def test_a_large_vocabulary_is_measured_anew():
    model, train = PRESETS["quick"].configs()
    key = lambda vocab_size: measured.key_of(pick_device("cpu"), replace(model, vocab_size=vocab_size), train)
    assert key(0) == key(65) == key(500)  # a preset has none until there is a text
    assert key(65) != key(1500) != key(4000) == key(3900)


def test_a_busy_machine_is_measured_anew(monkeypatch):
    monkeypatch.setattr(pace, "trial", lambda *_: 3e9)
    model, train = PRESETS["quick"].configs(n_layer=1, n_embd=16, n_head=2, device="cpu")
    pace.speed(model, train)
    monkeypatch.setattr("os.getloadavg", lambda: (3.1, 0.0, 0.0), raising=False)
    assert measured.recall(measured.key_of(pick_device("cpu"), model, train)) is None
    assert measured.recall(measured.key_of(pick_device("cpu"), model, train, own=3.0)) == 3e9


@pytest.mark.parametrize("state", ["running", "waiting"])
def test_what_is_measured_while_another_run_trains_is_not_kept_for_later(monkeypatch, state):
    monkeypatch.setattr(pace, "trial", lambda *_: 3e9)
    model, train = PRESETS["quick"].configs(n_layer=1, n_embd=16, n_head=2, device="cpu")
    with monkeypatch.context() as busy:
        busy.setattr(queue, state, lambda: ["other"])
        assert pace.speed(model, train) == 3e9
    assert pace.known_speed(model, train) is None
    with monkeypatch.context() as busy:
        begins = lambda *_: busy.setattr(queue, state, lambda: ["other"]) or 3e9
        busy.setattr(pace, "trial", begins)  # meanwhile
        pace.speed(model, train)
    for load in (0.0, 0.3, float(torch.get_num_threads())):  # the last one just after a run
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0.0, 0.0), raising=False)
        assert pace.known_speed(model, train) is None
    assert measured.typical(pick_device("cpu")) is None
    monkeypatch.setattr(pace, "trial", lambda *_: 6e9)
    assert pace.speed(model, train) == pace.known_speed(model, train) == 6e9


@pytest.mark.parametrize("state", ["running", "waiting"])
def test_a_busy_server_measures_once(monkeypatch, state):
    """Whatever the load average says, which rises slowly."""
    tried: list = []
    rate = lambda device, model, *_: tried.append(model) or 1e11
    monkeypatch.setattr(pace, "trial", rate)
    monkeypatch.setattr(queue, state, lambda: ["other"])
    chosen = plan.choose(60, 65, 1_115_394, {})
    once = len(tried)
    assert once
    if state == "running":
        monkeypatch.setattr("os.getloadavg", lambda: (float(torch.get_num_threads()), 0.0, 0.0), raising=False)
    assert plan.choose(60, 65, 1_115_394, {}).settings == chosen.settings
    pace.speed(tried[0], PRESETS["timed"].configs(device="cpu")[1])
    assert len(tried) == once


def test_runs_that_follow_each_other_teach_their_speed(monkeypatch):
    """It is kept at the load that those before have left, and preferred to a trial beside one of them."""
    model, train = PRESETS["quick"].configs(n_layer=1, n_embd=16, n_head=2, device="cpu")
    monkeypatch.setattr(pace, "trial", lambda *_: 3e9)
    monkeypatch.setattr(queue, "running", lambda: ["other"])
    assert pace.speed(model, train) == 3e9
    monkeypatch.setattr("os.getloadavg", lambda: (float(torch.get_num_threads()), 0.0, 0.0), raising=False)
    key = measured.key_of(pick_device("cpu"), model, train, own=0.3)
    measured.keep(key, 6e9)
    measured.keep_costs(key, dict(sample=0.2))
    assert pace.speed(model, train) == 6e9
    assert pace.known_costs(model, train) == dict(sample=0.2)


def test_a_plan_made_in_the_queue_is_for_the_machine_without_the_run_that_trains(monkeypatch):
    """Whether the load of that run shows already or not."""
    speed = 1.0
    seconds = lambda model, train: 0.003 + pace.step_flops(model, train.batch_size) / 1e11
    rate = lambda device, model, train, _: speed * pace.step_flops(model, train.batch_size) / seconds(model, train)
    monkeypatch.setattr(pace, "trial", rate)
    shape = ("n_layer", "n_embd", "block_size", "batch_size")
    chosen = lambda budget: [plan.choose(budget, 65, 1_115_394, {}).settings[key] for key in shape]
    chosen(10)
    speed = 0.35
    with monkeypatch.context() as busy:
        busy.setattr(queue, "running", lambda: ["other"])
        queued = chosen(600), chosen(3600)
        busy.setattr("os.getloadavg", lambda: (float(torch.get_num_threads()), 0.0, 0.0), raising=False)
        assert (chosen(600), chosen(3600)) == queued
    speed = 1.0
    assert (chosen(600), chosen(3600)) == queued


@pytest.mark.parametrize("content", ["", "[1]", '{"x": "fast"}', "{"])
def test_a_damaged_file_is_measured_over(home, content):
    (home / "machine.json").write_text(content, encoding="utf-8")
    assert measured.recall("x") is None
    measured.keep("x", 2.0)
    assert measured.recall("x") == 2.0


def test_a_folder_that_cannot_be_written_loses_nothing_but_the_speed(home, monkeypatch):
    monkeypatch.setenv("NANOGPT_HOME", str(home / "file"))
    (home / "file").write_text("in the way", encoding="utf-8")
    measured.keep("x", 2.0)
    assert measured.recall("x") is None


def test_the_oldest_speeds_go_first():
    for i in range(measured.MOST + 5):
        measured.keep(str(i), 1.0 + i)
    assert measured.recall("4") is None
    assert measured.recall(str(measured.MOST + 4)) == measured.MOST + 5.0


def test_a_run_teaches_what_a_sample_and_a_save_take(tiny_text):
    sized = dict(n_layer=1, n_embd=16, n_head=2, block_size=16, batch_size=4, max_iters=50, device="cpu")
    run = prepare.new_run("one", corpus.add(tiny_text), "quick", **sized)
    run.event("started", step=0)
    run.log(step=10, seconds=1.0, tokens=640, train_loss=3.0, tokens_per_second=640)
    run.event("finished", step=10, val_loss=3.0, message="Finished.", costs=dict(sample=0.2, save=0.8))
    model, train = pace.read_config(run.folder), pace.TrainConfig.of(run.settings()["train"])
    assert pace.known_costs(model, train) == {}
    pace.learned_from(run)
    assert pace.known_costs(model, train) == dict(sample=0.2, save=0.8)
    device = pick_device("cpu")
    assert measured.typical(device) == pace.known_speed(model, train)  # seconds aren't taken for speeds


@pytest.mark.parametrize(("processes", "size", "learns"), [(1, "1", True), (2, "1", False), (1, "2", False)])
def test_only_a_run_of_one_process_teaches_its_speed(tiny_text, monkeypatch, processes, size, learns):
    """WORLD_SIZE is what torchrun sets."""
    monkeypatch.setattr("nanogpt.train.train", lambda *_: None)
    monkeypatch.setenv("WORLD_SIZE", size)
    learned: list = []
    monkeypatch.setattr(pace, "learned_from", learned.append)
    run = prepare.new_run("one", corpus.add(tiny_text), "quick", n_layer=1, n_embd=16, n_head=2, block_size=16)
    assert trainer.main(run.name, processes=processes) == 0
    assert (len(learned) == 1) == learns


@pytest.mark.slow
def test_a_run_teaches_its_speed(tiny_text, monkeypatch):
    run = prepare.new_run(
        "one", corpus.add(tiny_text), "quick", n_layer=1, n_embd=16, n_head=2, block_size=16, batch_size=4,
        max_iters=50, device="cpu",
    )  # fmt: skip
    assert trainer.main(run.name) == 0
    monkeypatch.setattr(pace, "trial", lambda *_: pytest.fail("measured again"))
    model, train = pace.read_config(run.folder), pace.TrainConfig.of(run.settings()["train"])
    rates = [row["tokens_per_second"] for row in run.history().rows if "tokens_per_second" in row]
    per_token = pace.step_flops(model, 4) / (4 * 16)
    assert min(rates) * per_token <= pace.speed(model, train) <= max(rates) * per_token
