"""How the learning rate changes while a run trains, and how much weight decay suits its number of epochs."""

from __future__ import annotations

import math
from dataclasses import replace

from .config import ModelConfig, TrainConfig
from .holdout import epochs
from .model import count_parameters

WARM_UP = 0.05  # of a time budget, after which warm-up ends: its steps may take most of a short one


def get_lr(step: int, config: TrainConfig, share: float | None = None) -> float:
    """Return the learning rate at a step: linear warm-up, then cosine (as in nanoGPT) or linear decay to `min_lr`.

    `share`, 0 to 1, is the fraction of a time budget used so far; runs without a budget go by the step instead. With a
    budget, the rate decays from the start, and warm-up lasts until the rising rate meets the falling one.
    """
    if not config.budget or share is None:
        if step < config.warmup_iters:
            return config.learning_rate * (step + 1) / config.warmup_iters
        return decayed((step - config.warmup_iters) / max(1, config.max_iters - config.warmup_iters), config)
    rate = decayed(share, config)
    if step < config.warmup_iters:
        rate = min(rate, config.learning_rate * max((step + 1) / config.warmup_iters, share / WARM_UP))
    return rate


def decayed(gone: float, config: TrainConfig) -> float:
    """Return the learning rate after a fraction of the decay: `gone` is 0 at its start, and 1 or more after its end."""
    gone = min(1.0, gone)
    left = 0.5 * (1 + math.cos(math.pi * gone)) if config.schedule == "cosine" else 1 - gone
    return config.min_lr + (config.learning_rate - config.min_lr) * left


MEMORY = 0.6  # epochs that weights should remember at least


def weight_decay(passes: float, steps: float, parameters: int, tokens: int, lr: float = 0.03) -> float:
    """Return the weight decay that keeps a model trained with Muon from memorizing its text.

    `passes` is the number of epochs and `steps` the steps in all of them; `lr` is the matrices' highest learning rate.
    The value grows with the square of the epochs: about 0 for one, 0.05 for five, 0.4 for fourteen. A model that is
    small for its text can't memorize it and gets less. Kim et al., 2025, arXiv 2509.14786, found that training for many
    epochs needs this much. But each step shrinks the weights by `lr` times the decay, so weights remember 1 / (lr *
    decay) steps; if that is less than MEMORY epochs, they forget the text before they meet it again, which costs more
    than memorizing (benchmarks/README.md). So small batches, which take many steps per epoch, get less, too.
    """
    room = min(1.0, parameters / (0.7 * tokens))  # 1 for 0.8 M parameters on Tiny Shakespeare
    return round(min(0.002 * passes**2 * room, passes / (MEMORY * lr * steps), 1.0), 3)


def settled(config: TrainConfig, shape: ModelConfig, tokens: int) -> TrainConfig:
    """Return the config with its weight decay resolved: -1 becomes the value for a text of `tokens` tokens."""
    if config.weight_decay >= 0:
        return config
    steps = config.max_iters
    passes = epochs(steps * config.batch_size * shape.block_size, tokens)
    lr = config.matrix_lr if config.optimizer == "muon" else config.learning_rate
    decay = weight_decay(passes, steps, count_parameters(shape), tokens, lr)
    return replace(config, weight_decay=decay)
