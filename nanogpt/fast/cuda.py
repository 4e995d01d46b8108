"""A training step on an NVIDIA GPU: fused with Triton if possible, recorded once, then replayed as a CUDA graph.

The lecture's model is so small that in a plain step the GPU mostly waits for Python to launch its hundreds of kernels;
a graph launches them all at once. The batch, the learning rate, the loss and the gradient norm stay at fixed addresses
on the GPU. Weights and optimizer state are float32; the forward and backward pass use a bfloat16 copy of the weights,
made once per step. If the step can't be recorded, or its replay doesn't reproduce the plain step's loss, the plain step
runs.

Source: PyTorch's notes on CUDA graphs, "Whole-network capture".
"""

from __future__ import annotations

import copy
import gc
import math
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

from ..config import TrainConfig
from ..device import Device
from ..errors import say
from ..model import GPT
from ..optim import optimizer_tensors
from ..step import Step

try:
    from . import cuda_block
except ImportError:  # no Triton (as on Windows), or the file was deleted: record the plain forward pass
    cuda_block = None  # type: ignore[assignment]

AHEAD = 8  # steps that may be queued on the GPU, so that the training loop doesn't run far ahead of it
CLOSE = 0.02  # nats by which the losses of two versions of the same step may differ, in bfloat16
SIMILAR = 8.0  # nats by which they may differ if each drops other numbers, divided by the root of the tokens
ALIKE = 0.25  # of a gradient's norm, by which two versions of it may differ; rounding to bfloat16 makes it 0.01 to 0.03


