"""`push`, `pull` and `deploy`: the commands that talk to the Hugging Face Hub. Progress goes to stderr."""

from __future__ import annotations

import argparse
import sys

from ..config import NanoGPTError
from ..errors import say
from ..paths import PROGRAM
from ..runs import Run, free_name
from .flags import Command


def tell(sentence: str) -> None:
    """Print progress to stderr, so that stdout holds only the result."""
    say(sentence, sys.stderr)  # which doesn't fail: an upload must not end because no one reads this


def push_command(arguments: argparse.Namespace) -> int:
    """Publish a run to the Hub as a model that transformers can load.

    Uploads the weights, tokenizer, settings, losses and a model card; never the text, the log or the checkpoint.
    """
    from ..publish import account
    from ..publish.push import offered, push

    run = Run(arguments.name)
    run.settings()  # raises if there is no such run, before anyone signs in
    if arguments.dry_run:
        files = offered(run, account.repository(arguments.repo, "user"), arguments.license, arguments.quote)
        return show(files)
    wish = dict(private=arguments.private, license=arguments.license, quote=arguments.quote)
    print(push(run, arguments.repo, account.saved_token(), **wish, tell=tell))
    return 0


def pull_command(arguments: argparse.Namespace) -> int:
    """Download a model from the Hub as a run you can sample from.

    Only safetensors and JSON files are downloaded, and their sizes are checked first.
    """
    from ..publish import account
    from ..publish.pull import pull

    if arguments.name is not None and Run(arguments.name).exists():
        raise NanoGPTError(f"There is already a run named {arguments.name}. Choose another name.")
    named = lambda wanted: arguments.name or free_name(wanted)
    run = pull(arguments.repo, account.saved_token(), named=named, tell=tell)
    print(f"Downloaded {run.name}. Try it: {PROGRAM} sample {run.name}")
    return 0


def deploy_command(arguments: argparse.Namespace) -> int:
    """Create a Space that runs this app with your model, or with --static a single page that generates text.

    The app replays the training of your model, so the samples up to its saved weights are uploaded, too.
    """
    from ..publish import account, deploy

    run = Run(arguments.name)
    run.settings()  # raises if there is no such run, before anyone signs in
    if arguments.static and arguments.hardware:
        raise NanoGPTError("A static Space runs in the visitor's browser. Leave out --hardware, or --static.")
    if arguments.dry_run:
        space = account.repository(arguments.space, "user")
        files = deploy.offered(run, space, arguments.static, arguments.license)
        return show(files, "In a Space that exists, another model and other files of the app are deleted.\n")
    wish = dict(static=arguments.static, hardware=arguments.hardware, private=arguments.private)
    print(deploy.deploy(run, arguments.space, account.saved_token(), **wish, license=arguments.license, tell=tell))
    return 0


def show(files: dict[str, bytes], note: str = "") -> int:
    """Print what would be uploaded: the size of each file in bytes, the total, a note, and the model card."""
    for name, content in files.items():
        print(f"{len(content):>12,}  {name}")
    print(f"{sum(map(len, files.values())):>12,}  total; nothing was uploaded\n{note}\n{files['README.md'].decode()}")
    return 0


def add_commands(command: Command) -> None:
    """Add `push`, `pull` and `deploy` with their flags."""
    push = command("push", push_command)
    push.add_argument("name", metavar="NAME", help="the run")
    push.add_argument("repo", metavar="USER/REPO", help="the repository; REPO alone goes to your account")
    push.add_argument("--private", action="store_true", help="create the repository as private")
    push.add_argument(
        "--license",
        metavar="ID",
        help="mit, apache-2.0, cc0-1.0, cc-by-4.0, …; default: no license, all rights reserved",
    )
    push.add_argument(
        "--quote", action="store_true", help="show the first 500 characters of the text on the model card"
    )
    push.add_argument("--dry-run", action="store_true", help="show what would be uploaded without uploading it")

    pull = command("pull", pull_command)
    pull.add_argument("repo", metavar="USER/REPO", help="the repository, or its URL")
    pull.add_argument("--name", help="name of the new run; default: the model's name")

    deploy = command("deploy", deploy_command)
    deploy.add_argument("name", metavar="NAME", help="the run")
    deploy.add_argument("space", metavar="USER/SPACE", help="the Space; SPACE alone goes to your account")
    deploy.add_argument(
        "--static", action="store_true", help="one page that samples in the visitor's browser: free, but it can't train"
    )
    deploy.add_argument("--hardware", metavar="ID", help="e.g. zero-a10g (free), cpu-basic, t4-small [zero-a10g]")
    deploy.add_argument("--private", action="store_true", help="create the Space as private")
    deploy.add_argument("--license", metavar="ID", help="the model's license, which the Space shows; see push")
    deploy.add_argument("--dry-run", action="store_true", help="show what would be uploaded without uploading it")
