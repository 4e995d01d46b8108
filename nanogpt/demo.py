"""Shared by the modules that show what they do when run by themselves, such as `python -m nanogpt.lecture FILE`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .config import NanoGPTError
from .errors import PROBLEMS, discard_output, explain


@contextmanager
def text_of_argument() -> Iterator[str]:
    """Yield the text of the FILE on the command line of a module. Exit with a sentence if that fails."""
    if len(sys.argv) != 2:
        module = f"nanogpt.{Path(sys.argv[0]).stem}"
        sys.exit(f"usage: python -m {module} FILE    (for more options: python -m nanogpt --help)")
    try:
        yield _read(sys.argv[1])
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        discard_output()
    except PROBLEMS as error:
        sys.exit(explain(error))


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise NanoGPTError(f"{file} is not in UTF-8. Save it in this encoding, then try again.") from None
    except OSError as error:
        raise NanoGPTError(f"{file} can't be read ({error.strerror}). Choose a text file.") from None
