"""A training step on an NVIDIA card, recorded once and replayed: a CUDA graph of the whole of it.

The lecture's model is so small that a card waits for Python between its some six hundred kernels; a graph starts them
all at once. The batch, the learning rate, the loss and the norm of the gradients stay on the card at fixed places.
Where the step cannot be recorded, or its replay does not give the plain step's loss, the plain step runs.
Source: PyTorch's notes on CUDA graphs, "Whole-network capture".
"""

from __future__ import annotations

import sys
from typing import Any

import torch

from .config import TrainConfig
from .device import Device
from .model import GPT
from .optim import optimizer_tensors
from .step import Step

AHEAD = 8  # steps that may wait on the card, so that the clock in the loop stays that of the card


class GraphStep(Step):
    """Recorded at its first call, when a resumed run has its state back."""

    def __init__(self, model: GPT, config: TrainConfig, device: Device):
        super().__init__(model, config, device)
        self.graph: Any = None
        self.refused = False
        self.queue: list[torch.cuda.Event] = []

    def __call__(self, xb, yb, lr: float):
        if self.refused:
            return super().__call__(xb, yb, lr)
        if self.graph is None:
            try:
                self.record(xb, yb)
            except RuntimeError as error:
                print(f"No CUDA graph here, the plain step runs: {error}", file=sys.stderr, flush=True)
                self.refused = True
                return super().__call__(xb, yb, lr)
        self.xb.copy_(xb)
        self.yb.copy_(yb)
        self.set_lr(lr)
        self.graph.replay()
        self.wait()
        return self.loss, self.grad_norm

    def wait(self) -> None:
        """Let the card be a few steps behind, not a thousand."""
        done = torch.cuda.Event()
        done.record()
        self.queue.append(done)
        if len(self.queue) > AHEAD:
            self.queue.pop(0).synchronize()

    def record(self, xb, yb) -> None:
        """Warm up on a stream of its own, put everything back, record. RuntimeError where that cannot be done."""
        self.xb, self.yb = xb.clone(), yb.clone()
        weights = [p.detach().clone() for p in self.model.parameters()]
        kept = {key: value.clone() for key, value in optimizer_tensors(self.optimizers).items()}
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = torch.tensor(float(group["lr"]), device=xb.device)  # read by the kernels at each replay
            if "capturable" in group:
                group["capturable"] = True
        try:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                losses = [float(self.all_of_it()[0]) for _ in range(3)]
            torch.cuda.current_stream().wait_stream(stream)
            self.put_back(weights, kept)
            self.model.zero_grad(set_to_none=True)  # the recorded backward pass allocates its own
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.loss, self.grad_norm = self.all_of_it()
            graph.replay()  # once for the judge: the first step's loss must be the plain one's
            if not self.model.config.dropout and abs(float(self.loss) - losses[0]) > 0.01:
                raise RuntimeError(f"a replay's loss was {float(self.loss):.4f}, the plain step's {losses[0]:.4f}")
        finally:
            self.put_back(weights, kept)
        self.graph = graph

    def all_of_it(self):
        """The step at the learning rate that stands in the optimizers' groups."""
        with torch.autocast("cuda", self.device.dtype, cache_enabled=False):  # no casts kept from outside the graph
            _, loss = self.model(self.xb, self.yb)
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        grad_norm = self.clip()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.detach(), grad_norm

    @torch.no_grad()
    def put_back(self, weights: list[torch.Tensor], kept: dict[str, torch.Tensor]) -> None:
        """Weights and the optimizers' memory as they were; what was not there yet becomes zero, where it is."""
        torch._foreach_copy_(list(self.model.parameters()), weights)
        for key, value in optimizer_tensors(self.optimizers).items():
            value.copy_(kept[key]) if key in kept else value.zero_()
