"""The parser that all commands share, and flags for the settings in config.py."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

from ..config import Knob, ModelConfig, SampleConfig, TrainConfig, knobs
from ..paths import PROGRAM
from ..similar import did_you_mean

# Other words for flags, commands and views, from the page and from other programs
ALSO = {
    "steps": "--max-iters", "max-steps": "--max-iters", "iterations": "--max-iters", "time": "--budget",
    "architecture": "--layout", "context": "--block-size", "context-length": "--block-size", "width": "--n-embd",
    "list": "runs", "ls": "runs", "generate": "sample", "write": "sample", "evaluate": "eval",
    "resume": "train --resume", "continue": "train --resume", "web": "serve", "app": "serve", "ui": "serve",
    "runserver": "serve", "publish": "push", "upload": "push", "download": "pull", "space": "deploy", "help": "--help",
    "heads": "attention", "copy": "copies",
}  # fmt: skip
HEADINGS = {ModelConfig: "Model", TrainConfig: "Training", SampleConfig: "Sampling"}


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors that suggest what was meant and point to --help, and no abbreviated flags."""

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, **options)  # an abbreviation changes its meaning when flags are added

    def parse_args(self, args=None, namespace=None):  # type: ignore[override]
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            command = getattr(found, "parser", self)  # the one whose flags these should have been
            flag = unknown[0].partition("=")[0]
            suggestion = meant(flag, flags_of(command)) if flag.startswith("-") else ""
            command.error(f"unrecognized arguments: {' '.join(unknown)}{suggestion and f'; {suggestion}'}")
        return found

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            name = action.metavar or "/".join(action.option_strings) or action.dest
            names = [str(one) for one in action.choices]
            choices = f"it must be one of {', '.join(names)}"
            self.error(f"{name} was {value!r}; {meant(str(value), names) or choices}")

    def error(self, message: str) -> NoReturn:
        end = "" if message.endswith("?") else "."
        self.exit(2, f"{self.prog.replace(PROGRAM, 'nanogpt', 1)}: {message}{end} See {self.prog} --help.\n")


def flags_of(parser: argparse.ArgumentParser) -> list[str]:
    """Return the long flags of a parser."""
    return [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]


def meant(wanted: str, names: list[str]) -> str:
    """Return "did you mean ...?" for a word that is none of these flags or commands, or "" if there is no such name."""
    also = ALSO.get(wanted.strip("-").replace("_", "-").lower(), "")
    known = also == "--help" or also.partition(" ")[0] in names
    return f"did you mean {also}?" if known else did_you_mean(wanted, names)


class Command(Protocol):
    """The type of a function that adds a command to the parser and returns the parser for its flags."""

    def __call__(self, name: str, run: Any) -> Parser: ...


def add_knobs(parser: argparse.ArgumentParser, *configs: type, defaults: Mapping[str, Any] | None = None) -> None:
    """Add a flag for every setting, and show `defaults`, or the setting's own, in --help.

    The flags themselves default to None, so that the preset's value applies.
    """
    values = defaults or {}
    for config in configs:
        group = parser.add_argument_group(HEADINGS[config], (config.__doc__ or "").splitlines()[0])
        for k in knobs(config):
            typical = f" Typical: {k.usual}." if k.usual else ""
            group.add_argument(
                k.flag,
                metavar=metavar(k),
                help=f"{k.help}{typical} [{values.get(k.name, k.default)}]".replace("%", "%%"),
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
