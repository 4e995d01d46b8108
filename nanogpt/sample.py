"""Sampling: generate text from a model, one character at a time.

`generate` is the lecture's loop, kept as the reference for the tests. `stream` uses a key-value cache: one full forward
pass, then one character at a time. Up to the context length it yields the same text; after that, see `generate_many`.
`stream_many` generates several texts in one batch. Try it: `python -m nanogpt sample NAME`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from .config import SampleConfig, newer_half
from .model import GPT, without_dropout
from .tokenizer import Tokenizer

try:
    from .fast.decode import FastDecoder
    from .fast.ready import Ready
except ImportError:  # fall back to the plain decoder if the file is deleted
    FastDecoder = None  # type: ignore[assignment, misc]
try:
    from .fast.rows import Rows
except ImportError:
    Rows = None  # type: ignore[assignment, misc]


class LayerCache:
    """The keys and values that one layer has computed so far, in a preallocated buffer."""

    mask = None  # `extend` returns only filled entries, so nothing has to be masked

    def __init__(self, block_size: int):
        self.block_size = block_size
        self.length = 0
        self.k = self.v = torch.empty(0)

    def extend(self, k, v):
        """Append keys and values (B, nh, T, hs) and return all so far: two of (B, nh, length, hs)."""
        B, nh, T, hs = k.shape
        if self.length == 0:
            self.k, self.v = k.new_empty(2, B, nh, self.block_size, hs)
        end = self.length + T
        self.k[:, :, self.length : end], self.v[:, :, self.length : end] = k, v
        self.length = end
        return self.k[:, :, :end], self.v[:, :, :end]

    def keep(self, texts: list[int]) -> None:
        """Drop all rows of the batch but these."""
        self.k, self.v = self.k[texts], self.v[texts]


class Decoder:
    """A model with a key-value cache for a batch of `texts` texts of equal length."""

    def __init__(self, model: GPT, texts: int = 1):
        self.model, self.block_size = model, model.config.block_size
        self.restart()

    @property
    def length(self) -> int:
        """Return how many tokens of each text are in the cache."""
        return self.cache[0].length

    def restart(self) -> None:
        """Empty the cache."""
        self.cache = [LayerCache(self.block_size) for _ in self.model.blocks]

    def keep(self, texts: list[int]) -> None:
        """Continue with these rows of the batch only."""
        for layer in self.cache:
            layer.keep(texts)

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Append tokens `ids` (B, T) and return the logits of the next one, (B, vocab_size)."""
        # not around the generators that call this: inference mode would stay on in the code that consumes them
        with torch.inference_mode(), without_dropout(self.model):
            logits, _ = self.model(torch.from_numpy(ids).to(self.model.device), cache=self.cache)  # (B, T, vocab_size)
            return logits[:, -1].float().cpu().numpy()


AnyDecoder: TypeAlias = Any  # Decoder, or one of fast/ with the same methods


def decoder_for(model: GPT, texts: int, compiling: bool = True) -> AnyDecoder:
    """Return the fastest decoder for the model's device. Without `compiling`, avoid kernels that must be compiled."""
    if model.device.type == "cuda":
        try:
            from .fast.cuda_decode import StaticDecoder  # here, because it imports Triton, which takes over a second
        except ImportError:
            return Decoder(model, texts)
        return StaticDecoder(model, texts, kernels=compiling)
    if model.device.type == "cpu" and FastDecoder is not None:
        ready = model.ready or Ready(model)
        if texts == 1:
            return FastDecoder(ready)
        return Rows(ready, texts) if Rows is not None else Decoder(ready.packed, texts)
    return Decoder(model, texts)


def is_static(decoder: AnyDecoder) -> bool:
    """Return True for a decoder on a GPU, which can draw several tokens at once."""
    return hasattr(decoder, "draw")


def keep_ready(model: GPT) -> GPT:
    """Prepare a model's weights for sampling, once, and return the model. Don't train it afterwards."""
    if model.device.type == "cpu" and FastDecoder is not None:
        model.ready = Ready(model)
    return model


def weights(logits: np.ndarray, config: SampleConfig) -> np.ndarray:
    """Return unnormalized probabilities (vocab_size,) of logits (vocab_size,) after temperature, top-k and top-p."""
    if config.temperature == 0:  # greedy
        p = np.zeros(len(logits))
        p[np.argmax(logits)] = 1.0
        return p
    p = np.exp((logits.astype(np.float64) - logits.max()) / config.temperature)
    if not config.plain:  # sort only if needed, because sorting takes longer than everything else here
        p /= p.sum()
        order = np.argsort(-p, kind="stable")  # likeliest first
        keep = min(len(p), config.top_k or len(p))
        if config.top_p < 1:
            keep = min(keep, int(np.searchsorted(np.cumsum(p[order]), config.top_p)) + 1)  # Holtzman et al., 2019
        p[order[keep:]] = 0.0
    return p


