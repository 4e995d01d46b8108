"""`sample` and `eval`: generate text from a trained model, and measure how well it predicts a text."""

from __future__ import annotations

import argparse
import json
import math
import sys

from ..config import DASHES, NanoGPTError, SampleConfig, unescaped
from ..errors import say
from ..runs import Run
from .flags import Command, add_knobs, settings_in
from .texts import text_in

# Newlines and tabs stay; C1 has no symbols of its own.
SYMBOLS: dict[int, int | str] = {i: 0x2400 + i for i in range(32) if chr(i) not in "\n\t"} | {0x7F: "␡"}
SYMBOLS |= dict.fromkeys(range(0x80, 0xA0), "\ufffd")


def sample_command(arguments: argparse.Namespace) -> int:
    """Generate text from a run's best weights. Prints the prompt followed by the text, and nothing else."""
    from ..device import pick_device
    from ..formats import load_model
    from ..sample import stream_many
    from ..tokenizer import load_tokenizer

    config = SampleConfig.of({**settings_in(arguments, SampleConfig), "stop": unescaped(arguments.stop or "")})
    run = Run(arguments.name)
    run.settings()  # raises if there is no such run
    tokenizer = load_tokenizer(run.folder)
    prompt = tokenizer.fit(unescaped(arguments.prompt))
    if prompt.replaced:
        say(str(prompt), sys.stderr)
    model = load_model(run.folder, pick_device(arguments.device).type)
    others: list[list[str]] = [[prompt.text] for _ in range(config.num_samples - 1)]
    show = for_terminal if sys.stdout.isatty() else str
    sys.stdout.write(show(prompt.text))
    for first, *rest in stream_many(model, tokenizer, prompt.text, config):
        # stream the first sample; the others, generated in the same batch, follow at the end
        sys.stdout.write(show(first))
        sys.stdout.flush()
        for text, piece in zip(others, rest):
            text.append(piece)
    sys.stdout.write(show("".join(DASHES + "".join(text) for text in others)) + "\n")
    return 0


def for_terminal(text: str) -> str:
    """Return a text with its control characters as symbols (␛): a stranger's model must not control a terminal."""
    return text.translate(SYMBOLS)


def eval_command(arguments: argparse.Namespace) -> int:
    """Print the loss over a run's validation set, or over a file, as a JSON object.

    Losses are in nats per character. If the validation set has more than 5 million characters, an evenly spaced part
    of that size is used; "characters" says how many were.
    """
    import torch

    from .. import corpus
    from ..data import moved, scored_characters, split
    from ..device import pick_device
    from ..evaluate import MOST, estimate_loss
    from ..formats import load_model
    from ..tokenizer import load_tokenizer, token_lengths

    if arguments.encoding and not arguments.file:
        raise NanoGPTError("--encoding says how to read a FILE, so name one, or leave it out.")
    run = Run(arguments.name)
    settings, tokenizer, device = run.settings(), load_tokenizer(run.folder), pick_device(arguments.device)
    if arguments.file:
        ids = ids_of(arguments.file, tokenizer, arguments.encoding)
        data = torch.from_numpy(ids.astype("int32")).to(device.type)  # (N,)
    else:
        tokens = corpus.load(settings["corpus"]["id"], settings["corpus"]["name"]).tokens()
        val = split(tokens, token_lengths(tokenizer))[1]
        data = moved(val, device.type)  # (N,): a GPU needn't hold the training set
    if len(data) < 2:
        raise NanoGPTError("Nothing to evaluate: the text has fewer than two characters that this model knows.")
    model, lengths = load_model(run.folder, device.type), torch.from_numpy(token_lengths(tokenizer)).to(device.type)
    most = max(1, MOST // model.config.block_size) if len(data) > MOST else None  # windows
    loss = estimate_loss(model, data, device, most, lengths)
    characters = scored_characters(data, model.config.block_size, lengths, most)
    print(json.dumps(dict(val_loss=loss, bits_per_character=loss / math.log(2), characters=characters)))
    return 0


def ids_of(file: str, tokenizer, encoding: str | None = None):
    """Return a file's token ids, (N,), or those of the start of a large one, as stderr says.

    Characters the tokenizer doesn't know are replaced, and listed on stderr.
    """
    text = tokenizer.fit(text_in([file], encoding))
    if text.replaced:
        say(str(text), sys.stderr)
    return tokenizer.encode_array(text.text)


def add_commands(command: Command) -> None:
    """Add `sample` and `eval` with their flags."""
    sample = command("sample", sample_command)
    sample.add_argument("name", metavar="NAME", help="the run")
    sample.add_argument("--prompt", default="", help="how the text should start; \\n is a newline")
    sample.add_argument(
        "--device", default="cpu", help="auto, cuda, mps or cpu; cuda is faster for large models and long texts [cpu]"
    )
    add_knobs(sample, SampleConfig)

    evaluate = command("eval", eval_command)
    evaluate.add_argument("name", metavar="NAME", help="the run")
    evaluate.add_argument("file", nargs="?", metavar="FILE", help="a text file; default: the run's validation set")
    evaluate.add_argument("--encoding", help="encoding of the file, e.g. cp1252; detected automatically by default")
    evaluate.add_argument("--device", default="auto", help="auto, cuda, mps or cpu [auto]")
