"""Describe what a run is doing, in the words of the page. Plain functions of a run folder."""

from __future__ import annotations

import contextlib
import math
from typing import Any

from .. import limits
from ..durations import clock
from ..errors import PROBLEMS
from ..formats import read_config
from ..holdout import epochs
from ..launch import sizes
from ..layout import shape
from ..runs import History, Run, Status, elsewhere, judged_percent, kept_loss, newest_loss, overview, queue
from .drawn import line
from .web.visit import seen, trained

TILES = ("Validation loss", "Time left", "Epochs", "Speed")
DASH = "–"
NOTES = 20  # of a run, the newest ones: an imported one may have thousands


def nats_and_bits(loss: float) -> str:
    """Return a loss in nats and bits per character."""
    return f"{loss:.4f} nats per character ({loss / math.log(2):.3f} bits)"


def final_loss(run: Run) -> str:
    """Return a run's final validation loss, on as much of the validation set as time allowed, or the best so far."""
    history = run.history()
    found = kept_loss(history)
    return f"{found:.4f}" if isinstance(found, int | float) else DASH


def left(run: Run, status: Status) -> float:
    """Return the seconds that remained at the last row: of the time budget, or at the speed of the steps so far."""
    budget = run.settings()["train"].get("budget")
    return (
        max(0.0, budget - status.seconds) if budget else (status.max_iters - status.step) * status.seconds / status.step
    )


def left_now(run: Run, status: Status) -> float:
    """Return the seconds remaining. While the run trains, they pass between rows, too."""
    since = run.history().age if status.state == "running" else 0.0
    return max(0.0, left(run, status) - since)


def countdown(run: Run, status: Status) -> str:
    """Return the time remaining, as 3:25. It is 0:00 only once no part of a second is left, as in tiles.js."""
    return clock(math.ceil(left_now(run, status)))


def steps(run: Run, status: Status) -> str:
    """Return the step and the total, which is approximate while a run has a time budget."""
    if status.busy and run.settings()["train"].get("budget"):
        return f"step {status.step:,} of about {float(f'{status.max_iters:.2g}'):,.0f}"
    return f"step {status.step:,} of {status.max_iters:,}"


def devices(history: History) -> list[str]:
    """Return the device of each start of a run's training, where it was logged."""
    return [str(event["device"]) for event in history.events if event["event"] == "started" and "device" in event]


def run_line(name: str | None) -> dict:
    """Return the state of a run and its message, in the form that status_line.js draws."""
    run = seen(name)
    if run is None:
        return line("Choose a preset and press Start.")
    status = overview(run).status
    if status.state == "damaged":
        return line(status.message, status.state)
    if not status.busy:
        return line(_ended_words(run, status), status.state)
    return line(
        _busy_words(run, status), status.state, status.step / status.max_iters,
        spoken=f"{status.word}. {_evaluation(run.history())}".strip(),
    )  # fmt: skip


def _busy_words(run: Run, status: Status) -> str:
    """Describe a queued or training run: its place in the queue, or its step."""
    if status.state == "queued":
        return queue.in_words(status.place) or "Starting …"
    if status.message:  # what its job is doing
        return f"{status.message} …"
    return f"{status.word}: {steps(run, status)}"


def _evaluation(history: History) -> str:
    """Return a sentence about the latest evaluation, or "" before the first. Screen readers announce each new one."""
    row = history.evaluations[-1] if history.evaluations else {}
    return f"Step {row['step']:,}: validation loss {row['val_loss']:.3f}." if row else ""


def _ended_words(run: Run, status: Status) -> str:
    """Describe how a run ended. Where its message doesn't say how far it got, add the step."""
    state, message = status.word, status.message
    if run.is_bundled():
        return f"{state}: {steps(run, status)}. It ships with nanogpt, so it can't be resumed."
    if not message:
        return f"{state}: {steps(run, status)}" if status.step else state
    return message if message.startswith((state, "Canceled")) else f"{state}: {message}"


