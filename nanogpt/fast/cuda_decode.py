"""Several characters at a time on an NVIDIA GPU: the decoder of sample.py with a cache that stays in its place.

Keys and values have room for the whole window from the beginning, and the place of the newest character is a tensor on
the GPU. So each character is the same kernels at the same addresses, recorded once as a CUDA graph and then replayed.
The next character is drawn on the GPU as well, so that a replay writes many of them before the CPU is asked again.
Where nothing can be recorded the kernels are started one by one. Without this file the plain decoder runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..config import SampleConfig
from ..model import GPT
from .cuda import recording_stream

try:
    from .cuda_character import Character
except ImportError:  # no Triton, or the file was deleted: torch's own operations are recorded
    Character = None  # type: ignore[assignment, misc]

CHUNKS = (32, 4, 1)  # characters per replay: 3 ms for the most, so that a stream still looks smooth


class StaticLayer:
    """Keys and values of one layer, (texts, nh, block_size, hs) each; `at` is the place of the newest character."""

    def __init__(self, model: GPT, texts: int):
        config = model.config
        shape = (2, texts, config.n_head, config.block_size, config.n_embd // config.n_head)
        self.k, self.v = torch.zeros(shape, device=model.device)
        self.length, self.mask, self.at = 0, None, torch.empty(0)
        self.places = torch.arange(config.block_size, device=model.device)

    def extend(self, k, v):
        """Keep the new ones, (B, nh, T, hs). For a single one all of the room comes back; `mask` says what counts."""
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
    """As sample.Decoder: what has been read of `texts` texts, side by side and equally long. It also draws."""

    def __init__(self, model: GPT, texts: int = 1, kernels: bool = True):
        """Without `kernels`, which take seconds to compile when they are first used, by torch's operations."""
        self.model, self.block_size = model, model.config.block_size
        new = lambda *shape, dtype: torch.zeros(shape, dtype=dtype, device=model.device)
        self.idx, self.at = new(texts, 1, dtype=torch.long), new(1, dtype=torch.long)
        self.uniforms, self.drawn = new(CHUNKS[0], texts, dtype=torch.double), new(CHUNKS[0], texts, dtype=torch.long)
        self.temperature = new(1, dtype=torch.double).fill_(1.0)
        self.half = new(texts, max(2, self.block_size // 2), dtype=torch.long)
        self.cache = [StaticLayer(model, texts) for _ in model.blocks]
        self.rows = list(range(texts))  # those that go on; the others are computed and not looked at
        self.graphs: dict[int | str, Any] = {}  # how many characters, or "half" -> the graph
        self.refused = model.device.type != "cuda"
        self.character: Any = None
        if kernels and Character is not None and not self.refused:
            self.character = Character(model, self.idx, self.at, self.cache)
        self.restart()

    def restart(self) -> None:
        """Forget what was read."""
        self.length = 0

    def keep(self, texts: list[int]) -> None:
        """Go on with some of the texts only."""
        self.rows = [self.rows[i] for i in texts]

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Return the scores of what comes after these newest characters: (B, T) to (B, vocab_size)."""
        T = ids.shape[1]
        with torch.inference_mode():
            if T == 1:
                self.place(ids)
                self.write(1)
            else:
                self.begin(ids)
            self.length += T
            return self.logits.float().cpu().numpy()[self.rows]

    def begin(self, ids: np.ndarray) -> None:
        """Read a beginning, all of it at once; the half window that a long text goes on from is recorded, too."""
        every = torch.zeros(len(self.idx), ids.shape[1], dtype=torch.long)
        every[self.rows] = torch.from_numpy(ids).long()
        if ids.shape[1] != self.half.shape[1]:
            self.logits = self.model(every.to(self.model.device), cache=self.cache)[0][:, -1]
            return
        self.half.copy_(every)
        self.replay("half", self.read_half)
        self.logits = self.half_logits

    def read_half(self) -> None:
        self.half_logits = self.model(self.half, cache=self.cache)[0][:, -1]

    def draws(self, config: SampleConfig, wanted: int) -> int:
        """Return how many characters `draw` may write at once; 0 if `read` and sample.py's `pick` must do it."""
        usual = config.temperature > 0 and not config.top_k and config.top_p == 1
        room = min(wanted, self.block_size - self.length)
        return next((chunk for chunk in CHUNKS if chunk <= room), 0) if usual else 0

    def draw(self, ids: np.ndarray, uniforms: np.ndarray, temperature: float) -> np.ndarray:
        """Continue after the newest characters (B, 1) by n, one for each row of `uniforms` (n, B): their ids (n, B).

        What `pick` draws from the same scores and numbers. n is what `draws` gave.
        """
        n = len(uniforms)
        with torch.inference_mode():
            self.place(ids)
            every = torch.zeros(n, len(self.idx), dtype=torch.double)
            every[:, self.rows] = torch.from_numpy(uniforms)
            self.uniforms[:n].copy_(every)
            self.temperature.fill_(temperature)
            self.write(n)
            self.length += n
            return self.drawn[:n].cpu().numpy()[:, self.rows]

    def place(self, ids: np.ndarray) -> None:
        """Put the newest characters and their place where the kernels read them."""
        every = torch.zeros_like(self.idx, device="cpu")
        every[self.rows] = torch.from_numpy(ids).long()
        self.idx.copy_(every)
        self.at.fill_(self.length)

    # ---- recorded work ----------------------------------------------------------------------------------------------

    def write(self, n: int) -> None:
        """Write n characters after `idx`: into `drawn`, and the scores of the last one into `logits`."""
        self.replay(n, lambda: self.several(n))
        self.logits = self.scores

    def replay(self, key: int | str, work: Callable[[], None]) -> None:
        """Do some work as it was recorded under a key, recording it first; plainly if it can't be recorded."""
        if key not in self.graphs and not self.refused:
            self.try_to_record(key, work)
        if self.refused:
            work()
        else:
            self.graphs[key].replay()

    def try_to_record(self, key: int | str, work: Callable[[], None]) -> None:
        """Record some work. A warm-up writes the same keys and values into the same places and leaves no trace."""
        idx, problem = self.idx.clone(), ""
        home, stream = torch.cuda.current_stream(), recording_stream("decoder")
        try:
            stream.wait_stream(home)
            with torch.cuda.stream(stream):
                self.several(1) if isinstance(key, int) else work()
            home.wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                work()
            self.graphs[key] = graph
        except Exception as error:  # torch's and Triton's own
            problem = f"{type(error).__name__}: {str(error)[:200]}"
        torch.cuda.set_stream(home)
        self.idx.copy_(idx)
        if problem:  # not inside `except`, which holds what the recording made
            print(f"This GPU takes the slower way to sample: {problem}", file=sys.stderr, flush=True)
            if self.character is not None:  # torch's operations, then
                self.character = None
                self.graphs.clear()
                self.try_to_record(key, work)
            else:
                self.refused = True

    def several(self, n: int) -> None:
        """Take n characters through the model, each drawn from the one before."""
        for i in range(n):
            if self.character is not None:
                self.scores = self.character.forward(i)
                self.character.draw(self.uniforms, self.temperature, self.drawn, i)
            else:
                self.scores = self.one(self.at + i)
                scores = self.scores.double()
                p = ((scores - scores.amax(-1, keepdim=True)) / self.temperature).exp()  # (texts, vocab_size)
                heaped = p.cumsum(-1)
                new = (heaped <= self.uniforms[i][:, None] * heaped[:, -1:]).sum(-1).clamp(max=p.shape[-1] - 1)
                self.drawn[i] = new
                self.idx.copy_(new[:, None])

    def one(self, at):
        """Run GPT.forward for the character at the place `at`, a tensor: (texts, vocab_size)."""
        model = self.model
        x, rotary = model.embed(self.idx, at)  # (texts, 1, C), (2, 1, hs / 2)
        for block, layer in zip(model.blocks, self.cache):
            layer.at = at
            x = block(x, layer, rotary)
        return model.lm_head(model.ln_f(x))[:, -1]
