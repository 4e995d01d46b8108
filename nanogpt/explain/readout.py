"""Read-out after each block: what could be predicted from what a model has computed up to there.

The model's own norm and head, put after an early block, would say that nothing happens before the last one. That is
false: early blocks write in a form that only later blocks read. So a translator is fitted for each depth ("tuned lens":
Belrose et al., 2023): an affine map, added to what flows past before the model's own norm and head read it. It starts
at zero, and after the last block it stays there, so that this read-out is the model itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from ..config import NanoGPTError
from ..errors import shortages
from ..model import GPT
from ..optim import AdamW
from . import ablation, cache, characters, passages
from .opened import Opened

VIEW = "readout"
FITTED_ON, JUDGED_BY = 32_768, 16_384  # tokens of training and of held-out text
STEPS, BATCH, RATE = 500, 1024, 3e-3  # of Adam, in tokens; the rate falls to zero
PART = 8  # windows that a block reads at a time
BARS = 5  # likeliest tokens that are shown

Translator = tuple[torch.Tensor, torch.Tensor]  # a matrix (C, C) and a bias (C,)


def after_each_block(model: GPT, idx: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield what flows past after the embedding and after each block, for idx (B, T): each (B, T, C)."""
    with torch.no_grad():
        x, rotary = model.embed(idx, slice(0, idx.shape[1]))
    yield x
    for block in model.blocks:
        with torch.no_grad():
            x = torch.cat([block(part, None, rotary) for part in x.split(PART)])
        yield x


def read_out(model: GPT, x: torch.Tensor, translator: Translator | None) -> torch.Tensor:
    """Return the logits (..., vocab_size) that the model's own norm and head read from x (..., C), once translated."""
    if translator is not None:
        matrix, bias = translator
        x = x + x @ matrix.T + bias
    return model.lm_head(model.ln_f(x)).float()


def fitting(model: GPT, x: torch.Tensor, last: torch.Tensor, seed: int = 0) -> Iterator[Translator]:
    """Fit the translator of a depth, from x (N, C) there and `last` (N, C) after the last block, and yield it.

    It is yielded as it improves; the last one is the result. It learns to predict what the whole model predicts: the
    loss is the cross-entropy with the model's probabilities.
    """
    C, generator = x.shape[1], torch.Generator().manual_seed(seed)
    translator = (torch.zeros(C, C, device=x.device), torch.zeros(C, device=x.device))
    for p in translator:
        p.requires_grad_()
    # Adam; torch's own would import PyTorch's compiler
    optimizer = AdamW([dict(params=translator, weight_decay=0.0)], RATE, (0.9, 0.999))
    for step in range(STEPS):
        some = torch.randint(len(x), (min(BATCH, len(x)),), generator=generator).to(x.device)
        with torch.no_grad():
            target = read_out(model, last[some], None).softmax(-1)
        loss = F.cross_entropy(read_out(model, x[some], translator), target)
        # not backward(), which would leave gradients in the model
        for p, grad in zip(translator, torch.autograd.grad(loss, translator)):
            p.grad = grad
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        optimizer.step()
        if step % 20 == 19 or step == STEPS - 1:
            yield translator[0].detach(), translator[1].detach()


@torch.no_grad()
def loss_of(model: GPT, x: torch.Tensor, y: torch.Tensor, translator: Translator | None) -> float:
    """Return the loss in nats per token of predicting y (N,) from x (N, C)."""
    parts = zip(x.split(BATCH), y.split(BATCH))
    return sum(float(F.cross_entropy(read_out(model, a, translator), b, reduction="sum")) for a, b in parts) / len(y)


# ---- of a run --------------------------------------------------------------------------------------------------------


def kept(opened: Opened) -> dict[str, Any] | None:
    """Return what `measured` found before for these weights, or None."""
    found, _ = so_far(opened)
    return found if found["done"] else None


