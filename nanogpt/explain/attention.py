"""Where does it look? The attention of every head on a text, and a sentence about what each head attends to.

The sentence names the kind of place on which a head puts much more attention than an even spread would: the previous
character, spaces, earlier occurrences of the same character, or what followed them (an induction head: Olsson et al.,
2022). It is computed on held-out text, over all positions of several windows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..errors import shortages
from ..model import GPT, attention_by_hand
from ..tokenizer import Tokenizer
from . import ablation, cache
from .features import is_punctuation
from .opened import Opened
from .passages import first_counted

VIEW = "attention"
LONGEST = 256  # tokens of a window: the attention of a long one takes much memory
AT_ONCE = 100_000_000  # numbers of attention in memory at a time, for which many heads have fewer windows
STANDS_OUT = 0.15  # a head is said to look at a kind of place if it puts this much more attention there than is due
COPIES = 0.3  # the share of attention that makes an induction head
TELLING = 32  # the shortest context that tells: in shorter ones, heads look at what followed earlier because it is near


@shortages()
@torch.inference_mode()
def attentions(model: GPT, idx: torch.Tensor) -> torch.Tensor:
    """Return the attention of all heads on idx (B, T): (n_layer, B, nh, T, T). Row t shows where position t looks."""
    seen = []

    def attend(q, k, v, mask=None, p=0.0, is_causal=False):
        out, wei = attention_by_hand(q, k, v)
        seen.append(wei)
        return out

    read_with(attend, model, idx)
    return torch.stack(seen).float().cpu()


@torch.inference_mode()
def read_with(attend: Callable, model: GPT, idx: torch.Tensor) -> None:
    """Let a model read idx (B, T), with `attend` in place of torch's scaled_dot_product_attention."""
    ours = copy.deepcopy(model, {id(p): p for p in model.parameters()})  # which shares the weights
    for block in ours.blocks:
        block.sa.attend = attend
    ours(idx)


def of_text(model: GPT, ids: list[int]) -> np.ndarray:
    """Return the attention of all heads on one text of T tokens: (n_layer, nh, T, T)."""
    return attentions(model, torch.tensor([ids], device=model.device))[:, 0].numpy()


def kinds_of_places(idx: np.ndarray, tokenizer: Tokenizer) -> dict[str, np.ndarray]:
    """Return which places are of a kind, seen from each position of idx (T,): {words: (T, T) of bool}."""
    T = len(idx)
    here, there = np.arange(T)[:, None], np.arange(T)[None]
    of_kind = lambda test: np.array([test(tokenizer.itos[int(i)]) for i in idx])[None].repeat(T, axis=0)
    same = idx[:, None] == idx[None]
    return {
        "the character itself": here == there,
        "the previous character": here - 1 == there,
        "the character before the previous one": here - 2 == there,
        "spaces and line breaks": of_kind(str.isspace),
        "punctuation": of_kind(lambda token: all(map(is_punctuation, token))),
        "capital letters": of_kind(str.isupper),
        "earlier places with the same character": same & (there < here),
        "what followed the same character before": np.pad(same, ((0, 0), (1, 0)))[:, :T] & (there <= here),
    }


def facts(model: GPT, tokenizer: Tokenizer, xb: torch.Tensor) -> list[list[dict[str, Any]]]:
    """Return {"says", "distance", "shares"} for each head of each block, measured on xb (B, T).

    A share is the mean attention on a kind of place; what is due to it is what an even spread would give.
    """
    T = xb.shape[1]
    first = first_counted(T)  # the positions before it have little to choose from
    wei = attentions(model, xb).numpy()[:, :, :, first:]  # (n_layer, B, nh, T - first, T)
    places = [kinds_of_places(row, tokenizer) for row in xb.cpu().numpy()]  # B of {words: (T, T)}
    even = np.tril(np.ones((T, T))) / np.arange(1, T + 1)[:, None]  # (T, T)
    back = np.arange(T)[:, None] - np.arange(T)[None]  # (T, T)
    shares, due = {}, {}
    for words in places[0]:
        mask = np.stack([one[words] for one in places])[:, first:]  # (B, T - first, T)
        shares[words] = mean_over(wei, mask.astype(np.float32))
        due[words] = float((even[first:] * mask).sum(axis=-1).mean())
    distance = mean_over(wei, back[None, first:].repeat(len(places), axis=0).astype(np.float32))
    return [
        [
            _described({words: float(found[i, h]) for words, found in shares.items()}, due, float(distance[i, h]))
            for h in range(model.config.n_head)
        ]
        for i in range(model.config.n_layer)
    ]


