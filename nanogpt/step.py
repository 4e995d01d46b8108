"""One training step: forward and backward pass, clipped gradients, update.

This is the plain one. `fast/cpu.py` and `fast/cuda.py` have faster ones; `make_step` in fastest.py chooses.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from .config import TrainConfig
from .device import Device
from .model import GPT
from .optim import make_optimizers, set_lr


class Step:
    """The plain training step: call it with a batch. Creates the optimizers, whose state a checkpoint must keep."""

    def __init__(self, model: GPT, config: TrainConfig, device: Device):
        self.model, self.config, self.device = model, config, device
        self.optimizers = make_optimizers(model, config)
        # float16 can't represent numbers below 6e-8, so scale the loss up before the backward pass and skip steps whose
        # gradients overflow (Micikevicius et al., 2017); with other dtypes the scaler does nothing
        self.scaler = torch.amp.GradScaler(device.type, enabled=device.dtype is torch.float16)
        self.note = ""  # a message for the run's page if something had to fall back
        self.add_up: Callable = lambda loss: loss  # with other ranks: averages the loss and the gradients over all

    def __call__(self, xb, yb, lr: float):
        """Train on a batch, `xb` and `yb` (B, T). Return its mean loss in nats per token and the gradient norm."""
        loss = self.add_up(self.forward_backward(xb, yb))
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        grad_norm = self.clip()
        self.set_lr(lr)
        # the scaler would skip only an optimizer whose gradients overflow, but clipping has spoiled those of the others
        if not self.scaler.is_enabled() or grad_norm.isfinite():
            for optimizer in self.optimizers:
                self.scaler.step(optimizer)
        self.scaler.update()
        return loss, grad_norm

    def ready(self, xb, yb) -> None:
        """Load and compile what steps on batches of this shape need. Neither weights nor random numbers change.

        The plain step does this for timed runs only, which end by what their steps take: the first one would be slow.
        """
        if not self.config.budget:
            return
        gpus = [] if xb.device.type == "cpu" else [xb.device.index or 0]
        with torch.random.fork_rng(gpus, device_type=xb.device.type):  # the CPU's random numbers are always restored
            self.forward_backward(xb, yb)
        self.model.zero_grad(set_to_none=True)

    def forward_backward(self, xb, yb):
        """Compute the gradients of the mean loss into `.grad`. Return the loss."""
        with self.device.autocast():
            _, loss = self.model(xb, yb)
        self.model.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        return loss.detach()

    def evaluate(self, xb, yb):
        """Return the mean loss of a batch, for an evaluation while training."""
        return self.model(xb, yb)[1]

    def clip(self):
        """Clip the gradients to norm `grad_clip`. Return their norm before clipping."""
        return torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip or math.inf)

    def set_lr(self, lr: float) -> None:
        """Set every group's learning rate. Muon's is scaled by the same schedule."""
        set_lr(self.optimizers, lr, self.config)
