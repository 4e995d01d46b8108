"""Switch it off: how much worse a model predicts held-out text without a head, an attention or a feed-forward layer.

A part is switched off by zeros in the matrix that adds its output to the residual path, so what is left is an ordinary
model: it samples like any other. See Michel et al., "Are Sixteen Heads Really Better than One?" (2019).
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Container, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional as F

from ..config import NanoGPTError, SampleConfig
from ..errors import shortages
from ..model import GPT, Block
from ..sample import stream
from ..tokenizer import token_lengths
from . import cache
from .opened import Opened
from .passages import to_measure

TOKENS, WINDOWS = 3072, 6  # of held-out text, in windows as long as the context, of which there are at least six
PREDICTIONS = 16_000_000  # numbers computed at once, for which a large alphabet has fewer windows, but at least six
NOTHING = 0.005  # a part whose absence changes the loss by less does nothing that matters
VIEW = "parts"


@dataclass(frozen=True, order=True)
class Part:
    """A part of a model that can be switched off: "attention" or "mlp" of a block, or one of its heads."""

    block: int  # from 0
    kind: str  # "head", "attention" or "mlp"
    head: int = 0  # from 0

    @property
    def key(self) -> str:
        """Return a short name: "0.head.4", "0.attention", "0.mlp"."""
        return f"{self.block}.{self.kind}" + (f".{self.head}" if self.kind == "head" else "")

    def __str__(self) -> str:
        """Return the name for people, who count from 1: "block 1, head 5"."""
        what = (
            f"head {self.head + 1}" if self.kind == "head" else dict(mlp="feed-forward layer").get(self.kind, self.kind)
        )
        return f"block {self.block + 1}, {what}"


def part_of(key: str, model: GPT) -> Part:
    """Return the part with this `key`. Raise NanoGPTError if the model has none like it."""
    for part in parts_of(model):
        if part.key == key:
            return part
    raise NanoGPTError(
        f"This model has no part {str(key)[:40]!r}. Its first head is 0.head.0, its first feed-forward layer is 0.mlp."
    )


def parts_of(model: GPT) -> list[Part]:
    """Return everything that can be switched off, block by block: heads, the attention, the feed-forward layer."""
    n_layer, n_head = model.config.n_layer, model.config.n_head
    of_block = lambda i: [*(Part(i, "head", h) for h in range(n_head)), Part(i, "attention"), Part(i, "mlp")]
    return [part for i in range(n_layer) for part in of_block(i)]


@torch.no_grad()
def without(model: GPT, parts: Collection[Part]) -> GPT:
    """Return a copy of the model with these parts switched off. It shares all the other weights with the model."""
    changed = {part.block for part in parts}
    shared = {id(p): p for i, block in enumerate(model.blocks) if i not in changed for p in block.parameters()}
    shared |= {id(p): p for name, p in model.named_parameters() if not name.startswith("blocks.")}
    ours = copy.deepcopy(model, shared)
    for part in parts:
        switch_off(ours.blocks[part.block], part)
    return ours.eval()


@torch.no_grad()
def switch_off(block: Block, part: Part) -> None:
    """Write zeros where a part's output enters the residual path."""
    into = block.ffwd.net[2] if part.kind == "mlp" else block.sa.proj
    if part.kind == "head":
        hs = into.in_features // block.sa.n_head
        into.weight[:, part.head * hs : (part.head + 1) * hs] = 0.0
        return
    into.weight.zero_()
    if into.bias is not None:
        into.bias.zero_()


@torch.inference_mode()
def rises(
    model: GPT, xb: torch.Tensor, yb: torch.Tensor, known: Container[str] = ()
) -> Iterator[tuple[Part | None, float]]:
    """Yield the loss on (xb, yb), both (B, T), in nats per token: first None and that of the whole model, then each
    part, except those whose keys are `known`, and by how much the loss rises without it.

    The blocks before a part compute the same with and without it, so they are computed only once.
    """
    whole = float(model(xb, yb)[1])
    yield None, whole
    x, rotary = model.embed(xb, slice(0, xb.shape[1]))  # (B, T, C)
    for i, block in enumerate(model.blocks):
        for part in (part for part in parts_of(model) if part.block == i and part.key not in known):
            changed = copy.deepcopy(block)
            switch_off(changed, part)
            yield part, _loss_from(model, changed(x, None, rotary), i + 1, rotary, yb) - whole
        x = block(x, None, rotary)  # (B, T, C)


def _loss_from(model: GPT, x, first: int, rotary, yb) -> float:
    """Return the loss of running x (B, T, C) through the blocks from `first` on."""
    for block in model.blocks[first:]:
        x = block(x, None, rotary)  # (B, T, C)
    logits = model.lm_head(model.ln_f(x)).float()  # (B, T, vocab_size)
    return float(F.cross_entropy(logits.view(-1, logits.shape[-1]), yb.reshape(-1)))


