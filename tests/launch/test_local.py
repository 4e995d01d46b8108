"""New runs, resumed runs, and real trainer processes that take turns."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import until

from nanogpt import corpus, locks, memory
from nanogpt.config import ModelConfig, NanoGPTError, TrainConfig
from nanogpt.data import split
from nanogpt.device import Device, pick_device
from nanogpt.formats import read_config
from nanogpt.launch import local, prepare, trainer
from nanogpt.launch.visitors import Visitor
from nanogpt.model import GPT, count_parameters
from nanogpt.optim import make_optimizers, optimizer_tensors
from nanogpt.presets import PRESETS
from nanogpt.runs import Run, all_runs, queue
from nanogpt.tokenizer import CharTokenizer

ROOT = Path(__file__).resolve().parents[2]
TINY = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, warmup_iters=0)


def ended(run: Run):
    """Wait for the run's trainer process to exit, and return its exit status."""
    return local._children[run.name].wait(60)


# --- new runs ------------------------------------------------------------------------------------------------------


def test_a_new_run_knows_its_text_its_model_and_its_settings(text, tiny_text):
    run = prepare.new_run("one", text, "laptop", n_layer="2", max_iters=7)
    model, settings = read_config(run.folder), run.settings()
    assert (model.n_layer, model.vocab_size) == (2, len(set(tiny_text)))
    assert CharTokenizer.load(run.folder).chars == sorted(set(tiny_text))
    assert settings["corpus"] == dict(id=text.id, name="A play", sha256=text.sha256, characters=len(tiny_text))
    assert settings["preset"] == "laptop"
    assert settings["train"]["max_iters"] == 7
    assert settings["train"]["batch_size"] == PRESETS["laptop"].settings["batch_size"]


