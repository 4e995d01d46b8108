"""Stages 8 to 18 of the ladder: from the lecture's recipe to the modern one, one change at a time.

Each rung changes one feature of the layout, or a few training settings, and keeps the changes of all rungs before it.
The first rung is the classic layout trained as in the lecture; the last is the modern layout trained with `MODERN` from
presets.py. docs/lecture.md lists what each change is worth. Run one: `python -m nanogpt ladder FILE --stage 9`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from .config import ModelConfig, NanoGPTError, SampleConfig, TrainConfig
from .data import make_get_batch, split
from .device import Device
from .evaluate import estimate_loss
from .ladder import check_length, print_event
from .layout import Layout
from .model import GPT
from .presets import MODERN
from .sample import generate
from .schedule import get_lr, settled
from .step import Step
from .tokenizer import make_tokenizer

# ---- The rungs -------------------------------------------------------------------------------------------------------


def of_modern(*names: str, **more: Any) -> dict[str, Any]:
    """Return these settings of the modern recipe, plus others."""
    return {name: MODERN[name] for name in names} | more


# The lecture's AdamW: torch's defaults at a constant 1e-3, the rate of its small Transformers.
LECTURE = dict(
    optimizer="adamw", learning_rate=1e-3, min_lr=1e-3, warmup_iters=0, beta1=0.9, beta2=0.999, weight_decay=0.01,
    grad_clip=0.0,
)  # fmt: skip


@dataclass(frozen=True)
class Rung:
    """One change, and the model size it is measured at. Fields named like a setting in config.py mean that setting."""

    number: int
    name: str
    loss: str  # validation loss measured on Tiny Shakespeare; see benchmarks/results/rungs.json
    features: Mapping[str, bool] = field(default_factory=dict)  # changes to the layout
    recipe: Mapping[str, Any] = field(default_factory=dict)  # changes to the training settings
    block_size: int = 64
    n_embd: int = 128
    n_head: int = 4
    n_layer: int = 4
    batch_size: int = 8
    max_iters: int = 500
    eval_interval: int = 250


RUNGS = (
    Rung(8, "the lecture's recipe, sized for two cores", "2.292", recipe=LECTURE),
    Rung(9, "rotary positions", "2.059", dict(rotary=True)),
    Rung(10, "RMS norm without weights, plus one after the embedding", "2.053", dict(plain_norms=True)),
    Rung(11, "QK norm", "2.037", dict(qk_norm=True)),
    Rung(12, "ReLU squared", "2.030", dict(relu_squared=True)),
    Rung(13, "no biases", "2.026", dict(biases=False)),
    Rung(14, "zero init", "2.029", dict(zero_init=True)),
    Rung(
        15, "Muon for the weight matrices, weight decay by the number of epochs", "1.950",
        recipe=of_modern("optimizer", "matrix_lr", "momentum", "weight_decay"),
    ),
    Rung(
        16, "a higher AdamW rate for the rest", "1.976",
        recipe=of_modern("learning_rate", "beta1", "beta2", min_lr=MODERN["learning_rate"], grad_clip=1.0),
    ),
    Rung(17, "linear decay to zero", "1.814", recipe=of_modern("schedule", "min_lr")),
    Rung(18, "shuffled epochs", "1.805", recipe=of_modern("batches")),
)  # fmt: skip
FIRST, LAST = RUNGS[0].number, RUNGS[-1].number


def up_to(rung: Rung) -> tuple[Rung, ...]:
    """Return all rungs up to and including this one."""
    return (*RUNGS[: rung.number - FIRST], rung)


def make_layout(rung: Rung) -> Layout:
    """Return the classic layout with every change up to this rung."""
    layout = Layout()
    for below in up_to(rung):
        layout = replace(layout, **below.features)
    return layout


def make_shape(rung: Rung, vocab_size: int) -> ModelConfig:
    """Return the rung's model config."""
    return ModelConfig.of({**asdict(rung), "layout": make_layout(rung), "vocab_size": vocab_size})


def make_model(rung: Rung, vocab_size: int) -> GPT:
    """Return the rung's model. Rungs without `zero_init` all start from the same random weights, the first one's."""
    shape = make_shape(rung, vocab_size)
    if shape.features.zero_init:
        return GPT(shape)
    first = GPT(replace(shape, layout=Layout())).state_dict()
    model = GPT(shape)
    model.load_state_dict({name: first[name] for name in model.state_dict()})
    return model


def make_recipe(rung: Rung, max_iters: int | None = None, seed: int = 1337) -> TrainConfig:
    """Return the lecture's training settings with every change up to this rung."""
    settings = {**asdict(rung), "seed": seed}
    if max_iters is not None:
        settings["max_iters"] = max_iters
    for below in up_to(rung):
        settings |= below.recipe
    return TrainConfig.of(settings)


# ---- Training a rung -------------------------------------------------------------------------------------------------


def train_rung(
    text: str, rung: Rung, device: Device, seed: int = 1337, max_iters: int | None = None
) -> Iterator[dict[str, Any]]:
    """Train one rung. Yield a dict per evaluation; the last one also has `parameters`, `seconds` and a `sample`.

    Losses are the mean of 200 windows; the last validation loss covers the whole validation set.
    """
    check_length(text, rung)
    tokenizer = make_tokenizer(text)
    train, val = (part.to(device.type) for part in split(tokenizer.encode_array(text)))  # (N,), (N / 9,)
    shape = make_shape(rung, tokenizer.vocab_size)
    config = settled(make_recipe(rung, max_iters, seed), shape, len(text))
    torch.manual_seed(seed)
    start = time.perf_counter()
    model = make_model(rung, tokenizer.vocab_size).to(device.type)
    take_step = Step(model, config, device)
    generator = torch.Generator().manual_seed(seed)  # gives the same batches on every rung but the last
    get_batch = make_get_batch(train, rung.block_size, config, generator)

    for step in range(config.max_iters + 1):
        last = step == config.max_iters
        if step % config.eval_interval == 0 or last:
            train_loss, val_loss = (estimate_loss(model, part, device, 200) for part in (train, val))
            event = {"stage": rung.number, "step": step, "train_loss": train_loss, "val_loss": val_loss}
            if last:
                break
            yield event
        xb, yb = get_batch(step)  # (B, T), (B, T)
        take_step(xb, yb, get_lr(step, config))

    event["val_loss"] = estimate_loss(model, val, device)
    event["seconds"] = time.perf_counter() - start
    event["parameters"] = model.count_parameters()
    ids = generate(model, [0], SampleConfig(length=300, temperature=1.0, seed=seed))
    yield event | {"sample": tokenizer.decode(ids)}


def print_rungs(text: str, number: int | None, device: Device, max_iters: int | None = None, seed: int = 1337) -> None:
    """Train one rung, or all of them with None, and print the progress. Raise NanoGPTError if it does not exist."""
    if number is not None and not FIRST <= number <= LAST:
        raise NanoGPTError(f"stage was {number}; it must be a whole number from 1 to {LAST}.")
    for rung in RUNGS if number is None else [RUNGS[number - FIRST]]:
        for event in train_rung(text, rung, device, seed, max_iters):
            print_event(event, rung.name, f"measured on Tiny Shakespeare: {rung.loss}")
