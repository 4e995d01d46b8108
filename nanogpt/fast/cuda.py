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

from ..config import TrainConfig
from ..device import Device
from ..model import GPT
from ..optim import Step, optimizer_tensors

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
        home, random = torch.cuda.current_stream(), torch.cuda.get_rng_state()  # dropout draws in the warm-up, too
        weights = [p.detach().clone() for p in self.model.parameters()]
        kept = {key: value.clone() for key, value in optimizer_tensors(self.optimizers).items()}
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = torch.tensor(float(group["lr"]), device=xb.device)  # read by the kernels at each replay
            if "capturable" in group:
                group["capturable"] = True
        try:
            stream = torch.cuda.Stream()
            stream.wait_stream(home)
            with torch.cuda.stream(stream):
                losses = [float(self.all_of_it()[0]) for _ in range(3)]
            home.wait_stream(stream)
            self.put_back(weights, kept)
            self.model.zero_grad(set_to_none=True)  # the recorded backward pass allocates its own
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.loss, self.grad_norm = self.all_of_it()
            self.judge(graph, losses)
        finally:
            torch.cuda.set_stream(home)  # a recording that fails leaves its own behind
            self.put_back(weights, kept)
            torch.cuda.set_rng_state(random)
        self.graph = graph

    def judge(self, graph: Any, losses: list[float]) -> None:
        """Replay as many steps as were taken plainly. RuntimeError where their losses are others; NaN is one, too."""
        for plain in losses:
            graph.replay()
            found = float(self.loss)
            if not self.model.config.dropout and not abs(found - plain) <= 0.02:
                raise RuntimeError(f"a replay's loss was {found:.4f}, the plain step's {plain:.4f}")

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
