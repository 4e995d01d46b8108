"""What all commands share: the parser, and the settings of config.py as flags."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NoReturn, Protocol

from ..config import Knob, knobs

# How this command line was started, for the usage and for hints: `nanogpt` where it is installed, else the module.
PROGRAM = "nanogpt" if Path(sys.argv[0]).stem == "nanogpt" else "python -m nanogpt"


class Parser(argparse.ArgumentParser):
    """argparse with its errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. See {self.prog} --help.\n")


class Command(Protocol):
    """A function that adds a command to the parser and returns the parser of its flags."""

    def __call__(self, name: str, run: Any) -> Parser: ...


def add_knobs(parser: argparse.ArgumentParser, *configs: type) -> None:
    """Add a flag for every setting. Flags default to None, so that the preset's value applies."""
    for config in configs:
        group = parser.add_argument_group(config.__name__, (config.__doc__ or "").splitlines()[0])
        for k in knobs(config):
            usual = f" Usual: {k.usual}." if k.usual else ""
            group.add_argument(k.flag, metavar=metavar(k), help=f"{k.help}{usual} [{k.default}]".replace("%", "%%"))


def metavar(k: Knob) -> str:
    """Return what a flag takes, for --help: its choices, TIME, or a type."""
    if k.name == "budget":
        return "TIME"
    return "{" + ",".join(k.choices) + "}" if k.choices else k.kind.__name__.upper()


def settings_in(arguments: argparse.Namespace, *configs: type) -> dict[str, Any]:
    """Return the settings that were given on the command line, by name."""
    names = [k.name for config in configs for k in knobs(config)]
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}
