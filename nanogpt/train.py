"""The training loop: the lecture's, plus what it takes to stop, crash and resume without losing a step.

`train(run)` is a plain function; `launch/trainer.py` runs it as a process. It writes to the run's folder what it
finds out; `runs/run.py` lists the files there, and who writes each.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from . import corpus, memory
from .config import TrainConfig
from .data import Data, evaluated_at_once, forgetting, large_file, make_get_batch, moved, pieces, split
from .device import Device, pick_device, places, use
from .evaluate import estimate_loss
from .fastest import described, make_step
from .formats import read_config
from .holdout import train_length
from .model import GPT
from .processes import own_place, wanted, with_ranks
from .ranks import Ranks, SharedStep
from .reporter import Reporter
from .runs import Run, is_number, queue
from .runs.checkpoint import Progress, load_state, save_state
from .schedule import get_lr, settled
from .step import Step
from .timetable import FEW, SOME, Timetable
from .tokenizer import Tokenizer, load_tokenizer, token_lengths


def load_data(corpus_id: str, tokenizer: Tokenizer, device: Device, name: str = "") -> Data:
    """Return a stored text, split and on the device. Raise NanoGPTError, with its `name`, if it is gone or damaged."""
    text, lengths = corpus.load(corpus_id, name), token_lengths(tokenizer)
    tokens = text.tokens()
    train_data, val_data = (moved(part, device.type) for part in split(tokens, lengths))
    # mean characters per token of the training set: what turns losses and speeds per token into ones per character
    per_token = train_length(text.characters) / len(train_data)
    mapped = large_file(tokens) if device.type == "cpu" else None
    return Data(train_data, val_data, torch.from_numpy(lengths).to(device.type), per_token, mapped)


@dataclass
class Parts:
    """What a run consists of while it trains, as it was at its last save."""

    config: TrainConfig
    data: Data
    model: GPT
    take_step: Step | SharedStep
    generator: torch.Generator  # only for batches
    at: Progress
    get_batch: Callable  # get_batch(step) -> xb, yb, both (B, T)


def assemble(run: Run, device: Device, tokenizer: Tokenizer, ranks: Ranks | None = None) -> Parts:
    """Load a run's text, and build its model and its training step, shared with other `ranks` if there are any.

    Raise NanoGPTError if the text is gone or a file of the run is damaged.
    """
    settings = run.settings()
    # the text as ids, split into training and validation set
    data = load_data(settings["corpus"]["id"], tokenizer, device, settings["corpus"]["name"])
    config = settled(TrainConfig.of(settings["train"]), read_config(run.folder), len(data.train) + len(data.val))

    # the model and its optimizers: from the seed, or from the last save
    torch.manual_seed(config.seed)
    model = GPT(read_config(run.folder)).to(device.type)
    take_step = make_step(model, config, device, ranks)
    generator = torch.Generator().manual_seed(config.seed)
    at = load_state(run, model, take_step.optimizers, take_step.scaler, generator)
    get_batch = make_get_batch(data.train, model.config.block_size, config, generator)
    if data.mapped:
        get_batch = forgetting(get_batch, data.mapped, config.batch_size)
    return Parts(config, data, model, take_step, generator, at, get_batch)


def train(run: Run, seconds: float | None = None, alone: bool = False, processes: int = 1) -> None:
    """Train or resume a run until it ends, its `stop` file appears, or `seconds` have passed.

    Wait for a turn on the device, or on one of several GPUs, unless it is `alone` there, and hold the run's lock. With
    `processes`, start more of them to share the batches. Raise NanoGPTError for errors that the user can fix, and
    queue.Withdrawn if the run was removed from the queue.
    """
    settings = run.settings()
    config, tokenizer = TrainConfig.of(settings["train"]), load_tokenizer(run.folder)
    devices, count = wanted(processes, config.batch_size, places(pick_device(config.device)))
    waited = queue.turn(run.name, *devices, count=count, alone=alone, in_order=memory.most_free_first)
    with waited as taken, run.held(), ExitStack() as shared:
        use(taken[0])
        device = pick_device(config.device, probe=True)  # only now: until its turn, another run may fill the GPU
        text = corpus.load(settings["corpus"]["id"], settings["corpus"]["name"])
        # its tokens get no name, which would keep the file open: on Windows, the text couldn't be deleted meanwhile
        memory.check_at_turn(read_config(run.folder), config, text.tokens(), device, processes)
        ranks = shared.enter_context(with_ranks(run.name, processes, taken, device))
        parts = assemble(run, device, tokenizer, ranks)
        config, data, model, take_step, at = parts.config, parts.data, parts.model, parts.take_step, parts.at
        at.seconds = max(at.seconds, seconds_spent(run, config, settings))
        kept = at.step if at.evaluated_step >= 0 else -1  # -1: nothing was saved, so it starts over
        facts = dict(device=described(device, model.config), parameters=model.count_parameters())
        run.cut_back(kept, step=at.step, seconds=round(at.seconds, 3), **facts)

        began = time.perf_counter()
        get_ready(parts)
        if device.type == "cuda" and config.budget:
            load_kernels(model, data, device)
        if take_step.note:
            run.event("note", step=at.step, message=take_step.note)

        windows_of = lambda part: -(-(len(part) - 1) // model.config.block_size)  # the last one may be shorter
        size = 16 * model.count_parameters()  # bytes per save: current and best weights, and the optimizer's state
        due = Timetable(
            config, at.seconds, windows_of(data.val), seconds, size, costs_before(settings), at.windows,
            at.evaluated_seconds,
        )  # fmt: skip
        due.starting = time.perf_counter() - began
        save = partial(save_state, run, model, take_step.optimizers, take_step.scaler, parts.generator, at)
        # a timed run plans its last evaluation, which is by the model's own forward pass, by what the others took
        evaluate = None if config.budget else take_step.evaluate
        reporter = Reporter(run, model, tokenizer, data, device, config, due, at, save, evaluate)

        with reporter.keeping():
            for step in itertools.count(at.step):
                # every once in a while: log the loss, evaluate, write a sample, save
                if reporter.look(step):
                    break
                # the lecture's four lines; `Step` in step.py does forward, backward and update
                xb, yb = parts.get_batch(step)  # (B, T), and the same shifted by one: (B, T)
                lr = get_lr(step, config, due.share)
                loss, grad_norm = take_step(xb, yb, lr)
                reporter.add(loss, lr, grad_norm)

        reporter.finish()


def get_ready(parts: Parts) -> None:
    """Load libraries and compile kernels now, so that this doesn't count as training time."""
    starts = torch.zeros(parts.config.batch_size, dtype=torch.long)  # any batch will do
    parts.take_step.ready(*pieces(parts.data.train, starts, parts.model.config.block_size))