# ---- the figures below the state ---------------------------------------------------------------------------------


def tiles(run: Run | None, status: Status | None) -> list[dict[str, Any]]:
    """Return the large figures of a run, as tiles.js draws them. A dash stands for what isn't known yet.

    While a run trains, its time left comes in seconds, too, so that the browser can count it down between rows.
    """
    if run is None or status is None or status.state == "damaged":
        return [dict(label=label, value=DASH, note="") for label in TILES]
    history = run.history()
    figures = _loss(run, history, status), _time(run, status), _epochs(run, status), _speed(history, status)
    shown: list[dict[str, Any]] = [
        dict(label=label, value=value, note=note) for label, (value, note) in zip(_labels(history, status), figures)
    ]
    if status.state == "finished" and (percent := judged_percent(history, run.settings())):
        shown[TILES.index("Validation loss")]["title"] = f"Measured on {of_the_set(percent)}."
    if status.state == "running" and status.step:
        shown[TILES.index("Time left")]["left"] = round(left_now(run, status), 1)
    return shown


def _labels(history: History, status: Status) -> list[str]:
    """Return the labels of the figures, some of which are others once a run has ended."""
    finished = {"Validation loss": "Final validation loss", "Time left": "Training time"}
    ended = finished if status.state == "finished" else {}
    if history.mean_speed and not status.busy:
        ended["Speed"] = "Mean speed"
    return [ended.get(label, label) for label in TILES]


def _loss(run: Run, history: History, status: Status) -> tuple[str, str]:
    """Return the latest validation loss, and its unit with its bits, or with the loss to expect at the end.

    Of a finished run, it is the final loss, which is measured on more of the validation set than those before.
    """
    loss = newest_loss(history)
    if loss is None:
        return DASH, ""
    at_the_end = sizes.forecast(run, status.max_iters) if status.state == "running" else None
    more = f"{loss / math.log(2):.3f} bits" if at_the_end is None else f"end ~{at_the_end:.2f}"
    return f"{loss:.3f}", f"nats/char · {more}"


def _time(run: Run, status: Status) -> tuple[str, str]:
    """Return the time left of a run that is training, and how long it takes; or how long a finished one took."""
    if status.state == "finished":
        return clock(status.seconds), "in all"
    if status.state not in ("running", "stopping") or not status.step:
        return DASH, f"{clock(status.seconds)} trained" if status.seconds else ""
    rest = left(run, status)
    about = "" if run.settings()["train"].get("budget") else "about "
    return countdown(run, status), f"of {about}{clock(status.seconds + rest)}"


def _epochs(run: Run, status: Status) -> tuple[str, str]:
    """Return how often the run has gone through its text, and how often it will have."""
    history = run.history()
    if not history.characters:
        return DASH, ""
    often = epochs(history.characters, run.settings()["corpus"]["characters"])
    planned = often * status.max_iters / status.step if status.step else often
    return _rounded(often), f"of about {_rounded(planned)}" if status.busy else "times through the text"


def _rounded(often: float) -> str:
    return f"{often:.2f}" if often < 10 else f"{often:,.1f}"


def _speed(history: History, status: Status) -> tuple[str, str]:
    """Return the speed of training: the newest one of a run that trains, and the mean of one that has ended."""
    # older runs logged tokens
    newest = history.latest("characters_per_second") or history.latest("tokens_per_second")
    speed = newest if status.busy else history.mean_speed
    if not speed:
        return DASH, ""
    return (f"{speed / 1e6:.2f} M" if speed >= 1e6 else f"{speed:,.0f}"), "characters per second"  # fits on a phone


