"""`baselines`: what counting models and compressors reach on a text, to compare a model's loss with."""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import TYPE_CHECKING, Any

from ..errors import say
from .flags import Command
from .texts import text_in

if TYPE_CHECKING:
    from ..explain.baselines import Counted


def baselines_command(arguments: argparse.Namespace) -> int:
    """Print what counting models and compressors reach on your text's validation set.

    They are fit to the first 90% of the text and judged on the rest, as a model is. Compare its loss with theirs.
    """
    from .. import corpus
    from ..explain.adaptive import MISSING, compressors
    from ..explain.baselines import BASELINES, MOST, count
    from ..holdout import train_length

    text = text_in(arguments.files, arguments.encoding)
    corpus.check(text)
    *_, found = count(text)
    if not compressors()["ppmd"]:
        say(MISSING, sys.stderr)
    if arguments.json:
        print(json.dumps(as_json(found, len(text)), indent=1))
        return 0
    held = found.characters - train_length(found.characters)
    part = f", of which {MOST:,} around the split are used" if len(text) > MOST else ""
    print(f"{len(text):,} characters{part}. Validation loss on {held:,} characters:\n")
    print(f"{'':<21}   nats    bits  per character")
    for key, loss in found.losses.items():
        one = BASELINES[key]
        more = "; keeps learning as it reads" if one.adaptive else ""
        print(f"{one.label:<21} {loss:6.4f}  {loss / math.log(2):6.3f}  {one.knows_of(found.losses)}{more}")
    return 0


def as_json(found: Counted, characters: int) -> dict[str, Any]:
    """Return what --json prints: the losses in nats per character, and how much of the text they are for."""
    return dict(characters=characters, counted=found.characters, losses=found.losses)


def add_commands(command: Command) -> None:
    """Add `baselines` with its flags."""
    added = command("baselines", baselines_command)
    added.add_argument("files", nargs="+", metavar="FILE", help="text files, joined in this order")
    added.add_argument("--encoding", help="encoding of the files, e.g. cp1252; detected automatically by default")
    added.add_argument("--json", action="store_true", help="print a JSON object")
