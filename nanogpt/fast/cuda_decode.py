"""One character at a time on an NVIDIA card: the decoder of sample.py with a cache that stays in its place.

Keys and values have room for the whole window from the beginning, and which of them count is a tensor on the card. So
each character is the same few hundred kernels at the same addresses, which are recorded once as a CUDA graph and then
replayed; where they cannot be recorded they are started one by one. Without this file the plain decoder runs.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from ..model import GPT


class StaticLayer:
    """Keys and values of one layer, (texts, nh, block_size, hs) each; `at` is the place of the newest character."""

    def __init__(self, model: GPT, texts: int, at: torch.Tensor):
        config = model.config
        shape = (2, texts, config.n_head, config.block_size, config.n_embd // config.n_head)
        self.k, self.v = torch.zeros(shape, device=model.device)
        self.at, self.length, self.mask = at, 0, None
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
    """As sample.Decoder: what has been read of `texts` texts, side by side and equally long."""

    def __init__(self, model: GPT, texts: int = 1):
        self.model, self.block_size = model, model.config.block_size
        self.idx = torch.zeros(texts, 1, dtype=torch.long, device=model.device)
        self.at = torch.zeros(1, dtype=torch.long, device=model.device)
        self.cache = [StaticLayer(model, texts, self.at) for _ in model.blocks]
        self.rows = list(range(texts))  # those that go on; the others are computed and not looked at
        self.graph: torch.cuda.CUDAGraph | None = None
        self.refused = model.device.type != "cuda"
        self.restart()

    def restart(self) -> None:
        """Forget what was read."""
        self.length = 0

    def keep(self, texts: list[int]) -> None:
        """Go on with some of the texts only."""
        self.rows = [self.rows[i] for i in texts]

    def read(self, ids: np.ndarray) -> np.ndarray:
        """The scores of what comes after these newest characters: (B, T) -> (B, vocab_size)."""
        with torch.inference_mode():
            every = torch.zeros(len(self.idx), ids.shape[1], dtype=torch.long)
            every[self.rows] = torch.from_numpy(ids).long()
            if ids.shape[1] > 1:  # a beginning: the whole of it at once
                logits = self.model(every.to(self.model.device), cache=self.cache)[0][:, -1]
            else:
                self.idx.copy_(every)
                self.at.fill_(self.length)
                logits = self.replay()
            self.length += ids.shape[1]
            return logits.float().cpu().numpy()[self.rows]

    def replay(self):
        """One character through the model, as recorded."""
        if self.graph is None and not self.refused:
            try:
                self.record()
            except RuntimeError as error:
                print(f"No CUDA graph here, sampling is slower: {error}", file=sys.stderr, flush=True)
                self.refused = True
        if self.graph is None:
            return self.one()
        self.graph.replay()
        return self.logits

    def record(self) -> None:
        """Writes the same keys and values into the same places each time, so that a warm-up leaves no trace."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.one()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self.logits = self.one()
        self.graph = graph

    def one(self):
        """GPT.forward for the character at the place `at`, which is a tensor: (texts, vocab_size)."""
        model = self.model
        x, rotary = model.embed(self.idx, self.at)  # (texts, 1, C), (2, 1, hs / 2)
        for block, layer in zip(model.blocks, self.cache):
            x = block(x, layer, rotary)
        return model.lm_head(model.ln_f(x))[:, -1]
