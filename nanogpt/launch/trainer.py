"""Run the training loop in a process of its own: `python -m nanogpt.launch.trainer NAME`.

With `--wait` instead of a name, the process imports torch first and then reads the run's name from stdin, so that Start
responds at once.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback

from .. import disk, limits
from ..config import NanoGPTError
from ..errors import explain, lacks_memory, open_streams, say, shortage
from ..paths import without_folders
from ..runs import Busy, Run, queue

LONGEST = 1000  # characters of another program's error in a message; torch's may be longer


def user_message(error: Exception) -> str:
    """Turn an exception into a user-facing message."""
    error = shortage(error) or error
    if isinstance(error, NanoGPTError):
        return str(error)
    if lacks_memory(error):
        return "Out of memory. Halve batch_size, or reduce n_embd, n_layer or block_size."
    if isinstance(error, OSError):
        return explain(error)
    message = without_folders(str(error))[:LONGEST]
    return f"{type(error).__name__}: {message} (see log.txt for details)"


def main(name: str, alone: bool = False, processes: int = 1) -> int:
    """Train a run, with several processes if asked to, and return the exit status.

    Errors are recorded in the run folder as a short message, and with their traceback in log.txt.
    """
    run = Run(name)
    try:
        with queue.arrived(name):  # until the end is logged, so that no other trainer begins before
            return attempt(run, alone, processes)
    except Busy as error:
        say(str(error), sys.stderr)
    except OSError as error:  # the queue's folder can't be written to, or can't lock files
        record(run, error)
    return 1


def attempt(run: Run, alone: bool, processes: int = 1) -> int:
    """Train a run whose only trainer this process is, and return the exit status. Errors are recorded in its folder."""
    try:
        run.stop_file.unlink(missing_ok=True)  # clear a stale stop request
        if not alone:
            queue.wait_for_place(run.name, 1)  # torch takes 250 MB, so only the next run imports it while it waits
        import_all()
        from ..processes import number
        from ..train import train
        from . import pace

        train(run, limits.limit("NANOGPT_MAX_SECONDS"), alone, processes)
    except queue.Withdrawn:
        run.cancel()
        return 0
    except Busy:
        raise
    except Exception as error:
        record(run, error)
        return 1
    if max(processes, number()[1]) == 1:  # a plan is for one process
        with contextlib.suppress(NanoGPTError, OSError):  # it may have been renamed or deleted since
            pace.learned_from(run)
    return 0


def import_all() -> None:
    """Import what training needs, which takes seconds, so that a run begins as soon as its turn has come."""
    import torch

    from . import plan  # noqa: F401, and with it the training loop

    with torch.device("meta"):  # as where a model's parameters are counted: torch imports this only when it is used
        pass

    with contextlib.suppress(ImportError):  # if that file was deleted, runs train with the plain step
        from ..fast import cpu  # noqa: F401

    if sys.platform == "darwin":  # device.py tries an Apple GPU with one of torch's optimizers, which imports this
        import torch._dynamo


def record(run: Run, error: Exception) -> None:
    """Record why a run failed: a message in the run folder, and the traceback in log.txt.

    On a full disk there may be no room for the message. Then empty log.txt, which is what can be spared; if that fails,
    print the message.
    """
    message, log = user_message(error), run.folder / "log.txt"
    kept = dict(step=error.step) if hasattr(error, "step") else {}  # where training failed, and wrote its best weights
    with contextlib.suppress(OSError), disk.opened(log, "ab") as file:
        file.write("".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace"))
    for make_room in (False, True):
        with contextlib.suppress(OSError):
            if make_room:
                os.truncate(log, 0)
            return run.event("failed", message=message, **kept)
    say(message, sys.stderr)


def wait_for_name() -> str:
    """Read a run's name from stdin and redirect output to its log. Return "" if the launcher has exited."""
    import_all()
    name = sys.stdin.readline().strip()
    if name:
        with disk.opened(Run(name).folder / "log.txt", "ab") as log:
            for stream_number in (1, 2):
                os.dup2(log.fileno(), stream_number)
    return name


if __name__ == "__main__":
    open_streams()
    chosen = wait_for_name() if sys.argv[1:] == ["--wait"] else sys.argv[1]
    sys.exit(main(chosen) if chosen else 0)