def mean_over(wei: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the mean of values (B, t, T) as each head weights them by wei (L, B, nh, t, T): (L, nh)."""
    L, B, nh, t, T = wei.shape
    summed = wei.reshape(L, B, nh, t * T) @ values.reshape(B, t * T, 1)  # (L, B, nh, 1)
    return summed[..., 0].sum(axis=1) / (B * t)


def _described(shares: dict[str, float], due: dict[str, float], distance: float) -> dict[str, Any]:
    """Return the facts about one head, with a sentence about what sets it apart."""
    most = max(shares, key=lambda words: shares[words] - due[words])
    says = f"looks back {distance:.0f} places on average"
    if shares[most] - due[most] >= STANDS_OUT:
        says = f"{shares[most]:.0%} on {most}"
    return dict(says=says, distance=round(distance, 1), shares={words: round(x, 3) for words, x in shares.items()})


def copying(model: GPT) -> float | None:
    """Return the best score of an induction head: the share of attention on what followed the same character before.

    Return None if the context is too short to tell: in one of 4 characters, that place is the previous character. As in
    Olsson et al. (2022), random characters are repeated, so that nothing else can tell what comes next.
    """
    if model.config.block_size < TELLING:
        return None
    half = model.config.block_size // 2
    generator = torch.Generator().manual_seed(0)
    once = torch.randint(model.config.vocab_size, (4, half), generator=generator)
    scores = []  # of each block's heads: (nh,)

    def attend(q, k, v, *how, **more):
        scores.append(shares_after_a_copy(q, k))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, *how, **more)

    read_with(attend, model, torch.cat([once, once], dim=1).to(model.device))
    return float(torch.stack(scores).max())


def shares_after_a_copy(q, k):
    """Return the mean attention that the second half of a text, a copy of the first, has on what followed there: (nh,).

    q and k are (B, nh, T, hs). Only some rows of the attention are in memory at a time, because all rows of a long text
    would take gigabytes.
    """
    B, nh, T, _ = q.shape
    half, total = T // 2, 0.0
    for rows in torch.arange(half, T, device=q.device).split(max(1, AT_ONCE // (4 * B * nh * T))):
        wei = rows_of(q, k, rows)  # (B, nh, R, T)
        total = total + wei.gather(3, (rows - half + 1).expand(B, nh, -1)[..., None]).sum(dim=(0, 2, 3))
    return total / (B * half)


def rows_of(q, k, rows):
    """Return these rows (R,) of the attention of q and k (B, nh, T, hs), as in `attention_by_hand`: (B, nh, R, T)."""
    wei = q[:, :, rows] @ k.transpose(-2, -1) * q.shape[-1] ** -0.5  # (B, nh, R, hs) @ (B, nh, hs, T)
    later = torch.arange(k.shape[2], device=q.device) > rows[:, None]  # (R, T)
    return wei.masked_fill(later, float("-inf")).softmax(dim=-1)


# ---- of a run ------------------------------------------------------------------------------------------------------


def of_heads(opened: Opened) -> dict[str, Any]:
    """Return {"heads": facts of each head of each block, "copying": score, "on"}, kept in the run's folder."""
    if kept := cache.load(opened, VIEW):
        return kept
    xb, _, on = ablation.passages(opened)
    xb = xb[:, :LONGEST]
    heads = opened.model.config.n_layer * opened.model.config.n_head
    numbers = min(ablation.WINDOWS * LONGEST**2, AT_ONCE // heads)  # of a head
    most = max(1, numbers // xb.shape[1] ** 2)  # windows, for the same reason
    score = copying(opened.model)
    found = dict(
        heads=facts(opened.model, opened.tokenizer, xb[:: -(-len(xb) // most)]),
        copying=None if score is None else round(score, 3),
        on=on,
    )
    cache.keep(opened, VIEW, found)
    return found


def copying_words(score: float | None) -> str:
    """Return whether any head copies earlier passages, given the result of `copying`."""
    if score is None:
        return f"Whether a head copies earlier passages can't be told in a context of fewer than {TELLING} characters."
    if score < COPIES:
        return f"No head of this model copies earlier passages (best score {score:.2f} of 1)."
    return f"A head of this model copies: it looks at what followed the same passage before (score {score:.2f} of 1)."
