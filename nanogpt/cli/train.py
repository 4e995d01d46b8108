"""`train`: start a new run or resume one, in this process."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..config import ModelConfig, NanoGPTError, TrainConfig, duration
from ..durations import short
from ..errors import say
from ..paths import DEVICES, PROGRAM, slug
from ..presets import PLANNED, PRESETS, default_key, pick, preset, preset_key
from ..runs import Run, free_name, queue
from ..similar import similar
from . import jobs
from .flags import Command, add_knobs, settings_in
from .progress import progress_bar, with_progress

if TYPE_CHECKING:
    from ..corpus import Corpus

DEFAULT = default_key({})  # the page's, too
MOST = 64  # processes


def train_command(arguments: argparse.Namespace) -> int:
    """Train a model on your files, or on a built-in text if you give none. --resume continues a run."""
    changes = settings_in(arguments, ModelConfig, TrainConfig)
    if int(os.environ.get("RANK", 0)) > 0:  # another process that torchrun has started
        from ..launch import rank

        rank.main()
    if not 1 <= arguments.processes <= MOST:
        raise NanoGPTError(f"processes was {arguments.processes}; it must be between 1 and {MOST}.")
    jobs.check_flags(arguments)
    if arguments.on or jobs.is_there(arguments.resume):
        return train_there(arguments, changes)
    run = run_to_resume(arguments, changes) if arguments.resume is not None else new_run(arguments, changes)
    return follow(run, partial(train_here, run, arguments.processes), "quit without saving")


def run_to_resume(arguments: argparse.Namespace, changes: dict[str, Any]) -> Run:
    """Return the run to resume, extended if --max-iters or --budget says so."""
    from ..launch import prepare

    check_kept(arguments, changes)
    run = Run(arguments.resume)
    prepare.to_continue(run, **changes)
    return run


def check_kept(arguments: argparse.Namespace, changes: dict[str, Any]) -> None:
    """Raise NanoGPTError if anything but the length of a resumed run is to be changed."""
    new = arguments.files or arguments.text or arguments.name or arguments.preset
    if new or read_by(arguments) or set(changes) - {"max_iters", "budget"}:
        raise NanoGPTError("A resumed run keeps its text and settings; you can change only --max-iters or --budget.")


def new_run(arguments: argparse.Namespace, changes: dict[str, Any]) -> Run:
    """Create a run from the command line's text and settings, and print what it will train on."""
    from ..launch import gpu_plan, prepare

    check_flags(arguments, changes)
    name = name_for(arguments.name)
    text = text_of(arguments)
    gpu_plan.measure_here(str(changes.get("device") or "auto"))
    run = prepare.new_run(name, text, preset_of(arguments, changes), **changes)
    describe(run.name, text, arguments)
    say_lowered(run, changes)
    if plan := run.settings()["plan"]:
        say(plan)
    return run


def preset_of(arguments: argparse.Namespace, changes: dict[str, Any]) -> str:
    """Return the key of the preset that was asked for, or that goes with the other flags."""
    return default_key(changes) if arguments.preset is None else preset_key(arguments.preset)


def describe(name: str, text: Corpus, arguments: argparse.Namespace) -> None:
    """Print what a new run trains on, and what could be done about it."""
    say(f"{name}: {text.name}, {text.characters:,} characters, {len(text.chars)} unique")
    for sentence in advice_on(text, arguments):
        say(sentence)


def say_lowered(run: Run, changes: dict[str, Any]) -> None:
    """Print it if the text is too short for the context that was asked for."""
    from ..formats import read_config
    from ..launch import plan

    if sentence := plan.lowered(changes, read_config(run.folder)):
        say(sentence)


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
        say(f"The run is named {name}, because {reason}.")
    if name and Run(name).exists():
        resume = f"{PROGRAM} train --resume {name}"
        raise NanoGPTError(f"There is already a run named {name}. Choose another --name, or resume it: {resume}")
    return name


