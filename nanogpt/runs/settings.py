"""The settings of a run as a file to load again, and as the command line that repeats the run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from .. import corpus
from ..config import PLANNED, PRESETS, Config, ModelConfig, NanoGPTError, Preset, TrainConfig, knobs, preset
from ..formats import read_config
from .run import Run

FLAGS = {k.name: k.flag for config in (ModelConfig, TrainConfig) for k in knobs(config)}


def values(*configs: Config) -> dict[str, Any]:
    """Return the settings of some configs by name."""
    return {k.name: getattr(config, k.name) for config in configs for k in knobs(type(config))}


def settings_of(run: Run) -> dict[str, Any]:
    """Return the preset of a run and all its settings, flat: what a settings file holds and the form is filled with."""
    settings = run.settings()
    chosen = settings.get("preset") if settings.get("preset") in PRESETS else next(iter(PRESETS))
    return dict(preset=chosen, **values(read_config(run.folder), TrainConfig.of(settings["train"])))


def settings_json(run: Run) -> str:
    """Return `settings_of` as the text of a file."""
    return json.dumps(settings_of(run), indent=1) + "\n"


def read_settings(data: bytes) -> dict[str, Any]:
    """Return every setting, from a settings file. NanoGPTError says what is wrong with it."""
    try:
        given = json.loads(data.decode("utf-8-sig")) if len(data) <= 100_000 else None
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise NanoGPTError("This is not a settings file; it should be the JSON file that Settings saves.")
    if unknown := [key[:40] for key in given if key not in FLAGS and key != "preset"]:
        more = f" and {len(unknown) - 5:,} more" if len(unknown) > 5 else ""
        raise NanoGPTError(f"The settings file has what is no setting: {', '.join(unknown[:5])}{more}.")
    return complete(given)


def complete(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return every setting when some are given: the others come from the preset, the first one if none is named."""
    changes = dict(given)
    chosen = changes.pop("preset", next(iter(PRESETS)))
    if not isinstance(chosen, str) or chosen not in PRESETS:
        raise NanoGPTError(f"There is no preset {str(chosen)[:40]!r}; there are {', '.join(PRESETS)}.")
    return dict(preset=chosen, **values(*preset(chosen).configs(**changes)))


# ---- the command that repeats the run --------------------------------------------------------------------------------


def command(run: Run) -> str:
    """Return the command line that repeats the run: its text, its preset, and the flags that make a difference."""
    wanted = settings_of(run)
    name = wanted.pop("preset")
    flags = needed_flags(preset(name), wanted)
    words = ["python", "-m", "nanogpt", "train", *_text(run), "--preset", name]
    return shlex.join([*words, *(word for key, value in flags.items() for word in (FLAGS[key], str(value)))])


def needed_flags(chosen: Preset, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return those of the settings without which the preset would give others.

    One setting may decide another, so a flag goes only if all settings stay as they were. With a time budget the steps
    were a guess, and the sizes were measured: another machine or moment would choose otherwise, so these are kept.
    """
    by_the_clock = bool(wanted["budget"])
    if by_the_clock:
        wanted = {**wanted, "max_iters": chosen.settings["max_iters"]}
    flags = dict(wanted)
    for name in wanted:
        fewer = {key: value for key, value in flags.items() if key != name}
        if not (by_the_clock and name in PLANNED) and _gives(chosen, fewer, wanted):
            flags = fewer
    return flags


def _gives(chosen: Preset, flags: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Return whether a preset with these flags comes to the settings that are wanted."""
    try:
        return values(*chosen.configs(**flags)) == wanted
    except NanoGPTError:
        return False


def _text(run: Run) -> list[str]:
    about = run.settings()["corpus"]
    try:
        return ["--text", corpus.reference(corpus.load(about["id"]))]
    except NanoGPTError:  # deleted, or never here: its file, as it was called
        return [f"./{about['name']}" if about["name"].startswith("-") else about["name"]]
