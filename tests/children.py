"""Start scripts as processes of their own and talk to them line by line, for the tests of locks and of the queue."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def process(script: str, *arguments: object) -> Iterator[subprocess.Popen]:
    """Run a Python script until the block ends, then kill it."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def said(child: subprocess.Popen) -> str:
    """Return the next line that a script prints."""
    return child.stdout.readline().strip()


def tell(child: subprocess.Popen) -> None:
    """Let a script that waits for a line go on."""
    child.stdin.write("\n")
    child.stdin.flush()
