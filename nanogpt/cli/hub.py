"""`push`, `pull` and `deploy`: the commands that talk to the Hub. Their progress goes to stderr."""

from __future__ import annotations

import argparse
import sys

from ..config import NanoGPTError
from ..runs import Run, free_name
from .flags import PROGRAM, Command


def tell(sentence: str) -> None:
    """Print progress, which is not the result."""
    print(sentence, file=sys.stderr, flush=True)


def push_command(arguments: argparse.Namespace) -> int:
    """Put a run on the Hub as a model that transformers opens; never its text, its log or what continues it."""
    from ..publish import hub

    run = Run(arguments.name)
    if arguments.dry_run:
        files = hub.offered(run, hub.repository(arguments.repo, "user"), arguments.license, arguments.quote)
        return show(files)
    wish = dict(private=arguments.private, license=arguments.license, quote=arguments.quote)
    print(hub.push(run, arguments.repo, hub.saved_token(), **wish, tell=tell))
    return 0


def pull_command(arguments: argparse.Namespace) -> int:
    """Take a model from the Hub as a run that can write: safetensors and JSON only, measured beforehand."""
    from ..publish import hub

    if arguments.name is not None and Run(arguments.name).exists():
        raise NanoGPTError(f"There is already a run named {arguments.name}. Choose another name.")
    named = lambda wanted: arguments.name or free_name(wanted)
    run = hub.pull(arguments.repo, hub.saved_token(), named=named, tell=tell)
    print(f"{run.name} is here. Write with it: {PROGRAM} sample {run.name}")
    return 0


def deploy_command(arguments: argparse.Namespace) -> int:
    """Make a Space of this program with a model inside, or with --static one of a single page that writes."""
    from ..publish import deploy, hub

    run = Run(arguments.name)
    if arguments.dry_run:
        space = hub.repository(arguments.space, "user")
        files = deploy.offered(run, space, arguments.static, arguments.license)
        return show(files)
    wish = dict(static=arguments.static, hardware=arguments.hardware, private=arguments.private)
    print(deploy.deploy(run, arguments.space, hub.saved_token(), **wish, license=arguments.license, tell=tell))
    return 0


def show(files: dict[str, bytes]) -> int:
    """Print what would be sent: one line per file with its bytes, their sum, and the card."""
    for name, content in files.items():
        print(f"{len(content):>12,}  {name}")
    print(f"{sum(map(len, files.values())):>12,}  in all; nothing was sent\n\n{files['README.md'].decode()}")
    return 0


def add_commands(command: Command) -> None:
    """Add `push`, `pull` and `deploy` with their flags."""
    push = command("push", push_command)
    push.add_argument("name", metavar="NAME", help="the run")
    push.add_argument("repo", metavar="USER/REPO", help="where to; REPO alone is under your own account")
    push.add_argument("--private", action="store_true", help="for your eyes only, if it is a new repository")
    push.add_argument(
        "--license", metavar="ID", help="mit, apache-2.0, cc0-1.0, cc-by-4.0, …; without it the card has none"
    )
    push.add_argument("--quote", action="store_true", help="show on the card how the text begins")
    push.add_argument("--dry-run", action="store_true", help="show what would be sent, and send nothing")

    pull = command("pull", pull_command)
    pull.add_argument("repo", metavar="USER/REPO", help="the repository, or the address of its page")
    pull.add_argument("--name", help="the run's name; made from its own where it is not given")

    deploy = command("deploy", deploy_command)
    deploy.add_argument("name", metavar="NAME", help="the run")
    deploy.add_argument("space", metavar="USER/SPACE", help="where to; SPACE alone is under your own account")
    deploy.add_argument(
        "--static", action="store_true", help="one page that writes by itself: free, nothing trains there"
    )
    deploy.add_argument("--hardware", metavar="ID", help="such as zero-a10g (free), cpu-basic or t4-small [zero-a10g]")
    deploy.add_argument("--private", action="store_true", help="for your eyes only, if it is a new Space")
    deploy.add_argument("--license", metavar="ID", help="of the model inside; see push")
    deploy.add_argument("--dry-run", action="store_true", help="show what would be sent, and send nothing")
