"""Dynamic evaluation: let a model learn from the validation set while it reads it, as adaptive compressors do.

Each window is scored first and learned from afterwards (Krause et al., 2018), so no character is predicted with
knowledge of itself. The model that learns is a copy. Its updates are the gradients, each divided by its root mean
square so far, as in RMSprop.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch

from ..data import windows
from ..model import GPT

LEARNING_RATE = 3e-5  # the best of 1e-5, 3e-5, 1e-4, 3e-4 on a fifth of Tiny Shakespeare's validation set
SMOOTHING = 0.99  # of the mean square, from window to window
SECONDS = 60.0  # if the whole would take longer, that many seconds' worth of windows, evenly spaced


def dynamic(model: GPT, val: torch.Tensor, lengths: torch.Tensor, seconds: float = SECONDS) -> Iterator[dict[str, Any]]:
    """Yield the losses so far after each window, in nats per character: "static" of the model, and "dynamic".

    `val` (N,) are the ids of the validation set and `lengths` (vocab_size,) the characters per token. "windows" says
    how many windows have been read, out of "of" that will be, and "all" how many there are.
    """
    block_size = model.config.block_size
    every = -(-(len(val) - 1) // block_size)
    most = min(every, max(1, int(seconds / seconds_per_window(model, val))))
    learning = copy.deepcopy(model).eval()
    squares = [torch.zeros_like(p) for p in learning.parameters()]
    static = total = characters = 0.0
    for i, (x, y) in enumerate(one_by_one(val, block_size, most)):
        with torch.no_grad():
            static += float(model(x, y)[1]) * y.numel()
        learning.zero_grad(set_to_none=True)
        loss = learning(x, y)[1]
        loss.backward()
        total += float(loss.detach()) * y.numel()
        characters += int(lengths[y].sum())
        update(learning, squares, correction=1 - SMOOTHING ** (i + 1))
        yield dict(static=static / characters, dynamic=total / characters, windows=i + 1, of=most, all=every)


@torch.no_grad()
def update(model: GPT, squares: list[torch.Tensor], correction: float) -> None:
    """Make one step, and average the `squares` of the gradients. `correction` undoes their bias towards 0 at first."""
    for p, square in zip(model.parameters(), squares):
        if p.grad is not None:
            square.mul_(SMOOTHING).addcmul_(p.grad, p.grad, value=1 - SMOOTHING)
            p.addcdiv_(p.grad, (square / correction).sqrt().add_(1e-6), value=-LEARNING_RATE)


def one_by_one(val: torch.Tensor, block_size: int, most: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield x and y, both (1, T), for `most` windows of the validation set, in the order in which they stand there."""
    for xb, yb in windows(val, block_size, most):
        yield from zip(xb.split(1), yb.split(1))


def seconds_per_window(model: GPT, val: torch.Tensor) -> float:
    """Return about how long it takes to read one window and learn from it: the faster of two attempts."""
    trial, took = copy.deepcopy(model).eval(), []
    for x, y in islice(one_by_one(val, model.config.block_size, 2), 2):
        began = time.perf_counter()
        trial(x, y)
        trial(x, y)[1].backward()
        took.append(time.perf_counter() - began)
    return min(took)
