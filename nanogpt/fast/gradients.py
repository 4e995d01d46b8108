"""A model's loss and all its gradients on a CPU, by hand and in a single call.

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

from ..config import ModelConfig
from ..device import native_bfloat16
from ..model import GPT
from .attention import KEEP, ROWS
from .block import PARAMETERS, Common, Kept, backward, forward, norm, norm_backward, rms, rms_backward

# The parameters outside the blocks, in the order in which the functions here take and return them, before the blocks'.
OUTSIDE = (
    "token_embedding_table.weight", "position_embedding_table.weight", "ln_f.weight", "ln_f.bias", "lm_head.weight",
)  # fmt: skip


def product_dtype(config: ModelConfig, device: str) -> torch.dtype | None:
    """Return the dtype of matrix products if this file can train the model, or None if autograd must."""
    if config.dropout or device != "cpu":
        return None
    return torch.bfloat16 if native_bfloat16() else torch.float32


def kept_by_hand(config: ModelConfig, dtype: torch.dtype) -> int:
    """Return how many bytes a block keeps per token for its backward pass: those of `Kept` that grow with the batch.

    Of rotated or normalized queries and keys, these are also what they were before. Of the attention weights, each
    group of queries has those of the keys up to it.
    """
    layout, C, T = config.features, config.n_embd, config.block_size
    turned = layout.rotary or layout.qk_norm
    wei = config.n_head * (T if T <= ROWS else (T + ROWS) // 2) if T <= KEEP else 0
    products = (10 + 2 * turned + 4 * layout.relu_squared) * C + wei
    return products * dtype.itemsize + (0 if layout.plain_norms else 2 * 4 * C)


class ByHand:
    """A model's loss and gradients: call it with a batch. `dtype` is that of the matrix products."""

    def __init__(self, model: GPT, dtype: torch.dtype, rows: int = ROWS):
        parameters, nothing = dict(model.named_parameters()), torch.empty(0)
        blocks = [f"blocks.{i}.{name}" for i in range(model.config.n_layer) for name in PARAMETERS]
        order = [*OUTSIDE, *blocks]  # of what the functions below take and return
        self.parameters = [parameters.get(name, nothing) for name in order]  # nothing: this architecture has none
        self.places = [order.index(name) for name in parameters]  # of the model's parameters among them
        self.common = in_common(model, dtype, rows)
        (self.with_gradients, self.problem), (self.only_loss, _) = COMPILED

    @torch.no_grad()
    def __call__(self, xb: Tensor, yb: Tensor, share: float = 1.0) -> tuple[Tensor, list[Tensor]]:
        """Return the mean loss of `xb` and `yb` (B, T), and its gradients, in the order of the parameters.

        Both are multiplied by `share`, the batch's share of a larger one.
        """
        loss, grads = self.with_gradients(xb, yb, self.weights(), share, self.common)
        return loss, [grads[i] for i in self.places]

    @torch.no_grad()
    def loss(self, xb: Tensor, yb: Tensor, share: float = 1.0) -> Tensor:
        """Return `share` times the mean loss of `xb` and `yb` (B, T)."""
        return self.only_loss(xb, yb, self.weights(), share, self.common)

    def weights(self) -> list[Tensor]:
        """Return the parameters as tensors that autograd doesn't follow."""
        return [p.detach() for p in self.parameters]


def by_hand(model: GPT) -> ByHand | None:
    """Return what computes a model's gradients fastest, or None if autograd must."""
    dtype = product_dtype(model.config, model.device.type)
    return ByHand(model, dtype) if dtype else None


