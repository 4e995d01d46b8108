"""The processes of a run that several train: which devices they get, how they start, and how they meet.

`train --processes N` starts the other ranks on this machine; `torchrun` starts all of them, on one machine or several.
What they do once they have met is in ranks.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist

from . import ranks
from .config import NanoGPTError
from .device import Device
from .paths import environment
from .ranks import Ranks

HERE = "127.0.0.1"
LOOPBACK = {"linux": "lo", "darwin": "lo0"}  # its name, or gloo would look up the machine's own, which may not resolve


def number() -> tuple[int, int]:
    """Return this process's rank and the number of ranks, as torchrun sets them in the environment; else (0, 1)."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def launched() -> int:
    """Return how many ranks of a run torchrun has started on this machine, or 0 without it."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if number()[1] > 1 else 0


def wanted(processes: int, batch_size: int, places: list[str]) -> tuple[list[str], int]:
    """Return the places of a device that a run's ranks on this machine may use, and how many of them they need.

    On a CPU they share one. On GPUs each needs its own; torchrun numbers its processes from 0, so they take the first
    ones. Raise NanoGPTError if there are too few places or rows, or if the device is neither a CPU nor an NVIDIA GPU.
    """
    size = number()[1]
    if size > 1 and processes > 1:
        raise NanoGPTError("torchrun has started the processes already. Leave out --processes.")
    if batch_size < max(size, processes):
        raise NanoGPTError(
            f"Each process needs a row of the batch: batch_size ({batch_size}) must be at least the number of "
            f"processes ({max(size, processes)})."
        )
    here = launched() or processes
    if here == 1 or places == ["cpu"]:
        return places, 1
    if not places[0].startswith("cuda"):
        raise NanoGPTError("Several processes train on CPUs or NVIDIA GPUs only. Use one process, or --device cpu.")
    check_gpus(here, places)
    return places[: launched() or None], here


def check_gpus(processes: int, places: list[str]) -> None:
    """Raise NanoGPTError if not each process of this machine can have a GPU of its own."""
    if processes > len(places):
        has = f"{len(places)} GPU{'s' * (len(places) > 1)}"
        raise NanoGPTError(
            f"{processes} processes need {processes} GPUs, but this machine has {has}. Start {len(places)}, or use "
            "--device cpu."
        )


@contextmanager
def with_ranks(
    run: str, processes: int, places: Sequence[str] = ("cpu",), device: Device = ranks.CPU
) -> Iterator[Ranks | None]:
    """As the trainer of a run, train with other ranks until the block ends: yield the Ranks, or None if there are none.

    torchrun has started the others; if it hasn't, start them here, up to `processes` in all, on GPUs each at a place of
    its own. Raise NanoGPTError if they don't come. If the block fails, what it raised is raised, and the others end:
    those started here at once, torchrun's when this process ends, because that closes their connections.
    """
    started: list[subprocess.Popen] = []
    size = max(processes, number()[1])
    if size == 1:
        yield None
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // processes))  # torchrun says itself how many each may use
    try:
        with meeting(size):
            if number()[1] > 1:
                store = next(dist.rendezvous("env://", timeout=ranks.PATIENCE))[0]
            else:
                if name := LOOPBACK.get(sys.platform):
                    os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
                store = dist.TCPStore(
                    HERE, 0, size, is_master=True, timeout=ranks.PATIENCE, wait_for_workers=False,
                    use_libuv=sys.platform != "win32",  # PyTorch's wheels for Windows are built without it
                )  # fmt: skip
                each = max(1, threads // size)
                own = list(places) * size if len(places) == 1 else places
                started += [start(rank, size, store.port, each, own[rank]) for rank in range(1, size)]
            store.set("run", run)
            all_ranks = Ranks(0, size, store, device)
        try:
            yield all_ranks
        except BaseException:
            # Within a step they wait for gradients and don't hear, and leaving an NCCL group waits for all ranks.
            for process in started:
                process.kill()
            raise
        all_ranks.tell(None)
        all_ranks.leave()
    finally:
        for process in started:
            end(process)
        torch.set_num_threads(threads)


def start(rank: int, size: int, port: int, threads: int, place: str) -> subprocess.Popen:
    """Start another rank on this machine, at a place of the device. What it prints goes where this process prints."""
    where = dict(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR=HERE, MASTER_PORT=str(port))
    where["LOCAL_RANK"] = place.partition("-")[2] or "0"  # as torchrun would say it
    env = environment() | where | dict(OMP_NUM_THREADS=str(threads))
    command = [sys.executable, "-m", "nanogpt.launch.rank"]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, env=env, start_new_session=True)  # Ctrl-C is rank 0's


def end(process: subprocess.Popen) -> None:
    """Wait for a rank that was told to end or was killed; it has nothing to save."""
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def own_place(places: list[str]) -> str:
    """As another rank, return the place of the device that is this rank's. Raise NanoGPTError if there are too few."""
    if places[0].startswith("cuda"):
        check_gpus(int(os.environ.get("LOCAL_WORLD_SIZE", 1)), places)
    return places[int(os.environ.get("LOCAL_RANK", 0))] if len(places) > 1 else places[0]


def joined(device_of: Callable[[str], Device] = lambda run: ranks.CPU) -> tuple[Ranks, str]:
    """As another rank, meet rank 0 once the run's turn has come. Return the Ranks and the run's name.

    `device_of` returns the device on which this rank trains a run.
    """
    rank, size = number()
    with meeting(size):
        store = next(dist.rendezvous("env://", timeout=ranks.PATIENCE))[0]
    store.wait(["run"], ranks.FOREVER)  # with torchrun, the run may have to wait for its turn
    with meeting(size):
        run = store.get("run").decode()
        return Ranks(rank, size, store, device_of(run)), run


@contextmanager
def meeting(size: int) -> Iterator[None]:
    """Raise NanoGPTError if the block fails because not all ranks have come."""
    try:
        yield
    except RuntimeError as error:
        raise NanoGPTError(
            f"The {size} processes that train this run did not meet within {ranks.PATIENCE.seconds} seconds. Try "
            f"again, or train with one process. ({str(error).splitlines()[0][:200]})"
        ) from error
