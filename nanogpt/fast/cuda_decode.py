"""A decoder for NVIDIA GPUs: sample.py's decoder with a static cache, recorded as a CUDA graph.

The cache has room for the whole context from the start, and the position of the newest character is a tensor on the
GPU. So every character runs the same kernels at the same addresses, which are recorded once as a CUDA graph and then
replayed. The next character is drawn on the GPU as well, so that one replay generates many characters before it returns
to the CPU. If recording fails, the kernels are launched one by one. Without this file the plain decoder runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ..config import SampleConfig, newer_half
from ..errors import say
from ..model import GPT, without_dropout
from .cuda import recording_stream

try:
    from .cuda_character import Character
except ImportError:  # no Triton, or the file was deleted: record torch's own operations
    Character = None  # type: ignore[assignment, misc]

CHUNKS = (32, 4, 1)  # characters per replay; 32 take 3 ms, so that a stream still looks smooth


class StaticLayer:
    """Keys and values of one layer, (texts, nh, block_size, hs) each. `at` is the newest character's position."""

    def __init__(self, model: GPT, texts: int):
        config = model.config
        shape = (2, texts, config.n_head, config.block_size, config.n_embd // config.n_head)
        self.k, self.v = torch.zeros(shape, device=model.device)
        self.length, self.mask, self.at = 0, None, torch.empty(0)
        self.places = torch.arange(config.block_size, device=model.device)

    def extend(self, k, v):
        """Store keys and values (B, nh, T, hs). If T is 1, return the whole buffer and mask what isn't filled."""
        T = k.shape[2]
        if T > 1:
            self.k[:, :, :T], self.v[:, :, :T] = k, v
            self.mask = None
            return k, v
        self.k.index_copy_(2, self.at, k)
        self.v.index_copy_(2, self.at, v)
        self.mask = (self.places <= self.at)[None, None, None]  # (1, 1, 1, block_size)
        return self.k, self.v


class StaticDecoder:
    """A decoder with the interface of `sample.Decoder`, for a batch of `texts` texts. It can also draw characters."""

    def __init__(self, model: GPT, texts: int = 1, kernels: bool = True):
        """Use torch's operations instead of Triton without `kernels`, which take seconds to compile on first use."""
        self.model, self.block_size = model, model.config.block_size
        new = lambda *shape, dtype: torch.zeros(shape, dtype=dtype, device=model.device)
        self.idx, self.at = new(texts, 1, dtype=torch.long), new(1, dtype=torch.long)
        self.uniforms, self.drawn = new(CHUNKS[0], texts, dtype=torch.double), new(CHUNKS[0], texts, dtype=torch.long)
        self.temperature = new(1, dtype=torch.double).fill_(1.0)
        self.half = new(texts, max(2, newer_half(self.block_size)), dtype=torch.long)
        self.cache = [StaticLayer(model, texts) for _ in model.blocks]
        self.rows = list(range(texts))  # unfinished texts; the others are still computed, but ignored
        self.graphs: dict[int | str, Any] = {}  # number of characters, or "half" -> graph
        self.scores_of: dict[int, Any] = {}  # where each of them leaves the last scores
        self.refused = model.device.type != "cuda"
        self.character: Any = None
        if kernels and Character is not None and not self.refused:
            self.character = Character(model, self.idx, self.at, self.cache)
        self.restart()

    def restart(self) -> None:
        """Empty the cache."""
        self.length = 0

    def keep(self, texts: list[int]) -> None:
        """Continue with these rows of the batch only."""
        self.rows = [self.rows[i] for i in texts]

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Run the block on the model's GPU, which needn't be the current one, without gradients and dropout."""
        with torch.inference_mode(), torch.cuda.device_of(self.idx), without_dropout(self.model):
            yield

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Append tokens `ids` (B, T) and return the logits of the next one, (B, vocab_size)."""
        T = ids.shape[1]
        with self.at_work():
            if T == 1:
                self.place(ids)
                self.write(1)
            else:
                self.begin(ids)
            self.length += T
            return self.logits.float().cpu().numpy()[self.rows]

    def begin(self, ids: np.ndarray) -> None:
        """Read a prompt (B, T) in one pass. If it is the half context that long texts restart from, replay a graph."""
        every = self.spread(ids)
        if ids.shape[1] != self.half.shape[1]:
            self.logits = self.model(every.to(self.model.device), cache=self.cache)[0][:, -1]
            return
        self.half.copy_(every)
        self.replay("half", self.read_half)
        self.logits = self.half_logits

    def read_half(self) -> None:
        """Read the half context in `half`."""
        self.half_logits = self.model(self.half, cache=self.cache)[0][:, -1]

    def draws(self, config: SampleConfig, wanted: int) -> int:
        """Return how many characters `draw` can generate at once, or 0 if the caller must use `read` and `pick`."""
        room = min(wanted, self.block_size - self.length)
        return next((chunk for chunk in CHUNKS if chunk <= room), 0) if config.plain else 0

    def draw(self, ids: np.ndarray, uniforms: np.ndarray, temperature: float) -> np.ndarray:
        """Append tokens `ids` (B, 1) and generate n more, one per row of `uniforms` (n, B). Return their ids, (n, B).

        The result is what `pick` would draw with the same random numbers. n must be the value that `draws` returned.
        """
        n = len(uniforms)
        with self.at_work():
            self.place(ids)
            every = torch.zeros(n, len(self.idx), dtype=torch.double)
            every[:, self.rows] = torch.from_numpy(uniforms)
            self.uniforms[:n].copy_(every)
            self.temperature.fill_(temperature)
            self.write(n)
            self.length += n
            return self.drawn[:n].cpu().numpy()[:, self.rows]

    def place(self, ids: np.ndarray) -> None:
        """Copy the newest tokens and their position to where the kernels read them."""
        self.idx.copy_(self.spread(ids))
        self.at.fill_(self.length)

    def spread(self, ids: np.ndarray):
        """Return tokens `ids` (B, T) at their rows, (texts, T), with zeros in the others."""
        if not self.length:  # nothing is in the cache, so the texts may have any rows
            self.rows = list(range(len(ids)))
        every = torch.zeros(len(self.idx), ids.shape[1], dtype=torch.long)
        every[self.rows] = torch.from_numpy(ids).long()
        return every

    # ---- recorded work ----------------------------------------------------------------------------------------------

    def write(self, n: int) -> None:
        """Generate n tokens after `idx` into `drawn`, and the last one's logits into `logits`."""
        self.replay(n, lambda: self.several(n))
        self.logits = self.scores_of.get(n, self.scores)

    def replay(self, key: int | str, work: Callable[[], None]) -> None:
        """Replay the graph stored under a key, recording `work` first. If that fails, run `work` directly."""
        if key not in self.graphs and not self.refused:
            self.try_to_record(key, work)
        if self.refused:
            work()
        else:
            self.graphs[key].replay()

    def try_to_record(self, key: int | str, work: Callable[[], None]) -> None:
        """Record some work. The warm-up before it only writes the same keys and values to the same addresses."""
        idx, problem = self.idx.clone(), ""
        home, stream = torch.cuda.current_stream(), recording_stream("decoder", torch.cuda.current_device())
        try:
            stream.wait_stream(home)
            with torch.cuda.stream(stream):
                self.several(1) if isinstance(key, int) else work()
            home.wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                work()
            self.graphs[key] = graph
            if isinstance(key, int):
                self.scores_of[key] = self.scores
        except Exception as error:  # torch and Triton raise many types
            problem = f"{type(error).__name__}: {str(error)[:200]}"
        torch.cuda.set_stream(home)
        self.idx.copy_(idx)
        if problem:  # not inside `except`, where the traceback keeps the recording's memory alive
            say(f"Sampling falls back to a slower method on this GPU: {problem}", sys.stderr)
            if self.character is not None:  # retry with torch's operations
                self.character = None
                self.graphs.clear()
                self.scores_of.clear()
                self.try_to_record(key, work)
            else:
                self.refused = True
                self.scores_of.clear()  # or the scores would be those that the last replay left there

    def several(self, n: int) -> None:
        """Generate n tokens, each from the logits after the previous one."""
        for i in range(n):
            if self.character is not None:
                self.scores = self.character.forward(i)
                self.character.draw(self.uniforms, self.temperature, self.drawn, i)
            else:
                self.scores = self.one(self.at + i)
                scores = self.scores.double()
                p = ((scores - scores.amax(-1, keepdim=True)) / self.temperature).exp()  # (texts, vocab_size)
                cumulative = p.cumsum(-1)
                new = (cumulative <= self.uniforms[i][:, None] * cumulative[:, -1:]).sum(-1).clamp(max=p.shape[-1] - 1)
                self.drawn[i] = new
                self.idx.copy_(new[:, None])

    def one(self, at):
        """Run GPT.forward for the token at position `at`, a tensor. Return logits (texts, vocab_size)."""
        model = self.model
        x, rotary = model.embed(self.idx, at)  # (texts, 1, C), (2, 1, hs / 2)
        for block, layer in zip(model.blocks, self.cache):
            layer.at = at
            x = block(x, layer, rotary)
        return model.lm_head(model.ln_f(x))[:, -1]