def pick(logits: np.ndarray, config: SampleConfig, rng: np.random.Generator) -> int:
    """Draw the next id. Use one uniform number per token, so that a seed gives the same text with every decoder."""
    cumulative = weights(logits, config).cumsum()
    return min(int(cumulative.searchsorted(rng.random() * cumulative[-1], side="right")), len(logits) - 1)


def pick_each(logits: np.ndarray, configs: Sequence[SampleConfig], rngs: Sequence[np.random.Generator]) -> list[int]:
    """Draw the next id of each text from logits (B, vocab_size), the same ids as `pick`, in a few calls for all."""
    if len(configs) == 1 or not all(config.plain for config in configs):
        return [pick(*one) for one in zip(logits, configs, rngs)]
    temperature = np.array([[config.temperature] for config in configs])  # (B, 1)
    p = np.exp((logits.astype(np.float64) - logits.max(axis=1, keepdims=True)) / temperature)  # (B, vocab_size)
    cumulative = p.cumsum(axis=1)
    drawn = np.array([[rng.random()] for rng in rngs]) * cumulative[:, -1:]  # (B, 1)
    return np.minimum((cumulative <= drawn).sum(axis=1), logits.shape[1] - 1).tolist()


@torch.inference_mode()
def generate(model: GPT, ids: list[int], config: SampleConfig) -> list[int]:
    """Generate as in the lecture: crop to the context, run the whole model, draw, append. Return the new ids."""
    rng = np.random.default_rng(config.seed)
    new: list[int] = []
    for _ in range(config.length):
        idx = torch.tensor([(ids + new)[-model.config.block_size :]], device=model.device)  # (1, T)
        logits, _ = model(idx)  # (1, T, vocab_size)
        new.append(pick(logits[0, -1].float().cpu().numpy(), config, rng))
    return new


class Draws:
    """One text as ids: its random generator, the ids drawn so far, and whether it has reached its length."""

    def __init__(self, seed: int, length: int):
        self.rng = np.random.default_rng(seed)
        self.new, self.length = list[int](), length
        self.ended = False

    def add(self, i: int) -> list:
        """Add the next id. Return the new part of the text: a list of that id."""
        self.new.append(i)
        self.ended = len(self.new) == self.length
        return [i]


class Text(Draws):
    """One text as characters. It ends after `length` of them or before the stop sequence, even inside a token."""

    def __init__(self, seed: int, length: int, itos: Mapping[int, str], stop: str = ""):
        super().__init__(seed, length)
        self.itos, self.stop = itos, stop
        self.left, self.waiting = length, ""  # how many characters to show yet; a possible start of the stop sequence

    def add(self, i: int) -> list:
        """Add the next id. Return the characters to show now, holding back a possible start of the stop sequence."""
        self.new.append(i)
        text = (self.waiting + self.itos[i])[: self.left]  # the last token may go beyond `length` characters
        until = text.find(self.stop) if self.stop else -1
        self.ended = until >= 0 or len(text) == self.left
        if until < 0:  # the stop sequence hasn't appeared
            until = len(text) if self.ended else len(text) - self.begun(text)
        self.left, self.waiting = self.left - until, text[until:]
        return [text[:until]] if until else []

    def begun(self, text: str) -> int:
        """Return how many characters at the end of `text` could be the start of the stop sequence."""
        most = min(len(self.stop) - 1, len(text))
        return next((n for n in range(most, 0, -1) if text.endswith(self.stop[:n])), 0)


def generate_many(
    decoder: AnyDecoder, ids: list[int], config: SampleConfig, texts: Sequence[Draws] = ()
) -> Iterator[list[list]]:
    """Continue the same prompt `num_samples` times in one batch. Yield the new part of each text: a list per text.

    `texts` turn ids into what is yielded; by default that is the ids themselves, `length` of them. Up to the context
    length the ids are the same as from `generate`, at a fraction of the work. After that, the cache restarts from the
    newer half of the context, which takes one full forward pass every `block_size / 2` tokens: learned positions can't
    slide, so a full context can't simply drop its oldest token. Sample i uses seed + i and is the same as when it is
    generated alone, unless rounding changes a draw.
    """
    ids = ids[-decoder.block_size :]  # the others would be copied for nothing
    texts = texts or [Draws(config.seed + i, config.length) for i in range(config.num_samples)]
    if len(texts) == 1 and not is_static(decoder):
        yield from generate_alone(decoder, ids, config, texts[0])
    else:
        yield from generate_batch(decoder, ids, config, texts)


def generate_alone(decoder: AnyDecoder, ids: list[int], config: SampleConfig, text: Draws) -> Iterator[list[list]]:
    """`generate_many` for a single text, token by token. Keeping track of several would take 12 us per token."""

    def context() -> list[int]:
        return (ids + text.new)[-newer_half(decoder.block_size) :] if text.new else ids

    for i in generate_one(decoder, context, config, text.rng):
        yield [text.add(i)]
        if text.ended:
            return


