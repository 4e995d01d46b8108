"""Optimizers: AdamW and Muon.

AdamW is the lecture's optimizer. Muon (Jordan et al., 2024, kellerjordan.github.io/posts/muon) is the modern recipe's:
it replaces the update of a matrix with the nearest orthogonal matrix, which moves all directions equally. Muon trains
the matrices inside the blocks; embeddings, head, gains and biases stay with AdamW. On a CPU this version is several
times faster than torch.optim.Muon, which works in bfloat16 on one matrix at a time: it stacks matrices of the same
shape and uses bfloat16 only if the hardware supports it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from .config import TrainConfig
from .device import gpu_bfloat16, native_bfloat16

# Three odd polynomials, a x + b x^3 + c x^5. One after the other, they bring 0.002 .. 1 to within 0.18 .. 1.9. They are
# the first three of those that come nearest to 1 from 0.001 on (Polar Express: Amsel et al., 2025, arXiv 2505.16932).
# As there, all but the last are for values 1% higher: rounding may make them so, which the next one would amplify.
POLYNOMIALS = ((8.2051, -22.9019, 16.4607), (4.0664, -2.8612, 0.5184), (3.9487, -2.9089, 0.5518))


def orthogonalize(matrices):
    """Return roughly the nearest orthogonal matrices, by Newton-Schulz iteration: (N, rows, columns) to the same.

    An odd polynomial of a matrix changes its singular values and nothing else. What counts is that small ones become
    large; coming nearer to 1 takes time and gains nothing (benchmarks/README.md).
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices  # smaller side first, for fewer operations
    x = x / (1.01 * x.norm(dim=(-2, -1), keepdim=True) + 1e-7)  # all singular values below 1
    for first, third, fifth in POLYNOMIALS:
        a = x @ x.mT  # (N, r, r)
        b = torch.baddbmm(a, a, a, beta=third, alpha=fifth)  # (N, r, r)
        x = torch.baddbmm(x, b, x, beta=first)  # (N, r, c)
    return x.mT if tall else x


def rough_on(device: str) -> bool:
    """Return True if the iteration is fastest in bfloat16 on this type of device. That will do: it is approximate."""
    return gpu_bfloat16() if device == "cuda" else native_bfloat16()


AT_ONCE = 1 << 24  # about how many numbers each share of a stack has: each takes 18 bytes meanwhile


class Optimizer(ABC):
    """Groups of parameters with their settings, and tensors that are kept for each parameter, as in torch.optim.

    torch.optim's own class imports PyTorch's compiler at its first use, which is a third of a trainer's time to start.
    """

    def __init__(self, groups: list[dict[str, Any]], **settings: Any):
        self.param_groups = [settings | group for group in groups]
        self.state: dict[Any, dict[str, torch.Tensor]] = {p: {} for group in self.param_groups for p in group["params"]}

    @abstractmethod
    def step(self) -> None:
        """Update all parameters that have a gradient."""

    def load(self, state: dict[int, dict[str, torch.Tensor]]) -> None:
        """Replace the tensors that are kept: {parameter's number: {name: tensor}}."""
        for number, p in enumerate(self.state):
            self.state[p] = {name: value.to(p.device, torch.float32) for name, value in state.get(number, {}).items()}