@pytest.mark.parametrize(("block_size", "fits"), [(4096, 128), (256, 128), (100, 100), (64, 64)])
def test_a_short_text_lowers_block_size_in_every_file(text, tiny_text, block_size, fits):
    assert len(tiny_text) - int(0.9 * len(tiny_text)) >= 2 * fits + 1
    run = prepare.new_run("one", text, block_size=block_size)
    assert read_config(run.folder).block_size == fits
    assert f'"model_max_length": {fits}' in (run.folder / "tokenizer_config.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "wrong",
    [
        dict(n_layer=0), dict(n_embd=10, n_head=4), dict(learning_rate="fast"), dict(max_iters=0), dict(device="tpu"),
        dict(dropout=float("nan")), dict(n_layr=3), dict(learning_rate=[1]),
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_setting_makes_no_run(text, home, wrong):
    with pytest.raises(NanoGPTError, match=next(iter(wrong))):
        prepare.new_run("one", text, **wrong)
    assert all_runs() == []
    assert not (home / "checkpoints" / "one").exists()


@pytest.mark.parametrize("typed", ["Laptop", " LAPTOP ", "laptop"])
def test_the_key_of_a_preset_is_stored_however_it_is_typed(text, typed):
    assert prepare.new_run("one", text, typed, **TINY).settings()["preset"] == "laptop"


def test_a_time_or_steps_without_a_preset_choose_it(text, known_speed):
    presets = {}
    for name, settings in dict(timed=dict(budget=20), steps=dict(max_iters=9), none={}).items():
        presets[name] = prepare.new_run(name, text, **TINY, **settings).settings()["preset"]
    assert presets == dict(timed="timed", steps="quick", none="quick")


@pytest.mark.parametrize(
    ("preset", "settings", "said"),
    [
        ("lecture", dict(budget=60), "A time budget chooses the model itself. Leave out the preset, or give max_iters"),
        ("Quick", dict(budget="1m"), "A time budget chooses the model itself."),
        ("TIMED", dict(budget=0), "Enter a time budget, such as 60s or 3m, or choose another preset."),
        ("timed", dict(budget=60, max_iters=9), "Give either a budget or max_iters, not both."),
        (None, dict(budget=60, max_iters=9), "Give either a budget or max_iters, not both."),
    ],
)
def test_a_preset_that_does_not_go_with_the_length_of_a_run_makes_none(text, preset, settings, said):
    for make in (prepare.new_run, Visitor().new_run):
        with pytest.raises(NanoGPTError, match=f"^{re.escape(said)}"):
            make("one", text, preset, **settings)
    assert all_runs() == []


@pytest.mark.parametrize("preset", ["huge", "", 5])
def test_an_unknown_preset_makes_no_run(text, home, preset):
    with pytest.raises(NanoGPTError, match="There is no preset"):
        prepare.new_run("one", text, preset)
    assert all_runs() == []


def test_two_starts_at_once_without_a_name_get_one_each(text, monkeypatch):
    planned = prepare.resolve

    def meanwhile(*arguments, **options):
        recipe = planned(*arguments, **options)
        prepare.write("a-play", text, recipe)
        return recipe

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "resolve", meanwhile)
        assert Visitor().new_run("", text, max_iters=10, **TINY).name == "a-play-2"
    names = iter(["a-play", "a-play-2", "a-play-3"])  # as if those two were created just now
    monkeypatch.setattr(prepare, "free_name", lambda like: next(names))
    assert prepare.new_run("", text, max_iters=10, **TINY).name == "a-play-3"


def test_a_name_that_counts_as_free_but_is_taken_ends_the_start(text, monkeypatch):
    prepare.new_run("one", text, max_iters=10, **TINY)
    monkeypatch.setattr(prepare, "free_name", lambda like: "one")
    with pytest.raises(NanoGPTError, match="already a run named one"):
        prepare.new_run("", text, max_iters=10, **TINY)


# --- resuming ------------------------------------------------------------------------------------------------------


def test_what_cannot_go_on_says_why(text):
    run = prepare.new_run("one", text, max_iters=10, **TINY)
    run.event("started", step=0)
    run.log(step=10, val_loss=1.0)
    run.event("finished", step=10)
    with pytest.raises(NanoGPTError, match="reached its last step, 10. Give a larger max_iters"):
        prepare.to_continue(run)
    for wrong in (5, 0, "x", 10**9):
        with pytest.raises(NanoGPTError, match="max_iters"):
            prepare.to_continue(run, wrong)
    assert run.settings()["train"]["max_iters"] == 10
    prepare.to_continue(run, 20)
    assert run.settings()["train"]["max_iters"] == 20
    assert run.status().max_iters == 20
    queue.draw("one")
    with pytest.raises(NanoGPTError, match="one is still queued. Wait until it ends, or stop it first"):
        prepare.to_continue(run)
    queue.drop("one")
    with run.held(), pytest.raises(NanoGPTError, match="one is still running"):
        prepare.to_continue(run)
    with pytest.raises(NanoGPTError, match="There is no run named absent"):
        prepare.to_continue(Run("absent"))


def test_a_run_killed_after_its_last_step_but_before_its_last_word_can_go_on(text):
    run = prepare.new_run("one", text, max_iters=10, **TINY)
    run.event("started", step=0)
    run.log(step=10, val_loss=1.0)
    assert run.status().state == "crashed"
    assert run.status().can_continue
    prepare.to_continue(run)


def test_a_run_whose_launcher_was_killed_starts_when_it_is_resumed(text):
    run = prepare.new_run("one", text, max_iters=10, **TINY)
    assert run.status().state == "failed"
    prepare.to_continue(run)
    assert run.settings()["train"]["max_iters"] == 10


def test_a_run_killed_in_its_first_save_starts_over_when_it_is_resumed(text):
    run = prepare.new_run("one", text, max_iters=10, **TINY)
    run.event("started", step=0)
    run.log(step=0, val_loss=3.0)
    (run.folder / "model.safetensors").write_bytes(b"the best weights")
    prepare.to_continue(run)
    run.event("failed", message="There is no space left.")
    prepare.to_continue(run)
    run.event("stopped", step=5)  # so it was saved
    with pytest.raises(NanoGPTError, match="one has no checkpoint, so it can't be resumed. You can still sample"):
        prepare.to_continue(run)


def test_a_run_of_steps_gets_a_budget_only_if_it_has_not_used_it_up(text):
    run = prepare.new_run("one", text, max_iters=10, **TINY)
    run.event("started", step=0)
    run.log(step=10, seconds=90.0, val_loss=1.0)
    run.event("finished", step=10)
    before = run.settings()
    for budget in (60.0, 90.0):
        with pytest.raises(NanoGPTError, match=r"one has already trained for 90 seconds\. Give a larger budget"):
            prepare.to_continue(run, budget=budget)
    assert run.settings() == before
    prepare.to_continue(run, budget=120.0)
    assert run.settings()["train"]["budget"] == 120


def timed(text, seconds: float, step: int = 50) -> Run:
    """Create a run of 60 seconds that has trained for some of them."""
    run = prepare.new_run("timed", text, "timed", budget=60.0, **TINY)
    run.event("started", step=0)
    run.log(step=step, seconds=seconds, val_loss=1.0)
    return run


def test_a_timed_run_cannot_be_made_shorter_than_it_is(text, known_speed):
    run = timed(text, 40.0)
    run.event("stopped", step=50)
    with pytest.raises(NanoGPTError, match="timed has already trained for 40 seconds"):
        prepare.to_continue(run, budget=30.0)
    prepare.to_continue(run, budget=45.0)
    assert run.settings()["train"]["budget"] == 45


def test_a_timed_run_killed_after_its_last_step_can_go_on(text, known_speed):
    run = timed(text, 60.1)
    for budget in (None, 60.0):  # none, and the one that it has
        prepare.to_continue(run, budget=budget)
    assert run.settings()["train"]["budget"] == 60


def test_a_timed_run_that_is_given_steps_becomes_a_run_of_steps(text, known_speed):
    run = timed(text, 40.0)
    run.event("stopped", step=50)
    with pytest.raises(NanoGPTError, match="Give either a budget or max_iters, not both"):
        prepare.to_continue(run, 5000, 120.0)
    with pytest.raises(NanoGPTError, match="timed is already at step 50. max_iters must be larger"):
        prepare.to_continue(run, 20)
    prepare.to_continue(run, 5000)
    train = run.settings()["train"]
    assert (train["max_iters"], train["budget"]) == (5000, 0)
    assert run.status().max_iters == 5000


# --- real trainers -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_trainers_on_one_device_run_one_after_the_other(text):
    runs = [prepare.new_run(name, text, max_iters=30, eval_interval=15, **TINY) for name in ("first", "second")]
    with queue.turn("busy", "cpu"):
        for run in runs:
            local.start(run)
        assert [run.status().state for run in runs] == ["queued", "queued"]
        assert [run.status().place for run in runs] == [1, 2]
        with pytest.raises(NanoGPTError, match="second is still queued"):
            prepare.to_continue(runs[1])
    together = []

    def both_ended():
        busy = [run.name for run in runs if locks.is_held(run.folder / ".lock")]
        together.append(len(busy))
        return all(child.poll() is not None for child in (local._children["first"], local._children["second"]))

    until(both_ended)
    assert max(together) <= 1
    assert [run.status().state for run in runs] == ["finished", "finished"]
    first, second = (run.folder / "metrics.jsonl" for run in runs)
    assert first.stat().st_mtime_ns < second.stat().st_mtime_ns
    times = [(run.history().events[0]["time"], run.history().events[-1]["time"]) for run in runs]
    assert times[0][0] <= times[0][1] <= times[1][0]
    losses = [[row["train_loss"] for row in run.history().rows] for run in runs]
    assert losses[0] == losses[1]  # same seed and settings, same losses
    assert "step     30" in (runs[0].folder / "log.txt").read_text(encoding="utf-8")
    assert queue.waiting() == queue.running() == []


@pytest.mark.slow
def test_a_run_withdrawn_while_its_trainer_starts_or_waits_never_begins(text):
    early, late = (prepare.new_run(name, text, max_iters=30, **TINY) for name in ("early", "late"))
    with queue.turn("busy", "cpu"):
        local.start(early)
        early.request_stop()  # before its process is up
        local.start(late)
        until(lambda: queue.has_trainer("late"))
        late.request_stop()
        assert ended(late) == 0
        until(lambda: local._children["early"].poll() is not None or "early" in queue.waiting())
    assert ended(early) == 0
    for run in (early, late):
        assert not (run.folder / "last.safetensors").exists()
        status = run.status()
        assert (status.state, status.can_continue) == ("stopped", True)
        assert "did not start" not in status.message  # that message is for trainers that couldn't start


def events(run: Run) -> list[str]:
    return [event["event"] for event in run.history().events]


@pytest.mark.slow
def test_a_run_resumed_twice_at_the_same_moment_trains_once_and_stops_at_once(text):
    run = prepare.new_run("one", text, max_iters=100_000, eval_interval=50, **TINY)
    with queue.turn("busy", "cpu"):
        local.start(run)
        first = local._children["one"]
        until(lambda: queue.has_trainer("one"))
        local.start(run)  # a second resume, before the first trainer has begun
        assert ended(run) == 1  # while the first one waits
        assert "already being trained by another process" in run.log_tail()
        assert (run.status().state, queue.waiting()) == ("queued", ["one"])
    until(lambda: run.history().step > 0)
    local.start(run)  # and again while the first one trains
    assert run.status().state == "running"
    assert ended(run) == 1
    assert (run.status().state, first.poll(), queue.waiting()) == ("running", None, [])
    run.request_stop()
    assert run.status().state in ("stopping", "stopped")
    assert first.wait(60) == 0
    assert events(run) == ["started", "stopped"]
    assert run.status().message.startswith("Stopped at step")


@pytest.mark.slow
def test_stop_stops_what_trains_and_withdraws_what_was_resumed_with_it(text):
    run = prepare.new_run("one", text, max_iters=100_000, eval_interval=50, **TINY)
    local.start(run)
    first = local._children["one"]
    until(lambda: run.history().step > 0)
    queue.draw("one")  # a second ticket, whose trainer is still starting
    run.request_stop()
    assert queue.waiting() == []
    assert first.wait(60) == 0
    message = run.status().message
    assert message.startswith("Stopped at step")
    with (run.folder / "log.txt").open("ab") as log:  # it starts only now, and must not train
        late = local._launch(["one"], stdin=subprocess.DEVNULL, stdout=log)
    assert late.wait(60) == 0
    assert (events(run), run.status().message) == (["started", "stopped"], message)
    prepare.to_continue(run)  # a canceled run can be resumed
    local.start(run)
    until(lambda: events(run) == ["started", "stopped", "started"])
    run.request_stop()
    assert ended(run) == 0


@pytest.mark.slow
def test_a_trainer_that_dies_before_it_arrives_leaves_the_queue_at_once(text, monkeypatch):
    run = prepare.new_run("one", text, max_iters=30, **TINY)
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    monkeypatch.setattr(local, "_launch_for", lambda run, module: subprocess.Popen(command, stdin=subprocess.PIPE))
    local.start(run)
    assert run.status().state == "queued"
    local._children["one"].kill()
    until(lambda: queue.waiting() == [], queue.GRACE / 3)
    assert run.status().state == "failed"
    local._children["one"].stdin.close()


def test_a_trainer_that_cannot_be_started_leaves_the_queue(text, monkeypatch):
    run = prepare.new_run("one", text, max_iters=30, **TINY)
    (run.folder / "log.txt").mkdir()
    with pytest.raises(OSError, match=r"log\.txt"):
        local.start(run)
    assert queue.waiting() == []


def test_a_trainer_that_was_started_is_not_given_up_because_there_are_no_more_threads(text, monkeypatch):
    run = prepare.new_run("one", text, max_iters=30, **TINY)
    child = SimpleNamespace(wait=lambda: 0, poll=lambda: 0, kill=lambda: None)
    start = threading.Thread.start

    def no_more(thread):
        if not isinstance(thread, threading.Timer):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(local, "_launch_for", lambda *_: child)
    monkeypatch.setattr(threading.Thread, "start", no_more)
    local.start(run)
    assert queue.waiting() == ["one"]


@pytest.mark.slow
def test_the_spare_trainer_is_for_a_run_that_is_next(text):
    first, second = (prepare.new_run(name, text, max_iters=30, **TINY) for name in ("first", "second"))
    local.warm()
    [spare] = local._spare
    with queue.turn("busy", "cpu"):
        queue.draw("waits")
        local.start(first)
        assert local._spare == [spare]
        queue.drop("waits")
        first.request_stop()
        assert ended(first) == 0
        local.start(second)
        assert (local._spare, local._children["second"]) == ([], spare)
        second.request_stop()
    assert ended(second) == 0


LATE_IMPORTS = """
import sys
from nanogpt.launch import trainer
from nanogpt.runs import Run, queue

take, cut_back, before = queue._take, Run.cut_back, set()

def taken(*how):
    before.update(sys.modules)
    return take(*how)

def started(*how, **facts):
    cut_back(*how, **facts)
    print("late:", *sorted({name.split(".")[0] for name in sys.modules.keys() - before} - {"nanogpt"}), flush=True)

queue._take, Run.cut_back = taken, started
sys.exit(trainer.main("one"))
"""


@pytest.mark.slow
def test_nothing_large_is_imported_between_a_turn_and_its_start(text):
    prepare.new_run("one", text, max_iters=1, **TINY)
    command = [sys.executable, "-c", LATE_IMPORTS]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.startswith("late:\n")


@pytest.mark.slow
@pytest.mark.usefixtures("real_process")
def test_only_the_next_run_imports_torch_while_it_waits(text):
    runs = [prepare.new_run(name, text, max_iters=30, **TINY) for name in ("first", "second")]
    has_torch = lambda name: (
        "/torch/lib/" in Path(f"/proc/{local._children[name].pid}/maps").read_text(encoding="utf-8")
    )
    if not Path("/proc/self/maps").exists():
        pytest.skip("needs /proc")
    with queue.turn("busy", "cpu"):
        queue.draw("first")
        local.start(runs[1])
        until(lambda: queue.has_trainer("second"))
        quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        local._children["first"] = local._launch(["first"], **quiet)  # started later, but imports torch earlier
        until(lambda: has_torch("first"))
        assert not has_torch("second")
        runs[0].request_stop()
        until(lambda: has_torch("second"))
    for run in runs:
        assert ended(run) == 0
    assert [run.status().state for run in runs] == ["stopped", "finished"]


def test_the_message_of_an_unknown_error_does_not_say_where_things_are():
    said = trainer.user_message(RuntimeError("/srv/me/lib/x.so: cannot open shared object file"))
    assert said == "RuntimeError: x.so: cannot open shared object file (see log.txt for details)"
    assert len(trainer.user_message(RuntimeError("x" * 100_000))) < 1100


@pytest.mark.parametrize("error", [
    MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 48.00 MiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: not enough memory: you tried to "
                 "allocate 68719476736 bytes."),
    RuntimeError("CUDA error: out of memory"), RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"),
])  # fmt: skip
def test_running_out_of_memory_is_a_sentence(error):
    assert trainer.user_message(error) == "Out of memory. Halve batch_size, or reduce n_embd, n_layer or block_size."


