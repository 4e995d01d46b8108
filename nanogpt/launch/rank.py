"""Train as one of the other ranks of a run: `python -m nanogpt.launch.rank`, started by the trainer or by torchrun.

It prints nothing and writes no file. If it fails, it tells rank 0 why.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from ..config import NanoGPTError
from ..errors import open_streams, say
from ..processes import joined
from ..ranks import Lost
from ..runs import Run
from ..train import follow, own_device
from .trainer import user_message


def main() -> NoReturn:
    """Follow rank 0 until it ends, then end this process.

    It ends at once, because it has nothing to save, and Python's own exit sometimes aborts while threads of the
    connection still run ("terminate called without an active exception").
    """
    open_streams()
    status = follow_to_the_end()
    sys.stderr.flush()
    os._exit(status)


def follow_to_the_end() -> int:
    """Follow rank 0 until it ends, and return the exit status."""
    try:
        ranks, name = joined(own_device)
    except NanoGPTError as error:
        say(str(error), sys.stderr)
        return 1
    try:
        follow(Run(name), ranks)
    except Lost:  # rank 0 was killed, or says why itself
        return 1
    except Exception as error:
        ranks.leave(f"Process {ranks.rank + 1} of {ranks.size}: {user_message(error)}")
        return 1
    ranks.leave()
    return 0


if __name__ == "__main__":
    main()
