"""The command line: one file per group of commands.

`main.main(arguments)` runs one command and returns its exit status; both `nanogpt` and `python -m nanogpt` call it.
Flags are parsed before any heavy import: torch and gradio load only when a command needs them, so `--help` is fast.
"""

__all__ = ["main"]
