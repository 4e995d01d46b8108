"""Device selection: which accelerator to use, its precision, and how many CPU threads."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from .config import NanoGPTError, brief
from .errors import lacks_memory
from .limits import on_zero_gpu

lent = False  # ZeroGPU only: True in a process that currently has the GPU; set by launch/zero.py


@dataclass(frozen=True)
class Device:
    """A device to compute on, with its torch type and a name for people."""

    type: str  # cuda, mps or cpu
    dtype: torch.dtype  # precision of matrix products; weights and optimizer state stay float32
    name: str
    elsewhere: bool = False  # ZeroGPU: this process doesn't have the GPU, which exists only inside a call

    def autocast(self) -> AbstractContextManager:
        """Return the context manager for the forward pass: autocast to `dtype`, or nothing for float32."""
        if self.dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self.type, dtype=self.dtype)

    def __str__(self) -> str:
        return f"{self.name}, {str(self.dtype).removeprefix('torch.')}"


def pick_device(wanted: str = "auto", probe: bool = False) -> Device:
    """Return the requested device, or the fastest one with "auto". Raise NanoGPTError if it can't be used here.

    With `probe`, check that the GPU multiplies two matrices correctly. That takes some GPU memory, and holds it until
    the process exits, so use it only in a process whose turn it is to train, not in the server or in one that waits.
    """
    if wanted not in ("auto", *FINDERS):
        raise NanoGPTError(f"device was {brief(repr(wanted))}; it must be one of auto, cuda, mps, cpu.")
    for name in FINDERS if wanted == "auto" else [wanted]:  # the fastest first
        if device := FINDERS[name](probe):
            return device
    hint = f"{cuda_hint()} ".lstrip() if wanted == "cuda" else "One that fails our check for wrong results isn't used. "
    what = {"cuda": "NVIDIA GPU", "mps": "Apple GPU"}[wanted]
    raise NanoGPTError(f"device is set to {wanted}, but there is no usable {what} here. {hint}Use cpu or auto.")


def places(device: Device) -> list[str]:
    """Return the places where a run can use a device: the device, or each of several GPUs."""
    count = torch.cuda.device_count() if device.type == "cuda" and not device.elsewhere else 1
    return [device.type] if count < 2 else [f"{device.type}-{number}" for number in range(count)]


def use(place: str) -> None:
    """Have this process use one of a device's `places` from now on. With a single one there is nothing to choose."""
    if place.startswith("cuda-"):
        torch.cuda.set_device(int(place.removeprefix("cuda-")))


def find_cuda(probe: bool) -> Device | None:
    """Return the NVIDIA GPU if it can be used."""
    if on_zero_gpu() and not lent:
        return Device("cuda", torch.bfloat16, "ZeroGPU", elsewhere=True)  # torch calls fail without the GPU
    if torch.cuda.is_available() and not cuda_problem(probe):
        return Device("cuda", cuda_dtype(), torch.cuda.get_device_name())
    return None


def find_mps(probe: bool) -> Device | None:
    """Return Apple's GPU if it is here and, with `probe`, computes correctly."""
    if torch.backends.mps.is_available() and (not probe or computes_alike("mps")):
        return Device("mps", torch.float32, "Apple GPU")
    return None


def find_cpu(probe: bool) -> Device:
    """Return the CPU, and let torch use all the threads it may."""
    threads = usable_cpus()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # denormals in Adam's second moments would be very slow
    return Device("cpu", torch.float32, f"CPU, {threads} thread{'s' if threads > 1 else ''}")


FINDERS: dict[str, Callable[[bool], Device | None]] = dict(cuda=find_cuda, mps=find_mps, cpu=find_cpu)


def native_bfloat16() -> bool:
    """Return True if this CPU has native bfloat16 products. Emulated ones are slower than float32."""
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())


def gpu_bfloat16() -> bool:
    """Return True if this NVIDIA GPU has native bfloat16 products. Older ones emulate them, and report them, too."""
    return torch.cuda.is_bf16_supported(including_emulation=False)


@lru_cache
def computes_alike(device: str) -> bool:
    """Return True if a few training steps of a tiny model reach the same loss on the device as on the CPU.

    Apple GPUs have silently computed wrong results more than once (pytorch#107294, #109457). One that raises an error
    isn't used either, unless its memory is full, which says nothing about it.
    """
    try:
        return abs(tiny_loss("cpu") - tiny_loss(device)) < 0.01
    except RuntimeError as error:
        return lacks_memory(error)


