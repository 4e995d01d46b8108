"""Test the choice of device and the number of CPU threads."""

from __future__ import annotations

import os

import pytest
import torch

from nanogpt.config import NanoGPTError
from nanogpt.device import (
    build_problem,
    computes_alike,
    cuda_dtype,
    cuda_hint,
    cuda_problem,
    pick_device,
    places,
    tiny_loss,
    usable_cpus,
    use,
)


@pytest.fixture(autouse=True)
def restore_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_cpu_computes_in_full_precision_and_says_what_it_is():
    device = pick_device("cpu")
    assert (device.type, device.dtype) == ("cpu", torch.float32)
    assert str(device).startswith("CPU, ")
    assert str(device).endswith("float32")
    with device.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="has a GPU")
def test_without_a_gpu_auto_is_the_cpu_and_a_gpu_is_refused():
    assert pick_device("auto").type == "cpu"
    for wanted in ("cuda", "mps"):
        with pytest.raises(NanoGPTError, match=f"^device is set to {wanted}, but there is no usable"):
            pick_device(wanted)


@pytest.mark.gpu
def test_auto_takes_the_card():
    device = pick_device("auto")
    assert (device.type, device.name) == ("cuda", torch.cuda.get_device_name())


@pytest.mark.parametrize("wanted", ["tpu", "CPU", "", "cuda:7"])
def test_an_unknown_device_is_refused(wanted):
    with pytest.raises(NanoGPTError, match="device was"):
        pick_device(wanted)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no CPU affinity")
def test_threads_are_the_cpus_this_process_may_use():
    allowed = os.sched_getaffinity(0)
    assert 1 <= usable_cpus() <= len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cpus() == 1
        assert str(pick_device("cpu")) == "CPU, 1 thread, float32"
        assert torch.get_num_threads() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_omp_num_threads_is_respected(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pick_device("cpu")
    assert torch.get_num_threads() == 1


def test_tiny_numbers_are_flushed_on_the_cpu():
    pick_device("cpu")
    assert (torch.tensor([1e-30]) * torch.tensor([1e-10])).item() == 0.0


CU130 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


@pytest.mark.parametrize(
    ("capability", "architectures", "problem"),
    [
        ((6, 1), CU130, "too old"),  # a GTX 1080
        ((7, 0), CU130, "too old"),
        ((7, 5), CU130, ""),
        ((8, 9), CU130, ""),  # runs binaries built for 8.6
        ((9, 0), CU130, ""),
        ((13, 0), CU130, ""),  # the driver compiles PTX for it
        ((13, 0), CU130[:-1], "newer"),
        ((9, 0), [], ""),  # no architecture list, so assume that it works
    ],
)
def test_a_gpu_that_pytorch_was_not_built_for_is_not_used(capability, architectures, problem):
    found = build_problem(capability, architectures)
    assert problem in found if problem else found == ""


class Card:
    """A stand-in for torch.cuda on a machine with one GPU."""

    def __init__(self, monkeypatch, capability=(9, 0), bf16=True):
        self.error: Exception | None = None
        stand_ins = dict(
            is_available=lambda: True, get_device_name=lambda: "A GPU", get_device_capability=lambda: capability,
            get_arch_list=lambda: CU130, is_bf16_supported=lambda including_emulation: bf16,
        )  # fmt: skip
        for name, stand_in in stand_ins.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)
        monkeypatch.setattr(torch, "ones", self.ones)
        cuda_problem.cache_clear()

    def ones(self, *shape, device):
        if self.error:
            raise self.error
        return torch.full(shape, 1.0)


@pytest.mark.parametrize(
    ("capability", "bf16", "dtype"),
    [((9, 0), True, torch.bfloat16), ((7, 5), False, torch.float16), ((6, 1), False, torch.float32)],
)
def test_the_precision_is_what_the_gpu_multiplies_fastest(monkeypatch, capability, bf16, dtype):
    Card(monkeypatch, capability, bf16)
    assert cuda_dtype() is dtype


