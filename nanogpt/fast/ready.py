"""What sampling on a CPU prepares once per model, and how it reads prompts."""

from __future__ import annotations

import copy
from functools import cached_property

import numpy as np
import torch

from ..model import GPT
from .packed import packed
from .several import Beginnings, Several
from .threads import Threads, one_blas_thread, torch_threads
from .weights import F32, Weights

SHORT = 128  # tokens of prompts that NumPy reads faster than torch, if the model is narrow


class Ready:
    """A model's weights prepared for decoding one text and several texts, each on first use."""

    def __init__(self, model: GPT):
        # a second object with the same weights: the first one refers to this, and would never be freed by itself
        self.model = copy.copy(model)

    @cached_property
    def weights(self) -> Weights:
        return Weights(self.model)

    @cached_property
    def packed(self) -> GPT:
        return packed(self.model)

    @cached_property
    def threads(self) -> Threads:
        return torch_threads()

    @cached_property
    def threads_for_few(self) -> Threads:
        return torch_threads()

    @cached_property
    def several(self) -> Several:
        return Several(self.weights)

    def read(self, ids: np.ndarray, cache: list[np.ndarray]) -> np.ndarray:
        """Read the first tokens of several texts, all of the same length: (B, T) -> (B, vocab_size).

        `cache` is each layer's, (2, B, nh, block_size, hs + 1). It must be empty.
        """
        if self.weights.narrow and ids.shape[1] <= SHORT:
            with torch.inference_mode(), one_blas_thread(), self.threads_for_few.chosen(ids.size + 32.0):
                return self.several.forward(ids.ravel(), Beginnings(self.weights, *ids.shape), cache)
        with torch.inference_mode(), self.threads.chosen(ids.size + 32.0):
            logits, _ = self.packed(torch.from_numpy(ids), cache=[Keeper(self.weights, kv) for kv in cache])
            return logits[:, -1].numpy()  # of (B, 1, vocab_size)


class Keeper:
    """A layer's cache for the packed model. Stores the keys and values of prompts for the tokens that follow."""

    mask = None

    length = 0

    def __init__(self, w: Weights, kv: np.ndarray):
        self.w, self.kv = w, kv  # kv is (2, B, nh, block_size, hs + 1)

    def extend(self, k, v):
        """Store keys and values (B, nh, T, hs) and return them, as `sample.LayerCache` does."""
        w, T = self.w, k.shape[2]
        keys = k.numpy()
        if w.layout.rotary:  # put the numbers of each pair side by side
            keys = keys.reshape(*keys.shape[:3], 2, w.hs // 2).swapaxes(3, 4).reshape(keys.shape)
        if w.layout.qk_norm:  # from the model's length sqrt(hs) to the length used in `Weights`
            keys = keys * F32(w.hs**-0.25)
        self.kv[0, :, :, :T, :-1], self.kv[1, :, :, :T, :-1], self.kv[1, :, :, :T, -1] = keys, v.numpy(), 1
        return k, v
