"""Writing with the model: probabilities, a choice, and the same again.

`generate` is the lecture's loop and the judge; `stream` gives the same text from a key-value cache, one full pass and
then one character at a time. Try it: `python -m nanogpt sample NAME`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from .config import SampleConfig
from .model import GPT
from .tokenizer import CharTokenizer


class LayerCache:
    """Keys and values one layer has computed so far, in a buffer that never moves."""

    def __init__(self, block_size: int):
        self.block_size = block_size
        self.length = 0
        self.k = self.v = torch.empty(0)

    def extend(self, k, v):
        """Keep the new ones, (B, nh, T, hs), and return all there are: two of (B, nh, length, hs)."""
        B, nh, T, hs = k.shape
        if self.length == 0:
            self.k, self.v = k.new_empty(2, B, nh, self.block_size, hs)
        end = self.length + T
        self.k[:, :, self.length : end], self.v[:, :, self.length : end] = k, v
        self.length = end
        return self.k[:, :, :end], self.v[:, :, :end]


def probabilities(logits: np.ndarray, config: SampleConfig) -> np.ndarray:
    """The distribution the next character is drawn from: logits (vocab_size,) after temperature, top-k and top-p."""
    if config.temperature == 0:  # greedy
        return np.eye(len(logits))[np.argmax(logits)]
    p = np.exp((logits.astype(np.float64) - logits.max()) / config.temperature)
    p /= p.sum()
    order = np.argsort(-p, kind="stable")  # likeliest first
    keep = len(p)
    if config.top_k:
        keep = min(keep, config.top_k)
    if config.top_p < 1:
        keep = min(keep, int(np.searchsorted(np.cumsum(p[order]), config.top_p)) + 1)  # Holtzman et al., 2019
    p[order[keep:]] = 0.0
    return p / p.sum()


def pick(logits: np.ndarray, config: SampleConfig, rng: np.random.Generator) -> int:
    """Draw the next id. One uniform number a character, so that a seed means the same text on every path and device."""
    heaped = np.cumsum(probabilities(logits, config))
    return min(int(np.searchsorted(heaped, rng.random() * heaped[-1], side="right")), len(logits) - 1)


@torch.inference_mode()
def generate(model: GPT, ids: list[int], config: SampleConfig) -> list[int]:
    """The lecture's `generate`: crop to the window, run the whole model, draw, append. Returns the new ids."""
    rng = np.random.default_rng(config.seed)
    new: list[int] = []
    for _ in range(config.length):
        idx = torch.tensor([(ids + new)[-model.config.block_size :]], device=model.device)  # (1, T)
        logits, _ = model(idx)  # (1, T, vocab_size)
        new.append(pick(logits[0, -1].float().cpu().numpy(), config, rng))
    return new


def generate_cached(model: GPT, ids: list[int], config: SampleConfig) -> Iterator[int]:
    """The same ids as `generate` while they fit the window, at a fraction of the work.

    Beyond the window the cache starts again from its newer half: one full pass each `block_size / 2` characters.
    Learned positions do not slide, so a full window cannot simply drop its oldest character.
    """
    rng = np.random.default_rng(config.seed)
    T = model.config.block_size
    seen = list(ids)[-T:]
    fresh = seen  # what the cache has not met yet
    cache = [LayerCache(T) for _ in model.blocks]
    for _ in range(config.length):
        if cache[0].length + len(fresh) > T:
            fresh = seen = seen[-(T // 2) :]
            cache = [LayerCache(T) for _ in model.blocks]
        # inside the loop, since a generator must not leave the mode switched on for whoever takes the value
        with torch.inference_mode():
            logits, _ = model(torch.tensor([fresh], device=model.device), cache=cache)  # (1, T, vocab_size)
            scores = logits[0, -1].float().cpu().numpy()  # (vocab_size,)
        fresh = [pick(scores, config, rng)]
        seen.extend(fresh)
        yield fresh[0]


def stream(model: GPT, tokenizer: CharTokenizer, prompt: str, config: SampleConfig) -> Iterator[str]:
    """The model's continuation of a prompt, character by character.

    An empty prompt starts as after a line break. The prompt must be in the model's alphabet: see `CharTokenizer.fit`.
    """
    ids = tokenizer.encode(prompt) if prompt else [tokenizer.stoi.get("\n", 0)]  # the lecture starts from token 0
    for i in generate_cached(model, ids, config):
        yield tokenizer.itos[i]
