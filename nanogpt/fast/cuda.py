"""A training step on an NVIDIA GPU: fused by Triton where possible, recorded once and replayed as a CUDA graph.

The lecture's model is so small that a GPU spends most of a plainly written step waiting for Python to start its
hundreds of kernels; a graph starts them all at once. The batch, the learning rate, the loss and the norm of the
gradients stay at fixed places on the GPU. Weights and optimizers are float32; the forward and backward pass run on a
bfloat16 copy of the weights, made once per step. Where the step can't be recorded, or its replay does not give the
plain step's loss, the plain step runs.

Source: PyTorch's notes on CUDA graphs, "Whole-network capture".
"""

from __future__ import annotations

import copy
import gc
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

from ..config import TrainConfig
from ..device import Device
from ..model import GPT
from ..optim import Step, optimizer_tensors

try:
    from . import cuda_block
except ImportError:  # no Triton (on Windows, say), or the file was deleted: the plain forward pass is recorded
    cuda_block = None  # type: ignore[assignment]

AHEAD = 8  # steps that may wait on the GPU, so that the loop's clock stays close to the GPU's
CLOSE = 0.02  # nats by which the losses of two ways through the same step may differ, in bfloat16


class GraphStep(Step):
    """Recorded by `ready`, once a resumed run has its state back. `note` says in a sentence what did not work."""

    def __init__(self, model: GPT, config: TrainConfig, device: Device):
        super().__init__(model, config, device)
        self.parameters = list(model.parameters())
        self.graph: Any = None
        self.refused = device.dtype is torch.float16  # its loss scaling asks the GPU at each step whether it overflowed
        self.note = ""
        self.queue: list[torch.cuda.Event] = []

    def ready(self, xb, yb) -> None:
        """Compile the kernels for batches like this one, seconds the first time on a machine, and record the step."""
        self.xb, self.yb = xb.clone(), yb.clone()
        for work in (self.prepare, self.record):
            if not self.refused:
                self.trying(work)

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
        """Let the GPU be a few steps behind, not a thousand."""
        done = torch.cuda.Event()
        done.record()
        self.queue.append(done)
        if len(self.queue) > AHEAD:
            self.queue.pop(0).synchronize()

    def trying(self, work: Callable[[], None]) -> str:
        """Do some of the preparing; if it fails, clean up and let the plain step run. Return what went wrong."""
        random = torch.cuda.get_rng_state()  # dropout draws in the warm-up, too
        problem = ""
        try:
            work()
        except RuntimeError as error:  # out of memory included
            problem = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
        if problem:  # not inside `except`, where the traceback still holds a failed recording's memory
            self.refused = True
            self.give_up()
            self.say(f"CUDA graphs don't work here, so each step takes longer ({problem})")
        torch.cuda.set_rng_state(random)
        return problem

    def say(self, note: str) -> None:
        self.note = note
        print(note, file=sys.stderr, flush=True)

    def give_up(self) -> None:
        """Free what a failed recording held, and give dropout a generator that no longer counts itself as recorded."""
        for name in ("xb", "yb", "low", "weights", "low_weights", "loss", "grad_norm"):
            vars(self).pop(name, None)
        self.model.zero_grad(set_to_none=True)
        gc.collect()
        torch.cuda.empty_cache()
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        generator.graphsafe_set_state(generator.clone_state())

    # ---- the forward and backward pass ------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the bfloat16 copy of the model, and choose the fused pass where it gives the plain one's loss."""
        self.low = copy.deepcopy(self.model).to(self.device.dtype)
        self.low_weights = list(self.low.parameters())
        for p in self.parameters:  # at a fixed place, which the optimizers read
            p.grad = torch.zeros_like(p)
        self.seed = torch.randint(2**40, (1,), device=self.xb.device)  # what dropout draws from in the fused pass
        self.dropout = self.model.config.dropout
        self.low_loss: Callable = self.plain_loss
        if cuda_block is not None and cuda_block.fits(self.model, *self.xb.shape):
            if problem := self.why_not_fused():
                self.say(f"Fused kernels don't work here, so each step takes longer ({problem})")
            else:
                self.low_loss = self.fused_loss

    def why_not_fused(self) -> str:
        """Compile the fused pass and return why it can't be used; empty if it gives the plain one's loss."""
        try:
            with torch.no_grad():
                self.low.eval()
                plain, found = float(self.plain_loss()), float(self.fused_loss(dropout=0.0))
            torch.autograd.grad(self.fused_loss(), self.low_weights)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # Triton's own, of many kinds: no C compiler, a GPU it does not know
            return f"{type(error).__name__}: {str(error)[:200]}"
        finally:
            self.low.train()
        return "" if abs(found - plain) <= CLOSE else f"a loss of {found:.4f} where the plain step's is {plain:.4f}"

    def plain_loss(self):
        """Return model.py's loss, all in bfloat16."""
        return self.low(self.xb, self.yb)[1]

    def fused_loss(self, dropout: float | None = None):
        """Return the same from fused kernels."""
        self.seed += 1000  # more than there are places of dropout in a step
        p = self.dropout if dropout is None else dropout
        return cuda_block.loss_of(self.low, self.model.rotary, self.xb, self.yb, p, self.seed)

    def whole_step(self):
        """Take a step at the learning rate in the optimizers' groups: loss, and the norm of the gradients."""
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
        """Warm up on the recording's own stream, put everything back, record. RuntimeError if that can't be done."""
        home, stream = torch.cuda.current_stream(), recording_stream("step")
        weights = [p.detach().clone() for p in self.parameters]
        kept = {key: value.clone() for key, value in optimizer_tensors(self.optimizers).items()}
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = torch.tensor(float(group["lr"]), device=self.xb.device)  # read by the kernels at each replay
            if "capturable" in group:
                group["capturable"] = True
        try:
            stream.wait_stream(home)
            with torch.cuda.stream(stream):
                losses = [float(self.whole_step()[0]) for _ in range(3)]
            home.wait_stream(stream)
            self.put_back(weights, kept)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                self.loss, self.grad_norm = self.whole_step()
            self.judge(graph, losses)
        finally:
            torch.cuda.set_stream(home)  # a recording that fails leaves its own behind
            self.put_back(weights, kept)
        self.graph = graph

    def judge(self, graph: Any, losses: list[float]) -> None:
        """Replay as many steps as were taken plainly. RuntimeError if their losses differ, or are NaN."""
        for plain in losses:
            graph.replay()
            found = float(self.loss)
            if not self.dropout and not abs(found - plain) <= CLOSE:
                raise RuntimeError(f"a replay's loss was {found:.4f}, the plain step's {plain:.4f}")

    @torch.no_grad()
    def put_back(self, weights: list[torch.Tensor], kept: dict[str, torch.Tensor]) -> None:
        """Set weights and optimizer state to what they were; what did not exist yet becomes zero, at its place."""
        torch._foreach_copy_(self.parameters, weights)
        for key, value in optimizer_tensors(self.optimizers).items():
            value.copy_(kept[key]) if key in kept else value.zero_()


@lru_cache
def recording_stream(use: str) -> torch.cuda.Stream:
    """Return the stream on which graphs for one use are recorded, always the same one.

    cuBLAS keeps a workspace per stream, 32 MB on a large GPU, and freeing a graph frees the workspaces of all graphs
    recorded on its stream (pytorch#193402), so steps and decoders must not share one.
    """
    return torch.cuda.Stream()