def compiled(function: Callable) -> tuple[Callable, str]:
    """Return a function as TorchScript, and ""; or as it is, and why this torch or Python can't compile it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is no longer developed
            script = torch.jit.script(function)
        at_once = torch.jit.optimized_execution
    except Exception as error:  # whatever it is, Python runs the same function
        return function, f"{type(error).__name__}: {(str(error).strip() or '?').splitlines()[0][:200]}"

    def call(*inputs):
        try:
            with at_once(False):  # or the first calls would be slow, because torch looks for shortcuts in them
                return script(*inputs)
        except RuntimeError as error:  # the last line is the message; the others say where in the program it was raised
            raise RuntimeError(str(error).strip().split("\n")[-1].removeprefix("RuntimeError: ")) from None

    return call, ""


def in_common(model: GPT, dtype: torch.dtype, rows: int) -> Common:
    """Return what the blocks of a model have in common."""
    config, layout = model.config, model.config.features
    table, order = rotation(model) if layout.rotary else (torch.empty(0), torch.empty(0))
    return Common(
        config.n_head, layout.plain_norms, layout.rotary, layout.qk_norm, layout.relu_squared, table, order, dtype, rows
    )


def rotation(model: GPT) -> tuple[Tensor, Tensor]:
    """Return the angles as complex numbers (block_size, hs / 2), and an order of `qkv` with each pair side by side.

    Reordering queries and keys in the same way doesn't change the attention scores.
    """
    config = model.config
    hs = config.n_embd // config.n_head
    cos, sin = model.rotary  # two of (block_size, hs / 2)
    pairs = torch.arange(hs).view(2, hs // 2).t().reshape(-1)  # 0, hs/2, 1, hs/2 + 1, …
    heads = torch.arange(0, 2 * config.n_embd, hs)[:, None] + pairs  # (2 nh, hs)
    return torch.complex(cos, -sin), torch.cat([heads.reshape(-1), torch.arange(2 * config.n_embd, 3 * config.n_embd)])


def embed(idx: Tensor, w: list[Tensor], common: Common) -> tuple[Tensor, Tensor]:
    """Return the embeddings (N, C) of `idx` (B, T), and 1 / what their lengths were before a norm, if there is one."""
    x = w[0][idx]  # (B, T, C)
    if not common.rotary:
        x = x + w[1][: idx.shape[1]]
    x = x.view(-1, x.shape[2])
    if not common.plain_norms:
        return x, x[:0]
    r = rms(x)  # (N, 1)
    return x * r, r


def embed_backward(
    grad: Tensor, idx: Tensor, x: Tensor, r: Tensor, w: list[Tensor], common: Common
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the tables of tokens and of positions, given what `embed` returned and its `grad`."""
    if common.plain_norms:
        grad = rms_backward(grad, x, r)  # (N, C)
    token, position = torch.zeros_like(w[0]), torch.zeros_like(w[1])
    token.index_add_(0, idx.reshape(-1), grad)
    if not common.rotary:
        position[: idx.shape[1]] = grad.view(idx.shape[0], idx.shape[1], -1).sum(0)
    return token, position


def loss_only(idx: Tensor, targets: Tensor, w: list[Tensor], share: float, common: Common) -> Tensor:
    """Compute the loss as below, without its gradients."""
    B, T = idx.shape
    x = embed(idx, w, common)[0].view(B, T, -1)
    for i in range(5, len(w), 12):
        x = forward(x, w[i : i + 12], common)[0]
    h = norm(x.view(B * T, -1), w[2], w[3], common.dtype)[0]
    logits = torch.mm(h, w[4].to(common.dtype).t()).float()  # (N, vocab_size)
    return share * cross_entropy(logits, targets.reshape(-1))


def loss_and_gradients(
    idx: Tensor, targets: Tensor, w: list[Tensor], share: float, common: Common
) -> tuple[Tensor, list[Tensor]]:
    """Return `share` times the mean loss of `idx` and `targets` (B, T), and its gradients.

    The weights `w` and the gradients are OUTSIDE (five), and then the PARAMETERS (twelve) of each block.
    """
    B, T = idx.shape
    C, N = w[0].shape[1], B * T
    # forward
    x_in, r_in = embed(idx, w, common)  # (N, C)
    x = x_in.view(B, T, C)
    layers: list[Kept] = []
    for i in range(5, len(w), 12):
        x, kept = forward(x, w[i : i + 12], common)
        layers.append(kept)
    h, norm_f = norm(x.view(N, C), w[2], w[3], common.dtype)
    head = w[4].to(common.dtype)  # (vocab_size, C)
    log_p = torch.log_softmax(torch.mm(h, head.t()).float(), dim=-1)  # (N, vocab_size)
    right = targets.reshape(N, 1)
    loss = log_p.gather(1, right).mean().mul_(-share)
    # backward: the gradient of the logits is the probabilities, less 1 for the right character
    d_logits = log_p.exp_().scatter_add_(1, right, torch.full([N, 1], -1.0)).mul_(share / N).to(common.dtype)
    d_head = torch.mm(d_logits.t(), h).float()
    grad, d_gain, d_bias = norm_backward(torch.mm(d_logits, head), h, norm_f, w[2], w[3])
    grad = grad.view(B, T, C)
    grads: list[Tensor] = []
    for i in range(len(w) - 12, 4, -12):
        grad, of_block = backward(grad, layers.pop(), w[i : i + 12], common)
        grads = of_block + grads
    d_token, d_position = embed_backward(grad.view(N, C), idx, x_in, r_in, w, common)
    return loss, [d_token, d_position, d_gain, d_bias, d_head] + grads


# Compiled at once: torch reads the source, which may have changed on disk when a waiting process begins to train.
COMPILED = compiled(loss_and_gradients), compiled(loss_only)
