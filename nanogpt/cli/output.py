"""What the commands print: a stdout whose errors can be told from those of other files."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any

from ..errors import discard_output


class Unwritable(OSError):
    """Raised when stdout can't be written: its disk is full, say, or the program that reads it has exited."""

    @property
    def is_unread(self) -> bool:
        """True if the program that reads it has exited, as `head` does, so that nothing is wrong."""
        return self.errno == errno.EPIPE


class Output:
    """A stream whose writes raise Unwritable: by itself, an OSError doesn't say that it is about this stream."""

    def __init__(self, stream: Any):
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @property
    def buffer(self) -> Output:
        """The stream of bytes below one of text."""
        return Output(self.stream.buffer)

    def write(self, part: Any) -> int:
        """Write text, or bytes to a stream of bytes."""
        try:
            return self.stream.write(part)
        except OSError as error:
            raise Unwritable(error.errno, error.strerror) from None

    def writelines(self, parts: Iterable[Any]) -> None:
        """Write the parts, one after another."""
        for part in parts:  # which may be read from a file that can't be read
            self.write(part)

    def flush(self) -> None:
        """Write what is still buffered."""
        try:
            self.stream.flush()
        except OSError as error:
            raise Unwritable(error.errno, error.strerror) from None

    def end(self) -> None:
        """Write what is still buffered, or discard it: Python would try again when it exits, and complain."""
        try:
            self.flush()
        except Unwritable:
            discard_output(self.stream)
