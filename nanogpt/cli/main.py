"""The command line: read the flags of `nanogpt COMMAND` and run it.

The commands are train, sample, eval, explain, baselines, runs, export, ladder, push, pull, deploy, hardware and
serve. `python -m nanogpt` does the same. Commands print their result to stdout; an error is one line on stderr and exit
status 2.
"""

from __future__ import annotations

import argparse
import io
import sys

from .. import __version__
from ..errors import PROBLEMS, discard_output, explain, lacks_memory
from ..paths import PROGRAM, home
from . import baselines, hub, jobs, ladder, runs, sample, serve, train
from . import explain as views
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


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status. Print the help if there is no command."""
    for out in (sys.stdout, sys.stderr):
        if isinstance(out, io.TextIOWrapper):
            out.reconfigure(errors="replace")  # print ? for letters the terminal can't show
    try:
        commands = parser()  # fails if NANOGPT_HOME can't be a folder
        arguments = commands.parse_args(argv)
        if "run" not in arguments:
            commands.print_help()
            return 0
        return arguments.run(arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        discard_output()
        return 0
    except PROBLEMS as error:
        print(f"nanogpt: {explain(error)}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if not lacks_memory(error):
            raise
        print(f"nanogpt: {explain(MemoryError())}", file=sys.stderr)
        return 2