@pytest.mark.slow
def test_a_trainer_that_cannot_begin_leaves_its_sentence(text):
    run = prepare.new_run("one", text, max_iters=30, **TINY)
    corpus.delete(text.id)
    local.start(run)
    assert ended(run) == 1
    status = run.status()
    assert status.state == "failed"
    gone = "The text 'A play' isn't stored here. Add it, then try again."
    assert status.message == gone


def test_the_attention_weights_that_training_keeps_on_a_cpu_are_counted(monkeypatch):
    """The weights are (B nh, T, T) per layer without dropout; torch's own attention keeps none."""
    monkeypatch.setattr("nanogpt.fast.gradients.native_bfloat16", lambda: True)
    train, few_many = TrainConfig(batch_size=8), []
    for wish in (
        dict(layout="modern", dropout=0.0),
        dict(layout="classic", dropout=0.0),
        dict(layout="modern", dropout=0.1),
    ):
        few, many = (
            memory.needed(
                ModelConfig(vocab_size=65, n_layer=2, n_head=heads, n_embd=128, block_size=512, **wish),
                train,
                pick_device("cpu"),
            )
            for heads in (2, 8)
        )
        few_many.append(many - few)
    in_bfloat16 = 2 * 8 * 6 * 512 * (512 + 128) // 2 * 2  # no query meets the keys of the groups after it
    assert few_many == [in_bfloat16, in_bfloat16, 0]


