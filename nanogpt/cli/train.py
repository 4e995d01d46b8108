"""`train`: start a new run or resume one, in this process."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import Any

from ..config import ModelConfig, NanoGPTError, TrainConfig
from ..durations import short
from ..paths import DEVICES, PROGRAM, slug
from ..presets import PLANNED, PRESETS, preset
from ..runs import Run, free_name, queue
from .flags import Command, add_knobs, settings_in
from .progress import progress_bar

DEFAULT = next(iter(PRESETS))  # the page's, too
MOST = 64  # processes


def train_command(arguments: argparse.Namespace) -> int:
    """Train a model on your files, or on a built-in text if you give none. --resume continues a run."""
    changes = settings_in(arguments, ModelConfig, TrainConfig)
    if int(os.environ.get("RANK", 0)) > 0:  # another process that torchrun has started
        from ..launch import rank

        rank.main()
    if not 1 <= arguments.processes <= MOST:
        raise NanoGPTError(f"processes was {arguments.processes}; it must be between 1 and {MOST}.")
    run = run_to_resume(arguments, changes) if arguments.resume is not None else new_run(arguments, changes)
    return follow(run, arguments.processes)


def run_to_resume(arguments: argparse.Namespace, changes: dict[str, Any]) -> Run:
    """Return the run to resume, extended if --max-iters or --budget says so."""
    from ..launch import prepare

    new = arguments.files or arguments.text or arguments.name or arguments.preset
    if new or set(changes) - {"max_iters", "budget"}:
        raise NanoGPTError("A resumed run keeps its text and settings; you can change only --max-iters or --budget.")
    run = Run(arguments.resume)
    prepare.to_continue(run, changes.get("max_iters"), changes.get("budget"))
    return run


def new_run(arguments: argparse.Namespace, changes: dict[str, Any]) -> Run:
    """Create a run from the command line's text and settings, and print what it will train on."""
    from .. import corpus
    from ..formats import read_config
    from ..launch import prepare

    check_flags(arguments, changes)
    name = name_for(arguments.name)
    text = text_of(arguments) if arguments.files else corpus.find(arguments.text or "python-reference")
    chosen = arguments.preset or ("quick" if "max_iters" in changes else DEFAULT)
    run = prepare.new_run(name or free_name(text.name), text, chosen, **changes)
    print(f"{run.name}: {text.name}, {text.characters:,} characters, {len(text.chars)} unique", flush=True)
    fits = read_config(run.folder).block_size
    if fits < int(changes.get("block_size") or 0):
        print(f"block_size was lowered to {fits}, so that the validation set holds two windows.", flush=True)
    if plan := run.settings()["plan"]:
        print(plan, flush=True)
    return run


def name_for(wanted: str | None) -> str:
    """Return a name for a run that may be a path, saying so if it differs from the one that was asked for.

    Raise NanoGPTError if there is nothing to keep of it, or a run already has it.
    """
    name = slug(wanted or "")
    if wanted and name != wanted:
        if not name:
            raise NanoGPTError(f"{wanted!r} can't be used as a name. Use letters, digits and hyphens, e.g. my-run.")
        reason = (
            "Windows can't have that folder"
            if wanted in DEVICES
            else "names consist of lower-case letters, digits and hyphens"
        )
        print(f"The run is named {name}, because {reason}.")
    if name and Run(name).exists():
        resume = f"{PROGRAM} train --resume {name}"
        raise NanoGPTError(f"There is already a run named {name}. Choose another --name, or resume it: {resume}")
    return name


def check_flags(arguments: argparse.Namespace, changes: dict[str, Any]) -> None:
    """Raise NanoGPTError if two flags contradict each other."""
    if arguments.files and arguments.text:
        raise NanoGPTError("Give either a FILE or --text, not both.")
    if changes.get("budget") and arguments.preset not in (None, "timed"):
        raise NanoGPTError(
            "--budget chooses the model itself. Leave out --preset, or use --max-iters instead of --budget."
        )
    if changes.get("budget") and "max_iters" in changes:
        raise NanoGPTError("Give either --budget or --max-iters, not both.")


def text_of(arguments: argparse.Namespace):
    """Store the files as one text and return it. Notes about its encoding and clean-up go to stderr."""
    from .. import corpus

    text = corpus.add(list(arguments.files), encoding=arguments.encoding, decline=arguments.keep or ())
    for sentence in text.notes:
        print(sentence, file=sys.stderr)
    return text


def follow(run: Run, processes: int = 1) -> int:
    """Train in this process. The first Ctrl-C saves and stops; the second quits without saving."""
    from ..launch import trainer

    queue.draw(run.name)  # this process is the launcher, too

    def ask_to_stop(*_):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        print("\nStopping after this step ... (Ctrl-C again to quit without saving)", file=sys.stderr, flush=True)
        run.request_stop()

    signal.signal(signal.SIGINT, ask_to_stop)
    with progress_bar(run):
        code = trainer.main(run.name, processes=processes)
    status = run.status()
    if code and status.busy:  # by another trainer, as was just said
        return 2
    if code:
        raise NanoGPTError(status.message)
    if status.state == "stopped":
        print(f"{status.message} Resume with: {PROGRAM} train --resume {run.name}", file=sys.stderr)
        return 130
    samples = run.history().samples
    print(f"\n{samples[-1]['text']}\n\nTry it: {PROGRAM} sample {run.name}")
    return 0


def add_commands(command: Command) -> None:
    """Add `train` with its flags."""
    train = command("train", train_command)
    train.add_argument("files", nargs="*", metavar="FILE", help="text files; default: the Python Language Reference")
    train.add_argument(
        "--text", metavar="TEXT", help="use a built-in text (by key) or a stored one (by id) instead of FILE"
    )
    train.add_argument("--encoding", help="encoding of the files, e.g. cp1252; detected automatically by default")
    train.add_argument("--keep", nargs="*", metavar="REPAIR", help="clean-ups to skip, e.g. line-endings, gutenberg")
    train.add_argument("--name", help="name of the run; default: the text's name")
    train.add_argument("--preset", help=f"{', '.join(PRESETS)} [{DEFAULT}, or quick with --max-iters]")
    train.add_argument(
        "--processes", type=int, default=1, metavar="N", help="share each batch among N processes on this machine [1]"
    )
    train.add_argument("--resume", metavar="NAME", help="resume a run exactly where it stopped")
    model, recipe = preset(DEFAULT).configs()
    fixed = {**model.as_dict(), **recipe.as_dict(), **dict.fromkeys(PLANNED, "chosen to fit the time")}
    fixed |= dict(max_iters="as many as fit the time", budget=short(recipe.budget))
    add_knobs(train, ModelConfig, TrainConfig, defaults=fixed)
