"""`train`: a new run, or one to resume, trained in this process."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import Any

from ..config import PRESETS, ModelConfig, NanoGPTError, TrainConfig
from ..runs import Run, free_name
from .flags import PROGRAM, Command, add_knobs, settings_in


def train_command(arguments: argparse.Namespace) -> int:
    """Train on files, or on a built-in text if you name none; --resume continues a run."""
    changes = settings_in(arguments, ModelConfig, TrainConfig)
    if arguments.resume is not None:
        return follow(run_to_resume(arguments, changes))
    return follow(new_run(arguments, changes))


def run_to_resume(arguments: argparse.Namespace, changes: dict[str, Any]) -> Run:
    """Return the run to resume, made longer if that was asked for."""
    from ..launch import prepare

    new = arguments.files or arguments.text or arguments.name or arguments.preset
    if new or set(changes) - {"max_iters", "budget"}:
        raise NanoGPTError("A resumed run keeps its text and settings; only --max-iters or --budget can be given anew.")
    run = Run(arguments.resume)
    prepare.to_continue(run, changes.get("max_iters"), changes.get("budget"))
    return run


def new_run(arguments: argparse.Namespace, changes: dict[str, Any]) -> Run:
    """Make a run of the text and the settings that were given, and print what it will train on."""
    from .. import corpus
    from ..formats import read_config
    from ..launch import prepare

    check_flags(arguments, changes)
    text = text_of(arguments) if arguments.files else corpus.find(arguments.text or "python-reference")
    run = prepare.new_run(arguments.name or free_name(text.name), text, arguments.preset or "quick", **changes)
    print(f"{run.name}: {text.name}, {text.characters:,} characters, {len(text.chars)} distinct", flush=True)
    fits = read_config(run.folder).block_size
    if fits < int(changes.get("block_size") or 0):
        print(f"block_size is {fits}: the held-out tenth of the text must hold two windows of it.", flush=True)
    if plan := run.settings()["plan"]:
        print(plan, flush=True)
    return run


def check_flags(arguments: argparse.Namespace, changes: dict[str, Any]) -> None:
    """Raise NanoGPTError if two flags contradict each other."""
    if arguments.files and arguments.text:
        raise NanoGPTError("Both a FILE and --text were given; give one of them.")
    if changes.get("budget") and arguments.preset not in (None, "timed"):
        raise NanoGPTError("A time budget chooses its own sizes; leave out --preset, or give --max-iters instead.")
    if changes.get("budget") and "max_iters" in changes:
        raise NanoGPTError("Both --budget and --max-iters were given, and with a budget the clock decides; give one.")


def text_of(arguments: argparse.Namespace):
    """Store the files as one text and return it. What was assumed or repaired on the way goes to stderr."""
    from .. import corpus

    text = corpus.add(list(arguments.files), encoding=arguments.encoding, decline=arguments.keep or ())
    for sentence in text.notes:
        print(sentence, file=sys.stderr)
    return text


def follow(run: Run) -> int:
    """Train in this process. Ctrl-C saves and says how to resume; a second one quits at once."""
    from ..launch import trainer

    run.stop_file.unlink(missing_ok=True)  # a stale request; from here on a stop is meant

    def ask_to_stop(*_):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        print("\nStopping at the next step; once more ends at once, without saving.", file=sys.stderr, flush=True)
        run.request_stop()

    signal.signal(signal.SIGINT, ask_to_stop)
    code = trainer.main(run.name)
    status = run.status()
    if code:
        raise NanoGPTError(status.message)
    if status.state == "stopped":
        print(f"{status.message} Go on with: {PROGRAM} train --resume {run.name}", file=sys.stderr)
        return 130
    samples = run.history().samples
    print(f"\n{samples[-1]['text']}\n\nWrite with it: {PROGRAM} sample {run.name}")
    return 0


def add_commands(command: Command) -> None:
    """Add `train` with its flags."""
    train = command("train", train_command)
    train.add_argument(
        "files", nargs="*", metavar="FILE", help="text files; without one, the Python Language Reference"
    )
    train.add_argument("--text", metavar="TEXT", help="in place of FILE: a built-in text's key, or a stored one's id")
    train.add_argument("--encoding", help="the files' encoding, such as cp1252; found out where it is not given")
    train.add_argument(
        "--keep", nargs="*", metavar="REPAIR", help="repairs not to do, such as line-endings or gutenberg"
    )
    train.add_argument("--name", help="the run's name; made from the text's where it is not given")
    train.add_argument("--preset", help=f"{', '.join(PRESETS)} [quick]")
    train.add_argument("--resume", metavar="NAME", help="go on with a run exactly where it was")
    add_knobs(train, ModelConfig, TrainConfig)
