"""Writing with the model: probabilities, a choice, and the same again.

`generate` is the lecture's loop and the judge; `stream` gives the same text from a key-value cache, one full pass and
then one character at a time, and `stream_many` several texts side by side. Try it: `python -m nanogpt sample NAME`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .config import SampleConfig
from .model import GPT
from .tokenizer import Tokenizer

try:
    from .fast.decode import FastDecoder, Ready
except ImportError:  # without that file the plain decoder runs
    FastDecoder = None  # type: ignore[assignment, misc]
try:
    from .fast.cuda_decode import StaticDecoder
except ImportError:
    StaticDecoder = None  # type: ignore[assignment, misc]


class LayerCache:
    """Keys and values one layer has computed so far, in a buffer that never moves."""

    mask = None  # all that is given back counts

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

    def keep(self, texts: list[int]) -> None:
        """Forget all but some of the B texts."""
        self.k, self.v = self.k[texts], self.v[texts]


class Decoder:
    """The model and what it has read of `texts` texts, side by side and equally long."""

    def __init__(self, model: GPT, texts: int = 1):
        self.model, self.block_size = model, model.config.block_size
        self.restart()

    @property
    def length(self) -> int:
        """Characters read of each text."""
        return self.cache[0].length

    def restart(self) -> None:
        """Forget what was read."""
        self.cache = [LayerCache(self.block_size) for _ in self.model.blocks]

    def keep(self, texts: list[int]) -> None:
        """Go on with some of the texts only."""
        for layer in self.cache:
            layer.keep(texts)

    def read(self, ids: np.ndarray) -> np.ndarray:
        """The scores of what comes after these newest characters: (B, T) -> (B, vocab_size)."""
        # here and not around a generator, which would leave the mode switched on for whoever takes its values
        with torch.inference_mode():
            logits, _ = self.model(torch.from_numpy(ids).to(self.model.device), cache=self.cache)  # (B, T, vocab_size)
            return logits[:, -1].float().cpu().numpy()


def decoder_for(model: GPT, texts: int, compiling: bool = True) -> Decoder | FastDecoder | StaticDecoder:
    """Return the fastest decoder for the model's device; not one that has to be compiled first unless `compiling`."""
    if model.device.type == "cuda" and StaticDecoder is not None:
        return StaticDecoder(model, texts, kernels=compiling)
    if model.device.type == "cpu" and FastDecoder is not None:
        ready = model.ready or Ready(model)
        return FastDecoder(ready) if texts == 1 else Decoder(ready.packed, texts)
    return Decoder(model, texts)


def keep_ready(model: GPT) -> GPT:
    """Keep with a model what decoders make of its weights; it must not be trained after this. Returns the model."""
    if model.device.type == "cpu" and FastDecoder is not None:
        model.ready = Ready(model)
    return model


def weights(logits: np.ndarray, config: SampleConfig) -> np.ndarray:
    """How likely each next character is, up to a factor: logits (vocab_size,) after temperature, top-k and top-p."""
    if config.temperature == 0:  # greedy
        return np.eye(len(logits))[np.argmax(logits)]
    p = np.exp((logits.astype(np.float64) - logits.max()) / config.temperature)
    if config.top_k or config.top_p < 1:  # only then: putting them in order takes longer than all the rest
        p /= p.sum()
        order = np.argsort(-p, kind="stable")  # likeliest first
        keep = min(len(p), config.top_k or len(p))
        if config.top_p < 1:
            keep = min(keep, int(np.searchsorted(np.cumsum(p[order]), config.top_p)) + 1)  # Holtzman et al., 2019
        p[order[keep:]] = 0.0
    return p


def probabilities(logits: np.ndarray, config: SampleConfig) -> np.ndarray:
    """The distribution the next character is drawn from: logits (vocab_size,) -> (vocab_size,) with the sum 1."""
    p = weights(logits, config)
    return p / p.sum()


def pick(logits: np.ndarray, config: SampleConfig, rng: np.random.Generator) -> int:
    """Draw the next id. One uniform number a character, so that a seed means the same text on every path and device."""
    heaped = weights(logits, config).cumsum()
    return min(int(heaped.searchsorted(rng.random() * heaped[-1], side="right")), len(logits) - 1)


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


class Draws:
    """The ids of one text: its random numbers, what was drawn so far, and whether it is as long as was asked for."""

    def __init__(self, seed: int, length: int):
        self.rng = np.random.default_rng(seed)
        self.new, self.length = list[int](), length
        self.ended = False

    def add(self, i: int) -> list:
        """Take the next id. Return what is new in the text: that id."""
        self.new.append(i)
        self.ended = len(self.new) == self.length
        return [i]


class Text(Draws):
    """One text in characters: it ends after `length` of them or before the stop text, wherever its tokens begin."""

    def __init__(self, seed: int, length: int, itos: Mapping[int, str], stop: str = ""):
        super().__init__(seed, length)
        self.itos, self.stop = itos, stop
        self.left, self.waiting = length, ""  # how many characters are still to be shown; those that are not yet

    def add(self, i: int) -> list:
        """Take the next id. Return the characters to show now: an end that may become the stop text waits."""
        self.new.append(i)
        text = (self.waiting + self.itos[i])[: self.left]  # the last token may be longer than what is left
        until = text.find(self.stop) if self.stop else -1
        self.ended = until >= 0 or len(text) == self.left
        if until < 0:  # no stop text
            until = len(text) if self.ended else len(text) - self.begun(text)
        self.left, self.waiting = self.left - until, text[until:]
        return [text[:until]] if until else []

    def begun(self, text: str) -> int:
        """Return how many characters at the end of `text` may be the beginning of the stop text."""
        most = min(len(self.stop) - 1, len(text))
        return next((n for n in range(most, 0, -1) if text.endswith(self.stop[:n])), 0)


