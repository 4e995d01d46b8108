"""The model chosen for a time budget on an NVIDIA GPU, whose speed is given here."""

from __future__ import annotations

import subprocess

import pytest
import torch

from nanogpt.config import MOST_STEPS, NanoGPTError
from nanogpt.device import Device
from nanogpt.launch import gpu_plan, measured, pace, plan
from nanogpt.launch.gpu_plan import SIZES
from nanogpt.launch.sizes import MEMORIZED

H200, T4 = 7e14, 2.5e13  # operations per second
TINY_SHAKESPEARE = 1_115_394


@pytest.fixture
def gpu(monkeypatch):
    def of_speed(speed: float) -> None:
        monkeypatch.setattr(plan, "pick_device", lambda wanted: Device("cuda", torch.bfloat16, "a GPU"))
        monkeypatch.setattr(gpu_plan, "product_speed", lambda device: speed)

    return of_speed


@pytest.mark.parametrize("speed", [H200, T4])
@pytest.mark.parametrize("characters", [5000, TINY_SHAKESPEARE, 100_000_000])
def test_a_choice_fits_its_budget_and_is_not_trained_beyond_what_pays(gpu, speed, characters):
    gpu(speed)
    for budget in (5, 30, 180, 3600):
        chosen = plan.choose(budget, 65, characters, {})
        s = chosen.settings
        model, train = plan._configs(s, 65)
        step = gpu_plan.step_seconds(model.n_layer, pace.step_flops(model, train.batch_size), speed)
        assert s["max_iters"] * step <= budget or s["max_iters"] == 20
        passes = s["max_iters"] * s["batch_size"] * s["block_size"] / (0.9 * characters)
        assert passes <= 41 or s["max_iters"] == 20 or characters < MEMORIZED  # which ends by patience
        assert 1 <= s["budget"] <= budget
        assert (s["budget"] == budget) == (chosen.shortened == "")
        assert 2 * s["block_size"] <= max(16, 0.1 * characters)


@pytest.mark.parametrize("characters", [2600, 5000, MEMORIZED - 1])
def test_a_text_that_is_memorized_in_no_time_gets_its_whole_budget(gpu, characters):
    """Its run ends by patience. After a number of epochs, 2,600 characters would have less than 0.05 s."""
    gpu(H200)
    chosen = plan.choose(60, 65, characters, {})
    assert (chosen.settings["budget"], chosen.shortened) == (60, "")
    assert chosen.settings["max_iters"] > 10_000
    assert not chosen.promises


def test_a_budget_is_shortened_to_a_second_at_least(gpu):
    gpu(H200)
    chosen = plan.choose(3600, 65, MEMORIZED, {})
    assert chosen.settings["budget"] == 1
    assert chosen.shortened == " It stops after 1 second: training longer would only overfit."


def test_a_budget_that_is_used_up_is_not_rounded(gpu):
    gpu(T4)
    chosen = plan.choose(90.04, 65, 10**8, {})
    assert (chosen.settings["budget"], chosen.shortened) == (90.04, "")


def test_a_short_text_gets_a_model_that_needs_no_dropout_and_a_long_one_a_large_model(gpu):
    gpu(H200)
    short, long = plan.choose(60, 65, TINY_SHAKESPEARE, {}).settings, plan.choose(3600, 65, 10**7, {}).settings
    assert (short["n_embd"], short["dropout"]) == (192, 0.0)
    assert (long["n_embd"], long["dropout"]) == (512, 0.3)
    few = plan.choose(600, 65, 2 * 10**9, {}).settings
    assert (few["n_embd"], few["dropout"]) == (SIZES[0].n_embd, 0.0)


@pytest.mark.parametrize(("printed", "speed"), [("5e14", 5e14), ("no GPU", gpu_plan.SLOW)])
def test_the_speed_of_a_gpu_is_what_another_process_prints(home, monkeypatch, printed, speed):
    def run(command, capture_output, text, timeout, env):
        assert command[1:] == ["-m", "nanogpt.launch.gpu_plan", "bfloat16"]
        return subprocess.CompletedProcess(command, 0, printed if capture_output and text else None)

    monkeypatch.setattr(gpu_plan.subprocess, "run", run)
    device = Device("cuda", torch.bfloat16, "a GPU of this test")
    monkeypatch.setattr(gpu_plan, "_failed", {})
    gpu_plan._measured_apart.cache_clear()
    assert gpu_plan.product_speed(device) == speed
    monkeypatch.setattr(gpu_plan.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, "1"))
    assert gpu_plan.product_speed(device) == speed
    monkeypatch.setattr(gpu_plan, "AGAIN", 0.0)  # a while later
    assert gpu_plan.product_speed(device) == (speed if speed > 1e14 else 1.0)  # only what was measured is kept


@pytest.mark.parametrize("memory", ["enough", "full"])
def test_a_process_that_is_about_to_train_measures_the_gpu_itself(home, monkeypatch, memory):
    def measure(dtype) -> float:
        if memory == "full":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return {torch.bfloat16: 3e14}[dtype]

    device = Device("cuda", torch.bfloat16, "another GPU of this test")
    monkeypatch.setattr(gpu_plan, "pick_device", lambda wanted: {"auto": device}[wanted])
    monkeypatch.setattr(gpu_plan, "measure", measure)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    gpu_plan.measure_here("auto")
    assert measured.recall(gpu_plan.product_key(device)) == (3e14 if memory == "enough" else None)
    monkeypatch.setattr(gpu_plan, "measure", lambda dtype: pytest.fail("it measures again, or beside a run"))
    monkeypatch.setattr(gpu_plan.queue, "running", lambda: ["one"] if memory == "full" else [])
    gpu_plan.measure_here("auto")


def test_what_is_given_is_kept(gpu):
    gpu(H200)
    given = dict(n_layer=2, dropout=0.5, weight_decay=0.7)
    chosen = plan.choose(10, 65, TINY_SHAKESPEARE, given)
    assert given.items() <= chosen.settings.items()


def test_settings_that_change_the_loss_get_no_promise_and_no_end_before_their_budget(gpu):
    gpu(H200)
    choose = lambda **given: plan.choose(60, 65, TINY_SHAKESPEARE, given)
    assert choose(seed=1, device="auto").promises
    assert choose().settings["budget"] < 60  # it is known after how many epochs this one overfits
    others = dict(learning_rate=1e-4), dict(layout="classic", learning_rate=1e-4)
    for given in (dict(n_layer=2, dropout=0.5), dict(dropout=0.5), dict(n_embd=96), *others):
        assert not choose(**given).promises
        assert "Expect" not in str(choose(**given))
        assert choose(**given).settings["budget"] == 60
    assert choose(layout="classic").settings["budget"] == 60


def test_a_long_budget_may_have_more_steps_than_can_be_asked_for(gpu):
    gpu(H200)
    settings = plan.choose(86400.0, 65, TINY_SHAKESPEARE, dict(dropout=0.2)).settings
    assert (settings["budget"], settings["max_iters"]) == (86400.0, MOST_STEPS)


def test_a_width_is_kept_if_any_size_has_a_number_of_heads_that_divides_it(gpu):
    gpu(H200)
    chosen = plan.choose(60, 65, TINY_SHAKESPEARE, dict(n_embd=200)).settings
    assert (chosen["n_embd"], chosen["n_head"]) == (200, 4)
    with pytest.raises(NanoGPTError, match="must be divisible by n_head"):
        plan.choose(60, 65, TINY_SHAKESPEARE, dict(n_embd=101))
