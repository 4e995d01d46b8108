"""From the lecture's recipe to today's, one departure at a time: stages 8 to 18 of the ladder.

A rung changes one thing, in a GPT of model.py or in the numbers it is trained with, and stands on all rungs before it.
The first is the classic layout trained as in the lecture, the last the modern layout trained as `MODERN` in config.py
says. docs/lecture.md has what each is worth: `python -m nanogpt ladder FILE --stage 9`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import torch.nn as nn
from torch.nn import functional as F

from .config import MODERN, ModelConfig, NanoGPTError, SampleConfig, TrainConfig
from .data import make_get_batch, split, windows
from .device import Device
from .ladder import check_length, print_event
from .model import GPT, MultiHeadAttention, ReLUSquared, RMSNorm, rotary_table, rotate
from .optim import Step, get_lr, settled
from .sample import generate
from .tokenizer import make_tokenizer

# ---- What changes in the model: each of these takes a GPT and departs from the lecture in one thing ------------------


class Turned(MultiHeadAttention):
    """Attention with rotary positions and nothing else; model.py's goes on and gives q and k one length."""

    def forward(self, x, cache=None, rotary=None):
        B, T, C = x.shape
        q, k, v = self.qkv(x).split(C, dim=-1)  # three of (B, T, C)
        q, k, v = (z.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for z in (q, k, v))  # (B, nh, T, hs)
        out = F.scaled_dot_product_attention(rotate(q, *rotary), rotate(k, *rotary), v, is_causal=True)
        return self.proj(out.transpose(1, 2).reshape(B, T, C))


def change_attention(model: GPT, kind: type[MultiHeadAttention]) -> None:
    """Another kind of attention in every block, with the weights of the one that is there."""
    for block in model.blocks:
        weights, block.sa = block.sa.state_dict(), kind(replace(model.config, layout="classic"))  # still with biases
        block.sa.load_state_dict(weights)


def turn_places(model: GPT) -> None:
    """A place turns queries and keys, where it was a row of a table added to the character."""
    del model.position_embedding_table
    model.config = replace(model.config, layout="modern")  # what GPT.forward goes by
    model.norm_in = nn.Identity()
    model.register_buffer("rotary", rotary_table(model.config), persistent=False)  # (2, block_size, hs / 2)
    change_attention(model, Turned)


def simplify_norms(model: GPT) -> None:
    """Norms that only divide, and one more, straight after the embedding."""
    model.norm_in, model.ln_f = RMSNorm(), RMSNorm()
    for block in model.blocks:
        block.ln1, block.ln2 = RMSNorm(), RMSNorm()


def norm_queries_and_keys(model: GPT) -> None:
    """Queries and keys all have one length, so that a score only says how well their directions agree."""
    change_attention(model, MultiHeadAttention)


def square_the_relu(model: GPT) -> None:
    """A thought counts more the stronger it is."""
    for block in model.blocks:
        block.ffwd.net[1] = ReLUSquared()


def drop_biases(model: GPT) -> None:
    """Nothing is added that does not come from the text."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.bias = None


def begin_at_nothing(model: GPT) -> None:
    """A block adds nothing at first, and every next character is equally likely; the embedding begins large."""
    model.init_weights()  # the modern layout's, which `model.config` has named since the rotary positions


# ---- The rungs -------------------------------------------------------------------------------------------------------


def of_modern(*names: str, **more: Any) -> dict[str, Any]:
    """These numbers of the modern recipe, and others."""
    return {name: MODERN[name] for name in names} | more


# The lecture's AdamW: torch's own numbers at a steady 1e-3, the rate of its models that are not the big one.
LECTURE = dict(
    optimizer="adamw", learning_rate=1e-3, min_lr=1e-3, warmup_iters=0, beta1=0.9, beta2=0.999, weight_decay=0.01,
    grad_clip=0.0,
)  # fmt: skip


@dataclass(frozen=True)
class Rung:
    """One departure, and the size at which it is tried; by their names the numbers are knobs of config.py."""

    number: int
    name: str
    change: Callable[[GPT], None] | None  # in the model
    recipe: Mapping[str, Any]  # in the training
    loss: str  # on validation, measured on Tiny Shakespeare: benchmarks/results/rungs.json
    block_size: int = 64
    n_embd: int = 128
    n_head: int = 4
    n_layer: int = 4
    batch_size: int = 8
    max_iters: int = 500
    eval_interval: int = 250


RUNGS = (
    Rung(8, "the lecture's recipe, at a size for two cores", None, LECTURE, "2.292"),
    Rung(9, "rotary positions", turn_places, {}, "2.059"),
    Rung(10, "norms without weights, one more after the embedding", simplify_norms, {}, "2.053"),
    Rung(11, "queries and keys of one length", norm_queries_and_keys, {}, "2.037"),
    Rung(12, "ReLU squared", square_the_relu, {}, "2.030"),
    Rung(13, "no biases", drop_biases, {}, "2.026"),
    Rung(14, "beginning at nothing", begin_at_nothing, {}, "2.027"),
    Rung(
        15, "Muon for the matrices", None,
        of_modern("optimizer", "matrix_lr", "momentum", "weight_decay"), "1.934",
    ),
    Rung(
        16, "a bolder AdamW for the rest", None,
        of_modern("learning_rate", "beta1", "beta2", min_lr=MODERN["learning_rate"], grad_clip=1.0), "1.970",
    ),
    Rung(17, "a rate that falls to zero", None, of_modern("schedule", "min_lr"), "1.808"),
    Rung(18, "shuffled passes over the text", None, of_modern("batches"), "1.790"),
)  # fmt: skip
FIRST, LAST = RUNGS[0].number, RUNGS[-1].number


def up_to(rung: Rung) -> tuple[Rung, ...]:
    """The rungs it stands on, and itself."""
    return (*RUNGS[: rung.number - FIRST], rung)


def make_model(rung: Rung, vocab_size: int) -> GPT:
    """The lecture's GPT with every departure up to this rung."""
    model = GPT(ModelConfig.of({**asdict(rung), "layout": "classic", "vocab_size": vocab_size}))
    for departure in up_to(rung):
        if departure.change:
            departure.change(model)
    return model


