"""Print a report on a text of up to 20 MB: `python -m nanogpt.corpus FILE...`."""

from __future__ import annotations

import argparse

from ..errors import PROBLEMS, discard_output, explain
from . import ENCODINGS, REPAIRS
from .reading import read


def main() -> None:
    """Read the files as `add` reads small ones, and print a report on them. Exit with status 2 on an error."""
    parser = argparse.ArgumentParser(prog="python -m nanogpt.corpus", description="Report what is in a text.")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--encoding", help=f"one of {', '.join(ENCODINGS)}; detected automatically by default")
    parser.add_argument("--decline", nargs="*", default=(), choices=REPAIRS, help="clean-ups to skip")
    parser.add_argument("--accept", nargs="*", default=(), choices=REPAIRS, help="off-by-default clean-ups to apply")
    arguments = parser.parse_args()
    try:
        print(read(arguments.files, arguments.encoding, arguments.decline, arguments.accept).report())
    except BrokenPipeError:
        discard_output()
    except PROBLEMS as error:
        parser.exit(2, f"{explain(error)}\n")


if __name__ == "__main__":
    main()
