"""The command line: `python -m nanogpt train | sample | eval | runs | ladder | export | push | pull | deploy`.

Every command prints its result on stdout; an error is one line on stderr and exit status 2.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import signal
import sys
from pathlib import Path

from ..config import PRESETS, Knob, ModelConfig, NanoGPTError, SampleConfig, TrainConfig, knobs
from ..runs import Run, all_runs, free_name, kept_loss
from . import hub_commands


class Parser(argparse.ArgumentParser):
    """argparse, with its errors in one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}. See {self.prog} --help.\n")


def metavar(k: Knob) -> str:
    """What a flag wants, for --help."""
    if k.name == "budget":
        return "TIME"
    return "{" + ",".join(k.choices) + "}" if k.choices else k.kind.__name__.upper()


def add_knobs(parser: argparse.ArgumentParser, *configs: type) -> None:
    """A flag for every knob. Not given means None, so that a preset's value stands."""
    for config in configs:
        group = parser.add_argument_group(config.__name__, (config.__doc__ or "").splitlines()[0])
        for k in knobs(config):
            usual = f" Usual: {k.usual}." if k.usual else ""
            group.add_argument(k.flag, metavar=metavar(k), help=f"{k.help}{usual} [{k.default}]".replace("%", "%%"))


def given(arguments: argparse.Namespace, *configs: type) -> dict:
    """The knobs set on the command line, by name."""
    names = [k.name for config in configs for k in knobs(config)]
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def train_command(arguments: argparse.Namespace) -> int:
    """Train on files, or on the built-in text where none is given; --resume goes on with a run."""
    from .. import corpus
    from ..formats import read_config
    from ..launch import prepare

    changes = given(arguments, ModelConfig, TrainConfig)
    if arguments.resume is not None:
        new = arguments.files or arguments.text or arguments.name or arguments.preset
        if new or set(changes) - {"max_iters", "budget"}:
            raise NanoGPTError(
                "A resumed run keeps its text and settings; only --max-iters or --budget can be given anew."
            )
        run = Run(arguments.resume)
        prepare.to_continue(run, changes.get("max_iters"), changes.get("budget"))
        return follow(run)
    if arguments.files and arguments.text:
        raise NanoGPTError("Both a FILE and --text were given; give one of them.")
    if changes.get("budget") and arguments.preset not in (None, "timed"):
        raise NanoGPTError("A time budget chooses its own sizes; leave out --preset, or give --max-iters instead.")
    if changes.get("budget") and "max_iters" in changes:
        raise NanoGPTError("Both --budget and --max-iters were given, and with a budget the clock decides; give one.")
    text = given_text(arguments) if arguments.files else corpus.find(arguments.text or "python-reference")
    run = prepare.new_run(arguments.name or free_name(text.name), text, arguments.preset or "quick", **changes)
    print(f"{run.name}: {text.name}, {text.characters:,} characters, {len(text.chars)} distinct", flush=True)
    fits = read_config(run.folder).block_size
    if fits < int(changes.get("block_size") or 0):
        print(f"block_size is {fits}: the held-out tenth of the text must hold two windows of it.", flush=True)
    if plan := run.settings()["plan"]:
        print(plan, flush=True)
    return follow(run)


def given_text(arguments: argparse.Namespace):
    """The files as one stored text; what was assumed and put right on the way is said on stderr."""
    from .. import corpus

    text = corpus.add(list(arguments.files), encoding=arguments.encoding, decline=arguments.keep or ())
    for sentence in text.notes:
        print(sentence, file=sys.stderr)
    return text


def follow(run: Run) -> int:
    """Train in this process. Ctrl-C saves and says how to go on; a second one ends at once."""
    from ..launch import trainer

    run.stop_file.unlink(missing_ok=True)  # an old wish; from here on a stop is meant

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
        print(f"{status.message} Go on with: python -m nanogpt train --resume {run.name}", file=sys.stderr)
        return 130
    samples = run.history().samples
    print(f"\n{samples[-1]['text']}\n\nWrite with it: python -m nanogpt sample {run.name}")
    return 0


def sample_command(arguments: argparse.Namespace) -> int:
    """Write with a run's best weights: the text alone, its prompt first as on the page, goes to stdout."""
    from ..device import pick_device
    from ..formats import load_model
    from ..sample import DASHES, stream_many, unescaped
    from ..tokenizer import load_tokenizer

    config = SampleConfig.of({**given(arguments, SampleConfig), "stop": unescaped(arguments.stop or "")})
    run = Run(arguments.name)
    run.settings()
    tokenizer = load_tokenizer(run.folder)
    prompt = tokenizer.fit(arguments.prompt)
    if prompt.replaced:
        print(prompt, file=sys.stderr)
    model = load_model(run.folder, pick_device(arguments.device).type)
    others: list[list[str]] = [[prompt.text] for _ in range(config.num_samples - 1)]
    sys.stdout.write(prompt.text)
    for first, *rest in stream_many(model, tokenizer, prompt.text, config):
        sys.stdout.write(first)  # the first is seen as it is written, the others, made beside it, after it
        sys.stdout.flush()
        for text, piece in zip(others, rest):
            text.append(piece)
    sys.stdout.write("".join(DASHES + "".join(text) for text in others) + "\n")
    return 0


