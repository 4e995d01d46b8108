"""AdamW as in the lecture, Muon for the modern recipe, the learning rate, and one training step.

Muon (Jordan et al., 2024, kellerjordan.github.io/posts/muon) replaces the update of a matrix by the nearest
orthogonal one, so that it moves all directions equally. It is for the matrices inside the blocks; embeddings, head,
gains and biases stay with AdamW. torch.optim.Muon computes in bf16 and one matrix at a time, which on a CPU is several
times slower; this one stacks matrices of one shape, and computes in bf16 only where the chip does.

`Step` is the plain training step. `fast/cpu.py` and `fast/cuda.py` have faster ones; `make_step` in train.py chooses.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from .config import ModelConfig, TrainConfig
from .device import Device, native_bfloat16
from .holdout import epochs
from .model import GPT, count_parameters


def get_lr(step: int, config: TrainConfig, share: float | None = None) -> float:
    """The learning rate of a step: a straight rise, then down to `min_lr` along a cosine (nanoGPT) or a line.

    `share`, 0 to 1, is how much of the run is over where the clock decides it and not the step.
    """
    if step < config.warmup_iters:
        return config.learning_rate * (step + 1) / config.warmup_iters
    steps = (step - config.warmup_iters) / max(1, config.max_iters - config.warmup_iters)
    gone = min(1.0, share if config.budget and share is not None else steps)  # 0 .. 1
    left = 0.5 * (1 + math.cos(math.pi * gone)) if config.schedule == "cosine" else 1 - gone
    return config.min_lr + (config.learning_rate - config.min_lr) * left


def orthogonalize(matrices, steps: int = 5):
    """The nearest orthogonal matrices, roughly: (N, rows, columns) to the same, by Newton-Schulz iteration.

    The coefficients are Jordan's: they push every singular value to between 0.7 and 1.2, which is near enough.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices  # the smaller side first: fewer operations
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)  # all singular values below 1, where the iteration converges
    for _ in range(steps):
        a = x @ x.mT  # (N, r, r)
        b = torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315)  # (N, r, r)
        x = torch.baddbmm(x, b, x, beta=3.4445)  # (N, r, c)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalized. Every parameter is a matrix, or several of one shape stacked in its rows (`qkv`).

    `parts` of a group says how many: query, key and value are three matrices, and each is orthogonalized by itself.
    """

    def __init__(self, groups, lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(groups, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, parts=1))
        self.orthogonalize: Callable = orthogonalize  # fast/cpu.py has one that is divided among threads

    @torch.no_grad()
    def step(self, closure=None):
        stacks: dict = {}  # shape -> what there is of it: one iteration for all matrices of a shape
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            for p in params:
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            grads, memories = [p.grad for p in params], [self.state[p]["momentum"] for p in params]
            torch._foreach_lerp_(memories, grads, 1 - group["momentum"])
            if group["weight_decay"]:
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            # Nesterov's: the gradient, looked at one step ahead
            for p, update in zip(params, torch._foreach_lerp(grads, memories, group["momentum"])):
                matrices = update.view(group["parts"], -1, p.shape[1])
                wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
                stacks.setdefault(wide.shape[1:], []).append((p, group, wide))
        for entries in stacks.values():
            stacked = torch.cat([wide for _, _, wide in entries])  # (N, smaller side, larger side)
            rough = stacked.is_cuda or native_bfloat16()  # its own numbers are rough enough for bf16's
            done = self.orthogonalize(stacked.bfloat16() if rough else stacked).to(stacked.dtype)
            done.mul_(-entries[0][1]["lr"])  # which may be a tensor that a CUDA graph reads
            for (p, group, _), part in zip(entries, done.split([len(wide) for _, _, wide in entries])):
                rows, columns = p.shape[0] // group["parts"], p.shape[1]
                turned = part if rows <= columns else part.mT
                p.view(group["parts"], rows, columns).add_(turned, alpha=max(1.0, rows / columns) ** 0.5)


def weight_decay(passes: float, parameters: int, tokens: int) -> float:
    """How strong a pull against learning by heart a model wants that Muon trains and that reads its text so many times.

    Next to none for one reading, 0.05 for five, 0.4 for fourteen (benchmarks/README.md). More readings bring no more,
    and 1.0 limits the harm. A model with few numbers for its text cannot learn it by heart, and is pulled less. That so
    much is right for many readings: Kim et al., 2025, arXiv 2509.14786.
    """
    room = min(1.0, parameters / (0.7 * tokens))  # 1 for 0.8 M numbers on Tiny Shakespeare
    return round(min(1.0, 0.002 * passes**2 * room), 3)


def settled(config: TrainConfig, shape: ModelConfig, tokens: int) -> TrainConfig:
    """A config whose weight decay is a number: where it was to go by how often a text of so many tokens is read."""
    if config.weight_decay >= 0:
        return config
    passes = epochs(config.max_iters * config.batch_size * shape.block_size, tokens)
    return replace(config, weight_decay=weight_decay(passes, count_parameters(shape), tokens))


def make_optimizers(model: torch.nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """AdamW (Loshchilov & Hutter, 2017) for everything, or Muon for the matrices in the blocks and AdamW for the rest.

    Weight decay pulls on matrices only, not on gains and biases. One that is not `settled` counts as none.
    """
    decay = max(0.0, config.weight_decay)
    named = dict(model.named_parameters())
    muon = [n for n, p in named.items() if config.optimizer == "muon" and n.startswith("blocks.") and p.dim() == 2]
    rest = [p for n, p in named.items() if n not in muon]
    groups = [
        dict(params=[p for p in rest if p.dim() >= 2], weight_decay=decay),
        dict(params=[p for p in rest if p.dim() < 2], weight_decay=0.0),
    ]
    betas = (config.beta1, config.beta2)
    groups = [group for group in groups if group["params"]]
    adamw = torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)
    if not muon:
        return [adamw]
    parts = [
        dict(params=[named[n] for n in muon if ("qkv" in n) is fused], parts=3 if fused else 1)
        for fused in (True, False)
    ]
    return [adamw, Muon(parts, lr=config.matrix_lr, momentum=config.momentum, weight_decay=decay)]


def set_lr(optimizers: list[torch.optim.Optimizer], lr: float, config: TrainConfig) -> None:
    """Give every group its learning rate of the step; Muon's falls in the same proportion."""
    for optimizer in optimizers:
        share = config.matrix_lr / config.learning_rate if isinstance(optimizer, Muon) else 1.0
        for group in optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):  # a CUDA graph reads it there
                group["lr"].fill_(lr * share)
            else:
                group["lr"] = lr * share


