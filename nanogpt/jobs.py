"""From a text and some settings to a running trainer: new runs, the processes that train them, and going on.

A trainer is a process of its own that knows nothing of its launcher: it outlives the page, the server and the terminal.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import calibrate, tickets
from .config import ModelConfig, NanoGPTError, TrainConfig, preset
from .corpus import Corpus
from .data import fitting_block_size
from .disk import PROJECT
from .formats import config_files
from .run import Run
from .tokenizer import CharTokenizer

_children: dict[str, subprocess.Popen] = {}  # only so that ended trainers are reaped; the truth is in the folders


def new_run(name: str, text: Corpus, preset_name: str = "quick", **changes: Any) -> Run:
    """A run folder for training on a text with a preset's settings, some of them changed.

    NanoGPTError where a setting is out of its range, the name is taken, or the memory would not suffice.
    """
    model, train = preset(preset_name).configs(**changes)
    tokenizer = CharTokenizer(text.chars)
    block_size = fitting_block_size(text.characters, model.block_size)
    model = ModelConfig.of({**model.as_dict(), "vocab_size": tokenizer.vocab_size, "block_size": block_size})
    calibrate.check_memory(model, train)
    about = dict(id=text.id, name=text.name, sha256=text.sha256, characters=text.characters)
    settings = dict(preset=preset_name, corpus=about, train=train.as_dict())
    return Run.create(name, settings, {**config_files(model), **tokenizer.files(block_size)})


def prepare_to_continue(run: Run, max_iters: int | None = None) -> None:
    """Check that a run can go on, with a new length where one is given. NanoGPTError says why it cannot."""
    status = run.status()
    if status.busy:
        raise NanoGPTError(f"{run.name} is {status.state} already.")
    if max_iters is not None:
        train = TrainConfig.of({**run.settings()["train"], "max_iters": max_iters})
        if train.max_iters < status.step:
            raise NanoGPTError(f"{run.name} is at step {status.step:,} already; max_iters must be larger.")
        run.change(train=train.as_dict())
    elif status.step >= status.max_iters:
        raise NanoGPTError(f"{run.name} has reached its last step, {status.step:,}. Give a larger max_iters to go on.")


def start(run: Run) -> None:
    """Launch a trainer for the run: it waits for its turn, trains, and ends."""
    for name in [name for name, child in _children.items() if child.poll() is not None]:
        del _children[name]
    tickets.draw(run.name)
    command = [sys.executable, "-m", "nanogpt.train", run.name]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])),
    }
    alone: dict[str, Any] = {"start_new_session": True}  # Ctrl-C in the server's terminal must not reach it
    if sys.platform == "win32":
        alone = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS}
    with Path(run.folder / "log.txt").open("ab") as log:
        _children[run.name] = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment, **alone
        )
