"""The loop. Read `train` from top to bottom: it is the lecture's, and it can be stopped, killed and resumed.

`train(run)` is a plain function; `python -m nanogpt.train NAME` is the process around it that the page starts. With
`--wait` in place of a name it imports everything first, then reads the name from stdin: a press of Start is quick.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
import time
import traceback
from dataclasses import replace

import torch

from . import corpus, limits
from .config import ModelConfig, NanoGPTError, SampleConfig, TrainConfig
from .data import make_get_batch, pieces, split, windows
from .device import Device, pick_device
from .disk import write_whole
from .formats import load_model, read_config, weights_bytes
from .model import GPT
from .optim import Step, get_lr, settled
from .runs import Busy, Run, queue
from .runs.checkpoint import Progress, load_state, save_state
from .sample import decoder_for, stream
from .timetable import Timetable
from .tokenizer import CharTokenizer

CLEARLY_WORSE = 0.05  # nats above the best validation loss; less than that is noise, or a slope that may turn
DIVERGED = (
    "The loss was no longer a number at step {step:,}, so training stopped; the best weights so far are kept. "
    "Try a third of the learning rate."
)


def make_step(model: GPT, config: TrainConfig, device: Device) -> Step:
    """The fastest way through a training step that there is on this device; the plain one where its file is missing."""
    try:
        if device.type == "cpu":
            from .fast.cpu import CrewStep

            return CrewStep(model, config, device)
        if device.type == "cuda":
            from .fast.cuda import GraphStep

            return GraphStep(model, config, device)
    except ImportError:
        pass
    return Step(model, config, device)


def in_words(device: Device, config: ModelConfig) -> str:
    """The device in the reader's words, with the precision in which a model of this shape is trained there."""
    try:
        from .fast.block import product_dtype
    except ImportError:
        return str(device)
    return str(replace(device, dtype=product_dtype(config, device.type) or device.dtype))


@torch.inference_mode()
def estimate_loss(model: GPT, data: torch.Tensor, device: Device, most: int | None = None) -> float:
    """Mean loss in nats a character over windows of the model's own block_size, side by side: no chance in it.

    With `most`, over so many evenly spaced windows instead of all.
    """
    model.eval()
    total, count = 0.0, 0
    for xb, yb in windows(data, model.config.block_size, most):
        with device.autocast():
            _, loss = model(xb, yb)
        total, count = total + float(loss) * yb.numel(), count + yb.numel()
    model.train()
    return total / count


class Best:
    """The weights with the lowest validation loss so far: kept in memory, and written with the next save."""

    def __init__(self) -> None:
        self.weights: dict[str, torch.Tensor] = {}

    def judge(self, model: GPT, val_loss: float, at: Progress, regular: bool) -> None:
        """Keep a copy of the weights if their validation loss is the lowest so far."""
        at.evaluated_step = at.step
        if regular:
            at.worse = at.worse + 1 if val_loss > at.best_val_loss + CLEARLY_WORSE else 0
        if val_loss < at.best_val_loss:
            at.best_val_loss, at.best_step = val_loss, at.step
            self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def save(self, run: Run, model: GPT) -> None:
        """Write them to model.safetensors if they are new."""
        if self.weights:
            write_whole(run.folder / "model.safetensors", weights_bytes(model, self.weights))
            self.weights = {}


def refuse_nan(step: int, loss: float) -> None:
    """End a run that has diverged before anything of it is saved: the last good weights stay."""
    if not math.isfinite(loss):
        raise NanoGPTError(DIVERGED.format(step=step))


def step_line(row: dict, at: Progress) -> str:
    """What the lecture prints at an evaluation."""
    train_loss = f"train loss {row['train_loss']:.4f}, " if "train_loss" in row else ""
    return f"step {at.step:>6,}: {train_loss}val loss {row['val_loss']:.4f}, {at.seconds:.0f} s"


def write_sample(model: GPT, tokenizer: CharTokenizer) -> str:
    """A short text from the same start and seed each time, so that two evaluations can be compared."""
    model.eval()
    config = SampleConfig(length=300, temperature=0.8, seed=1337)
    decoder = decoder_for(model, 1, compiling=False)  # for so little text that would take longer than it saves
    text = "".join(stream(model, tokenizer, "", config, decoder))
    model.train()
    return text