def eval_command(arguments: argparse.Namespace) -> int:
    """The loss over a run's whole held-out text, or over a file: one JSON object."""
    import torch

    from .. import corpus
    from ..data import scored_characters
    from ..device import pick_device
    from ..formats import load_model
    from ..tokenizer import load_tokenizer, token_lengths
    from ..train import estimate_loss, load_data

    run = Run(arguments.name)
    settings, tokenizer, device = run.settings(), load_tokenizer(run.folder), pick_device(arguments.device)
    if arguments.file:
        text = tokenizer.fit(corpus.read_text(arguments.file))
        if text.replaced:
            print(text, file=sys.stderr)
        data = torch.from_numpy(tokenizer.encode_array(text.text).astype("int32")).to(device.type)  # (N,)
    else:
        data = load_data(settings["corpus"]["id"], tokenizer, device).val
    if len(data) < 2:
        raise NanoGPTError(
            "There is nothing to predict: the text has fewer than two characters of this model's alphabet."
        )
    model, lengths = load_model(run.folder, device.type), torch.from_numpy(token_lengths(tokenizer)).to(device.type)
    loss = estimate_loss(model, data, device, lengths=lengths)
    characters = scored_characters(data, model.config.block_size, lengths)
    print(json.dumps(dict(val_loss=loss, bits_per_character=loss / math.log(2), characters=characters)))
    return 0


def runs_command(arguments: argparse.Namespace) -> int:
    """List the runs: a line each, or one JSON array."""
    rows = []
    for run in all_runs():
        try:
            status, settings = run.status(), run.settings()
        except NanoGPTError as error:  # one broken run does not hide the others
            print(error, file=sys.stderr)
            continue
        rows.append(
            dict(
                name=run.name,
                state=status.state,
                step=status.step,
                max_iters=status.max_iters,
                val_loss=kept_loss(run.history()),
                seconds=status.seconds,
                corpus=settings["corpus"]["name"],
                created=settings["created"],
                message=status.message,
            )
        )
    if arguments.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    elif not rows:
        print("No runs yet. Train one: python -m nanogpt train")
    for row in [] if arguments.json else rows:
        loss = f"{row['val_loss']:.4f}" if row["val_loss"] else "-"
        steps = f"{row['step']:,}/{row['max_iters']:,}"
        print(f"{row['name']:<32} {row['state']:<9} {steps:>17}  val {loss:<7} {row['corpus']}")
    return 0


def export_command(arguments: argparse.Namespace) -> int:
    """Write a run as one page that works offline in a browser, or as one program that trains it again.

    A page or program that is there already is written over, a text is not; - is standard output.
    """
    from .. import corpus
    from ..publish import code_export, page_export

    run = Run(arguments.name)
    wanted: dict[str, str] = {}
    if arguments.html:
        wanted[arguments.html] = page_export.html(run)
    if arguments.code:
        wanted[arguments.code] = code_export.python(run)
    if arguments.text:
        wanted[arguments.text] = corpus.load(run.settings()["corpus"]["id"]).text()
    if not wanted:
        raise NanoGPTError("Say what to write: --html FILE, --code FILE or --text FILE.")
    for file, content in wanted.items():
        data = content.encode("utf-8")
        if file == "-":
            sys.stdout.buffer.write(data)
            continue
        try:
            if file == arguments.text and Path(file).is_file() and Path(file).read_bytes() != data:
                raise NanoGPTError(f"{file} is there already, and is another text; give --text another name.")
            Path(file).write_bytes(data)
        except OSError as error:
            raise NanoGPTError(f"{file} could not be written: {error.strerror}.") from None
        print(f"{file}: {len(data) / 1e6:.2f} MB", file=sys.stderr if "-" in wanted else sys.stdout)
    return 0


def ladder_command(arguments: argparse.Namespace) -> int:
    """Train the lecture's models one after another, from the bigram table up.

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


def parser() -> Parser:
    """All commands with their flags."""
    main = Parser(prog="python -m nanogpt", description="Train a GPT on your own text, and write with it.")
    commands = main.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    def command(name, run):
        added = commands.add_parser(name, help=run.__doc__.splitlines()[0], description=run.__doc__)
        added.set_defaults(run=run)
        return added

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

    sample = command("sample", sample_command)
    sample.add_argument("name", metavar="NAME", help="the run")
    sample.add_argument("--prompt", default="", help="what the text begins with")
    sample.add_argument("--device", default="cpu", help="auto, cuda, mps or cpu [cpu]")
    add_knobs(sample, SampleConfig)

    evaluate = command("eval", eval_command)
    evaluate.add_argument("name", metavar="NAME", help="the run")
    evaluate.add_argument("file", nargs="?", metavar="FILE", help="a text; without one, the run's held-out tenth")
    evaluate.add_argument("--device", default="auto", help="auto, cuda, mps or cpu [auto]")

    runs = command("runs", runs_command)
    runs.add_argument("--json", action="store_true", help="one JSON array")

    export = command("export", export_command)
    export.add_argument("name", metavar="NAME", help="the run")
    export.add_argument("--html", metavar="FILE", help="a page with the weights inside, which writes by itself")
    export.add_argument("--code", metavar="FILE", help="a program that needs torch alone and trains the same model")
    export.add_argument("--text", metavar="FILE", help="the text the run learned from, which that program reads")

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

    hub_commands.add_commands(command)
    return main


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit status."""
    for out in (sys.stdout, sys.stderr):
        if isinstance(out, io.TextIOWrapper):
            out.reconfigure(errors="replace")  # a terminal that lacks a letter shows ?
    arguments = parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except NanoGPTError as error:
        print(f"nanogpt: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `… | head` has read enough
        sys.stderr.close()
        return 0
    except OSError as error:
        print(f"nanogpt: {error}", file=sys.stderr)
        return 2