def so_far(opened: Opened) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return what `measured` has kept for these weights: the losses of some depths, and their translators."""
    tensors = cache.load_tensors(opened, VIEW) or {}
    found = cache.load(opened, VIEW) if tensors else None
    return found or dict(losses=[], done=False), tensors


def measured(opened: Opened) -> Iterator[dict[str, Any]]:
    """Yield {"losses", "done"} of a run as translators are fitted: nats per token, of held-out text, that the read-out
    after the embedding has, after the first block, and so on.

    After each depth, the result and the translators are kept in the run's folder. They are read from there, so fitting
    that was ended continues where it was. Raise NanoGPTError if the text isn't here.
    """
    found, tensors = so_far(opened)
    if found["done"]:
        yield found
        return
    model = opened.model
    xb, _ = windows(opened, opened.training_text(), FITTED_ON)
    judged_by, yb = windows(opened, opened.held_out_text(), JUDGED_BY)
    yield found
    *_, last = after_each_block(model, xb)
    depths = zip(after_each_block(model, xb), after_each_block(model, judged_by))
    for depth, (x, held_out) in enumerate(depths):
        if depth < len(found["losses"]):
            continue
        fitted = None
        if depth < len(model.blocks):
            for now in fitting(model, x.flatten(0, 1), last.flatten(0, 1)):
                fitted = now
                yield found
            assert fitted is not None
            tensors |= {f"{depth}.matrix": fitted[0].half(), f"{depth}.bias": fitted[1].half()}
        found["losses"].append(round(loss_of(model, held_out.flatten(0, 1), yb.flatten(), fitted), 4))
        found["done"] = depth == len(model.blocks)
        cache.keep_tensors(opened, VIEW, tensors)
        cache.keep(opened, VIEW, found)
        yield found


def windows(opened: Opened, text: str | None, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return evenly spaced windows of a text of about so many tokens in all: inputs and targets, both (B, T)."""
    if text is None:
        raise NanoGPTError("The text of this model isn't here, so no read-out can be fitted. Add the same text first.")
    found = passages.windows(opened, text, tokens)
    return found.xb, found.yb


def translators(opened: Opened) -> list[Translator | None]:
    """Return the translators that were kept, one per depth, None for the last. Raise NanoGPTError if there are none."""
    tensors = cache.load_tensors(opened, VIEW)
    if kept(opened) is None or tensors is None:
        raise NanoGPTError("The read-outs of this model have not been fitted yet. Open this view again.")
    pick = lambda depth: (tensors[f"{depth}.matrix"].float(), tensors[f"{depth}.bias"].float())
    return [*(pick(depth) for depth in range(len(opened.model.blocks))), None]


@shortages()
@torch.no_grad()
def of_text(opened: Opened, ids: Sequence[int], chosen: Sequence[Translator | None]) -> torch.Tensor:
    """Return the log-probabilities that each depth gives at each token of a text, (n_layer + 1, N, vocab_size).

    Token i is predicted from those before it, the first one as if it followed a line break. There must be fewer tokens
    than the context is long; the last row of each depth is for what comes after the text: N is one more than they are.
    """
    model = opened.model
    idx = torch.tensor([[characters.start_token(opened.tokenizer), *ids]], device=model.device)  # (1, N)
    depths = zip(after_each_block(model, idx), chosen)
    return torch.stack([read_out(model, x[0], translator).log_softmax(-1) for x, translator in depths])


def depths(model: GPT) -> list[str]:
    """Return the names of the depths of a model: "Embedding", "Block 1", ..."""
    return ["Embedding", *(f"Block {i + 1}" for i in range(model.config.n_layer))]


def summary(losses: Sequence[float]) -> list[str]:
    """Return what stands out, one sentence each: what the embedding knows and what the blocks add."""
    gains = [before - after for before, after in zip(losses, losses[1:])]
    whole, most = losses[0] - losses[-1], max(range(len(gains)), key=lambda i: gains[i])
    begins = (
        f"Read out from the embedding alone, the loss is {losses[0]:.2f} nats; after the last block it is "
        f"{losses[-1]:.2f}."
    )
    if whole < 0.05:
        return [begins, "So the blocks add little that a read-out of the embedding doesn't have."]
    share = gains[most] / whole
    if share < 0.4:
        each = ", ".join(f"{round(100 * gain / whole)}%" for gain in gains)
        return [begins, f"No block does it alone: one after the other, they bring {each} of the improvement."]
    words = "All of" if share > 0.95 else f"{share:.0%} of"
    from_to = f"from {losses[most]:.2f} to {losses[most + 1]:.2f}"
    sentences = [begins, f"{words} the improvement comes from block {most + 1}: {from_to}."]
    if idle := [i + 1 for i, gain in enumerate(gains) if gain < 0.03 * whole]:
        sentences.append(f"After {ablation.blocks(idle)}, hardly anything more can be read out than before.")
    return sentences