class GraphStep(Step):
    """A training step as a CUDA graph. `ready` records it; call it after a resumed run has loaded its state.

    `note` is a message if something had to fall back.
    """

    def __init__(self, model: GPT, config: TrainConfig, device: Device):
        super().__init__(model, config, device)
        self.parameters = list(model.parameters())
        self.graph: Any = None
        self.refused = device.dtype is torch.float16  # loss scaling reads a GPU value each step, which graphs can't do
        self.note = ""
        self.queue: list[torch.cuda.Event] = []

    def ready(self, xb, yb) -> None:
        """Compile the kernels for batches of this shape (takes seconds the first time) and record the step."""
        self.xb, self.yb = xb.clone(), yb.clone()
        for work in (self.prepare, self.record):
            if not self.refused:
                self.attempt(work)
        if self.refused:
            super().ready(xb, yb)

    def __call__(self, xb, yb, lr: float):
        if self.graph is None and not self.refused:
            self.ready(xb, yb)
        if self.refused:
            return super().__call__(xb, yb, lr)
        self.xb.copy_(xb)
        self.yb.copy_(yb)
        self.set_lr(lr)
        self.graph.replay()
        self.wait()
        return self.loss, self.grad_norm

    def wait(self) -> None:
        """Wait until the GPU is at most `AHEAD` steps behind."""
        done = torch.cuda.Event()
        done.record()
        self.queue.append(done)
        if len(self.queue) > AHEAD:
            self.queue.pop(0).synchronize()

    def attempt(self, work: Callable[[], None]) -> str:
        """Do a part of the preparation. If it fails, clean up, fall back to the plain step, and return the problem."""
        random = torch.cuda.get_rng_state()  # to undo the warm-up's dropout draws
        problem = ""
        try:
            work()
        except RuntimeError as error:  # out of memory included
            problem = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
        if problem:  # not inside `except`, where the traceback keeps the failed recording's memory alive
            self.refused = True
            self.give_up()
            self.say(f"CUDA graphs don't work here, so each step takes longer ({problem})")
        torch.cuda.set_rng_state(random)
        return problem

    def say(self, note: str) -> None:
        """Keep a message for the run's page and print it."""
        self.note = note
        say(note, sys.stderr)

    def give_up(self) -> None:
        """Free the memory of a failed recording, and reset the random generator, which still thinks it is recorded."""
        for name in ("xb", "yb", "low", "weights", "low_weights", "loss", "grad_norm"):
            vars(self).pop(name, None)
        self.model.zero_grad(set_to_none=True)
        gc.collect()
        torch.cuda.empty_cache()
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        generator.graphsafe_set_state(generator.clone_state())

    # ---- the forward and backward pass ------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the bfloat16 copy of the model, and use the fused pass if it computes the same as the plain one."""
        with torch.no_grad(), self.device.autocast():
            self.model(self.xb, self.yb)  # loads the libraries that evaluations use
        self.low = copy.deepcopy(self.model).to(self.device.dtype)
        self.low_weights = list(self.low.parameters())
        for p in self.parameters:  # at a fixed address, which the optimizers read
            p.grad = torch.zeros_like(p)
        self.seed = torch.zeros(1, dtype=torch.int64, device=self.xb.device)  # for dropout in the fused pass
        self.dropout = self.model.config.dropout
        self.low_loss: Callable = self.plain_loss
        if cuda_block is not None and cuda_block.fits(self.model, *self.xb.shape):
            if problem := self.why_not_fused():
                self.say(f"Fused kernels don't work here, so each step takes longer ({problem})")
            else:
                self.low_loss = self.fused_loss

    def why_not_fused(self) -> str:
        """Compile the fused pass. Return why it can't be used, or "" if it gives the plain pass's loss and gradients.

        They are those of random weights. A new model would have the same loss whatever the kernels compute, and most of
        its gradients are 0, because its last matrix is. `whole_step` overwrites these weights.
        """
        self.fill_with_noise()
        try:
            self.low.eval()
            plain, grads = self.with_gradients(self.plain_loss())
            found, others = self.with_gradients(self.fused_loss(dropout=0.0))
            if self.dropout:  # which has kernels of its own
                self.with_gradients(self.fused_loss())
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # Triton raises many types of errors: no C compiler, an unknown GPU
            return f"{type(error).__name__}: {str(error)[:200]}"
        finally:
            self.low.train()
        if not abs(found - plain) <= CLOSE:
            return f"their loss was {found:.4f}, the plain step's {plain:.4f}"
        alike = all((one - other).norm() <= ALIKE * one.norm() for one, other in zip(grads, others))
        return "" if alike else "their gradients were not the plain step's"

    @torch.no_grad()
    def fill_with_noise(self) -> None:
        """Replace the bfloat16 weights by random ones, always the same, that keep activations near 1."""
        generator = torch.Generator(self.xb.device).manual_seed(0)
        for p in self.low_weights:
            p.normal_(std=p.shape[-1] ** -0.5, generator=generator)

    def with_gradients(self, loss) -> tuple[float, list]:
        """Return a loss of the bfloat16 model as a number, and the gradient of each weight, in float32."""
        grads = torch.autograd.grad(loss, self.low_weights)
        return float(loss.detach()), [grad.float() for grad in grads]

    def plain_loss(self):
        """Return the loss of the bfloat16 model, computed by model.py."""
        return self.low(self.xb, self.yb)[1]

    def fused_loss(self, dropout: float | None = None):
        """Return the loss of the bfloat16 model, computed by fused kernels."""
        p = self.dropout if dropout is None else dropout
        if p:
            self.seed.random_(2**40)  # by the generator, which a checkpoint keeps, so that a resumed run draws the same
        return cuda_block.loss_of(self.low, self.model.rotary, self.xb, self.yb, p, self.seed)

    def whole_step(self):
        """Take a step with the learning rate set in the optimizers. Return the loss and the gradient norm."""
        with torch.no_grad():
            torch._foreach_copy_(self.low_weights, self.parameters)
        loss = self.low_loss()
        grads = torch.autograd.grad(loss, self.low_weights)
        torch._foreach_copy_([p.grad for p in self.parameters], grads)
        grad_norm = self.clip()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.detach(), grad_norm

    # ---- recording --------------------------------------------------------------------------------------------------

    def record(self) -> None:
        """Warm up on the recording stream, restore all state, then record. Raise RuntimeError if that fails."""
        home, stream = torch.cuda.current_stream(), recording_stream("step", torch.cuda.current_device())
        weights = [p.detach().clone() for p in self.parameters]
        kept = {key: value.clone() for key, value in optimizer_tensors(self.optimizers).items()}
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = torch.tensor(float(group["lr"]), device=self.xb.device)  # read by the kernels at each replay
        try:
            stream.wait_stream(home)
            with torch.cuda.stream(stream):
                losses = [float(self.whole_step()[0]) for _ in range(3)]
            home.wait_stream(stream)
            self.put_back(weights, kept)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                self.loss, self.grad_norm = self.whole_step()
            self.compare(graph, losses)
        finally:
            torch.cuda.set_stream(home)  # a failed recording leaves its own stream active
            self.put_back(weights, kept)
        self.graph = graph

    def compare(self, graph: Any, losses: list[float]) -> None:
        """Replay the warm-up's steps and compare. Raise RuntimeError if the losses differ or are NaN."""
        close = max(0.5, SIMILAR / math.sqrt(self.xb.numel())) if self.dropout else CLOSE
        for plain in losses:
            self.loss.fill_(math.nan)  # so that a replay that computes nothing is noticed
            graph.replay()
            found = float(self.loss)
            if not abs(found - plain) <= close:
                raise RuntimeError(f"the replay's loss was {found:.4f}, the plain step's {plain:.4f}")

    @torch.no_grad()
    def put_back(self, weights: list[torch.Tensor], kept: dict[str, torch.Tensor]) -> None:
        """Restore weights and optimizer state in place. State that didn't exist before the warm-up becomes zero."""
        torch._foreach_copy_(self.parameters, weights)
        for key, value in optimizer_tensors(self.optimizers).items():
            value.copy_(kept[key]) if key in kept else value.zero_()


@lru_cache
def recording_stream(use: str, gpu: int) -> torch.cuda.Stream:
    """Return the stream on which all graphs for this use are recorded on a GPU, the current one.

    cuBLAS keeps a workspace per stream, 32 MB on a large GPU, and freeing a graph frees the workspaces of all graphs
    recorded on its stream (pytorch#193402), so steps and decoders must not share a stream.
    """
    return torch.cuda.Stream()