# ---- of a run ------------------------------------------------------------------------------------------------------


def kept(opened: Opened) -> dict[str, Any] | None:
    """Return what `measured` found before for these weights, or None."""
    found = cache.load(opened, VIEW)
    return found if found and found["done"] else None


def measured(opened: Opened) -> Iterator[dict[str, Any]]:
    """Yield {"loss", "rises": {key: nats}, "on", "characters", "done"} of a run as it fills; the last one has them all.

    "on" says which text it is measured on, "characters" how many of its characters are predicted. After each block, the
    result is kept in the run's folder. It is read from there, so measuring that was ended continues where it was.
    """
    if before := kept(opened):
        yield before
        return
    xb, yb, on = passages(opened)
    result = cache.load(opened, VIEW)
    if result is None or result["on"] != on:
        characters = int(token_lengths(opened.tokenizer)[yb.cpu().numpy()].sum())
        result = dict[str, Any](loss=0.0, rises={}, on=on, characters=characters, done=False)
    for part, value in rises(opened.model, xb, yb, result["rises"]):
        if part is None:
            result["loss"] = round(value, 4)
        else:
            result["rises"][part.key] = round(value, 4)
        if part and part.kind == "mlp":  # the last of its block
            cache.keep(opened, VIEW, result)
        yield result
    result["done"] = True
    cache.keep(opened, VIEW, result)
    yield result


def passages(opened: Opened) -> tuple[torch.Tensor, torch.Tensor, str]:
    """Return the passages that parts are measured on as xb and yb, both (B, T), and which text they are of.

    They are evenly spaced in the held-out text. If that isn't here, the model writes them itself.
    """
    tokens = min(TOKENS, PREDICTIONS // opened.model.config.vocab_size)
    found, on = to_measure(opened, tokens, WINDOWS)
    return found.xb, found.yb, on


def measured_on(found: Mapping[str, Any]) -> str:
    """Return how much of which text a result of `measured` was measured on."""
    return f"{found['characters']:,} characters of {found['on']}"


def summary(model: GPT, rises: Mapping[str, float]) -> list[str]:
    """Return what stands out, one sentence each: the head that matters most, and the parts that do nothing."""
    heads = {part: rises[part.key] for part in parts_of(model) if part.kind == "head"}
    names = dict(mlp="feed-forward layer", attention="attention")
    unused = [idle_words(rises, kind, name) for kind, name in names.items()]
    change = f"changes the loss by less than {NOTHING} nats"
    sentences = [
        f"The {words} do nothing: leaving out any one of them {change}." if "s of" in words else
        f"The {words} does nothing: leaving it out {change}."
        for words in unused if words
    ]  # fmt: skip
    return [_head_words(heads), *sentences]


def _head_words(heads: dict[Part, float]) -> str:
    most = max(heads, key=lambda part: heads[part])
    if heads[most] < 10 * NOTHING:
        return f"No single head matters much: at most {heads[most]:+.2f} nats."
    rest = [rise for part, rise in heads.items() if part != most]
    others = f"; the other heads at most {max(rest):+.2f}" if rest else ""
    return f"{str(most).capitalize()} matters most: {heads[most]:+.2f} nats{others}."


def idle(rises: Mapping[str, float], *kinds: str) -> list[str]:
    """Return the keys of the parts of these kinds ("mlp", "attention") that do nothing."""
    return [key for key, rise in rises.items() if key.endswith(kinds) and abs(rise) < NOTHING]


def idle_words(rises: Mapping[str, float], kind: str, name: str) -> str:
    """Return which parts of a kind ("mlp", "attention") do nothing, as "attentions of blocks 1 and 2"; "" if none."""
    keys = idle(rises, kind)
    plural = "s" if len(keys) > 1 else ""
    return f"{name}{plural} of {blocks([int(key.split('.')[0]) + 1 for key in keys])}" if keys else ""


def blocks(numbers: list[int]) -> str:
    """Return "block 2", "blocks 1 and 3" or "blocks 1 to 3"."""
    if len(numbers) == 1:
        return f"block {numbers[0]}"
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"blocks {numbers[0]} to {numbers[-1]}"
    return f"blocks {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def with_and_without(
    opened: Opened, parts: Collection[Part], prompt: str, config: SampleConfig
) -> Iterator[tuple[str, str]]:
    """Yield the text so far of the whole model, and of the model without these parts: same prompt, same seed."""
    config = replace(config, num_samples=1)
    texts = ["", ""]
    with shortages():
        both = [stream(one, opened.tokenizer, prompt, config) for one in (opened.model, without(opened.model, parts))]
        for _ in range(config.length):
            for i, one in enumerate(both):
                texts[i] += next(one, "")
            yield texts[0], texts[1]
