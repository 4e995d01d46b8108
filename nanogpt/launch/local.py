"""From a text and some settings to a running trainer: new runs, the processes that train them, and going on.

A trainer is a process of its own that knows nothing of its launcher: it outlives the page, the server and the terminal.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from typing import Any

from .. import corpus, limits
from ..config import ModelConfig, NanoGPTError, TrainConfig, knobs, preset
from ..data import fitting_block_size
from ..formats import config_files, read_config
from ..model import count_parameters
from ..paths import environment
from ..runs import Run, queue
from ..tokenizer import CharTokenizer
from .plan import check_memory, choose, measure_once

_children: dict[str, subprocess.Popen] = {}  # only so that ended trainers are reaped; the truth is in the folders
_spare: list[subprocess.Popen] = []  # at most one trainer that waits for a name


def new_run(
    name: str, text: corpus.Corpus, preset_name: str = "quick", owner: str | None = None, **changes: Any
) -> Run:
    """A run folder for training on a text with a preset's settings, some of them changed.

    NanoGPTError where a setting is out of its range, the name is taken, or memory or the server's limits would not
    suffice. `owner` is the visitor to whom it belongs, on a public server.
    """
    known = [k.name for k in knobs(ModelConfig) + knobs(TrainConfig)]
    if unknown := [str(key) for key in changes if key not in known]:
        raise NanoGPTError(f"There is no setting {unknown[0]!r}; there are {', '.join(known)}.")
    tokenizer = CharTokenizer(text.chars)
    changes = {key: value for key, value in changes.items() if value not in (None, "")}
    model, train = preset(preset_name).configs(**changes)
    plan, planning = None, 0.0
    if preset_name == "timed" and not train.budget:
        raise NanoGPTError("By the clock needs a time, such as 60s or 3m; without one choose another preset.")
    if train.budget:  # sizes and steps follow from the time, unless they were given
        measure_once(str(changes.get("device") or "auto"))
        began = time.perf_counter()
        plan = choose(train.budget, tokenizer.vocab_size, text.characters, changes)
        planning = round(time.perf_counter() - began, 3)
        preset_name = "timed"
        model, train = preset("timed").configs(**plan.settings)
    block_size = fitting_block_size(text.characters, model.block_size)
    model = ModelConfig.of({**model.as_dict(), "vocab_size": tokenizer.vocab_size, "block_size": block_size})
    limits.check_model(count_parameters(model))
    limits.check_seconds(train.budget)
    check_memory(model, train)
    about = dict(id=text.id, name=text.name, sha256=text.sha256, characters=text.characters)
    settings: dict[str, Any] = dict(preset=preset_name, plan=plan and str(plan), corpus=about, owner=owner)
    settings["train"] = train.as_dict()
    if planning:
        settings["planning"] = planning  # seconds that are gone already when the training starts
    return Run.create(name, settings, {**config_files(model), **tokenizer.files(block_size)})


def prepare_to_continue(run: Run, max_iters: int | None = None, budget: float | None = None) -> None:
    """Check that a run can go on, with a new length where one is given. NanoGPTError says why it cannot."""
    status, before = run.status(), TrainConfig.of(run.settings()["train"])
    if status.busy:
        raise NanoGPTError(f"{run.name} is {status.state} already.")
    corpus.load(run.settings()["corpus"]["id"])
    if (run.folder / "model.safetensors").exists() and not (run.folder / "last.safetensors").exists():
        raise NanoGPTError(f"{run.name} came without its save, so it can write but not be trained on.")
    longer = {name: value for name, value in (("max_iters", max_iters), ("budget", budget)) if value is not None}
    if budget is not None and before.budget and max_iters is None:  # the clock decides; this is for the weight decay
        longer["max_iters"] = max(1, round(status.max_iters * budget / before.budget))
    train = TrainConfig.of({**before.as_dict(), **longer})
    finished = status.state == "finished"
    if finished and not before.budget and status.step < before.max_iters:
        raise NanoGPTError(f"{run.name} stopped early, since it only learned its text by heart. Start a new run.")
    if finished and train.budget and train.budget <= before.budget:
        raise NanoGPTError(f"{run.name} has used its {before.budget:g} seconds. Give a longer budget to go on.")
    if not train.budget and train.max_iters < status.step:
        raise NanoGPTError(f"{run.name} is at step {status.step:,} already; max_iters must be larger.")
    if finished and not train.budget and train.max_iters == status.step:
        raise NanoGPTError(f"{run.name} has reached its last step, {status.step:,}. Give a larger max_iters to go on.")
    check_memory(read_config(run.folder), train)  # it may have come from a larger machine
    if longer:
        limits.check_seconds(train.budget - status.seconds if train.budget else 0)
        run.change(train=train.as_dict())


def start(run: Run) -> None:
    """Launch a trainer for the run: it waits for its turn, trains, and ends."""
    for name in [name for name, child in _children.items() if child.poll() is not None]:
        _children.pop(name, None)
    run.stop_file.unlink(missing_ok=True)  # an old wish; from here on a stop is meant
    queue.draw(run.name)
    spare = _spare.pop() if _spare else None
    if spare is not None and spare.poll() is None and spare.stdin is not None:
        with contextlib.suppress(OSError):  # it ended this very moment: start another
            spare.stdin.write(f"{run.name}\n".encode())
            spare.stdin.close()
            _children[run.name] = spare
            return
    with (run.folder / "log.txt").open("ab") as log:
        _children[run.name] = _launch([run.name], stdin=subprocess.DEVNULL, stdout=log)


def warm() -> None:
    """Keep one trainer ready that has torch imported and waits for the name of a run. It ends with this process."""
    if not _spare or _spare[0].poll() is not None:
        _spare[:] = [_launch(["--wait"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)]


def _launch(arguments: list[str], stdin: int, stdout: Any) -> subprocess.Popen:
    alone: dict[str, Any] = {"start_new_session": True}  # Ctrl-C in the server's terminal must not reach it
    if sys.platform == "win32":
        alone = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS}
    command = [sys.executable, "-m", "nanogpt.train", *arguments]
    return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=subprocess.STDOUT, env=environment(), **alone)
