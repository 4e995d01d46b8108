"""Describe what a run is doing, in the words of the page. Plain functions of a run folder."""

from __future__ import annotations

import math

from .. import limits
from ..config import NanoGPTError
from ..durations import clock
from ..holdout import epochs
from ..runs import History, Run, Status, queue
from .drawn import line
from .visit import seen, visitor

STATES = dict(
    queued="Queued", running="Training", stopping="Stopping", finished="Finished", stopped="Stopped", failed="Failed",
    crashed="Interrupted", damaged="Damaged",
)  # fmt: skip


def state_word(status: Status) -> str:
    """Return the word for a state, even an unknown one from a later version."""
    return STATES.get(status.state, status.state.capitalize())


def existing(name: str | None, none_yet: str) -> Run:
    """Return the run with this name. Raise NanoGPTError if there is none, or if no name is given."""
    if not name:
        raise NanoGPTError(none_yet)
    run = visitor().run(name)
    run.settings()
    return run


def losses(history: History) -> str:
    """Return the latest losses, in nats and bits per character."""
    parts = []
    for key, label in (("train_loss", "training loss"), ("val_loss", "validation loss")):
        value = history.latest(key)
        if value is not None:
            parts.append(f"{label} {value:.4f} ({value / math.log(2):.3f} bits)")
    return ", ".join(parts)


def left(run: Run, status: Status) -> float:
    """Return the seconds remaining: of the time budget, or at the speed of the steps so far."""
    budget = run.settings()["train"].get("budget")
    return (
        max(0.0, budget - status.seconds) if budget else (status.max_iters - status.step) * status.seconds / status.step
    )


def steps(run: Run, status: Status) -> str:
    """Return the step and the total, which is approximate while a run has a time budget."""
    if status.busy and run.settings()["train"].get("budget"):
        return f"step {status.step:,} of about {float(f'{status.max_iters:.2g}'):,.0f}"
    return f"step {status.step:,} of {status.max_iters:,}"


def progress(run: Run, status: Status) -> str:
    """Return a line with the step, epochs, speed, time elapsed and time left."""
    settings, history = run.settings(), run.history()
    speed = history.latest("characters_per_second") or history.latest("tokens_per_second")  # older runs logged this key
    read = history.latest("characters") or history.latest("tokens") or 0
    parts = [steps(run, status)]
    parts.append(f"{epochs(read, settings['corpus']['characters']):.1f} epochs")
    if speed:
        parts.append(f"{speed:,} characters per second")
    parts.append(f"{clock(status.seconds)} elapsed")
    if status.state == "running" and status.step:
        parts.append(f"{clock(left(run, status))} left")
    parts += devices(history)[-1:]
    return " · ".join(parts)


def devices(history: History) -> list[str]:
    """Return the device of each start of a run's training, where it was logged."""
    return [str(event["device"]) for event in history.events if event["event"] == "started" and "device" in event]


def run_line(name: str | None) -> dict:
    """Return the status of a run in the form that status_line.js draws."""
    run = seen(name)
    if run is None:
        return line("Choose a preset and press Start.")
    status = run.glance()
    if status.state == "damaged":
        return line(status.message, status.state)
    text = _busy_words(run, status) if status.busy else _ended_words(run, status)
    return line(text, status.state, status.step / status.max_iters if status.busy else None)


def _busy_words(run: Run, status: Status) -> str:
    """Describe a queued or training run: its place in the queue or its progress, and its losses."""
    text, history = state_word(status), run.history()
    if status.state == "queued":
        text += f": number {status.place}" if status.place > 1 else ": next, starting"
    else:
        text += f": {progress(run, status)}"
    return f"{text} · {losses(history)}" if history.rows else text


def _ended_words(run: Run, status: Status) -> str:
    """Describe how a run ended, and how far it got."""
    state, message = state_word(status), status.message
    said = message if message.startswith(state) else f"{state}: {message}".rstrip(": ")
    return f"{said.rstrip('.')} · {progress(run, status)}" if status.step else said


def page_line() -> dict:
    """Return the line above the tabs: what is running and for how long, whichever run is selected."""
    running, waiting = queue.running(), queue.waiting()
    if not running and not waiting:
        return line(_idle_words())
    texts = [_running_words(name) for name in running]
    if waiting:
        texts.append(f"{len(waiting)} waiting")
    return line("; ".join(texts) + ".", "running") | dict(title=title_words(running))


def _idle_words() -> str:
    count = len(visitor().runs())
    if not count and limits.training_is_off():
        return "Idle. There is no trained model here yet."
    if not count:
        return "Ready. A text and a preset are already selected: open Train and press Start."
    models, one = ("trained models", "one") if count > 1 else ("trained model", "it")
    return f"Idle. {count} {models} ready: open Sample to try {one}."


def _running_words(name: str) -> str:
    run = seen(name)
    if run is None:
        return "Training another visitor's run"
    status = run.glance()
    rest = left(run, status) if status.step else 0
    at = f": {steps(run, status)}" if status.max_iters else ""
    return f"{state_word(status)} {name}{at}" + (f", {clock(rest)} left" if rest else "")


def title_words(names: list[str]) -> list[str]:
    """Return what the title of the browser tab says: "62%" and "val 1.71", of the first run the visitor can see."""
    run = next(filter(None, map(seen, names)), None)
    if run is None:
        return []
    status, loss = run.glance(), run.history().latest("val_loss")
    parts = [f"{status.step / status.max_iters:.0%}"] if status.max_iters else []
    return parts + ([f"val {loss:.2f}"] if loss is not None else [])
