"""The loss of a model on a text, over adjacent windows."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .data import evaluated_at_once, windows
from .device import Device
from .model import GPT, without_dropout

MOST = 5_000_000  # tokens of a validation set that are evaluated when a run isn't training


@torch.inference_mode()
def estimate_loss(
    model: GPT, data: torch.Tensor, device: Device, most: int | None = None, lengths: torch.Tensor | None = None,
    loss_of: Callable | None = None,
) -> float:  # fmt: skip
    """Return the mean loss in nats per character over adjacent windows of the model's block_size.

    With `most`, use only that many windows, evenly spaced. `lengths` (vocab_size,), on the same device as the data, is
    the number of characters in each token; None means 1. `loss_of` returns the model's mean loss of a batch in nats per
    token, if there is a faster way than its forward pass. There is no dropout meanwhile.
    """
    loss_of = loss_of or (lambda xb, yb: model(xb, yb)[1])
    nats, characters = 0.0, 0
    at_once, _ = evaluated_at_once(model.config, device)
    with without_dropout(model):
        for xb, yb in windows(data, model.config.block_size, most, at_once):
            with device.autocast():
                nats += float(loss_of(xb, yb)) * yb.numel()
            characters += yb.numel() if lengths is None else int(lengths[yb].sum())
    return nats / characters
