"""`ladder`: the lecture's models one after another, and the way from there to the modern recipe."""

from __future__ import annotations

import argparse

from .flags import Command


def ladder_command(arguments: argparse.Namespace) -> int:
    """Train the lecture's models one after another, starting from the bigram model.

    On two CPU cores stages 1 to 6 take about two minutes. Stage 7 is the lecture's last model, and without a GPU only
    trained when it is asked for. Stages 8 to 18 go from the lecture's recipe to the modern one, each with one
    departure more; each takes about half a minute.
    """
    from .. import corpus
    from ..device import pick_device
    from ..lecture import STAGES, print_ladder
    from ..rungs import print_rungs

    text, stage = corpus.read_text(arguments.file), arguments.stage
    device = pick_device(arguments.device)
    if arguments.modern or stage is not None and stage not in STAGES:
        print_rungs(text, stage, device, arguments.max_iters, arguments.seed)
    else:
        print_ladder(text, stage, device.type, arguments.max_iters, arguments.seed)
        if stage is None:
            print("From here to the modern recipe, stages 8 to 18, it goes with --modern.")
    return 0


def add_commands(command: Command) -> None:
    """Add `ladder` with its flags."""
    ladder = command("ladder", ladder_command)
    ladder.add_argument("file", metavar="FILE", help="a text")
    which = ladder.add_mutually_exclusive_group()
    which.add_argument("--stage", type=int, help="only this stage, 1 to 18")
    which.add_argument(
        "--modern", action="store_true", help="stages 8 to 18 in place of 1 to 7: about five minutes on a CPU"
    )
    ladder.add_argument("--max-iters", type=int, help="shorter or longer than the stage's own number of steps")
    ladder.add_argument("--seed", type=int, default=1337)
    ladder.add_argument("--device", default="auto", help="auto, cuda, mps or cpu [auto]")