def generate_batch(
    decoder: AnyDecoder, ids: list[int], config: SampleConfig, texts: Sequence[Draws]
) -> Iterator[list[list]]:
    """`generate_many` for a batch."""
    decoder.restart()  # it may have generated another batch before
    B = len(texts)
    alive = list(range(B))  # the unfinished texts; row r of the decoder's batch is text alive[r]
    fresh = np.array([ids] * B)  # (B, T): tokens not in the cache yet
    drawn: list[dict[int, int]] = []  # tokens drawn and not yet given out: text -> id
    for step in range(config.length):  # enough, because every token has at least one character
        if not drawn:
            fresh = fitted(decoder, fresh, ids, texts, alive)
            drawn = next_tokens(decoder, fresh, texts, alive, config, config.length - step)
        row = drawn.pop(0)
        yield [texts[i].add(row[i]) if i in alive else [] for i in range(B)]
        alive = unfinished(decoder, texts, alive)
        if not alive:
            return
        fresh = np.array([[texts[i].new[-1]] for i in alive])  # (B, 1)


def generate_one(
    decoder: AnyDecoder, context: Callable[[], list[int]], config: SampleConfig, rng: np.random.Generator
) -> Iterator[int]:
    """Yield the tokens that continue a text, one by one and without end.

    `context` returns the tokens to read first, and again whenever the window is full.
    """
    one = np.empty((1, 1), np.int64)
    while True:
        decoder.restart()
        fresh = np.array([context()])  # (1, T)
        for _ in range(fresh.shape[1], decoder.block_size + 1):
            one[0, 0] = i = pick(decoder.read(fresh)[0], config, rng)
            yield i
            fresh = one


def fitted(decoder: AnyDecoder, fresh: np.ndarray, ids: list[int], texts: Sequence[Draws], alive: list[int]):
    """Return `fresh` (B, T); or, if the window is full, restart the cache and return its newer half."""
    if decoder.length + fresh.shape[1] <= decoder.block_size:
        return fresh
    decoder.restart()
    half = newer_half(decoder.block_size)
    return np.array([(ids + texts[i].new)[-half:] for i in alive])  # (B, block_size / 2)


def next_tokens(
    decoder: AnyDecoder, fresh: np.ndarray, texts: Sequence[Draws], alive: list[int], config: SampleConfig, wanted: int
) -> list[dict[int, int]]:
    """Draw the tokens after `fresh` (B, T). Return {text: id} per step: one step on a CPU, up to `wanted` on a GPU."""
    rngs = [texts[i].rng for i in alive]
    if is_static(decoder) and fresh.shape[1] == 1 and (ahead := decoder.draws(config, wanted)):
        uniforms = np.array([rng.random(ahead) for rng in rngs]).T  # (ahead, B): the same numbers as `pick` would use
        return [dict(zip(alive, row)) for row in decoder.draw(fresh, uniforms, config.temperature).tolist()]
    return [dict(zip(alive, pick_each(decoder.read(fresh), [config] * len(alive), rngs)))]


def unfinished(decoder: AnyDecoder, texts: Sequence[Draws], alive: list[int]) -> list[int]:
    """Return the unfinished texts, and drop the finished ones from the decoder's cache."""
    going = [row for row, i in enumerate(alive) if not texts[i].ended]
    if 0 < len(going) < len(alive):
        decoder.keep(going)
    return [alive[row] for row in going]


def start_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Return the ids of a prompt. An empty one acts like a line break; the lecture starts from token 0."""
    return tokenizer.encode(prompt) if prompt else [tokenizer.stoi.get("\n", 0)]


def stream_many(
    model: GPT, tokenizer: Tokenizer, prompt: str, config: SampleConfig, decoder: Any = None
) -> Iterator[list[str]]:
    """Yield `num_samples` continuations of a prompt as they are generated: the new characters of each, usually one.

    The prompt must be in the model's alphabet; see `Tokenizer.fit`.
    A continuation ends before the stop sequence, if one is set.
    """
    ids = start_ids(tokenizer, prompt)
    seeds = range(config.seed, config.seed + config.num_samples)
    texts = [Text(seed, config.length, tokenizer.itos, config.stop) for seed in seeds]
    for pieces in generate_many(decoder or decoder_for(model, config.num_samples), ids, config, texts):
        yield ["".join(piece) for piece in pieces]


def stream(model: GPT, tokenizer: Tokenizer, prompt: str, config: SampleConfig, decoder: Any = None) -> Iterator[str]:
    """Yield the model's continuation of a prompt, character by character: `stream_many` for a single sample."""
    for [piece] in stream_many(model, tokenizer, prompt, dataclasses.replace(config, num_samples=1), decoder):
        if piece:
            yield piece
