"""Training on several processes: each takes its rows of the same batch, and their gradients are added at each step.

Each process, a *rank*, holds a copy of the model and of the optimizers. Rank 0 is the trainer: it decides how long to
train, evaluates, writes samples and saves. The others follow it: before each step they learn its learning rate, and
after the backward pass one `all_reduce` adds the gradients of all ranks. All ranks then make the same update, so their
copies stay identical, and without dropout N processes end where one does, but for rounding. Muon's matrices are shared
out like the batch. Goyal et al., 2017, arXiv 1706.02677, describe this kind of training.

On GPUs, each rank has its own, and gradients travel by NCCL. On CPUs they travel by gloo, as rank 0's messages always
do. `processes.py` starts the ranks and lets them meet.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from .config import NanoGPTError
from .device import Device, native_bfloat16
from .errors import lacks_memory
from .optim import Muon, orthogonalize
from .step import Step

CPU = Device("cpu", torch.float32, "CPU")
PATIENCE = timedelta(seconds=25)  # within which all ranks must have met
SILENCE = timedelta(minutes=5)  # after which a GPU whose gradients don't come counts as gone
FOREVER = timedelta(days=365)  # rank 0 may evaluate for long, or wait for its turn on the device
NCCL = "nccl"
LOST = "why rank {} ended"  # the key under which a rank leaves a sentence for the others
PRESENT = "rank {} is here"


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
        message = torch.tensor(value, dtype=torch.float64)
        with self.noticing():
            dist.broadcast(message, src=0)
        return float(message)

    def rows(self, batch):
        """Return this rank's rows of a batch (B, T), every `size`-th one."""
        return batch[self.rank :: self.size]

    def add(self, tensors: list, share: float) -> list:
        """Return the sum of each tensor over all ranks, times each one's `share`: the same bits on every rank."""
        flat = torch.cat([one.reshape(-1) for one in tensors]).mul_(share)  # one message, as each is a round trip
        with self.noticing():
            dist.all_reduce(flat, group=self.group)
        return [part.view_as(one) for one, part in zip(tensors, flat.split([one.numel() for one in tensors]))]

    def orthogonalize(self, matrices, own: Callable = orthogonalize):
        """Orthogonalize each rank's share of the stack with its `own` function: (N, rows, columns) to the same."""
        most = -(-len(matrices) // self.size)  # all ranks gather the same number; the last one may have fewer
        mine = matrices[self.rank * most : (self.rank + 1) * most]
        done = matrices.new_zeros(most, *matrices.shape[1:])
        if len(mine):
            done[: len(mine)] = own(mine)
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
        self.evaluate = step.evaluate
        self.share = 1 / ranks.size  # of the batch: this rank's rows
        step.add_up = self.add_up
        for optimizer in self.optimizers:
            if isinstance(optimizer, Muon):  # each rank divides its share as the step does, among its threads
                optimizer.orthogonalize = partial(ranks.orthogonalize, own=optimizer.orthogonalize)
                optimizer.shares = ranks.size  # the same on all ranks, whose machines may have other numbers of threads

    @property
    def note(self) -> str:
        """Return the step's message for the run's page."""
        return self.step.note

    def ready(self, xb, yb) -> None:
        """Load and compile what this rank's part of steps on batches of this shape needs, without the other ranks."""
        self.step.ready(self.ranks.rows(xb), self.ranks.rows(yb))

    def __call__(self, xb, yb, lr: float):
        """Train on a batch (B, T) on all ranks. Return its mean loss in nats per token and the gradient norm."""
        if self.ranks.rank == 0:
            self.ranks.tell(lr)
        mine = self.ranks.rows(xb)
        self.share = len(mine) / len(xb)
        return self.step(mine, self.ranks.rows(yb), lr)

    def add_up(self, loss):
        """Replace this rank's gradients by those of the whole batch. Return the batch's mean loss."""
        parameters = list(self.step.model.parameters())
        loss, *grads = self.ranks.add([loss, *(p.grad for p in parameters)], self.share)
        for p, grad in zip(parameters, grads):
            p.grad = grad
        return loss
