"""Choose the model that ends best on this machine in a given time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from .. import limits
from ..config import MOST_STEPS, ModelConfig, NanoGPTError, TrainConfig
from ..data import fitting_block_size
from ..device import Device, pick_device
from ..durations import in_words
from ..holdout import epochs, train_length, train_tokens
from ..layout import shape
from ..model import count_parameters
from ..presets import PRESETS
from ..timetable import overhead
from ..tokenizer import Tokenizer, token_lengths, unit
from . import gpu_plan, pace, sizes
from .gpu_plan import GpuSize
from .sizes import MEASURED_LAYOUT, SIZES, Size

FIRST_TRIAL = 0.3  # seconds that the first trial may need, most of it to load libraries
LEAST, MOST = 1.0, 86400.0  # seconds: the shortest and the longest budget of a new run
MOST_PLANNING = 2.0  # seconds: the longest time to choose a model in
Configs = tuple[ModelConfig, TrainConfig]
S = TypeVar("S", Size, GpuSize)
# settings that change neither the loss nor the time
HARMLESS = {"layout", "budget", "device", "seed", "snapshots", "patience", "eval_interval"}


@dataclass(frozen=True)
class Plan:
    """The model and the number of steps chosen for a time budget on this machine."""

    settings: dict[str, Any]
    parameters: int
    val_loss: float  # to expect on a text like Tiny Shakespeare, in nats per character
    unit: str = "character"  # the word for a token in messages
    promises: bool = True  # whether that loss says something about this text and these settings
    epochs: float = 0.0
    asked: float = 0.0  # the budget in seconds; more than the settings' own if that would only overfit

    @property
    def shortened(self) -> str:
        """Return a sentence if the run will end before its budget does, or ""."""
        if self.settings["budget"] >= self.asked:
            return ""
        return f" It stops after {in_words(self.settings['budget'], rough=True)}: training longer would only overfit."

    def __str__(self) -> str:
        s = self.settings
        layout = "" if s["layout"] == MEASURED_LAYOUT else f" from the {MEASURED_LAYOUT} architecture"
        loss = f"{self.val_loss:.2f}{layout} on English like Tiny Shakespeare."
        return (
            f"{shape(s['n_layer'], s['n_head'], s['n_embd'])}, context {s['block_size']} {self.unit}s: "
            f"{self.parameters:,} parameters. About {s['max_iters']:,} steps of {s['batch_size']} sequences, "
            f"{self.epochs:.1f} epochs.{self.shortened}"
        ) + (f" Expect a validation loss of about {loss}" if self.promises else "")


def choose(budget: float, vocab_size: int, tokens: int, given: Mapping[str, Any], word: str = "character") -> Plan:
    """Choose a model and the number of steps for a budget in seconds, by measuring steps for at most a tenth of it.

    On a GPU, only the speed of a matrix product is measured, once. `tokens` is the length of the text, `word` the word
    for a token in messages. Settings in `given` are kept, and the others are chosen to go with them. Raise NanoGPTError
    if the budget is below a second or above a day, or if no size goes with the settings.
    """
    if budget < LEAST:
        raise NanoGPTError(f"{budget:g} seconds is too short. Give at least 1 second; 10 seconds or more is better.")
    if budget > MOST:
        raise NanoGPTError("A new run trains for at most 24 hours. Extend it once it has ended.")
    recipe = {"layout": MEASURED_LAYOUT, **given, "budget": budget}
    found = _choice(recipe, vocab_size, tokens)
    size, model, train = found.size, found.model, found.train
    reads = epochs(found.steps * train.batch_size * model.block_size, tokens)
    usual = set(given) <= HARMLESS
    known = usual and recipe["layout"] == MEASURED_LAYOUT and tokens >= sizes.MEMORIZED
    # epochs; where it is known that more would only overfit, end before the budget does
    most = max(size.most, reads * LEAST / budget) if known else reads
    used = min(1.0, most / reads)
    max_iters = min(max(20, int(used * found.steps)), MOST_STEPS)
    settings = size.settings | recipe | dict(block_size=model.block_size, max_iters=max_iters)
    settings["budget"] = min(budget, round(used * budget, 1)) if used < 1 else budget
    promises = usual and _is_measured(size, settings) and min(reads, most) <= found.epochs
    often = epochs(max_iters * train.batch_size * model.block_size, tokens)
    return Plan(settings, count_parameters(model), found.val_loss, word, promises, often, budget)


@dataclass(frozen=True)
class Choice:
    """The size chosen for a time budget, with its configs, and what a run that uses up the budget would do."""

    size: Size | GpuSize
    model: ModelConfig
    train: TrainConfig
    steps: float
    val_loss: float  # to expect on a text like Tiny Shakespeare
    epochs: float  # for which that loss was measured


def _choice(recipe: dict[str, Any], vocab_size: int, tokens: int) -> Choice:
    """Choose a size for the device that the recipe names."""
    device = pick_device(str(recipe.get("device") or "auto"))
    if device.type == "cuda" and not device.elsewhere:
        return _on_a_gpu(recipe, vocab_size, tokens, device)
    return _on_a_cpu(recipe, vocab_size, tokens)


def _is_measured(size: Size | GpuSize, settings: Mapping[str, Any]) -> bool:
    """Return True if these settings are the ones that a size was measured with."""
    return size.settings.items() <= settings.items()


def _on_a_cpu(recipe: dict[str, Any], vocab_size: int, tokens: int) -> Choice:
    """Choose by measuring training steps, if there is time to."""
    budget = recipe["budget"]
    made, trained = _all_sizes(SIZES, recipe, vocab_size, tokens), budget - overhead(budget)
    seconds = step_times(made, trained, min(MOST_PLANNING, 0.1 * budget))
    size = best_size(made, seconds, trained)
    return Choice(size, *made[size], 0.85 * budget / seconds[size], size.loss(trained / seconds[size]), sizes.EPOCHS)


def _on_a_gpu(recipe: dict[str, Any], vocab_size: int, tokens: int, device: Device) -> Choice:
    """Choose by the speed of one matrix product."""
    made, rate = _all_sizes(gpu_plan.SIZES, recipe, vocab_size, tokens), gpu_plan.product_speed(device)
    trained = recipe["budget"] - overhead(recipe["budget"])
    steps: dict[GpuSize, float] = {}
    reads: dict[GpuSize, float] = {}  # epochs
    for size, (model, train) in made.items():
        steps[size] = trained / gpu_plan.step_seconds(model.n_layer, pace.step_flops(model, train.batch_size), rate)
        reads[size] = epochs(steps[size] * train.batch_size * model.block_size, tokens)
    size = gpu_plan.choose_size(reads, tokens)
    return Choice(size, *made[size], steps[size], size.val_loss, size.most)


def _all_sizes(offered: Sequence[S], recipe: dict[str, Any], vocab_size: int, tokens: int) -> dict[S, Configs]:
    """Return the configs of each size with the recipe's settings.

    Raise NanoGPTError if no size goes with them, or if all are too large for this server.
    """
    made: dict[S, Configs] = {}
    problem, held_out = None, tokens - train_length(tokens)
    for size in offered:
        try:
            model, train = _configs(size.settings | recipe, vocab_size)
            model = replace(model, block_size=fitting_block_size(held_out, model.block_size))
            if limits.is_public():  # before anything is measured, which takes memory
                limits.check_model(model, count_parameters(model))
        except NanoGPTError as error:  # such as an n_embd that isn't a multiple of this size's n_head
            problem = problem or error
            continue
        made[size] = model, train
    if not made and problem:
        raise problem
    return made


def step_times(made: Mapping[Size, Configs], trained: float, allowed: float) -> dict[Size, float]:
    """Return the seconds per step of each size: measured for the best one if `allowed` seconds suffice, else guessed.

    `trained` is how many seconds a run will train, which decides what is best. What was measured earlier takes no time.
    While another run trains here, only that counts: a trial would be slow, and this run will have the machine alone.
    If nothing is known, a trial is made nevertheless, and kept for as long as runs train here.
    """
    until = time.perf_counter() + allowed
    flops = {size: pace.step_flops(model, train.batch_size) for size, (model, train) in made.items()}
    times = lambda speed_of: {size: flops[size] / rate for size in made if (rate := speed_of(*made[size]))}
    shared, known = pace.is_shared(), times(pace.known_speed)
    known = known or (times(pace.speed_beside) if shared else {})
    if known and shared:
        return sizes.fill(flops, known)
    if not known and allowed < FIRST_TRIAL:  # too short to measure anything
        smallest = min(made, key=flops.__getitem__)
        return sizes.fill(flops, {smallest: flops[smallest] / sizes.SLOW})
    best = lambda seconds: best_size(made, seconds, trained)
    measure = lambda size: flops[size] / pace.speed(*made[size], (until - time.perf_counter()) / 4)
    return sizes.search(flops, known, best, measure, lambda seconds: time.perf_counter() + seconds <= until)


def best_size(made: Mapping[Size, Configs], seconds: Mapping[Size, float], trained: float) -> Size:
    """Return the size that reaches the lowest loss in `trained` seconds, given the seconds per step of each.

    With a batch of another size than the curves were measured with, count the steps by their tokens.
    """
    worth = {size: seconds[size] * size.tokens / _tokens(*made[size]) for size in seconds}
    return sizes.best(worth, trained)


def _tokens(model: ModelConfig, train: TrainConfig) -> int:
    return train.batch_size * model.block_size


def fits(plan: Plan, characters: int, tokenizer: Tokenizer) -> bool:
    """Return True if the losses measured on Tiny Shakespeare say something about a plan for a text.

    The text has to be long enough not to be memorized, and mostly in Latin letters; a character has to be a token.
    """
    letters = [token for token in tokenizer.stoi if token.isalpha()]
    latin = sum(token.isascii() for token in letters)
    same = plan.promises and plan.settings["layout"] == MEASURED_LAYOUT and unit(tokenizer) == "character"
    return same and characters >= sizes.GUESSED and 2 * latin > len(letters)


def fitting(model: ModelConfig, tokenizer: Tokenizer, tokens: np.ndarray) -> ModelConfig:
    """Return the settings of a model for a text: its vocabulary, and a context that fits its validation set."""
    held_out = len(tokens) - train_tokens(tokens, token_lengths(tokenizer))
    return replace(model, vocab_size=tokenizer.vocab_size, block_size=fitting_block_size(held_out, model.block_size))


def lowered(changes: Mapping[str, Any], model: ModelConfig) -> str:
    """Return a sentence if the context of a model is shorter than the `changes` ask for, or ""."""
    if model.block_size >= int(changes.get("block_size") or 0):
        return ""
    return f"block_size was lowered to {model.block_size}, so that the validation set holds two windows."


def measure_once(wanted: str) -> None:
    """Measure what `choose` needs before the clock starts: on a GPU its speed, once per machine."""
    device = pick_device(wanted)
    if device.type == "cuda" and not device.elsewhere:
        gpu_plan.product_speed(device)


def _configs(settings: dict[str, Any], vocab_size: int) -> tuple[ModelConfig, TrainConfig]:
    model, train = PRESETS["timed"].configs(**settings)
    return replace(model, vocab_size=vocab_size), train