def test_each_thread_s_gradients_and_rounded_weights_are_counted(monkeypatch):
    monkeypatch.setattr("nanogpt.fast.gradients.native_bfloat16", lambda: True)
    shape = ModelConfig(vocab_size=65, n_layer=2, n_head=2, n_embd=128, block_size=64)
    # with dropout, a batch isn't divided; with fewer rows than threads, each row has one
    for dropout, rows, more in ((0.0, 64, 2 * 6), (0.1, 64, 0), (0.0, 3, 2 * 6), (0.0, 2, 6), (0.0, 1, 0)):
        needed, train = [], TrainConfig(batch_size=rows)
        for cores in (1, 3):
            monkeypatch.setattr(torch, "get_num_threads", lambda cores=cores: cores)
            needed.append(memory.needed(replace(shape, dropout=dropout), train, pick_device("cpu")))
        assert needed[1] - needed[0] == more * count_parameters(shape)


@pytest.mark.parametrize("layout", ["classic", "modern"])
def test_what_the_optimizers_keep_is_counted(layout):
    """With Muon, AdamW still keeps two tensors for the embeddings and the head, most of a model of many characters."""
    shape = ModelConfig(vocab_size=5000, layout=layout, n_layer=2, n_head=2, n_embd=32, block_size=16)
    kept, needed = [], []
    for train in (TrainConfig(optimizer="adamw"), TrainConfig(optimizer="muon")):
        model = GPT(shape)
        optimizers = make_optimizers(model, train)
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        for optimizer in optimizers:
            optimizer.step()
        kept.append(sum(value.numel() for value in optimizer_tensors(optimizers).values() if value.dim()))
        needed.append(memory.needed(shape, train, pick_device("cpu")))
    assert kept[0] == 2 * count_parameters(shape)
    assert needed[0] - needed[1] == 4 * (kept[0] - kept[1])


