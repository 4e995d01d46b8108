"""What happens between Start and a trainer: the preset is resolved, everything is checked, the run folder is written.

`new_run` makes the folder of a new run, `to_continue` gets one ready that is to go on. Neither starts a trainer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from .. import corpus, limits
from ..config import ModelConfig, NanoGPTError, TrainConfig, knobs, preset
from ..data import fitting_block_size
from ..formats import config_files, kind_of, read_config
from ..model import count_parameters
from ..runs import Run, Status
from ..tokenizer import Tokenizer, unit
from .plan import Plan, check_memory, choose, measure_once


@dataclass(frozen=True)
class Recipe:
    """All the settings of a run: those of its preset, those that were changed, and those that follow from the text."""

    preset: str
    model: ModelConfig
    train: TrainConfig
    tokenizer: Tokenizer
    plan: Plan | None = None  # what was chosen for a time budget
    planning: float = 0.0  # seconds that took


def new_run(
    name: str, text: corpus.Corpus, preset_name: str = "quick", owner: str | None = None, **changes: Any
) -> Run:
    """Write the folder of a run that trains on a text with a preset's settings, some of them changed.

    `owner` is the visitor to whom it belongs, on a public server. Raise NanoGPTError if a setting is out of its range,
    the name is taken, or memory or the server's limits would not suffice.
    """
    recipe = resolve(text, preset_name, changes)
    check(recipe.model, recipe.train)
    return write(name, text, recipe, owner)


def resolve(text: corpus.Corpus, preset_name: str, changes: dict[str, Any]) -> Recipe:
    """Return the settings that a preset and some changes mean for this text and this machine."""
    known = [k.name for k in knobs(ModelConfig) + knobs(TrainConfig)]
    if unknown := [str(key) for key in changes if key not in known]:
        raise NanoGPTError(f"There is no setting {unknown[0]!r}; there are {', '.join(known)}.")
    changes = {key: value for key, value in changes.items() if value not in (None, "")}
    model, train = preset(preset_name).configs(**changes)
    kind_of(model.features)  # refuses a layout that no run folder can hold, before anything is measured
    if preset_name == "timed" and not train.budget:
        raise NanoGPTError("By the clock needs a time, such as 60s or 3m; without one choose another preset.")
    tokenizer, tokens = text.tokenizer(), len(text.tokens())
    recipe = Recipe(preset_name, model, train, tokenizer)
    if train.budget:
        recipe = choose_by_time(recipe, tokens, changes)
    block_size = fitting_block_size(tokens, recipe.model.block_size)
    return replace(recipe, model=replace(recipe.model, vocab_size=tokenizer.vocab_size, block_size=block_size))


def choose_by_time(recipe: Recipe, tokens: int, changes: dict[str, Any]) -> Recipe:
    """Return the recipe with sizes and steps that fit its time budget, except those that were given."""
    measure_once(str(changes.get("device") or "auto"))
    began = time.perf_counter()
    plan = choose(recipe.train.budget, recipe.tokenizer.vocab_size, tokens, changes, unit(recipe.tokenizer))
    planning = round(time.perf_counter() - began, 3)
    model, train = preset("timed").configs(**plan.settings)
    return replace(recipe, preset="timed", model=model, train=train, plan=plan, planning=planning)


def check(model: ModelConfig, train: TrainConfig) -> None:
    """Raise NanoGPTError if the server's limits or the free memory do not allow such a run."""
    limits.check_model(count_parameters(model))
    limits.check_seconds(train.budget)
    check_memory(model, train)


def write(name: str, text: corpus.Corpus, recipe: Recipe, owner: str | None = None) -> Run:
    """Write the run folder. Raise NanoGPTError if the name is taken."""
    about = dict(id=text.id, name=text.name, sha256=text.sha256, characters=text.characters)
    plan = str(recipe.plan) if recipe.plan else None
    settings: dict[str, Any] = dict(preset=recipe.preset, plan=plan, corpus=about, owner=owner)
    settings["train"] = recipe.train.as_dict()
    if recipe.planning:
        settings["planning"] = recipe.planning  # seconds that are gone already when the training starts
    files = {**config_files(recipe.model), **recipe.tokenizer.files(recipe.model.block_size)}
    return Run.create(name, settings, files)


def to_continue(run: Run, max_iters: int | None = None, budget: float | None = None) -> None:
    """Check that a run can go on, and set its new length if one is given. Raise NanoGPTError if it cannot."""
    status, before = run.status(), TrainConfig.of(run.settings()["train"])
    if status.busy:
        raise NanoGPTError(f"{run.name} is {status.state} already.")
    corpus.load(run.settings()["corpus"]["id"])
    if (run.folder / "model.safetensors").exists() and not (run.folder / "last.safetensors").exists():
        raise NanoGPTError(f"{run.name} came without its save, so it can write but not be trained on.")
    longer = {name: value for name, value in (("max_iters", max_iters), ("budget", budget)) if value is not None}
    if budget is not None and before.budget and max_iters is None:  # the clock decides; this is for the weight decay
        longer["max_iters"] = max(1, round(status.max_iters * budget / before.budget))
    train = TrainConfig.of({**before.as_dict(), **longer})
    check_length(run.name, status, before, train)
    check_memory(read_config(run.folder), train)  # it may have come from a larger machine
    if longer:
        limits.check_seconds(train.budget - status.seconds if train.budget else 0)
        run.change(train=train.as_dict())


def check_length(name: str, status: Status, before: TrainConfig, train: TrainConfig) -> None:
    """Raise NanoGPTError if a run whose settings were `before` and are now `train` has nothing left to do."""
    finished = status.state == "finished"
    if finished and not before.budget and status.step < before.max_iters:
        raise NanoGPTError(f"{name} stopped early, since it only learned its text by heart. Start a new run.")
    if train.budget:
        if finished and train.budget <= before.budget:
            raise NanoGPTError(f"{name} has used its {before.budget:g} seconds. Give a longer budget to go on.")
        return
    if train.max_iters < status.step:
        raise NanoGPTError(f"{name} is at step {status.step:,} already; max_iters must be larger.")
    if finished and train.max_iters == status.step:
        raise NanoGPTError(f"{name} has reached its last step, {status.step:,}. Give a larger max_iters to go on.")
