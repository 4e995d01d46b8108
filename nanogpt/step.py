"""One step of training, as in the lecture: forward, backward, and the optimizers' turn.

`fast_cpu.py` and `fast_cuda.py` have the same step on faster ways; `make_step` in train.py chooses.
"""

from __future__ import annotations

import math

import torch

from .config import TrainConfig
from .device import Device
from .model import GPT
from .optim import make_optimizers, set_lr


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
