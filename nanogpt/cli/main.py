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
from contextlib import redirect_stdout
from typing import TextIO, cast

from .. import __version__
from ..errors import PROBLEMS, discard_output, explain, open_streams, say, shortage
from ..paths import PROGRAM, home
from . import baselines, explain as views, hub, jobs, ladder, runs, sample, serve, train
from .flags import Parser
from .output import Output, Unwritable


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


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status. Print the help if there is no command."""
    open_streams()
    choose_encoding(sys.stdout, sys.stderr)
    output = Output(sys.stdout)
    with redirect_stdout(cast(TextIO, output)):
        try:
            return run(argv)
        except KeyboardInterrupt:
            return 130
        except Unwritable as error:
            return unwritten(error)
        except PROBLEMS as error:
            say(f"nanogpt: {explain(error)}", sys.stderr)
            return 2
        except RuntimeError as error:
            if not (found := shortage(error)):
                raise
            say(f"nanogpt: {explain(found)}", sys.stderr)
            return 2
        finally:
            output.end()


def run(argv: list[str] | None) -> int:
    """Run one command, write what it prints, and return its exit status."""
    commands = parser()  # fails if NANOGPT_HOME can't be a folder
    try:
        arguments = commands.parse_args(argv)
    except SystemExit:  # argparse has printed the help, the version or what is wrong
        sys.stdout.flush()
        raise
    if "run" in arguments:
        status = arguments.run(arguments)
    else:
        commands.print_help()
        status = 0
    sys.stdout.flush()
    return status


def unwritten(error: Unwritable) -> int:
    """Return the exit status of a command whose output can't be written, and say why on stderr."""
    if error.is_unread:
        discard_output()
        return 0
    say(f"nanogpt: The output can't be written: {error.strerror}.", sys.stderr)
    return 2