def generate_many(
    decoder: Decoder | FastDecoder | StaticDecoder, ids: list[int], config: SampleConfig, texts: Sequence[Draws] = ()
) -> Iterator[list[list]]:
    """Continue the same text `num_samples` times side by side. Yield what is new in each: a list per text.

    What is new is what one of `texts` makes of its next id; without them it is that id, until there are `length` ids.
    The same ids as `generate` while they fit the window, at a fraction of the work. Beyond it the cache starts again
    from the window's newer half: one full pass each `block_size / 2` characters. Learned positions do not slide, so a
    full window cannot simply drop its oldest character. Sample i draws with seed + i: alone it would be the same, but
    where rounding tips a draw.
    """
    block_size, B = decoder.block_size, config.num_samples
    texts = texts or [Draws(config.seed + i, config.length) for i in range(B)]
    alive = list(range(B))  # the texts that go on; the decoder's row r is the text alive[r]
    fresh = np.array([ids[-block_size:]] * B)  # (B, T): what the cache has not met yet
    drawn: list[dict[int, int]] = []  # characters that the decoder drew ahead by itself: text -> id
    for step in range(config.length):  # at most: a token has at least one character
        if not drawn:
            if decoder.length + fresh.shape[1] > block_size:
                fresh = np.array([(ids + texts[i].new)[-(block_size // 2) :] for i in alive])  # (B, T)
                decoder.restart()
            ids_ahead = next_characters(decoder, fresh, [texts[i].rng for i in alive], config, config.length - step)
            drawn = [dict(zip(alive, row)) for row in ids_ahead]
        row = drawn.pop(0)
        yield [texts[i].add(row[i]) if i in alive else [] for i in range(B)]
        going = [at for at, i in enumerate(alive) if not texts[i].ended]
        if not going:
            return
        if len(going) < len(alive):
            decoder.keep(going)
            alive = [alive[at] for at in going]
        fresh = np.array([[texts[i].new[-1]] for i in alive])  # (B, 1)


def next_characters(
    decoder: Decoder | FastDecoder | StaticDecoder, fresh: np.ndarray, rngs: list, config: SampleConfig, wanted: int
) -> list[list[int]]:
    """Return the ids that follow `fresh` (B, T), a list of B per character: one, or as many as a GPU draws at once."""
    draws = StaticDecoder is not None and isinstance(decoder, StaticDecoder) and fresh.shape[1] == 1
    if draws and (ahead := decoder.draws(config, wanted)):  # type: ignore[union-attr]
        uniforms = np.array([rng.random(ahead) for rng in rngs]).T  # (ahead, B): the numbers that `pick` would draw
        return decoder.draw(fresh, uniforms, config.temperature).tolist()  # type: ignore[union-attr]
    return [[pick(scores, config, rng) for scores, rng in zip(decoder.read(fresh), rngs)]]


def generate_cached(model: GPT, ids: list[int], config: SampleConfig) -> Iterator[int]:
    """One text from the plain decoder: what the fast one is compared with."""
    for [piece] in generate_many(Decoder(model), ids, dataclasses.replace(config, num_samples=1)):
        yield from piece


def stream_many(
    model: GPT, tokenizer: Tokenizer, prompt: str, config: SampleConfig, decoder: Any = None
) -> Iterator[list[str]]:
    """`num_samples` continuations of a prompt side by side: each time what is new in each, mostly a character.

    An empty prompt starts as after a line break. The prompt must be in the model's alphabet: see `Tokenizer.fit`.
    A continuation ends before the stop text, where there is one.
    """
    ids = tokenizer.encode(prompt) if prompt else [tokenizer.stoi.get("\n", 0)]  # the lecture starts from token 0
    seeds = range(config.seed, config.seed + config.num_samples)
    texts = [Text(seed, config.length, tokenizer.itos, config.stop) for seed in seeds]
    for pieces in generate_many(decoder or decoder_for(model, config.num_samples), ids, config, texts):
        yield ["".join(piece) for piece in pieces]


def stream(model: GPT, tokenizer: Tokenizer, prompt: str, config: SampleConfig, decoder: Any = None) -> Iterator[str]:
    """The model's continuation of a prompt, character by character: `stream_many` for one."""
    for [piece] in stream_many(model, tokenizer, prompt, dataclasses.replace(config, num_samples=1), decoder):
        if piece:
            yield piece


DASHES = "\n---------------\n"  # between two samples, as in nanoGPT


def unescaped(text: str) -> str:
    """A typed text in which \\n means a new line and \\t a tab, as a field of one line or a shell needs it."""
    return re.sub(r"\\([nt\\])", lambda found: {"n": "\n", "t": "\t"}.get(found[1], found[1]), text)
