"""What a run reports while it trains: its losses, samples and checkpoints, and in the end which weights it keeps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from . import durations, limits
from .config import NanoGPTError, SampleConfig, TrainConfig
from .data import Data, scored_characters
from .device import Device
from .disk import write_whole
from .errors import say
from .evaluate import estimate_loss
from .formats import load_model, weights_parts
from .holdout import percent_scored
from .model import GPT, without_dropout
from .runs import STOPPED_EARLY, Run
from .runs.checkpoint import Progress
from .runs.snapshots import Snapshots
from .sample import decoder_for, stream
from .timetable import Timetable
from .tokenizer import Tokenizer

CLEARLY_WORSE = 0.05  # nats above the best validation loss; anything less may be noise or a temporary rise
DIVERGED = (
    "Training diverged at step {step:,} (the {what} became NaN). The best weights so far are kept; try a learning rate "
    "three times lower."
)


class Reporter:
    """Records a run's progress: training loss, evaluations, samples, and checkpoints for an exact resume."""

    def __init__(
        self, run: Run, model: GPT, tokenizer: Tokenizer, data: Data, device: Device, config: TrainConfig,
        due: Timetable, at: Progress, save_state: Callable[[], None], loss_of: Callable | None = None,
    ):  # fmt: skip
        self.run, self.model, self.tokenizer, self.data, self.device = run, model, tokenizer, data, device
        self.config, self.due, self.at, self.save_state = config, due, at, save_state
        self.loss_of = loss_of  # for evaluations while training; at the end, the model's own forward pass has the word
        self.per_step = config.batch_size * model.config.block_size  # tokens
        self.loss_sum = torch.tensor(at.loss_sum, device=device.type)  # on the device: reading it would wait
        self.lr = self.grad_norm = 0.0
        self.best_weights: dict[str, torch.Tensor] = {}  # not yet saved
        self.begun = self.stopping = self.asked = False
        self.marked_step, self.marked_seconds = at.step, due.seconds  # of the latest row in the log
        note = lambda step, message: run.event("note", step=step, message=message)
        self.snapshots = Snapshots(run.folder, model, config, at.seconds, note)

    def add(self, loss, lr: float, grad_norm) -> None:
        """Count a step's loss, a tensor in nats per token."""
        self.loss_sum += loss
        self.at.loss_count += 1
        if self.at.judged_loss is not None:  # a finished run has been extended, whose last weights replaced the best
            self.at.best_step, self.at.judged_loss = self.at.step, None
        self.lr, self.grad_norm = lr, grad_norm

    def look(self, step: int) -> bool:
        """Do what is due before this step. Return True if the run ends here."""
        # before the step, so that a run resumed here stops and saves at the same steps
        self.due.look(step)
        self.at.step, self.at.seconds = step, self.due.seconds
        self.leave_out_pause()
        self.due.took(other=self.snapshots.look(step, self.at.seconds))
        self.due.expect(self.snapshots.pending, self.at.best_step == self.at.evaluated_step)
        self.asked = self.run.stop_file.exists()  # noted now, because the time may be up when this is done
        self.stopping = self.asked or self.due.makes_room
        row = {**self.opening(), **self.training_loss(), **self.evaluation()}
        if row:
            tokens = step * self.per_step  # read so far, those of earlier epochs again
            counts = dict(tokens=tokens, characters=round(tokens * self.data.per_token))
            self.run.log(step=step, seconds=round(self.at.seconds, 3), **counts, **row)
            self.marked_step, self.marked_seconds = step, self.due.seconds
        # what the lecture prints every eval_interval
        if "val_loss" in row:
            losses = [f"{name} loss {row[f'{name}_loss']:.4f}" for name in ("train", "val") if f"{name}_loss" in row]
            say(f"step {step:>6,}: {', '.join(losses)}, {self.at.seconds:.0f} s")
        ending = self.due.last or self.stopping or self.overfitting
        if ending or self.due.saving:
            self.save()
        return ending

    def leave_out_pause(self) -> None:
        """Count speed from here if a pause, which isn't counted, held up the latest row."""
        if self.at.seconds < self.marked_seconds:
            self.marked_step, self.marked_seconds = self.at.step, self.at.seconds

    @property
    def overfitting(self) -> bool:
        """Return True if patience is used up: more steps would only memorize the training set."""
        return 0 < self.config.patience <= self.at.worse

    def opening(self) -> dict[str, float]:
        """At the first look, return a new run's training loss, the first point of its curve, and note what that takes.

        A timed run looks twice, even if it is resumed: the first look loads libraries, too, so it says little about
        later ones. If another number of windows follows from that than before, its best weights are evaluated again.
        """
        at, due, new = self.at, self.due, self.at.evaluated_step < 0
        if self.begun or not (new or self.config.budget):
            return {}
        self.begun = True
        for _ in range(2 if self.config.budget else 1):
            began, most = time.perf_counter(), due.opening
            loss = estimate_loss(self.model, self.data.train, self.device, most, self.data.lengths)
            took = time.perf_counter() - began
            due.took(other=took, opening=took / most)
        if not new and due.windows != at.windows:
            self.evaluate_best_again()
        return dict(train_loss=loss) if new else {}

    def evaluate_best_again(self) -> None:
        """Evaluate the best weights on the windows that evaluations use from here on, to compare the two."""
        began, best = time.perf_counter(), load_model(self.run.folder, self.device.type)
        loss = estimate_loss(best, self.data.val, self.device, self.due.windows, self.data.lengths)
        self.at.best_val_loss, self.at.best_regular_loss, self.at.windows = loss, loss, self.due.windows
        self.due.took(other=time.perf_counter() - began)

    def training_loss(self) -> dict[str, float]:
        """Return the mean loss since the last row, learning rate, gradient norm and speed, if due."""
        at, per_token = self.at, self.data.per_token
        if not (self.due.logging and at.loss_count and at.step > self.marked_step):  # not where a run resumes
            return {}
        loss = float(self.loss_sum) / at.loss_count / per_token  # on a GPU this waits for the steps so far
        refuse_nan(at.step, loss)
        speed = (at.step - self.marked_step) * self.per_step / (self.due.seconds - self.marked_seconds)
        # the next row has a mean of its own
        self.loss_sum.zero_()
        at.loss_count = 0
        return dict(
            train_loss=loss, learning_rate=self.lr, grad_norm=float(self.grad_norm), tokens_per_second=round(speed),
            characters_per_second=round(speed * per_token),
        )  # fmt: skip

    def evaluation(self) -> dict[str, float]:
        """If due, evaluate the model on the validation set, keep its weights if they are the best, write a sample.

        The evaluation at a stop may find the best weights, too, but doesn't count for patience.
        """
        at, due = self.at, self.due
        if at.evaluated_step == at.step or not (due.evaluating or due.last or self.stopping):
            return {}
        began = time.perf_counter()
        loss = estimate_loss(self.model, self.data.val, self.device, due.windows, self.data.lengths, self.loss_of)
        due.took(window=(time.perf_counter() - began) / due.windows)
        refuse_nan(at.step, loss)
        at.evaluated_step, at.windows = at.step, due.windows
        if due.evaluating:  # patience goes by regular evaluations only, so that a stop doesn't change when a run ends
            # in a row, because a single bad evaluation may be noise
            at.worse = at.worse + 1 if loss > at.best_regular_loss + CLEARLY_WORSE else 0
            at.best_regular_loss, at.evaluated_seconds = min(at.best_regular_loss, loss), at.seconds
        # a copy in memory, on the device: writing it at every evaluation could take longer than the steps between
        if loss < at.best_val_loss:
            at.best_val_loss, at.best_step = loss, at.step
            self.best_weights = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        due.took(evaluation=time.perf_counter() - began)
        if due.sampling:
            began = time.perf_counter()
            self.run.sample(at.step, write_sample(self.model, self.tokenizer))
            due.took(sample=time.perf_counter() - began)
        return dict(val_loss=loss)

    def save(self) -> None:
        """Write the best weights, if they are new, and a checkpoint to resume from exactly here."""
        began = time.perf_counter()
        self.at.loss_sum = float(self.loss_sum)
        # never save a diverged run; the losses are those before the last update, which may have spoiled the weights
        refuse_nan(self.at.step, self.at.loss_sum)
        refuse_nan(self.at.step, self.model.largest_weight(), "weights")
        self.snapshots.write()
        self.keep()
        self.save_state()
        self.due.took(save=time.perf_counter() - began)

    def keep(self) -> None:
        """Write the best weights if they are new."""
        if self.best_weights:
            write_whole(self.run.folder / "model.safetensors", weights_parts(self.model, self.best_weights))
            self.best_weights = {}

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Write the best weights even if training fails, whether the loss became NaN or memory ran out.

        The error then has the `step` at which that was.
        """
        try:
            yield
        except Exception as error:
            self.keep()
            error.step = self.at.step  # type: ignore[attr-defined]
            raise

    def judge(self) -> tuple[float, float, int]:
        """Return the validation losses of the best and the last weights, and on how many windows they were evaluated.

        They are evaluated once if they are the same; if a timed run expected that in vain, each on half the windows.
        """
        at, most, timed = self.at, self.due.final_windows, self.config.budget > 0
        same = at.best_step == at.step and at.judged_loss is None
        if timed and not same and self.due.judged == 1:
            most = max(1, most // 2)
        most = max(most, min(self.due.all_windows, self.due.windows_left // (1 if same else 2)))
        evaluate = lambda model: estimate_loss(model, self.data.val, self.device, most, self.data.lengths)
        best_loss = evaluate(load_model(self.run.folder, self.device.type))
        return best_loss, best_loss if same else evaluate(self.model), most

    def finish(self) -> None:
        """Record that the run was stopped; or, if it is finished, keep the better of its best and its last weights.

        Compare them on the whole validation set, or on evenly spaced windows if that would take too long.
        """
        at, due, run = self.at, self.due, self.run
        if self.stopping and not due.last:
            run.event("stopped", step=at.step, message=f"Stopped at step {at.step:,} and saved{self.why_stopped()}")
            return
        # while training, both were evaluated on fewer windows
        best_loss, last_loss, most = self.judge()
        if at.judged_loss is not None:  # killed while finishing: the best weights may have been replaced already
            best_loss = at.judged_loss
        if last_loss <= best_loss and at.best_step != at.step:
            at.judged_loss = best_loss
            self.save_state()
            write_whole(run.folder / "model.safetensors", weights_parts(self.model))
        loss = min(best_loss, last_loss)
        message = f"Finished: validation loss {loss:.4f} nats per character, {loss / math.log(2):.3f} bits."
        message += self.measured_on(most)
        if not due.last:
            message = (
                f"{STOPPED_EARLY} at step {at.step:,}: the model was memorizing its text. The validation loss had been "
                f"{CLEARLY_WORSE} above its best for {at.worse} evaluations; the best weights, from step "
                f"{at.best_step:,}, are kept. {message}"
            )
        run.event(
            "finished", step=at.step, val_loss=loss, best_val_loss=best_loss, last_val_loss=last_loss,
            val_characters=self.scored(most), message=message, overfitting=self.overfitting, **due.costs,
        )  # fmt: skip
        say(message)

    def scored(self, windows: int) -> int:
        """Return how many characters of the validation set so many windows predict."""
        return scored_characters(self.data.val, self.model.config.block_size, self.data.lengths, windows)

    def measured_on(self, most: int) -> str:
        """Return a sentence about how much of the validation set was used at the end, and before if that was less.

        So the last point of the plot isn't the final loss, from which it may differ by a tenth. If all of the
        validation set was used all the time, return "".
        """
        characters = self.run.settings()["corpus"]["characters"]
        last, before = (percent_scored(self.scored(windows), characters) for windows in (most, self.at.windows or most))
        part = "the whole validation set" if last == 100 else f"{last}% of the validation set"
        more = f"; while training, on {before}%" if before < last else ""
        return f" Measured on {part}{more}." if last < 100 or more else ""

    def why_stopped(self) -> str:
        """Return the end of the message of a run that was stopped: why, unless it was asked to stop."""
        if self.asked or self.due.at_a_time is None:
            return "."
        if limits.in_a_job():
            return " before the job's time limit. Resume it to continue."
        limit = durations.in_words(self.due.at_a_time)
        return f": this server trains a run for at most {limit} at a time. Resume it to continue."


def write_sample(model: GPT, tokenizer: Tokenizer) -> str:
    """Return a short sample, always from the same prompt and seed, so that evaluations can be compared."""
    config = SampleConfig(length=300, temperature=0.8, seed=1337)
    decoder = decoder_for(model, 1, compiling=False)  # for such a short text, compiling takes longer than it saves
    with without_dropout(model):
        return "".join(stream(model, tokenizer, "", config, decoder))


def refuse_nan(step: int, value: float, what: str = "loss") -> None:
    """Raise NanoGPTError if a run has diverged: if its loss, or `what` the value is of, is NaN or infinite.

    Call this before saving, so that the last good weights are kept.
    """
    if not math.isfinite(value):
        raise NanoGPTError(DIVERGED.format(step=step, what=what))
