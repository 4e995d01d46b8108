"""How much memory a run needs, by arithmetic, and how much of it this machine has."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from .config import ModelConfig, NanoGPTError, TrainConfig
from .data import evaluated_at_once
from .device import Device, pick_device
from .fastest import dtype_by_hand
from .model import count_parameters
from .processes import launched
from .runs import queue

GROUP = Path("/sys/fs/cgroup")  # what a container sees of its own limits
TORCH = 380_000_000  # bytes that torch itself takes
PATIENCE = 10.0  # seconds within which the process of the run before has ended, and its memory is free


def needed(model: ModelConfig, train: TrainConfig, device: Device, text: int = 0, ranks: int = 1) -> int:
    """Return the peak memory of a run in bytes: weights, gradients, optimizer state, activations and its text.

    An evaluation's activations can be larger than a batch's. A step recorded on an NVIDIA GPU keeps its own meanwhile.

    `text` is what `of_text` returns. On a CPU, `ranks` processes share the memory; on GPUs each has its own. On two
    cores of a CPU, models without dropout need from 3% more to 8% less (benchmarks/README.md).
    """
    on_cpu = device.type == "cpu"
    parameters = count_parameters(model)
    # AdamW keeps two numbers for each; Muon keeps one, but trains only the matrices in the blocks
    state = 2 * parameters - (12 * model.n_layer * model.n_embd**2 if train.optimizer == "muon" else 0)
    more = 3 if on_cpu else 2  # copies: the best weights, and on a CPU two to draw samples from
    ranks = ranks if on_cpu else 1
    threads = gradients(model, train.batch_size, device, ranks)
    rounded = 2 * threads if dtype_by_hand(model, device) is torch.bfloat16 else 0  # each has the weights in bfloat16
    kept = ranks * (parameters * (4 * (1 + threads) + rounded) + 4 * state) + 4 * more * parameters
    tokens = train.batch_size * model.block_size
    per_layer = kept_per_token(model, device)
    activations = tokens * (model.n_layer * per_layer + 4 * 4 * model.vocab_size + 8 * model.n_embd)
    _, evaluation = evaluated_at_once(model, device)
    at_most = activations + evaluation if device.type == "cuda" else max(activations, evaluation)
    return kept + at_most + text + ranks * TORCH


def of_text(tokens: np.ndarray, device: Device) -> int:
    """Return how many bytes of the device a text's ids (N,) take: none on a CPU, where large ones stay on disk."""
    if device.type == "cpu":
        return 0
    return tokens.size * (1 if tokens.dtype == np.uint8 else 4)  # as `moved` in data.py stores them there


def kept_per_token(model: ModelConfig, device: Device) -> int:
    """Return how many bytes a block keeps per token for its backward pass."""
    if dtype := dtype_by_hand(model, device):
        from .fast.cpu import kept_by_hand

        return kept_by_hand(model, dtype)
    layout = model.features
    # autograd keeps the rotated, normalized or squared tensor as well as its input
    copies = 2 * layout.rotary + 2 * layout.qk_norm + 4 * layout.relu_squared + (6 if model.dropout else 0)
    return (20 + copies) * model.n_embd * device.dtype.itemsize


