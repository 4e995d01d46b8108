"""Test the training loop: a run that was stopped or killed and resumed is bit-identical to an uninterrupted one."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import steady_clock
from safetensors.torch import load, save

from nanogpt import corpus, disk, memory, runs
from nanogpt.config import ModelConfig, NanoGPTError, TrainConfig
from nanogpt.data import split
from nanogpt.device import Device, pick_device
from nanogpt.evaluate import estimate_loss
from nanogpt.formats import load_model, read_config
from nanogpt.launch import local, prepare
from nanogpt.launch.trainer import main
from nanogpt.model import GPT
from nanogpt.reporter import CLEARLY_WORSE, Reporter, write_sample
from nanogpt.runs import Run, kept_step, read_jsonl, snapshots
from nanogpt.runs.checkpoint import Progress, load_state, save_state
from nanogpt.schedule import get_lr, settled
from nanogpt.step import Step
from nanogpt.timetable import Timetable
from nanogpt.tokenizer import CharTokenizer, load_tokenizer
from nanogpt.train import load_data, load_kernels, seconds_spent, train

ROOT = Path(__file__).resolve().parent.parent
TINY = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, warmup_iters=5, learning_rate=1e-2, patience=0)
TIMES = {"seconds", "tokens_per_second", "characters_per_second"}  # these differ from run to run


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """Share one NANOGPT_HOME among all tests of this file, so that each uninterrupted run is trained only once."""
    path = tmp_path_factory.mktemp("train")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOGPT_HOME", str(path))
        yield path


@pytest.fixture(scope="module")
def text(home, tiny_text):
    return corpus.add(tiny_text, "A play")


@pytest.fixture(scope="module")
def undisturbed(text):
    """Return a function that trains an uninterrupted run with given settings. It caches the run."""
    made: dict[str, Run] = {}

    def run_of(**settings) -> Run:
        key = json.dumps(settings, sort_keys=True)
        if key not in made:
            made[key] = prepare.new_run(f"undisturbed-{len(made)}", text, **{**TINY, **settings})
            train(made[key])
        return made[key]

    return run_of


def state(run: Run) -> dict[str, torch.Tensor]:
    """Return all tensors of a run's checkpoint: weights, optimizer state, RNG states."""
    return load((run.folder / "last.safetensors").read_bytes())


def progress(run: Run) -> dict:
    data = (run.folder / "last.safetensors").read_bytes()
    return json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["progress"])


def same_state(one: Run, other: Run) -> None:
    a, b = state(one), state(other)
    assert a.keys() == b.keys()
    assert {name for name in a if not torch.equal(a[name], b[name])} == set()


def rows(run: Run, leave_out=frozenset()) -> list[dict]:
    measured = [row for row in read_jsonl(run.folder / "metrics.jsonl") if "event" not in row]
    return [{key: value for key, value in row.items() if key not in TIMES | leave_out} for row in measured]


def events(run: Run) -> list[str]:
    return [row["event"] for row in read_jsonl(run.folder / "metrics.jsonl") if "event" in row]


def snapshots_of(run: Run) -> dict[int, bytes]:
    return {step: snapshots.path_of(run.folder, step).read_bytes() for step in snapshots.steps_in(run.folder)}


def steps(run: Run) -> list[int]:
    return [row["step"] for row in rows(run)]


def train_until(run: Run, step: int) -> int:
    """Train in this process, creating the stop file once `step` is logged. Return the step it stopped at."""

    ended = threading.Event()

    def ask():
        while not ended.is_set() and max(steps(run), default=-1) < step:
            time.sleep(0.001)
        run.stop_file.touch()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        train(run)
    finally:
        ended.set()
        asking.join()
        run.stop_file.unlink(missing_ok=True)
    return run.status().step


def kill_trainer(run: Run, ready) -> None:
    """Start a trainer process and kill it, with no chance to clean up, as soon as `ready()` is true."""
    command = [sys.executable, "-m", "nanogpt.launch.trainer", run.name]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as child:
        while not ready():
            assert child.poll() is None, "it ended before it could be killed"
            time.sleep(0.001)
        child.kill()
    assert child.returncode != 0
    assert run.status().state == "crashed"


# --- an uninterrupted run ------------------------------------------------------------------------------------------

PLAIN = dict(max_iters=120, eval_interval=30)
DROPOUT = dict(max_iters=120, eval_interval=30, dropout=0.2)
MODERN = dict(max_iters=120, eval_interval=30, dropout=0.1, layout="modern", seed=3)
each_kind = pytest.mark.parametrize(
    "settings",
    [
        pytest.param(PLAIN, id="plain"),
        pytest.param(DROPOUT, id="dropout", marks=pytest.mark.slow),
        pytest.param(MODERN, id="modern", marks=pytest.mark.slow),
    ],
)


def test_a_run_from_its_first_word_to_its_last(undisturbed, text):
    run = undisturbed(**PLAIN)
    status = run.status()
    assert (status.state, status.step, status.max_iters) == ("finished", 120, 120)
    assert events(run) == ["started", "finished"]
    assert steps(run) == list(range(121))  # max_iters // 200 is 0, so each step is logged
    evaluated = [row["step"] for row in rows(run) if "val_loss" in row]
    assert evaluated == [row["step"] for row in run.history().samples] == [0, 30, 60, 90, 120]
    config = TrainConfig.of(run.settings()["train"])
    for row in run.history().rows[1:]:
        assert row["learning_rate"] == get_lr(row["step"] - 1, config)
        assert row["tokens"] == row["step"] * 4 * 16
        assert row["tokens_per_second"] > 0
        assert math.isfinite(row["grad_norm"])
    vocab_size = read_config(run.folder).vocab_size
    assert rows(run)[0]["val_loss"] == pytest.approx(math.log(vocab_size), abs=0.1)
    assert rows(run)[-1]["val_loss"] < math.log(vocab_size) - 0.5
    assert all(len(sample["text"]) == 300 for sample in run.history().samples)
    assert not run.stop_file.exists()
    assert not list(run.folder.glob(".*.safetensors*"))  # no partial files are left