def test_each_of_several_gpus_is_a_place_to_train(monkeypatch):
    Card(monkeypatch)
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: f"GPU {chosen[-1:]}")
    for count, expected in ((1, ["cuda"]), (3, ["cuda-0", "cuda-1", "cuda-2"])):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        assert places(pick_device("auto")) == expected
    for place in ("cpu", "mps", "cuda"):
        use(place)
    assert not chosen
    use("cuda-2")
    assert pick_device("auto", probe=True).name == "GPU [2]"
    assert chosen == [2]
    assert places(pick_device("cpu")) == ["cpu"]


def test_a_gpu_is_tried_before_it_trains(monkeypatch):
    card = Card(monkeypatch)
    assert pick_device("auto").type == pick_device("auto", probe=True).type == "cuda"
    card.error = RuntimeError("CUDA error: no kernel image is available\nmore")
    cuda_problem.cache_clear()
    assert pick_device("auto").type == "cuda"
    assert pick_device("auto", probe=True).type == "cpu"
    assert "no kernel image is available), so the CPU" in cuda_problem(True)
    cuda_problem.cache_clear()
    card.error = torch.OutOfMemoryError("CUDA out of memory")  # other programs fill it
    assert pick_device("auto", probe=True).type == pick_device("cuda", probe=True).type == "cuda"
    cuda_problem.cache_clear()


def test_a_gpu_that_cannot_even_be_asked_for_its_name_is_not_used(monkeypatch):
    def taken():
        raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nmore")

    Card(monkeypatch)
    monkeypatch.setattr(torch.cuda, "get_device_name", taken)
    assert pick_device("auto").type == "cpu"
    assert "busy or unavailable), so the CPU is used." in cuda_hint()
    cuda_problem.cache_clear()


@pytest.mark.parametrize(
    ("found", "used"),
    [
        (1.0, "mps"),
        (2.0, "cpu"),  # a wrong result
        (RuntimeError("MPS: no kernel for this"), "cpu"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), "mps"),  # other programs fill it
    ],
)
def test_an_apple_gpu_is_tried_before_it_trains_and_not_earlier(monkeypatch, found, used):
    def loss(place: str) -> float:
        tried.append(place)
        if place == "mps" and isinstance(found, Exception):
            raise found
        return found if place == "mps" else 1.0

    tried: list[str] = []
    monkeypatch.setattr("nanogpt.device.tiny_loss", loss)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    computes_alike.cache_clear()
    assert pick_device("auto").type == pick_device("mps").type == "mps"
    assert tried == []  # a server would hold its memory
    assert pick_device("auto", probe=True).type == used
    assert tried == ["cpu", "mps"]
    computes_alike.cache_clear()


def test_trying_a_device_leaves_the_random_numbers_as_they_were():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    losses = [tiny_loss("cpu") for _ in range(2)]
    assert torch.equal(torch.rand(3), expected)
    assert losses[0] == losses[1] < 2.8  # less than the log of 16, with which it begins


def test_an_old_gpu_is_left_alone_and_the_page_says_so(monkeypatch):
    Card(monkeypatch, (6, 1), False)
    assert pick_device("auto").type == "cpu"
    assert cuda_hint() == "Your GPU (A GPU) is too old for this build of PyTorch, so the CPU is used."
    with pytest.raises(NanoGPTError, match="too old"):
        pick_device("cuda")
    cuda_problem.cache_clear()


@pytest.mark.parametrize(("cuda", "words"), [(None, "only supports the CPU"), ("13.0", "driver is too old")])
def test_a_gpu_that_torch_does_not_see_has_a_remedy(monkeypatch, cuda, words):
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert words in cuda_hint()
    assert "pip uninstall -y torch" in cuda_hint()  # pip installs nothing over a torch that satisfies the requirement
