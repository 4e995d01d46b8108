"""The parser that all commands share, and flags for the settings in config.py."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

from ..config import Knob, ModelConfig, SampleConfig, TrainConfig, knobs

HEADINGS = {ModelConfig: "Model", TrainConfig: "Training", SampleConfig: "Sampling"}


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors that point to --help."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. See {self.prog} --help.\n")


class Command(Protocol):
    """The type of a function that adds a command to the parser and returns the parser for its flags."""

    def __call__(self, name: str, run: Any) -> Parser: ...


def add_knobs(parser: argparse.ArgumentParser, *configs: type, defaults: Mapping[str, Any] | None = None) -> None:
    """Add a flag for every setting, and show `defaults`, or the setting's own, in --help.

    The flags themselves default to None, so that the preset's value applies.
    """
    shown = defaults or {}
    for config in configs:
        group = parser.add_argument_group(HEADINGS[config], (config.__doc__ or "").splitlines()[0])
        for k in knobs(config):
            typical = f" Typical: {k.usual}." if k.usual else ""
            group.add_argument(
                k.flag,
                metavar=metavar(k),
                help=f"{k.help}{typical} [{shown.get(k.name, k.default)}]".replace("%", "%%"),
            )


def metavar(k: Knob) -> str:
    """Return the placeholder for a flag's value in --help: its choices, TIME, or its type."""
    if k.name == "budget":
        return "TIME"
    return "{" + ",".join(k.choices) + "}" if k.choices else k.kind.__name__.upper()


def settings_in(arguments: argparse.Namespace, *configs: type) -> dict[str, Any]:
    """Return the settings given on the command line, by name."""
    names = [k.name for config in configs for k in knobs(config)]
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}