def test_the_last_word_is_the_loss_over_the_whole_held_out_text(undisturbed, text):
    run = undisturbed(**PLAIN)
    last = run.history().events[-1]
    held_out = split(text.tokens())[1]
    model = load_model(run.folder)
    loss = estimate_loss(model, held_out, pick_device("cpu"))
    assert last["val_loss"] == loss == min(last["best_val_loss"], last["last_val_loss"])
    assert last["val_characters"] == len(held_out) - 1
    assert f"{loss:.4f}" in last["message"]
    by_hand, T = 0.0, 16
    with torch.no_grad():
        for start in range(0, len(held_out) - 1, T):
            piece = held_out[start : start + T + 1].long()
            logits = model(piece[None, :-1])[0][0].double()
            by_hand -= logits.log_softmax(-1)[torch.arange(len(piece) - 1), piece[1:]].sum().item()
    assert loss == pytest.approx(by_hand / (len(held_out) - 1), abs=1e-5)


@pytest.mark.slow
def test_a_trainer_does_without_torch_s_compiler_and_sympy_which_take_a_second_to_import(text):
    """The trainer's clock is running when it writes its first sample."""
    run = prepare.new_run("uncompiled", text, **TINY, max_iters=3, layout="modern")
    script = (
        "import sys; from nanogpt.launch.trainer import main; main(sys.argv[1]); "
        "print([name for name in ('torch._dynamo', 'sympy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, run.name], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    assert run.status().state == "finished"


@pytest.mark.slow
def test_the_same_seed_is_the_same_run_and_another_is_another(undisturbed, text):
    first = undisturbed(**PLAIN)
    again = prepare.new_run("again", text, **{**TINY, **PLAIN})
    train(again)
    same_state(first, again)
    assert rows(first) == rows(again)
    assert first.history().samples == again.history().samples
    other = undisturbed(**PLAIN, seed=7)
    assert not torch.equal(state(first)["model.lm_head.weight"], state(other)["model.lm_head.weight"])
    assert rows(first)[0]["val_loss"] != rows(other)[0]["val_loss"]


def test_a_run_says_why_it_stopped(text, monkeypatch):
    run = prepare.new_run("says-why", text, **{**TINY, **PLAIN})
    train(run, 0.0)
    assert "saved: this server trains a run for at most 0 seconds at a time. Resume it" in run.status().message
    with monkeypatch.context() as patch:
        patch.setenv("NANOGPT_JOB_BEGAN", "0")
        train(run, 0.0)
    assert run.status().message == "Stopped at step 0 and saved before the job's time limit. Resume it to continue."
    save = Reporter.save

    def slow(self):
        save(self)
        self.due.at_a_time = 0.0  # its time is up now, too

    monkeypatch.setattr(Reporter, "save", slow)
    run.stop_file.touch()
    train(run, 1000.0)
    assert run.status().message == "Stopped at step 0 and saved."


# --- stopped, killed, resumed --------------------------------------------------------------------------------------


@each_kind
def test_a_stopped_and_resumed_run_is_the_undisturbed_one_to_the_bit(undisturbed, text, settings):
    expected = undisturbed(**settings)
    run = prepare.new_run(f"stopped-{len(settings)}", text, **{**TINY, **settings})
    stops = []
    for step in (13, 60):
        stops.append(train_until(run, step))
        assert run.status().state == "stopped"
        assert f"Stopped at step {stops[-1]:,}" in run.status().message
        assert progress(run)["step"] == stops[-1]
    assert 0 < stops[0] < stops[1] < 120
    prepare.to_continue(run)
    train(run)
    assert run.status().state == "finished"
    assert events(run) == ["started", "stopped"] * 2 + ["started", "finished"]
    same_state(expected, run)
    assert steps(run) == steps(expected)  # no step is repeated or missing
    assert rows(run, {"val_loss"}) == rows(expected, {"val_loss"})
    val_loss = {row["step"]: row["val_loss"] for row in rows(run) if "val_loss" in row}
    assert {step: val_loss[step] for step in (0, 30, 60, 90, 120)} == {
        row["step"]: row["val_loss"] for row in rows(expected) if "val_loss" in row
    }
    assert run.history().events[-1]["last_val_loss"] == expected.history().events[-1]["last_val_loss"]


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [DROPOUT, MODERN], ids=["dropout", "modern"])
def test_on_a_gpu_a_resumed_run_is_the_undisturbed_one_to_the_bit(undisturbed, text, settings):
    settings = settings | dict(device="cuda")
    expected = undisturbed(**settings)
    run = prepare.new_run(f"stopped-{len(settings)}-gpu", text, **{**TINY, **settings})
    assert 0 < train_until(run, 60) < 120
    prepare.to_continue(run)
    train(run)
    same_state(expected, run)


def test_a_resumed_run_in_float16_skips_no_step_again(text, monkeypatch):
    """Simulated on a CPU. The first scale is so large that the gradients of the first steps overflow."""
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device, enabled: scaler(device, 2.0**30, enabled=enabled))
    monkeypatch.setattr("nanogpt.train.pick_device", lambda *_, **__: Device("cpu", torch.float16, "a T4"))
    monkeypatch.setattr("nanogpt.fastest.fastest_step", Step)
    expected, run = (prepare.new_run(f"float16-{name}", text, **{**TINY, **PLAIN}) for name in ("whole", "stopped"))
    train(expected)
    assert 30 < train_until(run, 60) < 120
    prepare.to_continue(run)
    train(run)
    same_state(expected, run)
    scale, steps = state(run)["scaler"].tolist()
    assert scale < 2**30
    assert 60 < steps < 120  # since it was last changed


def saved_parts(run: Run, device: Device) -> tuple:
    """Return what a checkpoint of a run is made of, besides its progress."""
    model = GPT(read_config(run.folder))
    step = Step(model, TrainConfig(), device)
    return run, model, step.optimizers, step.scaler, torch.Generator()


def test_a_checkpoint_of_an_earlier_version_has_no_scale(text, undisturbed):
    run, _, _, scaler, _ = parts = saved_parts(undisturbed(**PLAIN), Device("cpu", torch.float16, "a T4"))
    assert "scaler" not in state(run)
    before = scaler.state_dict()
    assert load_state(*parts).step == 120
    assert scaler.state_dict() == before


