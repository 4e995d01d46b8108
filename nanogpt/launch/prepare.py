"""Prepare a run for training: resolve its preset, check its settings and write its folder.

`new_run` creates a run's folder; `to_continue` prepares an existing run to be resumed. Neither starts a trainer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .. import corpus, limits, memory
from ..config import MOST_STEPS, ModelConfig, NanoGPTError, TrainConfig, duration, knobs
from ..disk import write_whole
from ..durations import in_words, short
from ..formats import config_files, kind_of, read_config
from ..model import count_parameters
from ..presets import check_known, pick, preset
from ..runs import STOPPED_EARLY, Run, Status, Taken, free_name, job, open_job
from ..tokenizer import Tokenizer, unit
from .pace import known_costs
from .plan import Plan, choose, fits, fitting, measure_once

ONE_LENGTH = "Give either a budget or max_iters, not both."


@dataclass(frozen=True)
class Recipe:
    """All settings of a run: its preset's, the ones you changed, and those that depend on the text."""

    preset: str
    model: ModelConfig
    train: TrainConfig
    tokenizer: Tokenizer
    plan: Plan | None = None  # for a time budget
    planning: float = 0.0  # seconds it took to choose the plan
    costs: Mapping[str, float] = field(default_factory=dict)  # of samples and saves in earlier runs, in seconds


def new_run(
    name: str, text: corpus.Corpus, preset_name: str | None = None, owner: str | None = None, **changes: Any
) -> Run:
    """Create a run's folder, with a preset's settings and `changes` to them.

    The preset is quick by default or, with a time budget, timed. Without a name, the run gets a free one like the
    text's, chosen only when the plan is ready: another start may be first. `owner` is the id of the visitor who owns
    the run, on a public server. Raise NanoGPTError if a setting is out of range or doesn't go with the preset, if there
    is already a run with this name, or if the run needs more than the free memory or the server's limits.
    """
    return write(name, text, checked(text, preset_name, changes), owner)


def for_elsewhere(
    name: str, text: corpus.Corpus, preset_name: str, changes: dict[str, Any], more: Mapping[str, str]
) -> Run:
    """Create the folder of a run that another machine trains, with the files `more`. It measures nothing here.

    With a time budget, the model is a provisional one until that machine calls `settle`. Raise NanoGPTError if a
    setting is out of range or the name is taken.
    """
    return write(name, text, resolve(text, preset_name, changes, here=False), more=more)


def settle(run: Run, text: corpus.Corpus, preset_name: str, changes: dict[str, Any]) -> None:
    """Settle the settings of a run made by `for_elsewhere` on the machine that trains it, which is this one.

    Raise NanoGPTError if it lacks the memory.
    """
    recipe = checked(text, preset_name, changes)
    for file, content in files_of(recipe).items():
        write_whole(run.folder / file, content)
    run.change(**settings_of(text, recipe, run.settings()["owner"]))


def checked(text: corpus.Corpus, preset_name: str | None, changes: dict[str, Any]) -> Recipe:
    """Return the full settings of a run on this machine. Raise NanoGPTError like `new_run`, but not for its name."""
    recipe = resolve(text, preset_name, changes)
    check(recipe, text)
    return recipe


def resolve(text: corpus.Corpus, preset_name: str | None, changes: dict[str, Any], here: bool = True) -> Recipe:
    """Return the full settings for a preset and `changes`, given this text and, if it trains `here`, this machine."""
    check_known(changes)
    changes = {key: value for key, value in changes.items() if value not in (None, "")}
    key, model, train = pick(preset_name, changes)
    if train.budget and "max_iters" in changes:
        raise NanoGPTError(ONE_LENGTH)
    kind_of(model.features)  # fails before measuring if config.json can't describe the layout
    tokenizer, tokens = text.tokenizer(), text.tokens()
    recipe = Recipe(key, model, train, tokenizer)
    if train.budget and here:
        recipe = choose_by_time(recipe, text.characters, len(tokens), changes)
    return replace(recipe, model=fitting(recipe.model, tokenizer, tokens))


