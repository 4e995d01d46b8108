"""Which device is taken, and how many threads."""

from __future__ import annotations

import os

import pytest
import torch

from nanogpt.config import NanoGPTError
from nanogpt.device import pick_device, usable_cpus


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
        with pytest.raises(NanoGPTError, match=f"^device was '{wanted}', and there is no usable"):
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