def load_kernels(model: GPT, data: Data, device: Device) -> None:
    """Evaluate a model once with as many windows as its evaluations will use.

    A GPU loads different kernels for each batch size. Without this, the last evaluation of a short run would spend most
    of its time loading them, and cover little of the validation set.
    """
    at_once, _ = evaluated_at_once(model.config, device)
    for most in (FEW, SOME, 2 * at_once // model.config.block_size):
        estimate_loss(model, data.val, device, most, data.lengths)


def own_device(run: str) -> Device:
    """Return the device on which this process trains a run as another rank."""
    wanted_device = TrainConfig.of(Run(run).settings()["train"]).device
    use(own_place(places(pick_device(wanted_device))))
    return pick_device(wanted_device, probe=True)


def follow(run: Run, ranks: Ranks) -> None:
    """Train as another rank of a run: the same steps as rank 0, for as long as it says.

    With dropout, the numbers that are dropped here depend on the step at which the run was last resumed.
    """
    parts = assemble(run, ranks.device, load_tokenizer(run.folder), ranks)
    torch.manual_seed(parts.config.seed + parts.at.step + ranks.rank)  # or all ranks would drop the same numbers
    get_ready(parts)
    for step in itertools.count(parts.at.step):
        lr = ranks.hear()
        if lr is None:
            return
        xb, yb = parts.get_batch(step)  # (B, T), and the same shifted by one: (B, T)
        parts.take_step(xb, yb, lr)


def seconds_spent(run: Run, config: TrainConfig, settings: dict) -> float:
    """Return the seconds of a time budget that are used up, whatever the checkpoint says.

    The log says how far a trainer had come when it was killed. At least the time spent on choosing a model is used up,
    but no more than a fifth of the budget, so that a run trains even if that took too long on a busy machine.
    """
    if not config.budget:
        return 0.0
    planning: Any = settings.get("planning")
    return max(run.history().seconds, min(planning, 0.2 * config.budget) if is_number(planning) else 0.0)


def costs_before(settings: dict) -> dict[str, float]:
    """Return what a sample and a save took in an earlier run on this machine, as known when this run was created."""
    costs = settings.get("costs")
    return costs if isinstance(costs, dict) else {}