def choose_by_time(recipe: Recipe, characters: int, tokens: int, changes: dict[str, Any]) -> Recipe:
    """Return the recipe with a model and number of steps that fit its time budget; settings in `changes` stay."""
    measure_once(str(changes.get("device") or "auto"))
    began = time.perf_counter()
    plan = choose(recipe.train.budget, recipe.tokenizer.vocab_size, tokens, changes, unit(recipe.tokenizer))
    planning = round(time.perf_counter() - began, 3)
    plan = replace(plan, promises=fits(plan, characters, recipe.tokenizer))
    model, train = preset("timed").configs(**plan.settings)
    costs = known_costs(model, train)
    return replace(recipe, model=model, train=train, plan=plan, planning=planning, costs=costs)


def check(recipe: Recipe, text: corpus.Corpus) -> None:
    """Raise NanoGPTError if the run exceeds the server's limits or the free memory."""
    limits.check_model(recipe.model, count_parameters(recipe.model))
    limits.check_seconds(recipe.train.budget)
    memory.check(recipe.model, recipe.train, text.tokens())


def write(
    name: str, text: corpus.Corpus, recipe: Recipe, owner: str | None = None, more: Mapping[str, str] | None = None
) -> Run:
    """Write the run folder, with `more` files in it. Raise Taken if a name is given and taken."""
    settings, files = settings_of(text, recipe, owner), {**files_of(recipe), **(more or {})}
    chosen = name or free_name(text.name)
    while True:
        try:
            return Run.create(chosen, settings, files)
        except Taken:  # by another start, perhaps, unless the name still counts as free
            refused, chosen = chosen, name or free_name(text.name)
            if chosen == refused:
                raise


def files_of(recipe: Recipe) -> dict[str, str]:
    """Return the files of a run folder that describe the model and the vocabulary."""
    return {**config_files(recipe.model), **recipe.tokenizer.files(recipe.model.block_size)}


def settings_of(text: corpus.Corpus, recipe: Recipe, owner: str | None) -> dict[str, Any]:
    """Return the part of run.json that depends on the text and the recipe."""
    about = dict(id=text.id, name=text.name, sha256=text.sha256, characters=text.characters)
    plan = str(recipe.plan) if recipe.plan else None
    settings: dict[str, Any] = dict(preset=recipe.preset, plan=plan, corpus=about, owner=owner)
    settings["train"] = recipe.train.as_dict()
    if recipe.planning:
        settings["planning"] = recipe.planning  # seconds of the budget used before training starts
    if recipe.costs:
        settings["costs"] = dict(recipe.costs)
    if recipe.plan and recipe.plan.promises:
        settings["promise"] = round(recipe.plan.val_loss, 3)  # nats per character; the page updates it while it trains
    return settings


def to_continue(run: Run, max_iters: int | None = None, budget: float | None = None) -> None:
    """Check that a run can be resumed on this machine, and set its new length if one is given.

    `budget` is in seconds. Raise NanoGPTError if the run can't be resumed, or not for this length.
    """
    train = resumable(run, max_iters, budget)
    text = run.settings()["corpus"]
    tokens = corpus.load(text["id"], text["name"]).tokens()
    memory.check(read_config(run.folder), train, tokens)  # the run may come from a larger machine
    if train.budget and budget is not None:
        limits.check_seconds(train.budget - run.history().seconds)
    set_length(run, train)


def resumable(run: Run, max_iters: int | None = None, budget: float | str | None = None) -> TrainConfig:
    """Return the training settings of a run that is resumed, on any machine, with its new length if one is given.

    Nothing is changed yet: see `set_length`. Raise NanoGPTError if the run can't be resumed, or not for this length.
    """
    status, before = run.status(), TrainConfig.of(run.settings()["train"])
    if status.busy:
        raise NanoGPTError(f"{run.name} is still {status.state}. Wait until it ends, or stop it first.")
    if run.is_being_cleaned_up():
        raise NanoGPTError(job.CLEANING.format(run.name))
    if (there := open_job(run.folder)) and not there.is_out_of_reach:
        raise NanoGPTError(f"{run.name} trains on Hugging Face Jobs; wait until it is back.")
    if reason := refusal(run, status, before):
        raise NanoGPTError(reason)
    text = run.settings()["corpus"]
    corpus.load(text["id"], text["name"])
    longer = new_length(before, status.max_iters, max_iters, budget)
    train = TrainConfig.of({**before.as_dict(), **longer})
    check_length(run.name, status, before, train)
    return train


