"""The command line: one file per group of commands; each command prints its result on stdout.

`main.main(arguments)` runs one command and returns its exit status; `nanogpt` and `python -m nanogpt` call it.
Flags are read before anything heavy is imported: torch and gradio wait until a command needs them.
"""

__all__ = ["main"]
