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
from ..presets import PLANNED, PRESETS, Preset, preset
from .run import Run

FLAGS = {k.name: k.flag for config in (ModelConfig, TrainConfig) for k in knobs(config)}


def values(*configs: Config) -> dict[str, Any]:
    """Return the settings in `configs`, by name."""
    return {k.name: getattr(config, k.name) for config in configs for k in knobs(type(config))}


def settings_of(run: Run) -> dict[str, Any]:
    """Return a run's preset and all its settings in one flat dict, as stored in a settings file."""
    settings = run.settings()
    chosen = settings.get("preset") if settings.get("preset") in PRESETS else next(iter(PRESETS))
    if settings["train"].get("budget"):
        chosen = "timed"  # only this preset has a time budget, which a run may also be given when it is resumed
    return dict(preset=chosen, **values(read_config(run.folder), TrainConfig.of(settings["train"])))


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
    """Fill in missing settings from the preset, by default the first one. Raise NanoGPTError if one is invalid."""
    changes = dict(given)
    chosen = changes.pop("preset", next(iter(PRESETS)))
    if not isinstance(chosen, str) or chosen not in PRESETS:
        raise NanoGPTError(f"There is no preset {str(chosen)[:40]!r}. Choose one of {', '.join(PRESETS)}.")
    return dict(preset=chosen, **values(*preset(chosen).configs(**changes)))


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
    Without, but with a preset that has one, the number of steps says so, even if it is the preset's.
    """
    by_the_clock = bool(wanted["budget"])
    kept = set(PLANNED) if by_the_clock else {"max_iters"} if chosen.settings.get("budget") else set()
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