def set_length(run: Run, train: TrainConfig) -> None:
    """Write the settings that `resumable` returned, if the run's length has changed."""
    if train != TrainConfig.of(run.settings()["train"]):
        known = {} if train.budget else dict(promise=None)  # the loss was promised for a time
        run.change(train=train.as_dict(), **known)


def refusal(run: Run, status: Status, before: TrainConfig) -> str:
    """Return why a run that isn't training can't be resumed, whatever its new length; "" if it can."""
    if run.lacks_checkpoint():
        return f"{run.name} has no checkpoint, so it can't be resumed. You can still sample from it."
    if status.state == "finished" and ended_by_patience(run, status, before):
        return f"{run.name} was overfitting when it ended, so training longer won't help. Start a new run."
    return ""


def ended_by_patience(run: Run, status: Status, before: TrainConfig) -> bool:
    """Return True if a finished run had used up its patience, so that it would end again before the next step."""
    last = (run.history().events or [{}])[-1]
    if "overfitting" in last:
        return bool(last["overfitting"])
    # an older run shows it by its length or, if it is timed, by its message
    return str(last.get("message", "")).startswith(STOPPED_EARLY) if before.budget else status.step < before.max_iters


def extension(status: Status, before: TrainConfig, more: str) -> dict[str, Any]:
    """Return the new length of a finished run that trains for `more`: a time such as "1m", or a number of steps.

    A run that isn't finished keeps its length. Raise NanoGPTError if `more` is neither.
    """
    value, known = str(more or "").strip(), {one.name: one for one in knobs(TrainConfig)}
    if status.state != "finished":
        return {}
    if before.budget:
        if not (seconds := duration(value or "0")):
            raise NanoGPTError("Enter how much longer to train, for example 1m.")
        return dict(budget=known["budget"].parse(short(before.budget + seconds), "The training time in all"))
    steps = value.removesuffix("steps").strip().replace(",", "")
    if not (steps.isascii() and steps.isdigit() and int(steps)):
        raise NanoGPTError(
            f"Couldn't read {value[:40]!r} as a number of steps. Enter how many more to train, e.g. 500."
        )
    return dict(max_iters=known["max_iters"].parse(status.step + int(steps), "The number of steps in all"))


def new_length(before: TrainConfig, steps: int, max_iters: int | None, budget: float | str | None) -> dict[str, float]:
    """Return the settings that a resumed run changes. `steps` is how many its old budget was expected to last.

    `budget` is in seconds, or a time as the command line takes it, such as "4m". With `max_iters`, a timed run becomes
    one of so many steps, as a new run would. Raise NanoGPTError if both are given, or if the budget can't be read.
    """
    longer: dict[str, float] = {}
    if budget is not None:
        longer["budget"] = TrainConfig.of({**before.as_dict(), "budget": budget}).budget
    if max_iters is not None:
        if longer.get("budget"):
            raise NanoGPTError(ONE_LENGTH)
        return dict(max_iters=max_iters, budget=0.0)
    if before.budget and longer.get("budget"):  # only the weight decay depends on the number of steps
        longer["max_iters"] = min(max(1, round(steps * longer["budget"] / before.budget)), MOST_STEPS)
    return longer


def check_length(name: str, status: Status, before: TrainConfig, train: TrainConfig) -> None:
    """Raise NanoGPTError if the run has no steps or no time left: `before` are its old settings, `train` the new ones.

    A crashed run may have used up its old budget. It is resumed to be finished, so only a new budget has to be larger.
    """
    finished = status.state == "finished"
    if train.budget:
        if finished and train.budget <= before.budget:
            raise NanoGPTError(
                f"{name} has used its {in_words(before.budget)}. Give a larger budget, the total, to resume it."
            )
        if train.budget != before.budget and train.budget <= status.seconds:  # it would end before the next step
            trained = in_words(status.seconds)
            raise NanoGPTError(
                f"{name} has already trained for {trained}. Give a larger budget, the total, to resume it."
            )
        return
    if train.max_iters < status.step:
        raise NanoGPTError(f"{name} is already at step {status.step:,}. max_iters must be larger than that.")
    if finished and train.max_iters == status.step:
        raise NanoGPTError(f"{name} has reached its last step, {status.step:,}. Give a larger max_iters to resume it.")