def make_recipe(rung: Rung, max_iters: int | None = None, seed: int = 1337) -> TrainConfig:
    """The lecture's numbers with every departure up to this rung."""
    settings = {**asdict(rung), "seed": seed}
    if max_iters is not None:
        settings["max_iters"] = max_iters
    for departure in up_to(rung):
        settings |= departure.recipe
    return TrainConfig.of(settings)


# ---- Climbing --------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def mean_loss(model: GPT, data: torch.Tensor, most: int | None = None) -> float:
    """Nats a character over windows side by side: all of them, or `most`, evenly spaced."""
    losses = [(model(xb, yb)[1].item(), yb.numel()) for xb, yb in windows(data, model.config.block_size, most)]
    return sum(loss * n for loss, n in losses) / sum(n for _, n in losses)


def train_rung(
    text: str, rung: Rung, device: Device, seed: int = 1337, max_iters: int | None = None
) -> Iterator[dict[str, Any]]:
    """Train one rung, yielding a dict an evaluation; the last has `parameters`, `seconds` and a `sample` too.

    Losses are of 200 windows, and at the end the validation loss is that of all the held-out text.
    """
    check_length(text, rung)
    tokenizer = make_tokenizer(text)
    train, val = (part.to(device.type) for part in split(tokenizer.encode_array(text)))  # (N,), (N / 9,)
    shape = ModelConfig.of({**asdict(rung), "layout": "classic", "vocab_size": tokenizer.vocab_size})
    config = settled(make_recipe(rung, max_iters, seed), shape, len(text))
    torch.manual_seed(seed)
    start = time.perf_counter()
    model = make_model(rung, tokenizer.vocab_size).to(device.type)
    take_step = Step(model, config, device)
    generator = torch.Generator().manual_seed(seed)  # the same batches on every rung but the last
    get_batch = make_get_batch(train, rung.block_size, config, generator)

    for step in range(config.max_iters + 1):
        last = step == config.max_iters
        if step % config.eval_interval == 0 or last:
            train_loss, val_loss = mean_loss(model, train, 200), mean_loss(model, val, 200)
            event = {"stage": rung.number, "step": step, "train_loss": train_loss, "val_loss": val_loss}
            if last:
                break
            yield event
        xb, yb = get_batch(step)  # (B, T), (B, T)
        take_step(xb, yb, get_lr(step, config))

    event["val_loss"] = mean_loss(model, val)
    event["seconds"] = time.perf_counter() - start
    event["parameters"] = model.count_parameters()
    ids = generate(model, [0], SampleConfig(length=300, temperature=1.0, seed=seed))
    yield event | {"sample": tokenizer.decode(ids)}


def print_rungs(text: str, number: int | None, device: Device, max_iters: int | None = None, seed: int = 1337) -> None:
    """Print one rung, or with None all of them, as it trains."""
    if number is not None and not FIRST <= number <= LAST:
        raise NanoGPTError(f"stage was {number}; it must be a whole number from 1 to {LAST}.")
    for rung in RUNGS if number is None else [RUNGS[number - FIRST]]:
        for event in train_rung(text, rung, device, seed, max_iters):
            print_event(event, rung.name, f"measured on Tiny Shakespeare: {rung.loss}")