def test_the_random_numbers_of_an_apple_gpu_are_kept(text, monkeypatch):
    """Simulated: what is recorded is which generator is read and set."""
    run = prepare.new_run("apple", text, **TINY)
    parts = saved_parts(run, Device("mps", torch.float32, "Apple GPU"))
    gpu = torch.Generator().manual_seed(1)
    monkeypatch.setattr(torch.mps, "get_rng_state", gpu.get_state)
    monkeypatch.setattr(torch.mps, "set_rng_state", gpu.set_state)
    monkeypatch.setattr(GPT, "device", torch.device("mps"))
    save_state(*parts, Progress())
    drawn = torch.rand(3, generator=gpu)
    load_state(*parts)
    assert torch.equal(torch.rand(3, generator=gpu), drawn)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [DROPOUT, dict(max_iters=160, eval_interval=20, layout="modern")], ids=["dropout", "modern"]
)
def test_a_killed_and_resumed_run_is_the_undisturbed_one_to_the_bit(undisturbed, text, settings):
    expected = undisturbed(**settings)
    run = prepare.new_run(f"killed-{settings.get('layout', 'classic')}", text, **{**TINY, **settings})
    for share in (0.1, 0.5):
        reached = share * settings["max_iters"]
        kill_trainer(run, lambda reached=reached: any(step >= reached for step in steps(run)))
    train(run)
    assert run.status().state == "finished"
    assert events(run).count("started") == 3
    same_state(expected, run)
    assert rows(run) == rows(expected)
    assert run.history().samples == expected.history().samples
    assert (run.folder / "model.safetensors").read_bytes() == (expected.folder / "model.safetensors").read_bytes()
    steady = lambda run: {key: value for key, value in progress(run).items() if not key.endswith("seconds")}
    assert steady(run) == steady(expected)
    assert snapshots_of(run) == snapshots_of(expected)
    assert list(snapshots_of(run)) == [step for step in sorted(snapshots.STEPS) if step <= settings["max_iters"]]


@pytest.mark.slow
def test_killed_before_its_second_save_it_begins_again_and_repeats_no_step(undisturbed, text):
    settings = dict(max_iters=120, eval_interval=120)
    expected = undisturbed(**settings)
    run = prepare.new_run("killed-early", text, **{**TINY, **settings})
    kill_trainer(run, lambda: len(steps(run)) > 5)
    assert progress(run)["step"] == 0
    train(run)
    same_state(expected, run)
    assert rows(run) == rows(expected)


@pytest.mark.slow
def test_killed_before_its_first_save_it_begins_again(undisturbed, text):
    expected = undisturbed(**PLAIN)
    run = prepare.new_run("killed-at-once", text, **{**TINY, **PLAIN})
    kill_trainer(run, lambda: "started" in events(run))
    train(run)
    same_state(expected, run)
    assert rows(run) == rows(expected)


class Killed(BaseException):
    """Raised in place of SIGKILL, at a point where there is nothing to clean up."""