def details(run: Run | None, status: Status | None) -> list[list[str]]:
    """Return what else there is to know about a run, as pairs of words and value, for details.js."""
    from ..model import count_parameters  # here, because it imports torch, which the page can be drawn without

    if run is None or status is None:
        return []
    if status.state == "damaged":
        return [["Message", status.message]]
    history, found = run.history(), [["Text", str(run.settings()["corpus"]["name"])]]
    with contextlib.suppress(*PROBLEMS):  # the config can't be read: the rest is still worth showing
        model = read_config(run.folder)
        size = f"{shape(model.n_layer, model.n_head, model.n_embd)}, context {model.block_size}"
        found += [["Model", f"{size}, {model.layout}"], ["Parameters", f"{count_parameters(model):,}"]]
    found += [["Device", device] for device in devices(history)[-1:]]
    found += [["Steps", steps(run, status).removeprefix("step ")], ["Elapsed", clock(status.seconds)]]
    notes = list(dict.fromkeys(history.notes))[-NOTES:]  # once each: a run may have been resumed
    return found + _measured(run, history) + [["Note", note] for note in notes]


def _measured(run: Run, history: History) -> list[list[str]]:
    """Return what was measured in a run as pairs of words and value: its mean speed, and its losses."""
    speed, loss, percent = history.mean_speed, kept_loss(history), judged_percent(history, run.settings())
    found: list[list[str]] = []
    if speed:
        found.append(["Mean speed", f"{speed:,.0f} characters per second, without the time for evaluations"])
    for key, label in (("train_loss", "Newest training loss"), ("val_loss", "Newest validation loss")):
        value = history.latest(key)
        found += [[label, nats_and_bits(value)]] if value is not None else []
    if best := history.best:
        found.append(["Best validation loss", f"{best['val_loss']:.4f} at step {best['step']:,}"])
    if percent and loss is not None:
        found.append(["Final validation loss", f"{loss:.4f}, measured on {of_the_set(percent)}"])
    return found


def of_the_set(percent: int) -> str:
    """Return a percentage of the validation set in words."""
    return f"{'all' if percent == 100 else f'{percent}%'} of the validation set"


# ---- the line above the tabs -------------------------------------------------------------------------------------


def page_line() -> dict:
    """Return the line above the tabs: what is running and for how long, whichever run is selected."""
    here, waiting = queue.running(), queue.waiting()
    running = here + elsewhere()
    if not running and not waiting:
        return line(_idle_words())
    training = [(run, overview(run).status) for run in filter(None, map(seen, running))]
    others = ["Training another visitor's run"] * (len(running) - len(training))
    queued = [f"{len(waiting)} waiting"] if waiting else []
    far = [f"{_doing(run, status)}{_far(run, status)}" for run, status in training]
    spoken = "; ".join([_doing(run, status) for run, status in training] + others)
    said = line("; ".join(far + others + queued) + ".", "running", spoken=f"{spoken}." if spoken else None)
    return said | dict(title=title_words(*training[0]) if training else [], here=bool(here or waiting))


def _idle_words() -> str:
    count = len(trained())
    if not count and limits.training_is_off():
        return "Idle. There is no trained model here yet."
    if not count:
        return "Ready. Open Train and press Start."
    models, one = ("trained models", "one") if count > 1 else ("trained model", "it")
    return f"Idle. {count} {models} ready: open Sample to try {one}."


def _doing(run: Run, status: Status) -> str:
    return f"{status.word} {run.name}"


def _far(run: Run, status: Status) -> str:
    """Return how far a run is, which changes each second."""
    if status.message:
        return f": {status.message[0].lower()}{status.message[1:]}"
    at = f": {steps(run, status)}" if status.max_iters else ""
    return at + (f", {countdown(run, status)} left" if status.step else "")


def title_words(run: Run, status: Status) -> list[str]:
    """Return what the title of the browser tab says of a run: "62%" and "val 1.71"."""
    loss = run.history().latest("val_loss")
    parts = [f"{status.step / status.max_iters:.0%}"] if status.max_iters else []
    return parts + ([f"val {loss:.2f}"] if loss is not None else [])
