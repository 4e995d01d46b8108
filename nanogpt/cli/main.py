"""The command line: read the flags of `nanogpt COMMAND` and run it.

The commands are train, sample, eval, explain, baselines, runs, export, ladder, push, pull, deploy, hardware and
serve. `python -m nanogpt` does the same. Commands print their result to stdout; an error is one line on stderr and exit
status 2.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from typing import TextIO

from .. import __version__
from ..config import NanoGPTError
from ..errors import PROBLEMS, discard_output, explain, shortage
from ..paths import PROGRAM, home
from . import baselines, explain as views, hub, jobs, ladder, runs, sample, serve, train
from .flags import Parser


def parser() -> Parser:
    """Build the parser, with all commands and their flags."""
    main = Parser(
        prog=PROGRAM,
        description="Train a GPT from scratch on your own text, and sample from it.",
        epilog=f"Runs and texts are stored in {home()}\n(set NANOGPT_HOME to use another folder).",
        formatter_class=argparse.RawDescriptionHelpFormatter,  # or argparse would wrap the path
    )
    main.add_argument("--version", action="version", version=f"nanogpt {__version__}")
    commands = main.add_subparsers(metavar="COMMAND", parser_class=Parser)

    def command(name, run):
        added = commands.add_parser(name, help=run.__doc__.splitlines()[0], description=run.__doc__)
        added.set_defaults(run=run, parser=added)
        return added

    for group in (serve, train, sample, views, runs, baselines, ladder, hub, jobs):
        group.add_commands(command)
    return main


def choose_encoding(*streams: TextIO) -> None:
    """Print ? for letters that a terminal can't show, and write files and pipes in UTF-8, which has all letters.

    On Windows, Python would write them in an encoding of 256 letters. PYTHONIOENCODING, if it is set, decides instead.
    """
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            theirs = stream.isatty() or os.environ.get("PYTHONIOENCODING")
            stream.reconfigure(encoding=None if theirs else "utf-8", errors="replace")


def write_out() -> None:
    """Write what stdout still buffers, before Python does it at its exit, where it would complain if that fails.

    Raise BrokenPipeError if the program that read it has exited, and NanoGPTError if its disk is full.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output(sys.stdout)
        raise NanoGPTError(f"The output can't be written: {error.strerror}.") from None


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status. Print the help if there is no command."""
    choose_encoding(sys.stdout, sys.stderr)
    try:
        commands = parser()  # fails if NANOGPT_HOME can't be a folder
        arguments = commands.parse_args(argv)
        if "run" not in arguments:
            commands.print_help()
            return 0
        status = arguments.run(arguments)
        write_out()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        discard_output()
        return 0
    except PROBLEMS as error:
        print(f"nanogpt: {explain(error)}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if not (found := shortage(error)):
            raise
        print(f"nanogpt: {explain(found)}", file=sys.stderr)
        return 2
