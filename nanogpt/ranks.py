"""Training on several processes: each takes its rows of the same batch, and their gradients are added at each step.

Each process, a *rank*, holds a copy of the model and of the optimizers. Rank 0 is the trainer: it decides how long to
train, evaluates, writes samples and saves. The others follow it: before each step they learn its learning rate, and
after the backward pass one `all_reduce` adds the gradients of all ranks. All ranks then make the same update, so their
copies stay identical, and without dropout N processes end where one does, but for rounding. Muon's matrices are shared
out like the batch. Goyal et al., 2017, arXiv 1706.02677, describe this kind of training.

`train --processes N` starts the other ranks on this machine; `torchrun` starts all of them, on one machine or several.
On GPUs, each rank has its own, and gradients travel by NCCL. On CPUs they travel by gloo, as rank 0's messages always
do.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from .config import NanoGPTError
from .device import Device, native_bfloat16
from .errors import lacks_memory
from .optim import Muon, orthogonalize
from .paths import environment
from .step import Step

CPU = Device("cpu", torch.float32, "CPU")
PATIENCE = timedelta(seconds=25)  # within which all ranks must have met
SILENCE = timedelta(minutes=5)  # after which a GPU whose gradients don't come counts as gone
FOREVER = timedelta(days=365)  # rank 0 may evaluate for long, or wait for its turn on the device
NCCL = "nccl"
LOST = "why rank {} ended"  # the key under which a rank leaves a sentence for the others
PRESENT = "rank {} is here"
HERE = "127.0.0.1"
LOOPBACK = {"linux": "lo", "darwin": "lo0"}  # its name, or gloo would look up the machine's own, which may not resolve


class Lost(NanoGPTError):
    """Raised when another rank is gone."""


class Ranks:
    """This process's place among the processes that train a run together."""

    def __init__(self, rank: int, size: int, store: Any, device: Device):
        """Meet the other ranks. Raise NanoGPTError if their devices differ in kind or precision."""
        self.rank, self.size, self.store, self.device = rank, size, store, device
        present = [PRESENT.format(other) for other in range(size)]
        store.set(present[rank], kind_of(device))
        store.wait(present, PATIENCE)
        check_alike({store.get(key).decode() for key in present})
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=PATIENCE)
        # only now: a rank that ends while they connect would be waited for as long
        dist.distributed_c10d._set_pg_timeout(FOREVER, dist.group.WORLD)
        self.group = by_nccl() if device.type == "cuda" else dist.group.WORLD  # by which tensors travel

    def tell(self, lr: float | None) -> None:
        """As rank 0, have all ranks make a step with this learning rate, or end with None."""
        self.broadcast(-1.0 if lr is None else lr)

    def hear(self) -> float | None:
        """As another rank, wait for rank 0 to `tell` something, and return it."""
        lr = self.broadcast(0.0)
        return None if lr < 0 else lr

    def broadcast(self, value: float) -> float:
        """Return rank 0's value on all ranks."""
        told = torch.tensor(value, dtype=torch.float64)
        with self.noticing():
            dist.broadcast(told, src=0)
        return float(told)

    def rows(self, batch):
        """Return this rank's rows of a batch (B, T), every `size`-th one."""
        return batch[self.rank :: self.size]

    def add(self, tensors: list, share: float) -> list:
        """Return the sum of each tensor over all ranks, times each one's `share`: the same bits on every rank."""
        flat = torch.cat([one.reshape(-1) for one in tensors]).mul_(share)  # one message, as each is a round trip
        with self.noticing():
            dist.all_reduce(flat, group=self.group)
        return [part.view_as(one) for one, part in zip(tensors, flat.split([one.numel() for one in tensors]))]

    def orthogonalize(self, matrices):
        """Orthogonalize as optim.py does, each rank its share of the stack: (N, rows, columns) to the same."""
        most = -(-len(matrices) // self.size)  # all ranks gather the same number; the last one may have fewer
        mine = matrices[self.rank * most : (self.rank + 1) * most]
        done = matrices.new_zeros(most, *matrices.shape[1:])
        if len(mine):
            done[: len(mine)] = orthogonalize(mine)
        shares = [torch.empty_like(done) for _ in range(self.size)]
        with self.noticing():
            dist.all_gather(shares, done, group=self.group)
        return torch.cat(shares)[: len(matrices)]

    @contextmanager
    def noticing(self) -> Iterator[None]:
        """Raise Lost, which says why, where torch would say that a connection was closed."""
        try:
            yield
        except RuntimeError as error:
            if lacks_memory(error):  # it is this rank's
                raise
            raise Lost(self.why()) from error

    def why(self) -> str:
        """Return a sentence about the rank that ended, as it left it for the others, or about its silence."""
        for rank in range(self.size):
            try:
                if self.store.check([LOST.format(rank)]):
                    return self.store.get(LOST.format(rank)).decode()
            except RuntimeError:  # the store was in the process that is gone
                break
        return "Another process of this run was killed. Resume the run to continue from its last checkpoint."

    def leave(self, why: str = "") -> None:
        """Leave the group. If this rank has failed, `why` is the sentence that rank 0 will report."""
        if why:
            self.store.set(LOST.format(self.rank), why)
        dist.destroy_process_group()


def kind_of(device: Device) -> str:
    """Return the type of a device and the precision of its products, in which all ranks must be alike.

    A CPU's `dtype` is always float32; without dropout, and in Muon, it computes in bfloat16 if it can.
    """
    rough = device.type == "cpu" and native_bfloat16()
    return f"{device.type} {torch.bfloat16 if rough else device.dtype}"


def check_alike(kinds: set[str]) -> None:
    """Raise NanoGPTError if there are several kinds of device."""
    if len(kinds) > 1:
        on_cpus = all(kind.startswith("cpu ") for kind in kinds)
        choose = "GPUs of one kind with CUDA_VISIBLE_DEVICES, or use --device cpu"
        raise NanoGPTError(
            f"The processes of a run need devices of one kind, and these have {' and '.join(sorted(kinds))}. Choose "
            f"{'machines with CPUs of one kind' if on_cpus else choose}."
        )


def by_nccl() -> Any:
    """Return a group whose messages travel by NCCL, connected. All ranks call this at the same time."""
    # without this, torch doesn't wait for a message and ends the process if it never comes
    os.environ["TORCH_NCCL_BLOCKING_WAIT"] = "1"
    group = dist.new_group(backend=NCCL, timeout=SILENCE)
    dist.all_reduce(torch.zeros(1, device="cuda"), group=group)
    return group


class SharedStep:
    """A training step that is shared with other ranks: call it with the whole batch, like the step it is made of."""

    def __init__(self, step: Step, ranks: Ranks):
        self.step, self.ranks = step, ranks
        self.optimizers, self.scaler = step.optimizers, step.scaler
        self.ready, self.evaluate = step.ready, step.evaluate
        self.own: Callable = step.forward_backward
        step.forward_backward = self.forward_backward  # type: ignore[method-assign]
        for optimizer in self.optimizers:
            if isinstance(optimizer, Muon):
                optimizer.orthogonalize, optimizer.shares = ranks.orthogonalize, ranks.size

    @property
    def note(self) -> str:
        """Return the step's message for the run's page."""
        return self.step.note

    def __call__(self, xb, yb, lr: float):
        """Train on a batch (B, T) on all ranks. Return its mean loss in nats per token and the gradient norm."""
        if self.ranks.rank == 0:
            self.ranks.tell(lr)
        return self.step(xb, yb, lr)

    def forward_backward(self, xb, yb):
        """Compute the gradients of the mean loss of `xb` and `yb` (B, T) into `.grad`, together. Return the loss."""
        mine = self.ranks.rows(xb)
        loss = self.own(mine, self.ranks.rows(yb))
        parameters = list(self.step.model.parameters())
        loss, *grads = self.ranks.add([loss, *(p.grad for p in parameters)], len(mine) / len(xb))
        for p, grad in zip(parameters, grads):
            p.grad = grad
        return loss


# ---- who trains together --------------------------------------------------------------------------------------------


def number() -> tuple[int, int]:
    """Return this process's rank and the number of ranks, as torchrun sets them in the environment; else (0, 1)."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


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
    launched = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if size > 1 else 0
    here = launched or processes
    if here == 1 or places == ["cpu"]:
        return places, 1
    if not places[0].startswith("cuda"):
        raise NanoGPTError("Several processes train on CPUs or NVIDIA GPUs only. Use one process, or --device cpu.")
    check_gpus(here, places)
    return places[: launched or None], here


def check_gpus(processes: int, places: list[str]) -> None:
    """Raise NanoGPTError if not each process of this machine can have a GPU of its own."""
    if processes > len(places):
        has = f"{len(places)} GPU{'s' * (len(places) > 1)}"
        raise NanoGPTError(
            f"{processes} processes need {processes} GPUs, but this machine has {has}. Start {len(places)}, or use "
            "--device cpu."
        )


@contextmanager
def together(
    run: str, processes: int, places: Sequence[str] = ("cpu",), device: Device = CPU
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
                store = next(dist.rendezvous("env://", timeout=PATIENCE))[0]
            else:
                if name := LOOPBACK.get(sys.platform):
                    os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
                store = dist.TCPStore(HERE, 0, size, is_master=True, timeout=PATIENCE, wait_for_workers=False)
                each = max(1, threads // size)
                own = list(places) * size if len(places) == 1 else places
                started += [start(rank, size, store.port, each, own[rank]) for rank in range(1, size)]
            store.set("run", run)
            ranks = Ranks(0, size, store, device)
        try:
            yield ranks
        except BaseException:
            # Within a step they wait for gradients and don't hear, and leaving an NCCL group waits for all ranks.
            for process in started:
                process.kill()
            raise
        ranks.tell(None)
        ranks.leave()
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


def joined(device_of: Callable[[str], Device] = lambda run: CPU) -> tuple[Ranks, str]:
    """As another rank, meet rank 0 once the run's turn has come. Return the Ranks and the run's name.

    `device_of` returns the device on which this rank trains a run.
    """
    rank, size = number()
    with meeting(size):
        store = next(dist.rendezvous("env://", timeout=PATIENCE))[0]
    store.wait(["run"], FOREVER)  # with torchrun, the run may have to wait for its turn
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
            f"The {size} processes that train this run did not meet within {PATIENCE.seconds} seconds. Try again, or "
            f"train with one process. ({str(error).splitlines()[0][:200]})"
        ) from error