def train(run: Run, seconds: float | None = None, alone: bool = False) -> None:
    """Train a run from wherever it stands to its end, or until its `stop` file appears or so many seconds are over.

    Waits for its turn on the device, unless it is `alone` there, holds the run's lock meanwhile, and writes everything
    into the run folder.
    Raises NanoGPTError for what the reader can put right, queue.Withdrawn if the run left the queue.
    """
    settings = run.settings()
    config, tokenizer = TrainConfig.of(settings["train"]), CharTokenizer.load(run.folder)
    device = pick_device(config.device, probe=True)
    with queue.turn(run.name, device.type, alone), run.held():
        tokens = corpus.load(settings["corpus"]["id"]).tokens()
        config = settled(config, read_config(run.folder), len(tokens))
        train_data, val_data = (part.to(device.type) for part in split(tokens))  # at home where they are used
        torch.manual_seed(config.seed)
        model = GPT(read_config(run.folder)).to(device.type)
        take_step = make_step(model, config, device)
        optimizers = take_step.optimizers
        generator = torch.Generator().manual_seed(config.seed)  # draws the batches and nothing else
        at = load_state(run, model, optimizers, generator)
        at.seconds = at.seconds or min(settings.get("planning", 0.0), 0.1 * config.budget)  # of choosing a model
        run.cut_back(at.step)
        run.event("started", step=at.step, device=in_words(device, model.config), parameters=model.count_parameters())

        block_size, batch_size = model.config.block_size, config.batch_size
        get_batch = make_get_batch(train_data, block_size, config, generator)
        if device.type == "cuda":  # loading libraries and compiling kernels is part of starting, not of the run's time
            estimate_loss(model, val_data, device, most=1)
            take_step.warm(*pieces(train_data, torch.zeros(batch_size, dtype=torch.long), block_size))
        due = Timetable(
            config, at.seconds, all_windows=-(-(len(val_data) - 1) // block_size), at_a_time=seconds,
            size=16 * model.count_parameters(),
        )  # fmt: skip
        loss_sum = torch.tensor(at.loss_sum, device=device.type)
        lr = grad_norm = 0.0
        best = Best()
        first = mark_step = at.step
        mark_time = time.perf_counter()

        for step in itertools.count(at.step):
            due.look(step)
            at.step, at.seconds = step, due.seconds
            stopping = run.stop_file.exists() or due.makes_room
            row: dict = {}

            # Every once in a while: say how it goes …
            if due.logging and at.loss_count and step > mark_step:  # not where a resumed run stands
                row["train_loss"] = float(loss_sum) / at.loss_count  # on a GPU: waits for the steps before this one
                row["learning_rate"], row["grad_norm"] = lr, float(grad_norm)
                took = time.perf_counter() - mark_time
                row["tokens_per_second"] = round((step - mark_step) * batch_size * block_size / took)
                refuse_nan(step, row["train_loss"])
                loss_sum.zero_()
                at.loss_count = 0
            elif at.evaluated_step < 0:  # a new run begins: the first point of both curves
                row["train_loss"] = estimate_loss(model, train_data, device, due.windows)
                due.took(other=due.seconds - at.seconds)
            # … judge the model on what it never saw, keep it if it is the best so far, let it write …
            began = time.perf_counter()
            evaluating = (due.evaluating or due.last or stopping) and at.evaluated_step != step
            if evaluating:
                row["val_loss"] = estimate_loss(model, val_data, device, due.windows)
                due.took(window=(time.perf_counter() - began) / due.windows)
                refuse_nan(step, row["val_loss"])
                best.judge(model, row["val_loss"], at, due.evaluating)
                due.took(evaluation=time.perf_counter() - began)
                if due.sampling:
                    began = time.perf_counter()
                    run.sample(step, write_sample(model, tokenizer))
                    due.took(sample=time.perf_counter() - began)
                print(step_line(row, at), flush=True)
            if row:
                run.log(step=step, seconds=round(at.seconds, 3), tokens=step * batch_size * block_size, **row)
                mark_step, mark_time = step, time.perf_counter()
            # … and save all that is needed to go on from exactly here.
            overfitting = 0 < config.patience <= at.worse
            ending = due.last or stopping or overfitting
            if due.saving or ending:
                began = time.perf_counter()
                at.loss_sum = float(loss_sum)
                refuse_nan(step, at.loss_sum)
                best.save(run, model)
                save_state(run, model, optimizers, generator, at)
                due.took(save=time.perf_counter() - began)
            if ending:
                break

            xb, yb = get_batch(step)  # (B, T), (B, T)
            lr = get_lr(step, config, due.share)
            began = time.perf_counter()
            loss, grad_norm = take_step(xb, yb, lr)  # forward, backward, clip, optimizers: optim.py
            loss_sum += loss
            at.loss_count += 1
            if step == first:  # on a GPU it was recorded, which takes a second
                due.took(other=time.perf_counter() - began)
                if take_step.note:
                    run.event("note", step=step, message=take_step.note)

        finish(run, model, val_data, device, due, at, stopped=stopping and not due.last)


def finish(run: Run, model: GPT, val_data, device: Device, due: Timetable, at: Progress, stopped: bool) -> None:
    """Judge the best and the last weights on the whole held-out text, keep the better, and say so; if not stopped.

    A held-out text so large that this would take too much of the run's time is judged on evenly spaced windows.
    """
    if stopped:
        said = f"Stopped at step {at.step:,}; all is saved."
        if due.at_a_time is not None and due.makes_room:
            after = limits.in_words(due.at_a_time)
            said = (
                f"Stopped at step {at.step:,} after {after}, the most at a time here; all is saved. Continue goes on."
            )
        run.event("stopped", step=at.step, message=said)
        return
    most = due.final_windows
    best = load_model(run.folder, device.type)
    best_loss, last_loss = (estimate_loss(m, val_data, device, most) for m in (best, model))
    if last_loss <= best_loss:
        write_whole(run.folder / "model.safetensors", weights_bytes(model))
    characters = min(len(val_data) - 1, most * model.config.block_size)
    loss = min(best_loss, last_loss)
    message = f"Finished: validation loss {loss:.4f} nats a character, {loss / math.log(2):.3f} bits."
    if not due.last:
        message = (
            f"Stopped early at step {at.step:,}: the model was learning its text by heart. Validation loss had been "
            f"{CLEARLY_WORSE} above its best for {at.worse} evaluations; the best weights, of step {at.best_step:,}, "
            f"are kept. {message}"
        )
    run.event(
        "finished", step=at.step, val_loss=loss, best_val_loss=best_loss, last_val_loss=last_loss,
        val_characters=characters, message=message,
    )  # fmt: skip
    print(message, flush=True)


def said_of(error: Exception) -> str:
    """An error as the reader's sentence."""
    if isinstance(error, NanoGPTError):
        return str(error)
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "allocate memory" in str(error):
        return "The memory did not suffice. Halve batch_size, or take a smaller n_embd, n_layer or block_size."
    return f"{type(error).__name__}: {error} (log.txt has the whole story)"


def main(name: str, alone: bool = False) -> int:
    """The process around `train`: what goes wrong goes to the run folder in one sentence, and to the log in full."""
    run = Run(name)
    try:
        train(run, limits.limit("NANOGPT_MAX_SECONDS"), alone)
    except queue.Withdrawn:
        run.event("stopped", message="Withdrawn from the queue before its turn came.")
    except Busy:
        print(f"{name} is being trained by another process already.", file=sys.stderr)
        return 1
    except Exception as error:
        with (run.folder / "log.txt").open("a", encoding="utf-8") as log:
            traceback.print_exc(file=log)
        run.event("failed", message=said_of(error))
        return 1
    return 0


def wait_for_name() -> str:
    """The name of a run from stdin, and stdout and stderr into its log; empty when the launcher is gone."""
    import torch._dynamo  # noqa: F401, the optimizers import it at their first use, which takes two seconds

    name = sys.stdin.readline().strip()
    if name:
        with (Run(name).folder / "log.txt").open("ab") as log:
            for stream_number in (1, 2):
                os.dup2(log.fileno(), stream_number)
    return name


if __name__ == "__main__":
    chosen = wait_for_name() if sys.argv[1:] == ["--wait"] else sys.argv[1]
    sys.exit(main(chosen) if chosen else 0)
