"""A training step on several CPU cores: the batch is split among threads, which synchronize once per step.

torch splits each operation among the cores, which then wait for each other hundreds of times per step. On an idle
machine that is just as fast, but when the page, a browser or another program wants the cores too, it takes two to three
times as long. Here each thread runs forward and backward on its own part of the batch. Gradients are added in a fixed
order, so that runs repeat exactly on the same number of cores. Muon's matrices are split the same way. Without this
file the plain step runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from ..config import ModelConfig, TrainConfig
from ..device import Device
from ..heap import keep_freed_memory
from ..model import GPT
from ..optim import Muon, orthogonalize
from ..step import Step
from .gradients import by_hand, kept_by_hand, product_dtype

__all__ = ["CrewStep", "kept_by_hand", "product_dtype", "threads_for"]

MOST = 4  # threads; more haven't been measured, and each would have few rows of the batch


def threads_for(model: ModelConfig, cores: int) -> int:
    """Return how many threads share a batch. Dropout draws from one generator: several threads would race for it."""
    return 1 if model.dropout else sharing(cores)


def sharing(cores: int) -> int:
    """Return how many threads share the cores, with the same number for each: on six or seven, three have two each.

    With four, two or three of those would be idle. Threads that share an operation wait for each other, so from eight
    cores on, one or two idle ones cost less than fewer threads would.
    """
    return 3 if cores in (6, 7) else min(cores, MOST)


@contextmanager
def cores_each(cores: int) -> Iterator[None]:
    """Have torch use this many cores in each of our threads until the block ends."""
    before = torch.get_num_threads()
    torch.set_num_threads(cores)  # process-wide, and it also limits the products in our threads
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Crew:
    """Threads that share work, the one that calls and `size` - 1 others. These end when this object is freed."""

    def __init__(self, size: int):
        self.size, self.cores = size, torch.get_num_threads()
        self.others = ThreadPoolExecutor(max(1, size - 1), "step")

    def divided(self, function: Callable, *inputs: Sequence) -> list:
        """Return what `function` returns for each of the inputs, as `map` does: the first here, others in threads.

        The cores are divided evenly among them, which may be fewer than the threads, as in a batch of two rows.
        """
        first, *rest = zip(*inputs)
        each = self.cores // (1 + len(rest))

        def on_its_cores(*one):
            torch.set_num_threads(each)
            return function(*one)

        running = [self.others.submit(on_its_cores, *one) for one in rest]
        with cores_each(each):
            return [function(*first), *(one.result() for one in running)]

    def orthogonalize(self, matrices):
        """Orthogonalize as optim.py does, but split the stack among threads: (N, rows, columns) to the same."""
        return torch.cat(self.divided(orthogonalize, matrices.chunk(self.size)))


class CrewStep(Step):
    """A step whose forward, backward and Newton-Schulz iteration are split among threads of one core or more each.

    Nothing that it has refers to it, so that its memory is freed with it, and not only by the garbage collector: a
    server tries several models in a second.
    """

    def __init__(self, model: GPT, config: TrainConfig, device: Device):
        keep_freed_memory()
        super().__init__(model, config, device)
        self.by_hand = by_hand(model)
        if self.by_hand and self.by_hand.problem:
            self.note = f"TorchScript doesn't work here, so each step takes longer ({self.by_hand.problem})"
        self.parameters = list(model.parameters())
        self.crew = Crew(threads_for(model.config, torch.get_num_threads()))
        self.each = self.crew.cores // self.crew.size
        for optimizer in self.optimizers:
            if isinstance(optimizer, Muon):
                optimizer.orthogonalize, optimizer.shares = self.crew.orthogonalize, self.crew.size

    def __call__(self, xb, yb, lr: float):
        with cores_each(self.each):
            return super().__call__(xb, yb, lr)

    def ready(self, xb, yb) -> None:
        with cores_each(self.each):
            super().ready(xb, yb)

    def evaluate(self, xb, yb):
        """Return the mean loss of a batch, for an evaluation while training, as precise as the training is."""
        if not self.by_hand or len(xb) < self.crew.size:  # few long rows: all cores on each of them
            return super().evaluate(xb, yb)
        return torch.stack(self.crew.divided(self.by_hand.loss, *self.shares(xb, yb))).sum()

    def forward_backward(self, xb, yb):
        """Compute the gradients of the mean loss of `xb` and `yb` (B, T) into `.grad`. Return the loss."""
        if not self.by_hand:
            return super().forward_backward(xb, yb)
        self.model.zero_grad(set_to_none=True)  # or there would be one more copy of them in memory
        (loss, grads), *rest = self.crew.divided(self.by_hand, *self.shares(xb, yb))
        for more, others in rest:
            loss = loss + more
            torch._foreach_add_(grads, others)
        for p, grad in zip(self.parameters, grads):
            p.grad = grad
        return loss

    def shares(self, xb, yb) -> tuple[Sequence, Sequence, list[float]]:
        """Return the threads' parts of `xb` and of `yb`, and each part's share of the batch."""
        xbs = xb.chunk(self.crew.size)
        return xbs, yb.chunk(self.crew.size), [len(part) / len(xb) for part in xbs]
