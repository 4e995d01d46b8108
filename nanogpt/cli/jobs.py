"""`train --on`: train on Hugging Face Jobs instead of this machine; and `hardware`, which lists what there is."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from ..config import NanoGPTError, duration
from ..runs import Run, open_job
from .flags import Command, Parser

if TYPE_CHECKING:
    from .. import corpus
    from ..jobs.start import Terms


def check_flags(arguments: argparse.Namespace) -> None:
    """Raise NanoGPTError if a flag says how to start a job and none is to be started."""
    if not arguments.on and (arguments.time_limit or arguments.yes):
        flag = "--time-limit" if arguments.time_limit else "--yes"
        raise NanoGPTError(f"{flag} is for a job on Hugging Face Jobs. Add --on HARDWARE, or leave it out.")


def is_there(name: str | None) -> bool:
    """Return True if a run has a job that has not come back."""
    return bool(name) and open_job(Run(str(name)).folder) is not None


def is_out_of_reach(name: str) -> bool:
    """Return True if a run's job must have ended and can't be followed, so that another one may resume the run."""
    there = open_job(Run(name).folder)
    return there is not None and there.is_out_of_reach


def terms(arguments: argparse.Namespace, text: corpus.Corpus, budget: float) -> Terms:
    """Return what a job for a new run costs and uploads, once that is confirmed."""
    from ..jobs import start
    from ..publish import account

    api, owner = account.signed_in(account.saved_token())
    return confirmed(start.terms(api, owner, arguments.on, text, budget, limit(arguments)), arguments.yes)


def terms_to_resume(arguments: argparse.Namespace, run: Run, changes: dict[str, Any]) -> Terms:
    """Return what a job that resumes a run costs and uploads, once that is confirmed."""
    from ..jobs import start
    from ..publish import account

    api, owner = account.signed_in(account.saved_token())
    return confirmed(start.terms_to_resume(api, owner, arguments.on, run, changes, limit(arguments)), arguments.yes)


def limit(arguments: argparse.Namespace) -> float | None:
    """Return --time-limit in seconds."""
    return duration(arguments.time_limit) if arguments.time_limit else None


def confirmed(terms: Terms, at_once: bool) -> Terms:
    """Print the terms of a job and return them once they are confirmed. Raise NanoGPTError if they aren't."""
    print(terms, flush=True)
    if at_once:
        return terms
    if not sys.stdin.isatty():
        raise NanoGPTError("Nothing was uploaded. Add --yes to accept this.")
    try:
        answer = input("Upload and start the job? [y/N] ")
    except EOFError:  # Ctrl-D
        answer = ""
        print()
    if answer.strip().lower() not in ("y", "yes"):
        raise NanoGPTError("Nothing was uploaded.")
    return terms


def hardware_command(arguments: argparse.Namespace) -> int:
    """List the hardware of Hugging Face Jobs that a run can train on, with its price per hour, cheapest first."""
    from ..jobs import offer
    from ..publish import account

    api, _ = account.signed_in(account.saved_token())
    for one in offer.hardware(api):
        print(f"{one.name:<18}{one.hourly:>18}  {one.about}")
    return 0


def add_flags(train: Parser) -> None:
    """Add the flags of `train` that are about Jobs."""
    group = train.add_argument_group(
        "Hugging Face Jobs", "Train on rented hardware, billed to your Hugging Face account."
    )
    group.add_argument("--on", metavar="HARDWARE", help="e.g. t4-small or a100-large; `hardware` lists them")
    group.add_argument(
        "--time-limit",
        metavar="TIME",
        help="the longest the job may run [10m more than --budget; 30m for a number of steps]",
    )
    group.add_argument("--yes", action="store_true", help="accept the highest cost and the upload without being asked")


def add_commands(command: Command) -> None:
    """Add `hardware`."""
    command("hardware", hardware_command)
