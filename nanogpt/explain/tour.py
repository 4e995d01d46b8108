"""The tour: short steps from text to attention, about the reader's own model.

Each step asks first, then has the reader do something, and answers last. Right answers and examples are computed from
the model, never written down: another model gives other ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from random import Random
from typing import Any

import torch

from ..config import SampleConfig
from ..errors import shortages
from ..sample import stream
from . import ablation, attention, cache, characters, neighbors, passages, tour_steps as steps
from .opened import Opened
from .tour_steps import Passage

LENGTH = 90  # characters of the passage
ALPHABET = 100  # characters of which the neighbors are shown
WRITTEN = 200  # characters that a model writes
TEMPERATURES = (0.0, 0.5, 1.0, 2.0)


def lesson(opened: Opened, seed: int = 0) -> dict[str, Any]:
    """Return the data of the tour: the steps, and what they show of the model.

    There are ten. One is left out for a model that knows so few characters that neighbors say nothing
    (`neighbors.LEAST`), and one for a model that writes the same without attention.
    """
    passage = read(opened, text_of(opened, seed))
    rows = neighbors.rows_of(opened.model)
    known = sorted(opened.tokenizer.stoi[token] for token in {*passage.tokens})
    alphabet = known[:ALPHABET] if len(rows) > ALPHABET else range(len(rows))
    near, learned = neighbors.nearest(rows, opened.tokenizer, alphabet), neighbors.learned(rows)
    about = [
        steps.text_to_numbers(opened, passage), steps.next_character(passage), steps.surprise(opened, passage),
        *([] if learned is None else [steps.alike(near, passage, learned)]), steps.looking_back(passage),
        steps.looking_ahead(opened), *([] if writes_the_same(opened, "attention") else [steps.two_parts()]),
        steps.training(opened), steps.adamw(opened), steps.dice(),
    ]  # fmt: skip
    shares = (255 * passage.wei.sqrt()).round().int().flatten().tolist()
    return dict(
        steps=[asdict(step) for step in about],
        model=opened.weights,
        tokens=passage.tokens,
        note=shortened(opened, passage),
        bits=passage.bits,
        likeliest=passage.likeliest,
        near=near,
        head=dict(name=passage.head, says=passage.says, shares=shares),
        word=steps.word_of(passage.tokens, [*opened.tokenizer.itos.values()]),
        asked=dict(next=steps.place_to_guess(passage), attention=steps.place_to_look_from(passage)),
        temperatures=TEMPERATURES,
    )


def text_of(opened: Opened, seed: int) -> str:
    """Return a text to look at: held-out text from the start of a line, or one that the model writes."""
    held_out = opened.held_out_text()
    if held_out is None:
        return opened.write(SampleConfig(length=LENGTH, seed=seed))
    return passages.from_a_line(held_out, LENGTH, Random(seed))


def read(opened: Opened, text: str) -> Passage:
    """Let the model read a text of at least one known character."""
    model, tokenizer = opened.model, opened.tokenizer
    ids = tokenizer.encode(tokenizer.fit(text).text)[: min(LENGTH, model.config.block_size - 1)]
    idx = torch.tensor([[characters.start_token(tokenizer), *ids]], device=model.device)  # (1, N + 1)
    with shortages(), torch.inference_mode():
        p = model(idx)[0][0, :-1].float().softmax(-1).cpu()  # (N, vocab_size)
    own, top = p[range(len(ids)), ids], p.topk(min(characters.BARS, p.shape[-1]))
    likeliest = [
        [dict(token=tokenizer.itos[i], p=round(share, 4)) for i, share in zip(*place)]
        for place in zip(top.indices.tolist(), top.values.tolist())
    ]
    part, says = head_of(opened)
    wei = attention.attentions(model, idx[:, 1:])[part.block, 0, part.head]
    bits = (-own.log2()).tolist()
    return Passage([tokenizer.itos[i] for i in ids], [round(one, 2) for one in bits], likeliest, wei, str(part), says)


def shortened(opened: Opened, passage: Passage) -> str:
    """Return a note that a passage was cut to what the model can read, if it was."""
    N, most = len(passage.tokens), opened.model.config.block_size - 1
    cut = f"Only the first {N} characters are shown: the model's context, less the one before them."
    return cut if N == most < LENGTH else ""


def head_of(opened: Opened) -> tuple[ablation.Part, str]:
    """Return the head that matters most, if that was measured, else the first, and what it looks at."""
    heads = [part for part in ablation.parts_of(opened.model) if part.kind == "head"]
    costs = (cache.load(opened, ablation.VIEW) or {}).get("rises", {})
    part = max(heads, key=lambda one: costs.get(one.key, 0.0))
    return part, attention.of_heads(opened)["heads"][part.block][part.head]["says"]


# ---- what the reader asks for ----------------------------------------------------------------------------------------


def encoded(opened: Opened, text: str) -> list[tuple[str, int]]:
    """Return the tokens of a text that the model knows, with their ids."""
    tokenizer = opened.tokenizer
    return [(tokenizer.itos[i], i) for i in tokenizer.encode(tokenizer.fit(text).text)]


def both_texts(opened: Opened, kind: str) -> Iterator[tuple[str, str]]:
    """Yield what the model writes so far with all its parts, and without those of a kind."""
    return ablation.with_and_without(opened, parts_of(opened, kind), "", SampleConfig(length=WRITTEN))


def parts_of(opened: Opened, kind: str) -> list[ablation.Part]:
    """Return all parts of a kind of a model."""
    return [part for part in ablation.parts_of(opened.model) if part.kind == kind]


def writes_the_same(opened: Opened, kind: str) -> bool:
    """Return True if both texts are the same, as before a model has trained. Only then are both written to the end."""
    return all(whole == less for whole, less in both_texts(opened, kind))


def without(opened: Opened, kind: str) -> Iterator[dict[str, Any]]:
    """Yield {"kind", "texts", "losses", "on"}: with all parts, and without those of a kind. Losses come last."""
    found = dict[str, Any](kind=kind, texts=["", ""], losses=None, on="")
    for i, texts in enumerate(both_texts(opened, kind)):
        if i % 20 == 0:
            yield found | dict(texts=texts)
    xb, yb, on = ablation.passages(opened)
    with shortages(), torch.inference_mode():
        less = ablation.without(opened.model, parts_of(opened, kind))
        losses = [float(one(xb, yb)[1]) for one in (opened.model, less)]
    yield found | dict(texts=texts, losses=losses, on=on)


@shortages()
def written(opened: Opened, temperature: float, seeds: Sequence[int] = (1, 2)) -> list[str]:
    """Return what the model writes at a temperature, with each of the seeds."""
    config = SampleConfig(temperature=temperature, length=WRITTEN)
    return ["".join(stream(opened.model, opened.tokenizer, "", replace(config, seed=seed))) for seed in seeds]