def gradients(model: ModelConfig, batch_size: int, device: Device, ranks: int) -> int:
    """Return how many copies of the gradients a rank has: one for each thread of fast/cpu.py that has rows."""
    try:
        from .fast.cpu import threads_for
    except ImportError:
        return 1
    threads = threads_for(model, max(1, torch.get_num_threads() // ranks)) if device.type == "cpu" else 1
    return min(threads, -(-batch_size // ranks))


def free_now(device: Device) -> int:
    """Return the free memory of the device in bytes, or 0 if the system does not report it.

    Of several GPUs, that is the one with the most, which the next run gets (`most_free_first`).
    """
    if device.elsewhere:
        return 0
    if device.type == "cuda":
        return max(free_on_gpus())
    free = int(0.7 * physical())  # macOS reports only the total
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable"):
                free = int(line.split()[1]) * 1024
        free = int(min(free, free_in_container()))
    except (OSError, ValueError):
        pass
    return free


def free_on_gpus() -> list[int]:
    """Return each GPU's free memory in bytes; all of its memory if that isn't known.

    Asks nvidia-smi: torch would allocate a CUDA context in this process.
    """
    command = ["nvidia-smi", "--query-gpu=uuid,memory.free", "--format=csv,noheader,nounits"]
    free: dict[str, int] = {}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        for line in done.stdout.splitlines():
            uuid, _, megabytes = line.partition(", ")
            free[uuid] = int(megabytes) * 2**20
    except (OSError, ValueError, subprocess.TimeoutExpired):
        pass
    return [free.get(f"GPU-{gpu.uuid}", gpu.total_memory) for gpu in gpus()]


def gpus() -> list:
    """Return torch's properties of each GPU. To ask for them allocates no CUDA context."""
    return [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]


def most_free_first(places: Sequence[str]) -> list[str]:
    """Return the places of several GPUs (device.py), those with the most free memory first.

    A run doesn't know what other programs do there, but it can leave a GPU alone that they have filled.
    """
    free = free_on_gpus()
    return sorted(places, key=lambda place: -free[int(place.removeprefix("cuda-"))])


def free_at_turn(device: Device) -> int:
    """Return what `free_now` does, in the process that trains on the device and has a CUDA context there already."""
    if device.type != "cuda":
        return free_now(device)
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info()[0]


def in_all(device: Device) -> int:
    """Return all the memory of the device in bytes, used or free, or 0 if the system does not report it."""
    if device.elsewhere:
        return 0
    if device.type == "cuda":
        return max(gpu.total_memory for gpu in gpus())
    try:
        return int(min(physical(), limit_of_container()))
    except (OSError, ValueError):
        known = Path("/proc/meminfo").exists()
        return physical() if known else int(0.7 * physical())  # of which `free_now` assumes as much to be free


def physical() -> int:
    """Return the machine's memory in bytes, or 0 if the system does not report it."""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0


def limit_of_container() -> float:
    """Return a container's memory limit in bytes (cgroup v2), or infinity without one.

    Raise OSError or ValueError if the system reports no limit.
    """
    return float((GROUP / "memory.max").read_text().replace("max", "inf"))


def free_in_container() -> float:
    """Return how many bytes a container's memory limit leaves (cgroup v2); infinity without a limit.

    The memory in use includes the contents of files, and the system drops those not read lately before memory runs out.
    So they count as free, as in Docker and Kubernetes. Raise OSError or ValueError if the system reports no limit.
    """
    limit = limit_of_container()
    used = int((GROUP / "memory.current").read_text())
    kinds = [line.split() for line in (GROUP / "memory.stat").read_text().splitlines()]
    return limit - used + sum(int(size) for kind, size in kinds if kind == "inactive_file")


def check(model: ModelConfig, train: TrainConfig, tokens: np.ndarray) -> None:
    """Raise NanoGPTError if a run on a text of these ids (N,) would not fit into free memory.

    While other runs train, whose memory will be free at its turn, only refuse what would never fit; at its turn, the
    trainer looks again (`check_at_turn`).
    """
    device = pick_device(train.device)
    busy = bool(queue.running())
    room, text = in_all(device) if busy else free_now(device), of_text(tokens, device)
    need = needed(model, train, device, text)
    if room and need > room:
        gb, where = f"{room / 1e9:.1f} GB", "this machine" if device.type == "cpu" else "the GPU"
        raise NanoGPTError(
            refusal(model, train, need, text, f"{where} has only {gb}" if busy else f"only {gb} are free")
        )


def check_at_turn(
    model: ModelConfig, train: TrainConfig, tokens: np.ndarray, device: Device, processes: int = 1
) -> None:  # fmt: skip
    """Raise NanoGPTError if a run whose turn has come would not fit into the free memory of its device.

    Call this in the process that trains it, before it starts others, up to `processes` in all. It waits a few seconds
    for memory: the process of the run before may still be ending.
    """
    text = of_text(tokens, device)
    need = needed(model, train, device, text, launched() or processes)
    need -= (launched() or 1 if device.type == "cpu" else 1) * TORCH  # loaded already, also in torchrun's ranks
    until = time.monotonic() + PATIENCE
    while need > (free := free_at_turn(device)) > 0:
        if time.monotonic() >= until:
            raise NanoGPTError(refusal(model, train, need, text, f"only {free / 1e9:.1f} GB are free"))
        time.sleep(0.2)


def refusal(model: ModelConfig, train: TrainConfig, need: int, text: int, room: str) -> str:
    """Return why a run can't be trained here, and what to do: it needs `need` bytes, `text` of them for its text."""
    if 2 * text > need:
        return (
            f"On a GPU, this run needs about {need / 1e9:.1f} GB of memory, {text / 1e9:.1f} GB of it for the text, "
            f"but {room}. Use less text, or train on the CPU."
        )
    return (
        f"These settings need about {need / 1e9:.1f} GB of memory, but {room}. "
        f"Lower batch_size (now {train.batch_size}), block_size ({model.block_size}), n_embd ({model.n_embd}) "
        f"or n_layer ({model.n_layer})."
    )