def check_flags(arguments: argparse.Namespace, changes: dict[str, Any]) -> None:
    """Raise NanoGPTError if two flags contradict each other."""
    if arguments.files and arguments.text:
        raise NanoGPTError("Give either a FILE or --text, not both.")
    if not arguments.files and (flags := read_by(arguments)):
        raise NanoGPTError(f"{flags[0]} says how to read a FILE, so name one, or leave it out.")
    if both := sorted({*arguments.keep} & {*arguments.clean}):
        raise NanoGPTError(f"{both[0]} is in --clean and in --keep. Leave it out of one of them.")
    timed = duration(changes.get("budget", "0")) > 0
    if timed and preset_of(arguments, {}) != "timed":
        raise NanoGPTError(
            "--budget chooses the model itself. Leave out --preset, or use --max-iters instead of --budget."
        )
    if timed and "max_iters" in changes:
        raise NanoGPTError("Give either --budget or --max-iters, not both.")


def read_by(arguments: argparse.Namespace) -> list[str]:
    """Return those of the flags that say how to read a file which were given."""
    return [f"--{flag}" for flag in ("field", "encoding", "keep", "clean") if getattr(arguments, flag)]


def text_of(arguments: argparse.Namespace) -> Corpus:
    """Return the text to train on. Files are stored as one text; notes about its encoding and clean-up go to stderr."""
    from .. import corpus

    if not arguments.files:
        return named_text(arguments.text or "python-reference")
    for name in arguments.files:
        if name in corpus.BUILTINS and not os.path.lexists(name):
            raise NanoGPTError(f"There is no file {name}. For the built-in text, use --text {name}.")
    how = dict(encoding=arguments.encoding, decline=arguments.keep, accept=arguments.clean, field=arguments.field)
    text = with_progress(corpus.adding(list(arguments.files), **how))
    for sentence in text.notes:
        say(sentence, sys.stderr)
    return text


def advice_on(text: Corpus, arguments: argparse.Namespace) -> list[str]:
    """Return what could be done about a text that was read from files, in sentences."""
    if not arguments.files or text.reading is None:
        return []
    offered = [one for one in text.reading.repairs if not one.applied and one.key not in arguments.keep]
    more = [f"{one.label} To do so, add --clean {one.key}." for one in offered]
    advice = [one.replace("choose another encoding", "choose another --encoding") for one in text.report().advice]
    return more + advice


def named_text(reference: str) -> Corpus:
    """Return a built-in text by its key, or a stored one by its id. For its name, the error says the key or the id."""
    from .. import corpus

    if reference in corpus.BUILTINS or corpus.ID.fullmatch(reference):
        return corpus.find(reference)
    # the newest of a name
    own = {one.name: one.id for one in reversed(corpus.listed()) if not one.source.startswith(corpus.BUILT_IN)}
    found = [f"{own[name]} ({name})" if name in own else name for name in similar(reference, [*corpus.BUILTINS, *own])]
    if found:
        raise NanoGPTError(f"There is no text {reference[:40]!r}; did you mean {' or '.join(found)}?")
    return corpus.find(reference)  # whose error names the choices


def train_there(arguments: argparse.Namespace, changes: dict[str, Any]) -> int:
    """Train a run on Hugging Face Jobs, and follow it until it is back."""
    from ..jobs import follow as follower

    if arguments.processes > 1:
        raise NanoGPTError("--processes is for this machine; a job uses one process.")
    resumes = arguments.resume is not None
    run = run_there(arguments, changes) if resumes else new_run_there(arguments, changes)
    return follow(run, partial(follower.main, run.name, say), "quit without waiting for the job")


def new_run_there(arguments: argparse.Namespace, changes: dict[str, Any]) -> Run:
    """Create a run for a job from the command line's text and settings, once its cost is confirmed."""
    from ..jobs import start

    check_flags(arguments, changes)
    name = name_for(arguments.name)
    chosen, _, config = pick(preset_of(arguments, changes), changes)
    text = text_of(arguments)
    describe(name or free_name(text.name), text, arguments)
    agreed = jobs.terms(arguments, text, config.budget)
    run = start.new_run(name, text, chosen, changes, agreed)
    say_lowered(run, changes)
    return run


