"""`python -m nanogpt.corpus FILE...` prints what is in a text."""

from __future__ import annotations

import argparse

from ..config import NanoGPTError
from . import ENCODINGS, REPAIRS
from .reading import read


def main() -> None:
    """Read the files as `add` does and print their report. Exit with status 2 on an error."""
    parser = argparse.ArgumentParser(prog="python -m nanogpt.corpus", description="What is in a text.")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--encoding", help=f"one of {', '.join(ENCODINGS)}; found out where it is not given")
    parser.add_argument("--decline", nargs="*", default=(), choices=REPAIRS, help="repairs not to do")
    parser.add_argument("--accept", nargs="*", default=(), choices=REPAIRS, help="repairs to do though off by default")
    arguments = parser.parse_args()
    try:
        print(read(arguments.files, arguments.encoding, arguments.decline, arguments.accept).report())
    except NanoGPTError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
