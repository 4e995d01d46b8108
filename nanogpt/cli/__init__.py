"""The command line: one function per command, which prints its result on stdout.

`main.main(arguments)` runs one command and returns its exit status; `python -m nanogpt` calls it.
Commands import torch only when they run, so `--help` needs none.
"""

__all__ = ["main"]