def run_there(arguments: argparse.Namespace, changes: dict[str, Any]) -> Run:
    """Return a run whose job still runs; or give it a new job that resumes it, once its cost is confirmed."""
    from ..jobs import start

    run = Run(arguments.resume)
    if jobs.is_there(run.name) and not (arguments.on and jobs.is_out_of_reach(run.name)):
        if changes or arguments.on:
            raise NanoGPTError(f"{run.name} is training on Hugging Face Jobs. Follow it with --resume alone.")
        if run.glance().busy:
            raise NanoGPTError(f"Another process already follows the job of {run.name}. See `{PROGRAM} runs`.")
        start.wanted_again(run)
        return run
    check_kept(arguments, changes)
    start.resumed(run, jobs.terms_to_resume(arguments, run, changes), changes)
    return run


def train_here(run: Run, processes: int = 1) -> int:
    """Train in this process, and return the exit status. Say for which runs it waits."""
    from ..device import pick_device, places
    from ..launch import trainer

    running, queued = queue.running(), queue.waiting()
    before = [name for name in (*running, *queued[: queue.place_of(run.name) - 1]) if name != run.name]
    if before and len(before) >= len(places(pick_device(run.settings()["train"]["device"]))):
        say(f"Waiting for {' and '.join(before)} to finish.")
    return trainer.main(run.name, processes=processes)


def follow(run: Run, work: Callable[[], int], second: str) -> int:
    """Let `work` train, and show its progress. The first Ctrl-C saves and stops; the `second` does what it says."""
    queue.draw(run.name)  # this process is the launcher, too

    def ask_to_stop(*_):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        say(f"\nStopping after this step ... (Ctrl-C again to {second})", sys.stderr)
        run.request_stop()

    signal.signal(signal.SIGINT, ask_to_stop)
    with progress_bar(run):
        code = work()
    status = run.status()
    if code and status.busy:  # by another trainer, as was just said
        return 2
    if code or status.state in ("failed", "crashed"):  # following a job that failed is no failure of the follower
        raise NanoGPTError(status.message)
    if status.state == "stopped":
        say(f"{status.message} Resume with: {PROGRAM} train --resume {run.name}", sys.stderr)
        return 130
    samples = run.history().samples
    print(f"\n{samples[-1]['text']}\n\nTry it: {PROGRAM} sample {run.name}")
    return 0


def add_commands(command: Command) -> None:
    """Add `train` with its flags."""
    train = command("train", train_command)
    train.add_argument(
        "files", nargs="*", metavar="FILE",
        help="text files, folders and .zip archives of them; default: the Python Language Reference",
    )  # fmt: skip
    train.add_argument(
        "--text",
        metavar="TEXT",
        help="use a built-in text (python-reference, python-stdlib, shakespeare) or a stored one (by id)",
    )
    train.add_argument(
        "--field", "--column", metavar="NAME", help="train on this field of .jsonl files, or column of .csv files, only"
    )
    train.add_argument("--encoding", help="encoding of the files, e.g. cp1252; detected automatically by default")
    train.add_argument(
        "--keep", action="extend", type=lambda value: value.split(","), metavar="CLEANUP", default=[],
        help="clean-ups to skip, separated by commas, e.g. line-endings,gutenberg",
    )  # fmt: skip
    train.add_argument(
        "--clean", action="extend", type=lambda value: value.split(","), metavar="CLEANUP", default=[],
        help="clean-ups to add that aren't made by default, e.g. accents,subtitle-times",
    )  # fmt: skip
    train.add_argument("--name", help="name of the run; default: the text's name")
    train.add_argument("--preset", help=f"{', '.join(PRESETS)} [{DEFAULT}, or quick with --max-iters]")
    train.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="share each batch among N processes, or N GPUs, of this machine [1]",
    )
    train.add_argument("--resume", metavar="NAME", help="resume a run exactly where it stopped")
    jobs.add_flags(train)
    model, recipe = preset(DEFAULT).configs()
    fixed = {**model.as_dict(), **recipe.as_dict(), **dict.fromkeys(PLANNED, "chosen to fit the time")}
    fixed |= dict(max_iters="as many as fit the time", budget=short(recipe.budget))
    add_knobs(train, ModelConfig, TrainConfig, defaults=fixed)
