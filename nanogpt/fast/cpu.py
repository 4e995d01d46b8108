"""A training step on several CPU cores: the batch is divided among threads, which meet once a step.

torch divides each operation among the cores and lets them wait for each other hundreds of times a step. On an idle
machine that is as fast; where a page, a browser or anything else wants the cores too, it takes two to three times as
long as what is done here: each thread takes its part of the batch through forward and backward alone. The gradients are
added in a fixed order, so that runs repeat to the bit on as many cores. Muon's matrices are divided as well. Without
this file the plain step runs.
"""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor

import torch

from ..config import TrainConfig
from ..device import Device
from ..model import GPT
from ..optim import Muon, Step, orthogonalize
from .block import quicken

MOST = 4  # threads; Python's own work is done by one at a time
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, up to 256 MB: it is asked for again within milliseconds.

    Given back to the system and fetched anew each time, it cost an eighth of a step. Where the library is not glibc,
    nothing is changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt:
        mallopt(M_TRIM_THRESHOLD, 256 << 20)
        mallopt(M_MMAP_THRESHOLD, 32 << 20)


class CrewStep(Step):
    """A step whose forward, backward and Newton-Schulz iteration are divided among threads with a core or more each."""

    def __init__(self, model: GPT, config: TrainConfig, device: Device):
        keep_freed_memory()
        super().__init__(quicken(model), config, device)
        self.parameters = list(model.parameters())
        self.cores = torch.get_num_threads()
        # dropout draws from one generator, and which thread comes first is chance: such a model is not divided
        self.size = 1 if model.config.dropout else min(self.cores, MOST)
        self.each = self.cores // self.size
        self.threads = ThreadPoolExecutor(self.size, "step", torch.set_num_threads, (self.each,))
        for optimizer in self.optimizers:
            if isinstance(optimizer, Muon):
                optimizer.orthogonalize = self.orthogonalize

    def __call__(self, xb, yb, lr: float):
        torch.set_num_threads(self.each)  # the process's own number, which the threads' products go by too
        try:
            return super().__call__(xb, yb, lr)
        finally:
            torch.set_num_threads(self.cores)

    def forward_backward(self, xb, yb):
        """As the plain one: `xb` and `yb` (B, T) to the mean loss, and the gradients into `.grad`."""
        if self.size == 1:
            return super().forward_backward(xb, yb)
        xbs, ybs = xb.chunk(self.size), yb.chunk(self.size)
        done = list(self.threads.map(self.part, xbs, ybs, [len(part) / len(xb) for part in xbs]))
        loss, grads = done[0]
        for more, others in done[1:]:
            loss = loss + more
            torch._foreach_add_(grads, others)
        for p, grad in zip(self.parameters, grads):
            p.grad = grad
        return loss

    def part(self, xb, yb, share: float):
        """One thread's part of the batch: what it adds to the loss and to the gradients."""
        _, loss = self.model(xb, yb)
        loss = loss * share
        return loss.detach(), list(torch.autograd.grad(loss, self.parameters))

    def orthogonalize(self, matrices):
        """As the plain one, each thread a part of the stack: (N, rows, columns) to the same."""
        return torch.cat(list(self.threads.map(orthogonalize, matrices.chunk(self.size))))