def test_several_processes_on_a_cpu_need_memory_each(monkeypatch):
    """Their own weights, gradients, optimizer and torch. Their rows are parts of one batch; each GPU has its own."""
    monkeypatch.setattr("nanogpt.fast.gradients.native_bfloat16", lambda: False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    shape, train, cpu = ModelConfig(vocab_size=65), TrainConfig(batch_size=5), pick_device("cpu")
    needed = lambda device, ranks: memory.needed(shape, train, device, ranks=ranks)
    # four threads have the batch's rows, or two threads of each process
    more = 2 * (1 + 2 + 2) - (1 + 4 + 2)
    assert needed(cpu, 2) - needed(cpu, 1) == 4 * more * count_parameters(shape) + memory.TORCH
    gpu, tokens = Device("cuda", torch.bfloat16, "a GPU"), np.zeros(100, np.uint8)
    assert needed(gpu, 2) == needed(gpu, 1)

    monkeypatch.setattr(memory, "PATIENCE", 0.0)
    monkeypatch.setattr(memory, "free_now", lambda device: needed(cpu, 1))
    memory.check_at_turn(shape, train, tokens, cpu)
    with pytest.raises(NanoGPTError, match=r"need about .* GB are free"):
        memory.check_at_turn(shape, train, tokens, cpu, 2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    memory.check_at_turn(shape, train, tokens, cpu)  # torchrun has started both, which have loaded torch
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    monkeypatch.setattr(memory, "free_at_turn", lambda device: needed(gpu, 1) - memory.TORCH - 1)
    with pytest.raises(NanoGPTError, match=r"need about .* GB are free"):  # a GPU has the memory of one of them
        memory.check_at_turn(shape, train, tokens, gpu)


def test_of_several_gpus_the_one_with_the_most_free_memory_counts(home, monkeypatch):
    gpus = [SimpleNamespace(uuid=uuid, total_memory=80 * 2**30) for uuid in ("aa", "bb")]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", gpus.__getitem__)
    gpu, train, tokens = Device("cuda", torch.bfloat16, "a GPU"), TrainConfig(), np.zeros(100, np.uint8)
    monkeypatch.setattr(memory, "pick_device", lambda wanted: gpu)
    places, filled = ["cuda-0", "cuda-1"], "GPU-cc, 81000\nGPU-bb, 80000\nGPU-aa, 100\n"  # one isn't ours to see
    for answer, order, free in (
        (filled, ["cuda-1", "cuda-0"], 80_000 * 2**20),
        (filled.replace("bb, 80000", "bb, 90"), places, 100 * 2**20),
        ("No devices were found\n", places, 80 * 2**30),
        ("", places, 80 * 2**30),
    ):
        monkeypatch.setattr("subprocess.run", lambda *_, answer=answer, **how: SimpleNamespace(stdout=answer))
        assert memory.most_free_first(places) == order
        assert memory.free_now(gpu) == free
        if free > 2**30:
            memory.check(ModelConfig(vocab_size=65), train, tokens)
        else:
            with pytest.raises(NanoGPTError, match=r"but only 0\.1 GB are free"):
                memory.check(ModelConfig(vocab_size=65), train, tokens)
    assert memory.in_all(gpu) == 80 * 2**30


def test_an_evaluation_with_a_large_vocabulary_is_counted():
    """Its activations can be larger than a batch's, and on a GPU they come on top of those of a recorded step."""
    shape, cpu, gpu = ModelConfig(vocab_size=10_000), pick_device("cpu"), Device("cuda", torch.bfloat16, "a GPU")
    needed = lambda rows, device: memory.needed(shape, TrainConfig(batch_size=rows), device)
    assert needed(1, cpu) > 6 * 4 * count_parameters(shape) + 100e6 + memory.TORCH
    assert needed(1, gpu) > 6 * 4 * count_parameters(shape) + 1e9 + memory.TORCH


def test_the_files_that_a_container_has_read_count_as_free_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    for name, content in (
        ("memory.max", "100000000\n"),
        ("memory.current", "90000000\n"),
        ("memory.stat", "anon 20000000\nfile 70000000\ninactive_file 60000000\nactive_file 10000000\n"),
    ):
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert memory.free_in_container() == 70e6
    if Path("/proc/meminfo").exists():
        assert memory.free_now(pick_device("cpu")) == 70e6
    (tmp_path / "memory.max").write_text("max\n", encoding="utf-8")
    assert memory.free_in_container() == float("inf")
    assert memory.free_now(pick_device("cpu")) > 100e6


def test_a_run_too_large_for_this_machine_is_not_continued(home, tiny_text, monkeypatch):
    """A run this large can come from an imported archive."""
    run = prepare.new_run("one", corpus.add(tiny_text), "quick", n_layer=1, n_head=2, n_embd=16, block_size=16)
    prepare.to_continue(run)
    needed = memory.needed(read_config(run.folder), TrainConfig.of(run.settings()["train"]), pick_device("cpu"))
    assert 0.36e9 < needed < 0.44e9  # nearly all of it is torch itself
    monkeypatch.setattr(memory, "free_now", lambda device: needed)
    prepare.to_continue(run)
    monkeypatch.setattr(memory, "free_now", lambda device: needed - 1)
    with pytest.raises(NanoGPTError, match=r"need about 0\.4 GB of memory, but only 0\.4 GB are free"):
        prepare.to_continue(run)


def test_while_another_run_trains_only_what_never_fits_is_refused(home, tiny_text, monkeypatch):
    text, huge = corpus.add(tiny_text), dict(n_layer=24, n_head=8, n_embd=1024, block_size=64, batch_size=4096)
    monkeypatch.setattr("nanogpt.runs.queue.running", lambda: ["another"])
    monkeypatch.setattr(memory, "free_now", lambda device: 1000)  # the other run has the rest
    prepare.new_run("small", text, "quick", n_layer=1, n_head=2, n_embd=16, block_size=16)
    monkeypatch.setattr(memory, "physical", lambda: 16 * 10**9)
    with pytest.raises(
        NanoGPTError, match=r"need about \d+\.\d GB of memory, but this machine has only \d+\.\d GB\. Lower"
    ):
        prepare.new_run("huge", text, "quick", **huge)
    monkeypatch.setattr(memory, "physical", lambda: 0)  # unknown
    prepare.new_run("huge", text, "quick", **huge)


def test_a_container_has_no_more_memory_than_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    monkeypatch.setattr(memory, "physical", lambda: 16 * 10**9)
    cpu = pick_device("cpu")
    assert memory.in_all(cpu) == 16 * 10**9
    for limit, expected in (("max", 16 * 10**9), ("2000000000", 2 * 10**9)):
        (tmp_path / "memory.max").write_text(f"{limit}\n", encoding="utf-8")
        assert memory.in_all(cpu) == expected


def test_a_run_waits_for_the_memory_of_the_one_before(monkeypatch):
    shape, train, tokens = ModelConfig(vocab_size=65), TrainConfig(), np.zeros(100, np.uint8)
    cpu = pick_device("cpu")
    need = memory.needed(shape, train, cpu) - memory.TORCH  # this process has torch already
    looks = iter([need - 1, need - 1, need])
    monkeypatch.setattr(memory, "free_now", lambda device: next(looks))
    memory.check_at_turn(shape, train, tokens, cpu)
    assert next(looks, None) is None
    monkeypatch.setattr(memory, "free_now", lambda device: need - 1)
    monkeypatch.setattr(memory, "PATIENCE", 0.0)
    with pytest.raises(NanoGPTError, match=r"^These settings need about .* GB are free"):
        memory.check_at_turn(shape, train, tokens, cpu)


@pytest.mark.parametrize(("dtype", "each"), [(np.uint8, 1), (np.uint16, 4), (np.uint32, 4)])
def test_a_gpu_needs_memory_for_the_whole_text_and_a_cpu_does_not(monkeypatch, dtype, each):
    shape, train, tokens = ModelConfig(vocab_size=65), TrainConfig(), np.zeros(10**6, dtype)
    gpu = Device("mps", torch.float32, "a GPU")
    assert memory.of_text(tokens, pick_device("cpu")) == 0
    assert memory.of_text(tokens, gpu) == each * 10**6
    assert memory.of_text(tokens, gpu) == sum(part.nbytes for part in split(tokens))
    large = np.broadcast_to(tokens[:1], 10**10)  # ten gigabytes, of which none is in memory
    monkeypatch.setattr(memory, "pick_device", lambda wanted: gpu)
    monkeypatch.setattr(memory, "free_now", lambda device: 8 * 10**9)
    memory.check(shape, train, tokens)
    with pytest.raises(NanoGPTError, match=r"GB of it for the text, but only 8\.0 GB are free\. Use less text"):
        memory.check(shape, train, large)


def test_a_longer_clock_means_more_readings_of_the_text(text, known_speed):
    run = prepare.new_run("timed", text, "timed", budget=10)
    steps = run.settings()["train"]["max_iters"]
    run.event("started", step=0)
    run.log(step=steps // 2, seconds=5.0)
    run.event("stopped", step=steps // 2)
    prepare.to_continue(run, budget=40)
    train = run.settings()["train"]
    assert train["budget"] == 40
    assert train["max_iters"] == pytest.approx(4 * steps, rel=0.02)