def tiny_loss(place: str) -> float:
    """Return the loss after ten training steps of a tiny model, always the same one."""
    with torch.random.fork_rng([]):  # of the random numbers, only the CPU's are used, and they are left as they were
        torch.default_generator.manual_seed(0)
        net = torch.nn.Sequential(
            torch.nn.Embedding(16, 32), torch.nn.LayerNorm(32), torch.nn.Linear(32, 64), torch.nn.ReLU(),
            torch.nn.Linear(64, 16),
        ).to(place)  # fmt: skip
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
        ids = torch.arange(160, device=place) * 7 % 16
        for _ in range(10):
            loss = torch.nn.functional.cross_entropy(net(ids[:-1]), ids[1:])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()


def cuda_dtype() -> torch.dtype:
    """Return the fastest dtype that this GPU can train in.

    That is bfloat16 only if the hardware supports it. Volta and Turing GPUs (such as a T4) get float16 with loss
    scaling; older ones have no tensor cores to benefit from.
    """
    if gpu_bfloat16():
        return torch.bfloat16
    return torch.float16 if torch.cuda.get_device_capability() >= (7, 0) else torch.float32


@lru_cache
def cuda_problem(probe: bool = False) -> str:
    """Return a sentence that says why the GPU torch sees can't be used, or "" if it can."""
    try:
        name = torch.cuda.get_device_name()
        problem = build_problem(torch.cuda.get_device_capability(), torch.cuda.get_arch_list())
    except RuntimeError as error:  # another program may have it for itself
        return f"Your GPU can't be used ({str(error).splitlines()[0]}), so the CPU is used."
    if problem:
        return f"Your GPU ({name}) is {problem}"
    if probe:
        try:
            ones = torch.ones(64, 64, device="cuda")
            if (ones @ ones).sum().item() != 64**3:
                return f"Your GPU ({name}) computes wrong results, so the CPU is used."
        except RuntimeError as error:
            if lacks_memory(error):  # other programs fill it, which says nothing about the GPU
                return ""
            return f"Your GPU ({name}) can't be used ({str(error).splitlines()[0]}), so the CPU is used."
    return ""


def build_problem(capability: tuple[int, int], architectures: list[str]) -> str:
    """Return why a build of PyTorch for these architectures, such as sm_90, has no code for a GPU; "" if it has."""
    built = [(int(arch[3:-1]), int(arch[-1])) for arch in architectures if re.fullmatch(r"sm_\d+", arch)]
    major, minor = capability
    # Code for a GPU also runs on later ones of its generation.
    alike = [lower for same, lower in built if same == major]
    if not built or min(alike, default=minor + 1) <= minor:
        return ""
    if capability < min(built):
        return "too old for this build of PyTorch, so the CPU is used."
    for_later = "compute_" in " ".join(architectures)  # code that the driver compiles for newer GPUs
    if capability > max(built) and not for_later:
        return "newer than this build of PyTorch, so the CPU is used. Update PyTorch."
    return ""


def cuda_hint() -> str:
    """Return what to do about an NVIDIA GPU that torch can't use, or "" if there is nothing to do."""
    if torch.cuda.is_available():
        return cuda_problem()
    present = any(Path("/proc/driver/nvidia/gpus").glob("*")) or shutil.which("nvidia-smi")
    if not present:
        return ""
    if torch.version.cuda is None:
        return (
            "There is an NVIDIA GPU, but this build of PyTorch only supports the CPU. On Linux this fixes it: "
            'pip install --force-reinstall "torch>=2.9,<2.14". On Windows, run pip uninstall -y torch, then the '
            "command that pytorch.org/get-started shows for CUDA."
        )
    return (
        f"There is an NVIDIA GPU, but its driver is too old for this build of PyTorch (CUDA {torch.version.cuda}). "
        "Update the NVIDIA driver, or run pip uninstall -y torch and install PyTorch for an older CUDA from "
        "pytorch.org/get-started."
    )


def usable_cpus() -> int:
    """Return how many CPUs this process may use, given its affinity, the container's quota and OMP_NUM_THREADS."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()  # cgroup v2: "200000 100000" or "max 100000"
        allowed = min(allowed, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    wished = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(allowed, int(wished))) if wished.isdigit() else allowed
