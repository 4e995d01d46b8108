"""What a run is doing, in the page's words. Plain functions of a run folder."""

from __future__ import annotations

import math

from .. import tickets
from ..config import NanoGPTError
from ..run import History, Run, Status, all_runs

STATES = dict(
    queued="Waiting", running="Training", stopping="Stopping", finished="Finished", stopped="Stopped", failed="Failed",
    crashed="Interrupted",
)  # fmt: skip


def clock(seconds: float) -> str:
    """Seconds as 0:07, 3:25 or 1:02:03."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def losses(history: History) -> str:
    """The latest losses in nats and bits a character."""
    parts = []
    for key, label in (("train_loss", "training loss"), ("val_loss", "validation loss")):
        value = next((row[key] for row in reversed(history.rows) if key in row), None)
        if value is not None:
            parts.append(f"{label} {value:.4f} ({value / math.log(2):.3f} bits)")
    return ", ".join(parts)


def progress(run: Run, status: Status) -> str:
    """Step, passes over the text, speed, time gone and time left: what there is to say of a run, in one line."""
    settings, history = run.settings(), run.history()
    started = next((event for event in reversed(history.events) if event["event"] == "started"), None)
    speed = next((row["tokens_per_second"] for row in reversed(history.rows) if "tokens_per_second" in row), None)
    tokens = next((row["tokens"] for row in reversed(history.rows)), 0)
    parts = [f"step {status.step:,} of {status.max_iters:,}"]
    parts.append(f"{tokens / (0.9 * settings['corpus']['characters']):.1f} passes over the text")
    if speed:
        parts.append(f"{speed:,} characters a second")
    parts.append(f"{clock(status.seconds)} gone")
    if status.state == "running" and status.step:
        parts.append(f"{clock((status.max_iters - status.step) * status.seconds / status.step)} left")
    if started:
        parts.append(str(started["device"]))
    return " · ".join(parts)


def run_line(name: str | None) -> dict:
    """The status of one run as status_line.js draws it."""
    if not name:
        return dict(text="Choose a preset and press Start.", state="idle", share=None)
    run = Run(name)
    try:
        status = run.status()
    except NanoGPTError as error:
        return dict(text=str(error), state="failed", share=None)
    text, history = STATES[status.state], run.history()
    if status.state == "queued":
        text += f": number {status.place} in the queue" if status.place > 1 else ": next in the queue, starting"
    elif status.busy:
        text += f": {progress(run, status)}"
    else:
        said = status.message or f"step {status.step:,} of {status.max_iters:,}"
        text = said if said.startswith(text) else f"{text}: {said}"
        text += f" {progress(run, status)}." if status.step else ""
    if status.busy and history.rows:
        text += f" · {losses(history)}"
    share = status.step / status.max_iters if status.busy else None
    return dict(text=text, state=status.state, share=share)


def page_line() -> dict:
    """The line above the tabs: what is running and how long it has to go, whichever run the tabs show."""
    running, waiting = tickets.running(), tickets.waiting()
    if not running and not waiting:
        runs = all_runs()
        if not runs:
            return dict(
                text="Nothing is running. A text and a preset are chosen: open Train and press Start.", state="idle"
            )
        count = f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
        return dict(text=f"Nothing is running. {count} here to write with, in Sample.", state="idle")
    texts = []
    for name in running:
        status = Run(name).status()
        left = (status.max_iters - status.step) * status.seconds / status.step if status.step else 0
        texts.append(
            f"{STATES[status.state]} {name}: step {status.step:,} of {status.max_iters:,}"
            + (f", {clock(left)} left" if left else "")
        )
    if waiting:
        texts.append(f"{len(waiting)} waiting")
    return dict(text="; ".join(texts) + ".", state="running")
