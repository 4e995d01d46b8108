"""Several processes train as one: the same losses, one sentence if one is gone, a resume with another number."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from conftest import free_port

from nanogpt import corpus, processes, ranks
from nanogpt.config import ModelConfig, NanoGPTError, TrainConfig
from nanogpt.device import Device
from nanogpt.fastest import fastest_step, make_step
from nanogpt.launch import prepare, trainer
from nanogpt.model import GPT
from nanogpt.ranks import Lost, Ranks, SharedStep
from nanogpt.runs import Run
from nanogpt.schedule import get_lr
from nanogpt.step import Step

KINDS = [*product(("classic", "modern"), ("adamw", "muon"), (torch.float64, torch.float32))]
SOON = 6  # seconds of PATIENCE in the second process
STEPS, B, T = 50, 5, 8  # an odd number of rows, so that the shares differ
HERE = Path(__file__).parent


def losses_of(layout: str, optimizer: str, dtype: torch.dtype, together: Ranks | None = None) -> list[float]:
    """Train a tiny model on random batches, and return the loss of each step."""
    torch.manual_seed(1)
    model = GPT(ModelConfig(vocab_size=11, n_layer=2, n_head=2, n_embd=16, block_size=T, dropout=0.0, layout=layout))
    config = TrainConfig(optimizer=optimizer, max_iters=STEPS, learning_rate=3e-3, weight_decay=0.1, warmup_iters=5)
    device = Device("cpu", torch.float32, "CPU")
    make = fastest_step if dtype is torch.float32 else Step  # the fast ones compute in float32 and bfloat16
    step: Step | SharedStep = make(model.to(dtype), config, device)
    if together:
        step = SharedStep(step, together)
    generator, losses = torch.Generator().manual_seed(2), []
    for number in range(STEPS):
        ids = (torch.randint(11, (B, 1), generator=generator) + torch.arange(T + 1)) % 11  # (B, T+1), to be learned
        lr = get_lr(number, config)
        if together and together.rank:
            lr = together.hear()
        losses.append(float(step(ids[:, :-1], ids[:, 1:], lr)[0]))
    return losses


def other_rank(what: str) -> None:
    """As the second process of a test, do what it expects."""
    torch.set_num_threads(1)
    ranks.PATIENCE = timedelta(seconds=SOON)
    there, name = processes.joined()
    assert name == "some-run"
    if what == "train":
        without_bfloat16()
        for kind in KINDS:
            losses_of(*kind, together=there)
        assert there.hear() is None
        there.leave()
    elif what == "runs out of memory":
        there.leave("Process 2 of 2: Out of memory.")
    elif what == "is killed":
        os._exit(1)  # as a killed process does, it cleans nothing up
    elif what == "follows":
        while there.hear() is not None:
            there.add([torch.zeros(3)], 1.0)
        there.leave()


def without_bfloat16() -> None:
    """Compute in float32, on every processor."""
    from nanogpt import optim
    from nanogpt.fast import gradients

    gradients.native_bfloat16 = optim.native_bfloat16 = lambda: False


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch):
    """Return a function that has the second process do something, and returns a list that will hold it."""

    def do(what: str) -> list[subprocess.Popen]:
        started = []

        def start(rank: int, size: int, port: int, threads: int, place: str) -> subprocess.Popen:
            code = f"import test_ranks; test_ranks.other_rank({what!r})"
            where = dict(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            path = os.pathsep.join([str(HERE), str(HERE.parent)])
            started.append(
                subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **where, "PYTHONPATH": path})
            )
            return started[0]

        monkeypatch.setattr(processes, "start", start)
        return started

    return do


@pytest.mark.slow
def test_two_processes_end_where_one_does(second, monkeypatch):
    for module in ("optim", "fast.gradients"):
        monkeypatch.setattr(f"nanogpt.{module}.native_bfloat16", lambda: False)
    second("train")
    threads = torch.get_num_threads()
    with processes.with_ranks("some-run", 2) as both:
        assert both is not None
        time.sleep(SOON + 1)  # as in an evaluation, for longer than the ranks had to meet
        shared = {kind: losses_of(*kind, together=both) for kind in KINDS}
    assert torch.get_num_threads() == threads
    for kind in KINDS:
        plain = losses_of(*kind)
        assert plain[-1] < plain[0] - 0.2
        if kind[-1] is torch.float64:
            assert shared[kind][:10] == pytest.approx(plain[:10], abs=1e-5)
        else:
            assert shared[kind][:2] == pytest.approx(plain[:2], abs=1e-5)
        assert shared[kind][-1] == pytest.approx(plain[-1], abs=5e-3)  # Muon amplifies rounding


def endless(both: Ranks) -> None:
    """Train until another rank is gone."""
    while True:
        both.tell(0.1)
        both.add([torch.zeros(3)], 1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("runs out of memory", "Process 2 of 2: Out of memory."),
        ("is killed", "Another process of this run was killed."),
    ],
)
def test_a_process_that_is_gone_is_one_sentence(second, what, sentence):
    second(what)
    began = time.monotonic()
    with pytest.raises(Lost, match=sentence), processes.with_ranks("some-run", 2) as both:
        endless(both)
    assert time.monotonic() - began < 60
    dist.destroy_process_group()


@pytest.fixture
def soon(monkeypatch) -> None:
    """Let rank 0 wait for seconds only, where it would wait for the others as long as they take."""
    monkeypatch.setattr(ranks, "FOREVER", timedelta(seconds=30))


def run_out_of_memory(both: Ranks, within_a_step: bool) -> None:
    """Fail while the second process waits for gradients, or for the next step."""
    both.tell(0.1)
    if not within_a_step:
        both.add([torch.zeros(3)], 1.0)
    raise MemoryError("no room")


@pytest.mark.slow
@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("within_a_step", [True, False])
def test_what_the_first_process_raised_is_raised_and_the_others_end(second, within_a_step):
    started = second("follows")
    with pytest.raises(MemoryError, match="no room"), processes.with_ranks("some-run", 2) as both:
        run_out_of_memory(both, within_a_step)
    assert started[0].poll() is not None
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.usefixtures("soon")
def test_a_run_says_why_its_first_process_failed_within_a_step(home, tiny_text, monkeypatch):
    calls, share = [], SharedStep.add_up

    def full(step: SharedStep, loss: torch.Tensor):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return share(step, loss)

    monkeypatch.setattr(SharedStep, "add_up", full)
    settings = {name.replace("-", "_"): value for name, value in SMALL.items()}
    run = prepare.new_run("full", corpus.add(tiny_text, "A play"), **settings, max_iters=20, device="cpu")
    assert trainer.main(run.name, processes=2) == 1
    assert run.status().message == "Out of memory. Halve batch_size, or reduce n_embd, n_layer or block_size."
    dist.destroy_process_group()


def test_memory_that_a_message_lacks_is_not_a_process_that_is_gone():
    with pytest.raises(RuntimeError, match="out of memory"), Ranks.__new__(Ranks).noticing():
        raise RuntimeError("NCCL error: unhandled cuda error. Cuda failure 2 'out of memory'")


def says_that_it_is_here(rank: int, port: int) -> None:
    """Do the first half of what another rank does to join."""
    dist.TCPStore(processes.HERE, port, is_master=False).set(ranks.PRESENT.format(rank), ranks.kind_of(ranks.CPU))


@pytest.mark.slow
@pytest.mark.parametrize("comes", [False, True])
def test_a_process_that_never_comes_or_never_connects_is_one_sentence(monkeypatch, comes):
    def start(rank: int, size: int, port: int, threads: int, place: str) -> subprocess.Popen:
        if comes:
            threading.Thread(target=says_that_it_is_here, args=(rank, port)).start()
        return subprocess.Popen([sys.executable, "-c", ""])

    monkeypatch.setattr(ranks, "PATIENCE", timedelta(seconds=2))
    monkeypatch.setattr(processes, "start", start)
    did_not = "The 2 processes that train this run did not meet within 2 seconds"
    with pytest.raises(NanoGPTError, match=did_not), processes.with_ranks("some-run", 2):
        pass


@pytest.mark.parametrize(("platform", "libuv"), [("win32", False), ("linux", True), ("darwin", True)])
def test_windows_has_no_libuv(monkeypatch, platform, libuv):
    asked = []

    def store(*_, **options):
        asked.append(options["use_libuv"])
        raise RuntimeError("that will do")

    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "")
    monkeypatch.setattr(dist, "TCPStore", store)
    monkeypatch.setattr(processes, "sys", SimpleNamespace(platform=platform))
    with pytest.raises(NanoGPTError, match="did not meet"), processes.with_ranks("some-run", 2):
        pass
    assert asked == [libuv]


GPUS = ["cuda-0", "cuda-1", "cuda-2"]


@pytest.mark.parametrize(
    ("how_many", "places", "expected"),
    [
        (9, ["cpu"], r"batch_size \(8\) must be at least the number of processes \(9\)"),
        (1, ["cuda"], (["cuda"], 1)),
        (1, GPUS, (GPUS, 1)),
        (2, GPUS, (GPUS, 2)),
        (8, ["cpu"], (["cpu"], 1)),
        (2, ["mps"], "CPUs or NVIDIA GPUs only"),
        (2, ["cuda"], "2 processes need 2 GPUs, but this machine has 1 GPU. Start 1, or use --device cpu"),
        (4, GPUS, "4 processes need 4 GPUs, but this machine has 3 GPUs"),
    ],
)
def test_each_process_gets_a_gpu_of_its_own(how_many, places, expected):
    if isinstance(expected, tuple):
        assert processes.wanted(how_many, 8, places) == expected
    else:
        with pytest.raises(NanoGPTError, match=expected):
            processes.wanted(how_many, 8, places)


def test_torchrun_says_which_gpus(monkeypatch):
    for name, value in dict(RANK=0, WORLD_SIZE=4, LOCAL_WORLD_SIZE=2).items():  # two machines
        monkeypatch.setenv(name, str(value))
    assert processes.wanted(1, 8, GPUS) == (GPUS[:2], 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert processes.own_place(GPUS) == "cuda-1"
    assert processes.own_place(["cpu"]) == "cpu"
    with pytest.raises(NanoGPTError, match="2 processes need 2 GPUs, but this machine has 1 GPU"):
        processes.own_place(["cuda"])
    with pytest.raises(NanoGPTError, match="Leave out --processes"):
        processes.wanted(2, 8, GPUS)


@pytest.mark.slow
def test_the_other_processes_are_told_which_gpus_were_free(monkeypatch):
    told = []

    def start(rank: int, size: int, port: int, threads: int, place: str) -> subprocess.Popen:
        told.append((rank, place))
        return subprocess.Popen([sys.executable, "-c", ""])

    monkeypatch.setattr(ranks, "PATIENCE", timedelta(seconds=1))
    monkeypatch.setattr(processes, "start", start)
    for places in (["cuda-0", "cuda-2", "cuda-5"], ["cpu"]):
        with pytest.raises(NanoGPTError, match="did not meet"), processes.with_ranks("some-run", 3, places):
            pass
    assert told == [(1, "cuda-2"), (2, "cuda-5"), (1, "cpu"), (2, "cpu")]


def test_ranks_with_devices_of_other_kinds_do_not_train_together():
    ranks.check_alike({"cuda torch.bfloat16"})
    with pytest.raises(NanoGPTError, match=r"these have cuda torch\.bfloat16 and cuda torch\.float16"):
        ranks.check_alike({"cuda torch.float16", "cuda torch.bfloat16"})


def test_cpus_that_compute_in_other_precisions_do_not_train_together(monkeypatch):
    """Without dropout, and in Muon, a CPU computes in bfloat16 if it can, whatever its device says."""
    store = dist.HashStore()
    monkeypatch.setattr(ranks, "native_bfloat16", lambda: True)
    store.set(ranks.PRESENT.format(1), ranks.kind_of(ranks.CPU))
    monkeypatch.setattr(ranks, "native_bfloat16", lambda: False)
    said = r"have cpu torch\.bfloat16 and cpu torch\.float32\. Choose machines with CPUs of one kind\."
    with pytest.raises(NanoGPTError, match=said):
        Ranks(0, 2, store, ranks.CPU)


def test_on_gpus_gradients_travel_by_nccl_in_plain_steps(monkeypatch):
    """Simulated: what is recorded is which group is made, and which is used."""
    groups, sent, zeros = [], [], torch.zeros
    monkeypatch.setenv("TORCH_NCCL_BLOCKING_WAIT", "")
    monkeypatch.setattr(torch, "zeros", lambda *size, device="cpu": zeros(*size))
    monkeypatch.setattr(dist, "new_group", lambda **options: groups.append(options) or "by NCCL")
    monkeypatch.setattr(dist, "all_reduce", lambda flat, group: sent.append((len(flat), group)))
    there = Ranks.__new__(Ranks)
    there.rank, there.size, there.group = 0, 2, ranks.by_nccl()
    there.add([torch.zeros(2), torch.zeros(3)], 0.5)
    assert groups == [dict(backend="nccl", timeout=ranks.SILENCE)]
    assert sent == [(1, "by NCCL"), (5, "by NCCL")]
    assert os.environ["TORCH_NCCL_BLOCKING_WAIT"] == "1"
    model = GPT(ModelConfig(vocab_size=11, n_layer=1, n_head=2, n_embd=16, block_size=T))
    step = make_step(model, TrainConfig(), Device("cuda", torch.float32, "A GPU"), there)
    assert type(step.step) is Step


SMALL = {"n-layer": 1, "n-head": 2, "n-embd": 16, "block-size": 16, "batch-size": 4, "dropout": 0, "eval-interval": 10}
FLAGS = [part for name, value in SMALL.items() for part in (f"--{name}", str(value))]


def nanogpt(*arguments, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "nanogpt", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


@pytest.mark.slow
def test_a_run_of_two_processes_is_resumed_by_one_and_ends_like_a_run_of_one(home, tmp_path, tiny_text):
    file = tmp_path / "text.txt"
    file.write_text(tiny_text, encoding="utf-8")
    first = nanogpt("train", file, "--name", "two", "--max-iters", 20, "--processes", 2, *FLAGS)
    one = nanogpt("train", file, "--name", "one", "--max-iters", 40, *FLAGS)
    assert (first.communicate()[0], first.returncode)[1] == 0
    second = nanogpt("train", "--resume", "two", "--max-iters", 40)
    assert (second.communicate()[0], second.returncode)[1] == 0
    assert (one.communicate()[0], one.returncode)[1] == 0
    losses = lambda name: [row["val_loss"] for row in Run(name).history().evaluations]
    assert len(losses("two")) == 5
    assert losses("two")[0] == losses("one")[0]
    assert losses("two") == pytest.approx(losses("one"), abs=2e-2)  # the schedule was as long as the run, so it differs


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs libuv, which torch lacks on Windows")
def test_torchrun_trains_a_run_like_one_process(home, tmp_path, tiny_text):
    file = tmp_path / "text.txt"
    file.write_text(tiny_text, encoding="utf-8")
    torchrun = ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port(29_500))]
    train = ["nanogpt", "train", str(file), "--name", "two", "--max-iters", "4", *FLAGS]
    command = [sys.executable, "-m", *torchrun, "-m", *train]
    two = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, timeout=120)
    assert two.returncode == 0, two.stderr
    one = nanogpt("train", file, "--name", "one", "--max-iters", 4, *FLAGS)
    assert (one.communicate()[0], one.returncode)[1] == 0
    losses = lambda name: [row["val_loss"] for row in Run(name).history().evaluations]
    assert Run("two").status().state == "finished"
    assert losses("two") == pytest.approx(losses("one"), abs=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs processes that can be listed")
def test_a_killed_process_fails_the_run_which_can_be_resumed(home, tmp_path, tiny_text):
    file = tmp_path / "text.txt"
    file.write_text(tiny_text, encoding="utf-8")
    process = nanogpt("train", file, "--name", "killed", "--max-iters", 100_000, "--processes", 2, *FLAGS)
    run, end = Run("killed"), time.monotonic() + 60
    while not (run.exists() and run.history().step >= 10) and time.monotonic() < end:
        time.sleep(0.05)
    others = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "launch.rank"], capture_output=True, text=True)
    os.kill(int(others.stdout), signal.SIGKILL)
    said = process.communicate(timeout=30)[0]
    assert process.returncode == 2
    assert "Another process of this run was killed. Resume the run to continue from its last checkpoint." in said
    assert "Traceback" not in said
    assert run.status().state == "failed"
    assert run.status().can_continue
