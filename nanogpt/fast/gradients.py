"""The loss of a modern model and all its gradients on a CPU, by hand and in a single call.

Python runs one thread at a time. Threads that share a batch would spend half of each step waiting for each other,
because each of the several hundred operations of a forward and backward pass begins and ends in Python. As TorchScript,
the same functions run in torch's own interpreter, and the threads only meet at the end. TorchScript is no longer
developed: where torch can't compile them, the functions run as the Python that they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..model import GPT
from .block import ROWS, Kept, backward, forward, product_dtype, rms, rms_backward


class ByHand:
    """A model's loss and gradients: call it with a batch. `dtype` is that of the matrix products."""

    def __init__(self, model: GPT, dtype: torch.dtype, rows: int = ROWS):
        self.parameters = list(model.parameters())  # the embedding, four matrices for each block, and the head
        self.how = (model.config.n_head, *rotation(model), dtype, rows)
        self.with_gradients, self.only_loss = COMPILED

    @torch.no_grad()
    def __call__(self, xb: Tensor, yb: Tensor, share: float = 1.0) -> tuple[Tensor, list[Tensor]]:
        """Return the mean loss of `xb` and `yb` (B, T), and its gradients, in the order of the parameters.

        Both are multiplied by `share`, the batch's share of a larger one.
        """
        return self.with_gradients(xb, yb, self.weights(), share, *self.how)

    @torch.no_grad()
    def loss(self, xb: Tensor, yb: Tensor, share: float = 1.0) -> Tensor:
        """Return `share` times the mean loss of `xb` and `yb` (B, T)."""
        return self.only_loss(xb, yb, self.weights(), share, *self.how)

    def weights(self) -> list[Tensor]:
        """Return the parameters as tensors that autograd doesn't follow."""
        return [p.detach() for p in self.parameters]


def by_hand(model: GPT) -> ByHand | None:
    """Return what computes a model's gradients fastest, or None if autograd must."""
    dtype = product_dtype(model.config, model.device.type)
    return ByHand(model, dtype) if dtype else None


def compiled(function: Callable) -> Callable:
    """Return a function as TorchScript, or as it is if this version of torch or Python can't compile it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is no longer developed
            script = torch.jit.script(function)
        at_once = torch.jit.optimized_execution
    except Exception:  # whatever it is, Python runs the same function
        return function

    def call(*inputs):
        try:
            with at_once(False):  # or the first calls would be slow, because torch looks for shortcuts in them
                return script(*inputs)
        except RuntimeError as error:  # the last line is the message; the others say where in the program it was raised
            raise RuntimeError(str(error).strip().split("\n")[-1].removeprefix("RuntimeError: ")) from None

    return call


def rotation(model: GPT) -> tuple[Tensor, Tensor]:
    """Return the angles as complex numbers (T, hs / 2), and a row order of `qkv` that puts each pair side by side.

    Reordering queries and keys in the same way doesn't change the attention scores.
    """
    config = model.config
    hs = config.n_embd // config.n_head
    cos, sin = model.rotary  # two of (T, hs / 2)
    pairs = torch.arange(hs).view(2, hs // 2).t().reshape(-1)  # 0, hs/2, 1, hs/2 + 1, …
    heads = torch.arange(0, 2 * config.n_embd, hs)[:, None] + pairs  # (2 nh, hs)
    return torch.complex(cos, -sin), torch.cat([heads.reshape(-1), torch.arange(2 * config.n_embd, 3 * config.n_embd)])


def loss_only(
    idx: Tensor, targets: Tensor, weights: list[Tensor], share: float, n_head: int, table: Tensor, order: Tensor,
    dtype: torch.dtype, rows: int,
) -> Tensor:  # fmt: skip
    """Compute the loss as below, without its gradients."""
    embedding, head = weights[0], weights[-1].to(dtype)  # (vocab_size, C)
    x = embedding[idx]  # (B, T, C)
    x = x * rms(x)
    for i in range((len(weights) - 2) // 4):
        x, _ = forward(x, weights[1 + 4 * i : 5 + 4 * i], n_head, table, order, dtype, rows)
    h = (x * rms(x)).to(dtype).view(-1, x.shape[2])  # (N, C)
    logits = torch.mm(h, head.t()).float()  # (N, vocab_size)
    return share * cross_entropy(logits, targets.reshape(-1))


def loss_and_gradients(
    idx: Tensor, targets: Tensor, weights: list[Tensor], share: float, n_head: int, table: Tensor, order: Tensor,
    dtype: torch.dtype, rows: int,
) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
    """Return `share` times the mean loss of `idx` and `targets` (B, T), and its gradients in the order of `weights`."""
    embedding, head = weights[0], weights[-1].to(dtype)  # (vocab_size, C)
    B, T = idx.shape
    C, N, n_layer = embedding.shape[1], B * T, (len(weights) - 2) // 4
    # forward
    e = embedding[idx]  # (B, T, C)
    r_in = rms(e)  # (B, T, 1)
    x_in = e * r_in
    x = x_in
    layers: list[Kept] = []
    for i in range(n_layer):
        x, kept = forward(x, weights[1 + 4 * i : 5 + 4 * i], n_head, table, order, dtype, rows)
        layers.append(kept)
    x = x.view(N, C)
    r_f = rms(x)
    x_f = x * r_f
    h_f = x_f.to(dtype)
    log_p = torch.log_softmax(torch.mm(h_f, head.t()).float(), dim=-1)  # (N, vocab_size)
    right = targets.reshape(N, 1)
    loss = log_p.gather(1, right).mean().mul_(-share)
    # backward: the gradient of the logits is the probabilities, less 1 for the right character
    d_logits = log_p.exp_().scatter_add_(1, right, torch.full([N, 1], -1.0)).mul_(share / N).to(dtype)
    grads = [torch.mm(d_logits.t(), h_f).float()]
    grad = rms_backward(torch.mm(d_logits, head).float(), x_f, r_f).view(B, T, C)
    for _ in range(n_layer):
        grad, of_block = backward(grad, layers.pop(), n_head, table, order)
        grads = of_block + grads
    d_embedding = torch.zeros_like(embedding)
    d_embedding.index_add_(0, idx.reshape(N), rms_backward(grad, x_in, r_in).view(N, C))
    return loss, [d_embedding] + grads


# Compiled at once: torch reads the source, which may have changed on disk when a waiting process begins to train.
COMPILED = compiled(loss_and_gradients), compiled(loss_only)
