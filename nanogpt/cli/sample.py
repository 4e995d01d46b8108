"""`sample` and `eval`: what a trained model writes, and how well it predicts a text."""

from __future__ import annotations

import argparse
import json
import math
import sys

from ..config import NanoGPTError, SampleConfig
from ..runs import Run
from .flags import Command, add_knobs, settings_in


def sample_command(arguments: argparse.Namespace) -> int:
    """Write with a run's best weights: the text alone, its prompt first as on the page, goes to stdout."""
    from ..device import pick_device
    from ..formats import load_model
    from ..sample import DASHES, stream_many, unescaped
    from ..tokenizer import CharTokenizer

    config = SampleConfig.of({**settings_in(arguments, SampleConfig), "stop": unescaped(arguments.stop or "")})
    run = Run(arguments.name)
    run.settings()  # raises if there is no such run
    tokenizer = CharTokenizer.load(run.folder)
    prompt = tokenizer.fit(arguments.prompt)
    if prompt.replaced:
        print(prompt, file=sys.stderr)
    model = load_model(run.folder, pick_device(arguments.device).type)
    others: list[list[str]] = [[prompt.text] for _ in range(config.num_samples - 1)]
    sys.stdout.write(prompt.text)
    for first, *rest in stream_many(model, tokenizer, prompt.text, config):
        sys.stdout.write(first)  # the first sample appears as it is written; the others, made beside it, follow
        sys.stdout.flush()
        for text, piece in zip(others, rest):
            text.append(piece)
    sys.stdout.write("".join(DASHES + "".join(text) for text in others) + "\n")
    return 0


def eval_command(arguments: argparse.Namespace) -> int:
    """The loss over a run's whole held-out text, or over a file: one JSON object."""
    from ..device import pick_device
    from ..formats import load_model
    from ..train import estimate_loss

    run = Run(arguments.name)
    data = file_data(run, arguments.file) if arguments.file else held_out_data(run)
    if len(data) < 2:
        raise NanoGPTError(
            "There is nothing to predict: the text has fewer than two characters of this model's alphabet."
        )
    device = pick_device(arguments.device)
    loss = estimate_loss(load_model(run.folder, device.type), data, device)
    print(json.dumps(dict(val_loss=loss, bits_per_character=loss / math.log(2), characters=len(data) - 1)))
    return 0


def held_out_data(run: Run):
    """Return the ids of the tenth of its text that a run never trained on, (N,)."""
    from .. import corpus
    from ..data import split

    return split(corpus.load(run.settings()["corpus"]["id"]).tokens())[1]


def file_data(run: Run, file: str):
    """Return a file's ids in the vocabulary of a run, (N,). Replaced characters are named on stderr."""
    import torch

    from .. import corpus
    from ..tokenizer import CharTokenizer

    run.settings()  # raises if there is no such run
    tokenizer = CharTokenizer.load(run.folder)
    text = tokenizer.fit(corpus.read_text(file))
    if text.replaced:
        print(text, file=sys.stderr)
    return torch.from_numpy(tokenizer.encode_array(text.text).astype("int32"))


def add_commands(command: Command) -> None:
    """Add `sample` and `eval` with their flags."""
    sample = command("sample", sample_command)
    sample.add_argument("name", metavar="NAME", help="the run")
    sample.add_argument("--prompt", default="", help="what the text begins with")
    sample.add_argument("--device", default="cpu", help="auto, cuda, mps or cpu [cpu]")
    add_knobs(sample, SampleConfig)

    evaluate = command("eval", eval_command)
    evaluate.add_argument("name", metavar="NAME", help="the run")
    evaluate.add_argument("file", nargs="?", metavar="FILE", help="a text; without one, the run's held-out tenth")
    evaluate.add_argument("--device", default="auto", help="auto, cuda, mps or cpu [auto]")