def optimizer_tensors(optimizers: list[torch.optim.Optimizer]) -> dict[str, torch.Tensor]:
    """What the optimizers remember, flat: {"0.3.exp_avg": tensor, …}; with the weights, all of a run's state."""
    states = [optimizer.state_dict()["state"] for optimizer in optimizers]
    return {
        f"{number}.{i}.{key}": torch.as_tensor(value)
        for number, state in enumerate(states)
        for i, entry in state.items()
        for key, value in entry.items()
    }


def load_optimizer_tensors(optimizers: list[torch.optim.Optimizer], tensors: dict[str, torch.Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    for number, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            of, i, key = name.split(".")
            if int(of) == number:
                state.setdefault(int(i), {})[key] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


class Step:
    """Call it with a batch. `optimizers` are made here, and hold what has to be kept for a resume."""

    def __init__(self, model: GPT, config: TrainConfig, device: Device):
        self.model, self.config, self.device = model, config, device
        self.optimizers = make_optimizers(model, config)
        # float16 has no number below 6e-8, so the loss is scaled up before the backward pass, and steps whose gradients
        # overflow are skipped (Micikevicius et al., 2017); elsewhere this does nothing
        self.scaler = torch.amp.GradScaler(device.type, enabled=device.dtype is torch.float16)
        self.note = ""  # a sentence for the run's page, if something did not work as it should

    def __call__(self, xb, yb, lr: float):
        """Train on a batch, `xb` and `yb` (B, T): its mean loss in nats a character, and the norm of the gradients."""
        loss = self.forward_backward(xb, yb)
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        grad_norm = self.clip()
        self.set_lr(lr)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        return loss, grad_norm

    def ready(self, xb, yb) -> None:
        """Load and compile what a step on a batch like this one needs; for the plain step there is nothing."""

    def forward_backward(self, xb, yb):
        """Gradients of the mean loss into `.grad`; returns that loss."""
        with self.device.autocast():
            _, loss = self.model(xb, yb)
        self.model.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        return loss.detach()

    def clip(self):
        """Shorten the gradients where together they are longer than `grad_clip`; returns how long they were."""
        return torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip or math.inf)

    def set_lr(self, lr: float) -> None:
        """Give every group its learning rate; Muon's falls in the same proportion."""
        set_lr(self.optimizers, lr, self.config)