class AdamW(Optimizer):
    """AdamW (Loshchilov & Hutter, 2017), by the kernel of torch.optim.AdamW(fused=True): one pass over memory."""

    _step_supports_amp_scaling = True  # with float16: GradScaler sets `found_inf`, and doesn't wait to see what it is

    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]):
        super().__init__(groups, lr=lr, betas=betas)

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters that have a gradient."""
        overflow = getattr(self, "found_inf", None)
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            kept = [self.kept_for(p) for p in params]
            if not params:
                continue
            means, squares, steps = ([entry[name] for entry in kept] for name in ("exp_avg", "exp_avg_sq", "step"))
            torch._foreach_add_(steps, 1)
            torch._fused_adamw_(
                params, [p.grad for p in params], means, squares, [], steps, lr=group["lr"],
                beta1=group["betas"][0], beta2=group["betas"][1], weight_decay=group["weight_decay"], eps=1e-8,
                amsgrad=False, maximize=False, found_inf=overflow,
            )  # fmt: skip
            if overflow is not None:  # 1 or 0; if 1, the kernel has changed nothing
                torch._foreach_sub_(steps, [overflow] * len(steps))

    def kept_for(self, p) -> dict[str, torch.Tensor]:
        """Return what is kept for a parameter, which is zeros before its first step."""
        if not self.state[p]:
            # the number of steps is a tensor, too, because a CUDA graph must be able to count
            self.state[p] = dict(
                step=torch.zeros((), device=p.device), exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p)
            )
        return self.state[p]


class Muon(Optimizer):
    """Momentum SGD with orthogonalized updates. Parameters are matrices, or several matrices stacked by rows (`qkv`).

    A group's `parts` is the number of stacked matrices: `qkv` has three, and each is orthogonalized on its own. A step
    overwrites the gradients, which saves the memory for a copy of them.
    """

    def __init__(self, groups, lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(groups, lr=lr, momentum=momentum, weight_decay=weight_decay, parts=1)
        self.orthogonalize: Callable = orthogonalize  # fast/cpu.py replaces it with a multi-threaded one
        self.shares = 1  # among which it divides a stack
        # asked here, because nothing should be asked while a step is recorded as a CUDA graph
        self.rough = rough_on(next(iter(self.state)).device.type)

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters that have a gradient."""
        stacks: dict = {}  # shape and number -> updates of this shape, which are orthogonalized together
        before: Counter = Counter()  # shape -> numbers in earlier updates
        for group in self.param_groups:
            for p in self.with_momentum(group):
                matrices = p.grad.view(group["parts"], -1, p.shape[1])  # qkv: three
                wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
                shape = wide.shape[1:]
                stacks.setdefault((shape, before[shape] // (AT_ONCE * self.shares)), []).append((p, group, wide))
                before[shape] += wide.numel()
        for entries in stacks.values():
            stacked = torch.cat([wide for _, _, wide in entries])  # (N, smaller side, larger side)
            done = self.orthogonalize(stacked.bfloat16() if self.rough else stacked).to(stacked.dtype)
            done.mul_(-entries[0][1]["lr"])  # the rate may be a tensor, which a CUDA graph reads at each replay
            for (p, group, _), part in zip(entries, done.split([len(wide) for _, _, wide in entries])):
                add_update(p.view(group["parts"], -1, p.shape[1]), part)

    def with_momentum(self, group: dict) -> list:
        """Turn a group's gradients into what is to be orthogonalized. Apply its weight decay. Return its parameters."""
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            return []
        for p in params:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        grads, memories = [p.grad for p in params], [self.state[p]["momentum"] for p in params]
        torch._foreach_lerp_(memories, grads, 1 - group["momentum"])
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        # Nesterov momentum: use the gradient as it would be one step ahead
        torch._foreach_lerp_(grads, memories, group["momentum"])
        return params


def add_update(matrices, wide) -> None:
    """Add orthogonalized updates, smaller side first, to matrices (parts, rows, columns); larger ones to tall ones."""
    rows, columns = matrices.shape[1:]
    matrices.add_(wide if rows <= columns else wide.mT, alpha=max(1.0, rows / columns) ** 0.5)


def make_optimizers(model: torch.nn.Module, config: TrainConfig) -> list[Optimizer]:
    """Return AdamW for all parameters, or AdamW plus Muon for the matrices in the blocks.

    Weight decay applies to matrices only, not to gains and biases. A negative one (not yet `settled`) is treated as 0.
    """
    decay, muon = max(0.0, config.weight_decay), config.optimizer == "muon"
    sorts: dict[str, list] = {"matrices": [], "vectors": [], "qkv": [], "in blocks": []}
    for name, p in model.named_parameters():
        sorts[sort_of(name, p.dim(), muon)].append(p)
    groups = [dict(params=sorts["matrices"], weight_decay=decay), dict(params=sorts["vectors"], weight_decay=0.0)]
    groups = [group for group in groups if group["params"]]
    adamw = AdamW(groups, config.learning_rate, (config.beta1, config.beta2))
    if not muon:
        return [adamw]
    parts = [dict(params=sorts["qkv"], parts=3), dict(params=sorts["in blocks"], parts=1)]
    return [adamw, Muon(parts, lr=config.matrix_lr, momentum=config.momentum, weight_decay=decay)]


def sort_of(name: str, dimensions: int, muon: bool) -> str:
    """Return which of the optimizers' groups a parameter belongs to."""
    if dimensions < 2:
        return "vectors"
    if not (muon and name.startswith("blocks.")):
        return "matrices"
    return "qkv" if "qkv" in name else "in blocks"


def set_lr(optimizers: list[Optimizer], lr: float, config: TrainConfig) -> None:
    """Set every group's learning rate for a step. Muon's is scaled by the same schedule."""
    for optimizer in optimizers:
        share = config.matrix_lr / config.learning_rate if isinstance(optimizer, Muon) else 1.0
        for group in optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):  # a CUDA graph reads this tensor
                group["lr"].fill_(lr * share)
            else:
                group["lr"] = lr * share


def optimizer_tensors(optimizers: list[Optimizer]) -> dict[str, torch.Tensor]:
    """Return the optimizers' state as a flat dict, {"0.3.exp_avg": tensor, …}, for the checkpoint."""
    return {
        f"{number}.{i}.{name}": value
        for number, optimizer in enumerate(optimizers)
        for i, entry in enumerate(optimizer.state.values())
        for name, value in entry.items()
    }


def load_optimizer_tensors(optimizers: list[Optimizer], tensors: dict[str, torch.Tensor]) -> None:
    """Load what `optimizer_tensors` returned. Raise ValueError or IndexError if it belongs to other parameters."""
    for number, optimizer in enumerate(optimizers):
        state = _state_in(tensors, number, list(optimizer.state))
        wanted = {"momentum"} if isinstance(optimizer, Muon) else {"step", "exp_avg", "exp_avg_sq"}
        if any(entry.keys() != wanted for entry in state.values()):
            raise ValueError(f"optimizer {number} lacks some of its tensors, or has others")
        optimizer.load(state)


def _state_in(tensors: dict[str, torch.Tensor], number: int, params: list) -> dict[int, dict[str, torch.Tensor]]:
    """Return the state of the optimizer with this number as {parameter's number: {name: tensor}}."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        of, i, key = name.split(".")
        if int(of) == number:
            if value.shape != (torch.Size() if key == "step" else params[int(i)].shape):
                raise ValueError(f"{name} has the shape {tuple(value.shape)}")
            state.setdefault(int(i), {})[key] = value
    return state
