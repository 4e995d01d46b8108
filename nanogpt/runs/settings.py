"""Save a run's settings to a file, load them again, and write the command line that reproduces the run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from .. import corpus
from ..config import Config, ModelConfig, NanoGPTError, TrainConfig, knobs
from ..disk import from_json
from ..formats import read_config
from ..paths import PROGRAM, slug
from ..presets import PLANNED, Preset, default_key, pick, preset, preset_key
from .run import Run

FLAGS = {k.name: k.flag for config in (ModelConfig, TrainConfig) for k in knobs(config)}


def values(*configs: Config) -> dict[str, Any]:
    """Return the settings in `configs`, by name."""
    return {k.name: getattr(config, k.name) for config in configs for k in knobs(type(config))}


def settings_of(run: Run) -> dict[str, Any]:
    """Return a preset and all settings of a run in one flat dict, as stored in a settings file."""
    settings = run.settings()
    train = TrainConfig.of(settings["train"])
    return dict(preset=key_for(settings.get("preset"), train.budget), **values(read_config(run.folder), train))


def key_for(named: Any, budget: float) -> str:
    """Return the key of the preset that settings are listed with: timed if they have a time budget, and only then.

    The preset that a run was started with may not fit: a resumed run may have got a budget or lost it, and the preset
    may be gone. Without a budget, the settings are then listed as changes to quick.
    """
    if budget:
        return "timed"
    with suppress(NanoGPTError):
        if (key := preset_key(named)) != "timed":
            return key
    return "quick"


def settings_json(run: Run) -> str:
    """Return the run's settings file."""
    return json.dumps(settings_of(run), indent=1) + "\n"


def read_settings(data: bytes) -> dict[str, Any]:
    """Return all settings from a settings file. Raise NanoGPTError if the file is not valid."""
    try:
        given = from_json(data) if len(data) <= 100_000 else None
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise NanoGPTError("That is not a settings file. Choose a JSON file that you saved here from a run.")
    if unknown := [key[:40] for key in given if key not in FLAGS and key != "preset"]:
        more = f" and {len(unknown) - 5:,} more" if len(unknown) > 5 else ""
        raise NanoGPTError(f"The settings file contains unknown settings: {', '.join(unknown[:5])}{more}.")
    return complete(given)


def complete(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in missing settings from the preset, by default the first one or, for steps, the quick one.

    Raise NanoGPTError if one is invalid, or if the preset doesn't go with the time budget, or with none.
    """
    changes = dict(given)
    named = changes.pop("preset", default_key(given))
    key, model, train = pick(preset_key(named), changes)
    return dict(preset=key_for(key, train.budget), **values(model, train))


# ---- the command that reproduces the run -----------------------------------------------------------------------------


def command(run: Run) -> str:
    """Return the command line that reproduces the run: its text, its preset, and the flags that differ from it."""
    wanted = settings_of(run)
    name = wanted.pop("preset")
    flags = needed_flags(preset(name), wanted)
    words = [*PROGRAM.split(), "train", *_text(run), "--preset", name]
    return shlex.join([*words, *(word for key, value in flags.items() for word in (FLAGS[key], str(value)))])


def needed_flags(chosen: Preset, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that need a flag, because the preset alone would give other values.

    One setting can change another's default, so drop a flag only if all settings stay the same. With a time budget the
    number of steps is an estimate, so it gets no flag; the sizes always get one, because they depend on the machine.
    """
    by_the_clock = bool(wanted["budget"])
    kept = set(PLANNED) if by_the_clock else set()
    if by_the_clock:
        wanted = {**wanted, "max_iters": chosen.settings["max_iters"]}
    flags = dict(wanted)
    for name in wanted:
        fewer = {key: value for key, value in flags.items() if key != name}
        if name not in kept and _gives(chosen, fewer, wanted):
            flags = fewer
    return flags


def _gives(chosen: Preset, flags: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Return True if the preset with these flags gives exactly the wanted settings."""
    try:
        return values(*chosen.configs(**flags)) == wanted
    except NanoGPTError:
        return False


def _text(run: Run) -> list[str]:
    about = run.settings()["corpus"]
    with suppress(NanoGPTError):  # it may not be here
        text = corpus.load(about["id"])
        if text.owner is None:  # the id of a visitor's copy is not for others
            return ["--text", corpus.reference(text)]
    key = corpus.DOWNLOADED.get(about["id"])
    return ["--text", key] if key else [text_file(about)]


def text_file(about: Mapping[str, Any]) -> str:
    """Return a name for the file of a text, given what run.json says about it."""
    return f"{slug(about['name']) or 'text'}.txt"
