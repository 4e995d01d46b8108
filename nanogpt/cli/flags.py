"""The parser that all commands share, and flags for the settings in config.py."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

from ..config import Knob, ModelConfig, SampleConfig, TrainConfig, knobs
from ..paths import PROGRAM

HEADINGS = {ModelConfig: "Model", TrainConfig: "Training", SampleConfig: "Sampling"}


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors that suggest what was meant and point to --help, and no abbreviated flags."""

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, **options)  # an abbreviation changes its meaning when flags are added

    def parse_args(self, args=None, namespace=None):  # type: ignore[override]
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            command = getattr(found, "parser", self)  # the one whose flags these should have been
            flag, flags = unknown[0].partition("=")[0], flags_of(command)
            initials = [one for one in flags if "--" + "".join(word[:1] for word in one[2:].split("-")) == flag]  # --lr
            close = initials or difflib.get_close_matches(flag, flags, 1)
            meant = f"; did you mean {close[0]}?" if flag.startswith("--") and close else ""
            command.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
        return found

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            name = action.metavar or "/".join(action.option_strings) or action.dest
            close = difflib.get_close_matches(str(value), map(str, action.choices), 1)
            choices = f"it must be one of {', '.join(map(str, action.choices))}"
            self.error(f"{name} was {value!r}; {f'did you mean {close[0]}?' if close else choices}")

    def error(self, message: str) -> NoReturn:
        end = "" if message.endswith("?") else "."
        self.exit(2, f"{self.prog.replace(PROGRAM, 'nanogpt', 1)}: {message}{end} See {self.prog} --help.\n")


def flags_of(parser: argparse.ArgumentParser) -> list[str]:
    """Return the flags of a parser and of all its commands."""
    found: list[str] = []
    for action in parser._actions:
        found += action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            found += [flag for command in set(action.choices.values()) for flag in flags_of(command)]
    return found


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
