"""`ladder`: train the lecture's models one after another, then each step from there to the modern recipe."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from ..config import NanoGPTError, TrainConfig
from .flags import Command
from .texts import text_in


def ladder_command(arguments: argparse.Namespace) -> int:
    """Train the lecture's models one after another, starting from the bigram model.

    Stages 1 to 6 take about two minutes on two CPU cores. Stage 7 is the lecture's final model; without a GPU it runs
    only if you ask for it with --stage 7. Stages 8 to 18 turn the lecture's recipe into the modern one, one change per
    stage, at about half a minute each.
    """
    from ..device import pick_device
    from ..lecture import STAGES, print_ladder
    from ..rungs import print_rungs

    TrainConfig(seed=arguments.seed)  # raises if it is out of range
    stage = arguments.stage
    text = text_in([arguments.file], arguments.encoding)
    device = pick_device(arguments.device)
    if arguments.json:
        return print_events(text, arguments, device)
    if arguments.modern or stage is not None and stage not in STAGES:
        print_rungs(text, stage, device, arguments.max_iters, arguments.seed)
    else:
        print_ladder(text, stage, device.type, arguments.max_iters, arguments.seed)
        if stage is None:
            print("Run with --modern for stages 8 to 18, which lead to the modern recipe.")
    return 0


def print_events(text: str, arguments: argparse.Namespace, device: Any) -> int:
    """Print every evaluation as a line of JSON: stage, step and losses, at the end of a stage with a sample.

    If the last stage of the lecture is left out, say so on stderr.
    """
    from ..lecture import LADDER, SKIPPED, train_stage
    from ..rungs import train_rung

    wanted = stages_in(arguments, device)
    for one in wanted:
        how = (arguments.seed, arguments.max_iters)
        events = train_stage(text, one, device.type, *how) if one in LADDER else train_rung(text, one, device, *how)
        for event in events:
            print(json.dumps(event, ensure_ascii=False), flush=True)
    if arguments.stage is None and not arguments.modern and len(wanted) < len(LADDER):
        print(SKIPPED, file=sys.stderr)
    return 0


def stages_in(arguments: argparse.Namespace, device: Any) -> Sequence[Any]:
    """Return the stages that the flags ask for, by default those of the lecture that are practical on the device."""
    from ..lecture import LADDER, stages_for
    from ..rungs import RUNGS

    if arguments.stage is None:
        return RUNGS if arguments.modern else stages_for(device.type)
    wanted = [one for one in (*LADDER, *RUNGS) if one.number == arguments.stage]
    if not wanted:
        raise NanoGPTError(f"stage was {arguments.stage}; it must be a whole number from 1 to {RUNGS[-1].number}.")
    return wanted


def add_commands(command: Command) -> None:
    """Add `ladder` with its flags."""
    ladder = command("ladder", ladder_command)
    ladder.add_argument("file", metavar="FILE", help="a text file")
    ladder.add_argument("--encoding", help="encoding of the file, e.g. cp1252; detected automatically by default")
    which = ladder.add_mutually_exclusive_group()
    which.add_argument("--stage", type=int, help="train only this stage, 1 to 18")
    which.add_argument(
        "--modern", action="store_true", help="train stages 8 to 18 instead of 1 to 7: about five minutes on a CPU"
    )
    ladder.add_argument("--json", action="store_true", help="print every evaluation as a line of JSON")
    ladder.add_argument("--max-iters", type=int, help="override the number of steps per stage")
    ladder.add_argument("--seed", type=int, default=1337, help="random seed [%(default)s]")
    ladder.add_argument("--device", default="auto", help="auto, cuda, mps or cpu [auto]")