def killed_at(monkeypatch, run: Run, owner, method: str, number: int) -> None:
    """Train until just before call `number` of a method (counting from 1), then raise Killed."""
    calls, real = itertools.count(1), getattr(owner, method)

    def call(*arguments, **settings):
        if next(calls) == number:
            raise Killed
        return real(*arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(owner, method, call)
        with pytest.raises(Killed):
            train(run)


SHORT = dict(max_iters=4, eval_interval=2, dropout=0.1)


@pytest.mark.parametrize("number", range(1, 10))
def test_killed_before_any_file_of_a_save_it_ends_the_same(undisturbed, text, monkeypatch, number):
    """Writes: samples.jsonl and metrics.jsonl at the start, then best weights and checkpoint at steps 0, 2 and 4."""
    expected = undisturbed(**SHORT)
    run = prepare.new_run(f"killed-at-write-{number}", text, **{**TINY, **SHORT})
    if number < 9:
        killed_at(monkeypatch, run, disk, "_replace", number + 1)  # the first is .queue/cpu.now
    prepare.to_continue(run)
    train(run)
    same_outcome(expected, run)


@pytest.mark.parametrize(
    ("method", "number"), [*(("log", n) for n in range(1, 6)), *(("sample", n) for n in range(1, 4))]
)
def test_killed_before_any_line_of_its_log_it_ends_the_same(undisturbed, text, monkeypatch, method, number):
    expected = undisturbed(**SHORT)
    run = prepare.new_run(f"killed-at-{method}-{number}", text, **{**TINY, **SHORT})
    killed_at(monkeypatch, run, Run, method, number)
    with (run.folder / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step":3,"half')
    prepare.to_continue(run)
    train(run)
    same_outcome(expected, run)


def same_outcome(expected: Run, run: Run) -> None:
    same_state(expected, run)
    assert rows(run) == rows(expected)
    assert run.history().samples == expected.history().samples
    assert (run.folder / "model.safetensors").read_bytes() == (expected.folder / "model.safetensors").read_bytes()
    last, wanted = ({**one.history().events[-1], "time": ""} for one in (run, expected))
    assert last == wanted
    assert not [path for path in run.folder.iterdir() if disk.is_temporary(path.name)]


@each_kind
def test_evaluating_more_often_changes_nothing(undisturbed, settings):
    seldom, often = undisturbed(**settings), undisturbed(**{**settings, "eval_interval": 7})
    same_state(seldom, often)
    assert rows(seldom, {"val_loss"}) == rows(often, {"val_loss"})
    both = {row["step"]: row["val_loss"] for row in rows(seldom) if "val_loss" in row}
    more = {row["step"]: row["val_loss"] for row in rows(often) if "val_loss" in row}
    assert len(more) == 19
    assert {step: more[step] for step in (0, 120)} == {step: both[step] for step in (0, 120)}


def test_a_run_may_go_on_to_another_length(text):
    """This changes the log interval, too; the current step may be one of the new log steps."""
    run = prepare.new_run("other-length", text, **{**TINY, "max_iters": 200_000, "eval_interval": 5})  # interval: 1,000
    reached = train_until(run, 5)
    assert reached < 1000
    run.change(train={**run.settings()["train"], "max_iters": 200 * reached})
    train_until(run, 2 * reached)
    assert "failed" not in events(run)
    assert steps(run) == sorted(set(steps(run)))
    logged = [row for row in run.history().rows if "learning_rate" in row]
    assert logged[0]["step"] == 2 * reached
    config = TrainConfig.of(run.settings()["train"])
    for row in logged:
        assert row["learning_rate"] == get_lr(row["step"] - 1, config)
        assert row["tokens_per_second"] > 0


def test_a_finished_run_goes_on(undisturbed, text):
    run = prepare.new_run("goes-on", text, **{**TINY, "max_iters": 20, "eval_interval": 10})
    train(run)
    prepare.to_continue(run, 30)
    train(run)
    assert run.status().state == "finished"
    assert steps(run) == list(range(31))
    assert [row["step"] for row in rows(run) if "val_loss" in row] == [0, 10, 20, 30]
    assert events(run) == ["started", "finished", "started", "finished"]


def test_a_timed_run_goes_on_to_a_number_of_steps(text, monkeypatch):
    monkeypatch.setattr("nanogpt.reporter.write_sample", lambda *_: "a sample")
    with steady_clock(0.02):
        run = prepare.new_run("timed-then-steps", text, "timed", **TINY, budget=10.0)
        train(run)
        ended = run.status()
        assert ended.state == "finished"
        prepare.to_continue(run, ended.step + 20)
        train(run)
    assert (run.status().state, run.status().step) == ("finished", ended.step + 20)
    config = TrainConfig.of(run.settings()["train"])
    added = [row for row in run.history().rows if row["step"] > ended.step and "learning_rate" in row]
    assert added
    assert all(row["learning_rate"] == get_lr(row["step"] - 1, config) for row in added)


# --- the best weights ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_kept_weights_are_those_of_the_lowest_validation_loss(text, monkeypatch):
    monkeypatch.setattr("nanogpt.fast.gradients.native_bfloat16", lambda: False)  # evaluate in float32
    run = prepare.new_run("best", text, **{**TINY, "max_iters": 400, "eval_interval": 5, "learning_rate": 0.5})
    train_until(run, 60)
    best = run.history().best
    losses = [row["val_loss"] for row in rows(run) if "val_loss" in row]
    assert best["val_loss"] == min(losses) < losses[-1]  # at this learning rate, the last weights aren't the best
    config = TrainConfig.of(run.settings()["train"])
    held_out = split(text.tokens())[1]
    most = Timetable(config, 0.0, all_windows=-(-(len(held_out) - 1) // 16)).windows
    loss = estimate_loss(load_model(run.folder), held_out, pick_device("cpu"), most)
    assert loss == pytest.approx(best["val_loss"], abs=1e-4)
    assert progress(run)["best_val_loss"] == best["val_loss"]


@pytest.fixture
def scripted(text, monkeypatch):
    """Return a function that trains a run with scripted validation losses: steps 0, 10, 20, then best and last weights.

    The function returns the run and the model's weights at each of the three evaluations.
    """

    def run_with(losses: list[float], killed_at_last_word: bool = False) -> tuple[Run, list[dict]]:
        made_up, weights = iter([4.0, *losses]), []  # 4.0 is the training loss at step 0

        def look(model, *_):
            weights.append({name: value.clone() for name, value in model.state_dict().items()})
            return next(made_up)

        monkeypatch.setattr("nanogpt.reporter.estimate_loss", look)
        run = prepare.new_run(f"scripted-{time.time_ns()}", text, **{**TINY, "max_iters": 20, "eval_interval": 10})
        if killed_at_last_word:
            killed_at(monkeypatch, run, Run, "event", 1)
        else:
            train(run)
        assert next(made_up, None) is None
        return run, weights[1:4]

    return run_with


@pytest.mark.parametrize(
    ("losses", "best_step", "kept_step", "loss"),
    [
        pytest.param([3.0, 2.0, 2.5, 2.1, 2.6], 10, 10, 2.1, id="overfitted"),
        pytest.param([3.0, 2.5, 2.0, 2.1], 20, 20, 2.1, id="still falling"),  # one set of weights
        pytest.param([2.0, 2.03, 2.01, 2.0, 2.01], 0, 0, 2.0, id="a little worse"),
        pytest.param([3.0, 2.0, 2.02, 2.2, 2.1], 10, 20, 2.1, id="better on the whole"),
    ],
)
def test_the_weights_that_stay_are_the_better_on_the_whole_held_out_text(scripted, losses, best_step, kept_step, loss):
    run, weights = scripted(losses)
    kept = load_model(run.folder).state_dict()
    same = [all(torch.equal(kept[name], value) for name, value in one.items()) for one in weights]
    assert same == [step == kept_step for step in (0, 10, 20)]
    assert (progress(run)["best_step"], progress(run)["best_val_loss"]) == (best_step, min(losses[:3]))
    last = run.history().events[-1]
    assert (last["val_loss"], last["best_val_loss"], last["last_val_loss"]) == (loss, losses[3], losses[-1])
    assert f"validation loss {loss:.4f}" in last["message"]


def test_an_extended_run_names_the_step_of_the_weights_that_it_keeps(scripted, monkeypatch):
    """At its first end, the last weights replaced those of step 10, whose loss had been lower on fewer windows."""
    run, weights = scripted([3.0, 2.0, 2.02, 2.2, 2.1])
    prepare.to_continue(run, 60)
    run.change(train={**run.settings()["train"], "patience": 1})
    losses = iter([2.5, 2.1, 2.5])  # at step 30, then of the kept and the last weights
    monkeypatch.setattr("nanogpt.reporter.estimate_loss", lambda *_: next(losses))
    train(run)
    last = run.history().events[-1]
    assert last["message"].startswith("Stopped early at step 30: ")
    assert "the best weights, from step 20, are kept" in last["message"]
    assert kept_step(run.history()) == progress(run)["best_step"] == 20
    kept = load_model(run.folder).state_dict()
    assert all(torch.equal(kept[name], value) for name, value in weights[-1].items())


def test_killed_while_it_finishes_a_run_has_the_same_last_word(scripted, monkeypatch):
    """The best weights may be overwritten already, but their validation loss is still known."""
    straight, _ = scripted([3.0, 2.0, 2.02, 2.2, 2.1])
    run, _ = scripted([3.0, 2.0, 2.02, 2.2, 2.1], killed_at_last_word=True)
    assert run.status().state == "crashed"
    monkeypatch.setattr("nanogpt.reporter.estimate_loss", lambda *_: 2.1)  # the best are overwritten by now
    train(run)
    last, wanted = ({**one.history().events[-1], "time": ""} for one in (run, straight))
    assert (last["best_val_loss"], last["last_val_loss"]) == (2.2, 2.1)
    assert last == wanted


@pytest.mark.slow
def test_a_timed_run_ends_by_its_time_with_its_last_judging(text, monkeypatch):
    """On a fake clock: a step takes about 0.1 s, each window of an evaluation 0.03 s."""
    looked = []
    with steady_clock(0.02) as clock:

        def look(model, data, device, most, *_):
            looked.append(most)
            clock.now += 0.03 * most
            return 3.0

        monkeypatch.setattr("nanogpt.reporter.estimate_loss", look)
        run = prepare.new_run("by-the-clock", text, "timed", **TINY, budget=60.0)
        train(run)
    assert run.status().state == "finished"
    assert looked[-2:] == [32, 32]  # best and last weights: all windows
    assert 55 < clock.now <= 60


def looks_of_a_stopped_run(text, monkeypatch, slower: float) -> tuple[Run, list[int], list[int]]:
    """Stop a timed run and resume it on a device that is so much slower. Return it, and the windows of its evaluations.

    On a fake clock, on which 60 seconds are enough for 5 of the 32 windows in each at first.
    """
    looked, window = [], 0.1
    monkeypatch.setattr("nanogpt.reporter.write_sample", lambda *_: "a sample")
    with steady_clock(0.02) as clock:

        def look(model, data, device, most, *_):
            looked.append(most)
            clock.now += window * most
            return 3.0 - 0.001 * len(looked)

        monkeypatch.setattr("nanogpt.reporter.estimate_loss", look)
        run = prepare.new_run(f"stopped-by-the-clock-{slower:g}", text, "timed", **TINY, budget=60.0)
        train_until(run, 60)
        before, window = len(looked), window * slower
        train(run)
    return run, looked[:before], looked[before:]


def test_a_timed_run_evaluates_the_same_windows_before_and_after_a_stop(text, monkeypatch):
    run, before, after = looks_of_a_stopped_run(text, monkeypatch, slower=1.0)
    assert before[:2] == after[:2] == [4, 4]  # at the training set, to see what that takes
    assert set(before[2:]) == set(after[2:-1]) == {5} == {progress(run)["windows"]}
    assert len(after) > 4


def test_a_timed_run_resumed_where_that_takes_too_long_compares_fewer_windows(text, monkeypatch):
    run, before, after = looks_of_a_stopped_run(text, monkeypatch, slower=10.0)
    assert set(before[2:]) == {5}
    assert after[:3] == [4, 4, 4]  # twice the training set, then the best weights again
    assert progress(run)["windows"] == 4
    losses = [row["val_loss"] for row in rows(run) if "val_loss" in row]
    assert progress(run)["best_val_loss"] == min(losses[-1], 3.0 - 0.001 * (len(before) + 3))


def test_only_a_number_of_seconds_counts_as_spent_on_planning(text):
    run = prepare.new_run("planned", text, max_iters=5, **TINY)
    for planning, spent in (("x", 0.0), ([1], 0.0), (None, 0.0), (0.5, 0.5), (9.0, 2.0)):
        assert seconds_spent(run, TrainConfig(budget=10.0), dict(planning=planning)) == spent


def test_a_timed_run_logs_its_speed_and_what_a_sample_and_a_save_took(text, monkeypatch):
    monkeypatch.setattr("nanogpt.reporter.write_sample", lambda *_: "a sample")
    with steady_clock(0.03):  # seconds per look at the clock
        run = prepare.new_run("costly", text, "timed", **TINY, budget=8.0)
        train(run)
    speeds = [row["tokens_per_second"] for row in run.history().rows if "tokens_per_second" in row]
    assert set(speeds) <= {round(4 * 16 / (0.03 * looks)) for looks in range(1, 50)}
    assert round(4 * 16 / 0.21) == 305 in speeds
    costs = run.history().events[-1]["costs"]
    assert costs["sample"] == 0.03
    assert costs["save"] == pytest.approx(0.03 * round(costs["save"] / 0.03)) != 0


def test_a_pause_is_no_time_spent_training(text, monkeypatch):
    monkeypatch.setattr("nanogpt.reporter.write_sample", lambda *_: "a sample")
    with steady_clock(0.03) as clock:

        def get_lr(step, *_) -> float:
            clock.now += 8 * 3600 * (step == 20)
            return 1e-3

        monkeypatch.setattr("nanogpt.train.get_lr", get_lr)
        run = prepare.new_run("asleep", text, "quick", **TINY, max_iters=40)
        train(run)
    speeds = [row["tokens_per_second"] for row in run.history().rows if "tokens_per_second" in row]
    assert len(speeds) > 30
    assert min(speeds) > 10
    assert run.history().seconds < 60


def test_a_pause_while_a_row_is_logged_is_no_time_either(text, monkeypatch):
    monkeypatch.setattr("nanogpt.reporter.write_sample", lambda *_: "a sample")
    log = Run.log
    with steady_clock(0.03) as clock:

        def stalled(run, step, **row) -> None:
            clock.now += 3600 * (step == 21)
            log(run, step=step, **row)

        monkeypatch.setattr(Run, "log", stalled)
        run = prepare.new_run("stalled", text, "quick", **TINY, max_iters=40)
        train(run)
    speeds = [row["tokens_per_second"] for row in run.history().rows if "tokens_per_second" in row]
    assert len(speeds) > 30
    assert min(speeds) > 10
    assert max(speeds) < 500
    assert run.history().seconds < 60


def test_the_last_message_says_if_the_last_evaluation_was_not_of_the_whole_validation_set(
    undisturbed, text, monkeypatch
):
    whole = undisturbed(**PLAIN).history().events[-1]["message"]
    assert re.search(r" bits\.( Measured on the whole validation set; while training, on \d+%\.)?$", whole)
    monkeypatch.setattr("nanogpt.reporter.write_sample", lambda *_: "a sample")
    with steady_clock(0.03) as clock:

        def look(model, data, device, most, *_) -> float:
            clock.now += 0.2 * most
            return 3.0

        monkeypatch.setattr("nanogpt.reporter.estimate_loss", look)
        run = prepare.new_run("hurried", text, "timed", **TINY, budget=8.0)
        train(run)
    last = run.history().events[-1]
    assert last["val_characters"] == 2 * 16  # two windows of 32
    assert last["message"].endswith(" Measured on 6% of the validation set.")


def test_before_a_timed_run_on_a_gpu_kernels_are_loaded_and_nothing_else_changes(undisturbed, text, monkeypatch):
    run, device, looked = undisturbed(**PLAIN), pick_device("cpu"), []
    look = lambda *given: looked.append(given[3]) or estimate_loss(*given)
    monkeypatch.setattr("nanogpt.train.estimate_loss", look)
    model, data = load_model(run.folder).train(), load_data(text.id, load_tokenizer(run.folder), device)
    weights, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    load_kernels(model, data, device)
    assert looked == [4, 32, 2 * 4096 // 16]  # the last of more than a batch of the size that large ones consist of
    assert model.training
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def test_an_evaluation_looks_at_the_windows_it_may(text, undisturbed):
    run = undisturbed(**PLAIN)
    held_out, device, model = split(text.tokens())[1], pick_device("cpu"), load_model(run.folder)
    whole = estimate_loss(model, held_out, device)
    some = estimate_loss(model, held_out, device, 8)
    assert some != whole
    assert estimate_loss(model, held_out, device, 8) == some
    assert estimate_loss(model, held_out, device, 10_000) == whole


def test_an_evaluation_reads_fewer_windows_at_once_if_the_vocabulary_is_large():
    model = GPT(ModelConfig(vocab_size=20_000, block_size=64, n_layer=1, n_head=1, n_embd=8)).eval()
    data, sizes = torch.arange(1601) * 12, []
    with torch.inference_mode():
        whole = float(model(data[:-1].view(25, 64), data[1:].view(25, 64))[1])
    model.register_forward_pre_hook(lambda model, given: sizes.append(given[0].numel()))
    assert estimate_loss(model, data, pick_device("cpu")) == pytest.approx(whole, rel=1e-6)
    assert sizes == [640, 640, 320]  # whose logits and log-probabilities take 134 MB; all at once, they took 328 MB


def test_after_an_evaluation_and_a_sample_dropout_is_as_it_was():
    model = GPT(ModelConfig(vocab_size=5, block_size=8, n_layer=1, n_head=1, n_embd=8, dropout=0.5))
    for training in (True, False):
        model.train(training)
        estimate_loss(model, torch.arange(20) % 5, pick_device("cpu"))
        assert model.training is training
        write_sample(model, CharTokenizer("\nabcd"))
        assert all(part.training is training for part in model.modules())


# --- what goes wrong -----------------------------------------------------------------------------------------------


def test_a_gpu_is_tried_and_memory_counted_once_it_is_the_run_s_turn(text, monkeypatch):
    seen, run = [], prepare.new_run("in-turn", text, **{**TINY, **PLAIN})

    def pick(wanted: str, probe: bool = False) -> Device:
        seen.append((probe, runs.queue.running()))
        return pick_device(wanted, probe)

    monkeypatch.setattr("nanogpt.train.pick_device", pick)
    monkeypatch.setattr(memory, "free_now", lambda device: 1000)
    monkeypatch.setattr(memory, "PATIENCE", 0.0)
    with pytest.raises(NanoGPTError, match="GB of memory, but only 0.0 GB are free"):
        train(run)
    assert seen == [(False, []), (True, [run.name])]
    assert runs.queue.running() == []


def test_a_run_gets_the_gpu_with_the_most_free_memory(text, monkeypatch):
    def use(place: str) -> None:
        raise NanoGPTError(f"It was given {place}.")

    monkeypatch.setattr("nanogpt.train.places", lambda device: ["cuda-0", "cuda-1"])
    monkeypatch.setattr(memory, "free_on_gpus", lambda: [10**9, 8 * 10**10])
    monkeypatch.setattr("nanogpt.train.use", use)
    with pytest.raises(NanoGPTError, match="It was given cuda-1"):
        train(prepare.new_run("one", text, **{**TINY, **PLAIN}))


@pytest.fixture
def overfits(text):
    """Return settings that make the validation loss rise soon: a very high learning rate on a tiny text."""
    return {**TINY, "max_iters": 1000, "eval_interval": 10, "learning_rate": 1.0, "patience": 3}


def test_patience_ends_a_run_that_only_gets_worse(overfits, text):
    run = prepare.new_run("overfits", text, **overfits)
    train(run)
    losses = [row["val_loss"] for row in rows(run) if "val_loss" in row]
    worse = [loss > min(losses[:i], default=math.inf) + CLEARLY_WORSE for i, loss in enumerate(losses)]
    assert worse[-3:] == [True] * 3
    assert [True] * 3 not in [worse[i : i + 3] for i in range(len(worse) - 3)]  # it stopped at the first three
    status, last = run.status(), run.history().events[-1]
    assert (status.state, last["event"], last["step"]) == ("finished", "finished", status.step)
    assert status.step < 1000
    assert "Stopped early at step" in status.message
    assert f"from step {run.history().best['step']}" in status.message
    with pytest.raises(NanoGPTError, match="was overfitting when it ended, so training longer won't help"):
        prepare.to_continue(run, 2000)


def test_patience_ends_a_timed_run_for_good(text, monkeypatch):
    losses = itertools.count(3.0, 0.1)
    monkeypatch.setattr("nanogpt.reporter.estimate_loss", lambda *_: next(losses))
    with steady_clock(0.02) as clock:
        run = prepare.new_run("timed-overfits", text, "timed", **{**TINY, "patience": 2}, budget=60.0)
        train(run)
        assert clock.now < 30
    last = run.history().events[-1]
    assert (last["event"], last["overfitting"]) == ("finished", True)
    with pytest.raises(NanoGPTError, match="was overfitting when it ended, so training longer won't help"):
        prepare.to_continue(run, budget=600.0)


def test_a_run_that_has_patience_left_may_go_on(undisturbed):
    assert undisturbed(**PLAIN).history().events[-1]["overfitting"] is False


def test_patience_goes_by_regular_evaluations_only(text, monkeypatch):
    """If the 1.9 at a stop were the best one, 2.03 would be clearly worse than the best; without the stop it isn't."""
    losses = iter([4.0, 3.0, 2.0, 1.9, 2.03, 2.04, 1.9, 2.04])  # 4.0 is the training loss; steps 0, 10, 15, 20 and 30
    monkeypatch.setattr("nanogpt.reporter.estimate_loss", lambda *_: next(losses))
    run = prepare.new_run("impatient", text, **{**TINY, "max_iters": 30, "eval_interval": 10, "patience": 1})
    add = Reporter.add

    def stop_at_15(reporter, *loss):
        add(reporter, *loss)
        if reporter.at.step == 14:
            run.stop_file.touch()

    monkeypatch.setattr(Reporter, "add", stop_at_15)
    train(run)
    assert (run.status().state, run.status().step) == ("stopped", 15)
    run.stop_file.unlink()
    train(run)
    assert (run.status().state, run.status().step) == ("finished", 30)
    assert (progress(run)["best_step"], progress(run)["best_val_loss"]) == (15, 1.9)  # these weights are kept
    assert (progress(run)["best_regular_loss"], progress(run)["worse"]) == (2.0, 0)


@pytest.mark.slow
def test_a_stop_between_two_evaluations_costs_no_patience(overfits, text):
    straight, stopped = (prepare.new_run(name, text, **overfits) for name in ("patient", "patient-stopped"))
    train(straight)
    for step in range(3, 1000, 7):
        train_until(stopped, step)
        if stopped.status().state == "finished":
            break
    assert stopped.status().step == straight.status().step
    same_state(straight, stopped)


DIVERGES = dict(max_iters=300, eval_interval=4, learning_rate=1.0, min_lr=1.0, weight_decay=10.0, warmup_iters=0)


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_best_weights(text, capfd):
    run = prepare.new_run("diverged", text, **{**TINY, **DIVERGES})
    assert main(run.name) == 1
    status = run.status()
    assert (status.state, status.can_continue) == ("failed", True)
    assert status.message.startswith("Training diverged at step ")
    assert status.message.endswith("The best weights so far are kept; try a learning rate three times lower.")
    model = load_model(run.folder)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert all(torch.isfinite(t).all() for name, t in state(run).items() if name.startswith("model."))
    for line in (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        json.loads(line, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))


@pytest.mark.parametrize("settings", [{}, dict(grad_clip=0.0), dict(optimizer="muon")], ids=str)
def test_weights_that_an_overflow_has_spoiled_are_not_saved(text, monkeypatch, settings):
    """No loss has shown it yet when the clock says that it is time to save."""
    forward_backward, taken = Step.forward_backward, []

    def overflow(step, xb, yb):
        loss = forward_backward(step, xb, yb)
        taken.append(loss.item())
        if len(taken) == 10:
            step.model.blocks[0].sa.qkv.weight.grad[0, 0] = math.inf
        return loss

    name = f"overflow-{settings.get('optimizer', 'adamw')}-{len(settings)}"
    run = prepare.new_run(name, text, **{**TINY, **PLAIN, **settings})
    with monkeypatch.context() as patch:
        patch.setattr("nanogpt.fastest.fastest_step", Step)
        patch.setattr(Step, "forward_backward", overflow)
        patch.setattr(Timetable, "saving", property(lambda due: len(taken) in (8, 10)))
        assert main(run.name) == 1
    assert len(taken) == 10
    assert all(map(math.isfinite, taken))
    assert run.status().message.startswith("Training diverged at step 10 (the weights became NaN). The best weights")
    assert progress(run)["step"] == 8
    assert all(tensor.float().isfinite().all() for tensor in state(run).values())
    prepare.to_continue(run)
    train(run)
    assert run.status().step == PLAIN["max_iters"]


def test_the_sentence_of_a_run_that_cannot_begin(text, tiny_text):
    other = corpus.add(tiny_text[::-1], "Backwards")
    run = prepare.new_run("no-text", other, **{**TINY, **PLAIN})
    corpus.delete(other.id)
    with pytest.raises(NanoGPTError, match="The text 'Backwards' isn't stored here"):
        train(run)
    assert main(run.name) == 1
    assert run.status().message.startswith("The text 'Backwards' isn't stored here")
    assert not run.stop_file.exists()


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:5000]])
def test_a_damaged_save_is_said_to_be_one(text, damage):
    run = prepare.new_run(f"damaged-{time.time_ns()}", text, **{**TINY, "max_iters": 5, "eval_interval": 5})
    train(run)
    saved = run.folder / "last.safetensors"
    saved.write_bytes(damage(saved.read_bytes()))
    prepare.to_continue(run, 9)
    with pytest.raises(NanoGPTError, match=f"last.safetensors of {run.name} cannot be read"):
        train(run)


def test_a_save_of_something_else_is_a_sentence(text, undisturbed):
    run = prepare.new_run("foreign", text, **{**TINY, "max_iters": 5, "eval_interval": 5})
    (run.folder / "last.safetensors").write_bytes((undisturbed(**PLAIN).folder / "model.safetensors").read_bytes())
    with pytest.raises(NanoGPTError, match="last.safetensors of foreign"):
        train(run)


def progress_with(**changes) -> Callable:
    return lambda tensors, progress: progress.update(changes)


OTHER_CHECKPOINTS: dict[str, Callable] = {
    "a step that is a word": progress_with(step="x"),
    "seconds that are none": progress_with(seconds=None),
    "a loss that is a word": progress_with(best_val_loss="z"),
    "no weights of the last layer": lambda tensors, progress: tensors.pop("model.lm_head.weight"),
    "no random state": lambda tensors, progress: tensors.pop("random.torch"),
    "a random state of zeros": lambda tensors, progress: tensors["random.batches"].zero_(),
    "a random state of floats": lambda tensors, progress: tensors.update({"random.torch": torch.zeros(5056)}),
    "a loss scaled by zero": lambda tensors, progress: tensors.update(scaler=torch.zeros(2)),
    "a loss scaled by NaN": lambda tensors, progress: tensors.update(scaler=torch.tensor([math.nan, 0.0])),
    "a scale without its age": lambda tensors, progress: tensors.update(scaler=torch.tensor([1024.0])),
    "an optimizer without one tensor": lambda tensors, progress: tensors.pop("optimizer.0.0.exp_avg_sq"),
    "an optimizer's tensor of another shape": lambda tensors, progress: tensors.update(
        {"optimizer.0.0.exp_avg": torch.zeros(())}
    ),
}


@pytest.mark.parametrize("what", OTHER_CHECKPOINTS)
def test_a_save_with_something_wrong_in_it_is_a_sentence(text, what):
    run = prepare.new_run(f"wrong-{time.time_ns()}", text, **{**TINY, "max_iters": 5, "eval_interval": 5})
    train(run)
    tensors, found = state(run), progress(run)
    OTHER_CHECKPOINTS[what](tensors, found)
    (run.folder / "last.safetensors").write_bytes(save(tensors, {"progress": json.dumps(found)}))
    prepare.to_continue(run, 9)
    assert main(run.name) == 1
    said = "with another version of nanogpt" if "optimizer" in what else f"last.safetensors of {run.name} is not its"
    assert said in run.status().message


def test_too_little_memory_for_a_save_is_not_taken_for_a_wrong_one(text, monkeypatch):
    def full(*_):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    run = prepare.new_run(f"full-{time.time_ns()}", text, **{**TINY, "max_iters": 5, "eval_interval": 5})
    train(run)
    prepare.to_continue(run, 9)
    monkeypatch.setattr("nanogpt.runs.checkpoint.load_optimizer_tensors", full)
    assert main(run.name) == 1
    assert run.status().message.startswith("Out of memory. Halve batch_size")


@pytest.mark.slow
def test_a_run_that_somebody_else_trains_is_left_to_them(text):
    run = prepare.new_run("taken", text, **{**TINY, **PLAIN})
    with run.held():
        assert main(run.name) == 1
    assert events(run) == []  # the other trainer owns this log


@pytest.mark.slow
def test_an_old_stop_file_does_not_stop_a_new_start(text):
    run = prepare.new_run("stopped-before", text, **{**TINY, "max_iters": 3})
    run.stop_file.touch()
    local.start(run)
    deadline = time.monotonic() + 60
    while run.status().busy and time.monotonic() < deadline:
        time.sleep(0.1)
    assert run.status().state == "finished"


def test_the_alphabet_and_the_text_of_many_characters(home):
    words = "".join(chr(0x4E00 + i) for i in range(400)) * 6 + "\n"  # more than fit into one-byte ids
    run = prepare.new_run("many", corpus.add(words), **{**TINY, "max_iters": 3, "eval_interval": 3})
    train(run)
    assert read_config(run.folder).vocab_size == 401
    assert rows(run)[0]["train_loss"] == pytest.approx(math.log(401), abs=0.1)


# --- weight decay --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_weight_decay_that_goes_by_the_passes_is_that_number_from_the_first_step_to_the_last(undisturbed, text):
    shape = dict(layout="modern", max_iters=60, eval_interval=20)
    left_open = undisturbed(**shape)
    assert left_open.settings()["train"]["weight_decay"] == -1.0
    config = TrainConfig.of(left_open.settings()["train"])
    number = settled(config, read_config(left_open.folder), text.characters).weight_decay
    assert number > 0
    same_state(left_open, undisturbed(**shape, weight_decay=number))
    none = state(undisturbed(**shape, weight_decay=0.0))
    assert not torch.equal(none["model.lm_head.weight"], state(left_open)["model.lm_head.weight"])


def test_a_timed_run_that_diverges_keeps_its_best_weights(text, monkeypatch):
    """Between saves, they exist only in memory."""
    with steady_clock(0.02):
        losses = iter([4.0, 4.0, 3.0, float("nan")])
        monkeypatch.setattr("nanogpt.reporter.estimate_loss", lambda *_: next(losses))
        monkeypatch.setattr("nanogpt.timetable.Timetable.saving", False)
        run = prepare.new_run("timed-diverged", text, "timed", **TINY, budget=60.0)
        assert main(run.name) == 1
    assert run.status().message.startswith("Training diverged at step ")
    assert load_model(run.folder)
    assert not (run.folder / "last.safetensors").exists()


@pytest.mark.slow
def test_a_timed_run_that_fails_before_its_first_save_starts_over(text, monkeypatch):
    with steady_clock(0.02):
        run = prepare.new_run("timed-failed", text, "timed", **TINY, budget=60.0)
        with monkeypatch.context() as patch:
            patch.setattr("nanogpt.timetable.Timetable.saving", False)
            patch.setattr(f"{train.__module__}.get_lr", lambda *_: 1 / 0)
            assert main(run.name) == 1
        (run.folder / "model.safetensors").unlink()
        assert main(run.name) == 0
    steps = [row["step"] for row in run.history().rows]
    assert steps == sorted(set(steps))
    assert [event["event"] for event in run.history().events] == ["started", "finished"]


# --- a full disk, and the time budget after a crash ------------------------------------------------------------------


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("number", range(1, 8))
def test_a_full_disk_ends_a_run_which_then_goes_on_as_if_nothing_had_been(undisturbed, text, monkeypatch, number):
    """The disk fills up at each write in turn, from the first two files to the last save."""
    expected = undisturbed(**SHORT)
    run = prepare.new_run(f"full-{number}", text, **{**TINY, **SHORT})
    writes, fsync = itertools.count(0), os.fsync  # the first is .queue/cpu.now
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: full() if next(writes) >= number else fsync(handle))
        assert main(run.name) == 1
    assert run.status().state == "failed"
    assert run.status().message.startswith("There is no space left in ")
    prepare.to_continue(run)
    assert main(run.name) == 0
    same_outcome(expected, run)


@pytest.mark.parametrize("has_log", [True, False])
def test_a_disk_without_room_for_a_line_gets_it_from_the_log(undisturbed, text, monkeypatch, capfd, has_log):
    expected = undisturbed(**SHORT)
    run = prepare.new_run(f"no-room-{int(has_log)}", text, **{**TINY, **SHORT})
    log = run.folder / "log.txt"
    if has_log:
        log.write_text("step 0\n" * 100, encoding="utf-8")
    append = runs.run.append

    def append_if_room(path, row):
        if not has_log or log.stat().st_size:
            full()
        return append(path, row)

    with monkeypatch.context() as patch:
        patch.setattr(runs.run, "append", append_if_room)
        patch.setattr(traceback, "print_exception", full)  # the traceback goes into log.txt
        assert main(run.name) == 1
    status, sentence = run.status(), "There is no space left in "
    if has_log:
        assert (status.state, log.read_bytes()) == ("failed", b"")
        assert status.message.startswith(sentence)
    else:
        assert status.state == "crashed"
        assert capfd.readouterr().err.startswith(sentence)
    prepare.to_continue(run)
    assert main(run.name) == 0
    same_outcome(expected, run)


@pytest.mark.parametrize("kept", [True, False], ids=["with a save", "without"])
@pytest.mark.slow
def test_time_that_a_killed_trainer_spent_is_spent(text, monkeypatch, kept):
    """On a fake clock, three trainers share 20 seconds; two of them are killed long after their last save."""
    with steady_clock(0.02) as clock:
        run = prepare.new_run(f"killed-by-the-clock-{int(kept)}", text, "timed", **TINY, budget=20.0)
        monkeypatch.setattr("nanogpt.timetable.Timetable.saving", property(lambda due: kept and due.first))
        spent, planned = 0.0, clock.now
        for seconds in (6.0, 8.0, None):
            began, add = clock.now, Reporter.add

            def until(reporter, *loss, add=add, end=began + (seconds or 1e9)):
                if clock.now > end:
                    raise Killed
                add(reporter, *loss)

            with monkeypatch.context() as patch, contextlib.suppress(Killed):
                patch.setattr(Reporter, "add", until)
                train(run)
            spent += clock.now - began
    assert run.status().state == "finished"
    assert 16 < spent + planned <= 21  # off by at most the time since the last row, twice
    steps = [row["step"] for row in run.history().rows]
    assert steps == sorted(set(steps))
