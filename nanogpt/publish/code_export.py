"""A run as one readable file of Python, which needs torch alone and trains this very model again.

The file is `exported/train.txt` with the run's numbers put in, and without the sections that are for another layout or
optimizer. It draws its random numbers in the order of train.py, so on a CPU it comes to the same loss.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..config import ModelConfig, NanoGPTError, TrainConfig
from ..durations import in_words
from ..formats import read_config
from ..holdout import TRAIN_SHARE, train_length
from ..layout import Layout
from ..model import ROPE_THETA
from ..optim import settled
from ..paths import slug
from ..runs import History, Run, kept_loss
from ..timetable import Timetable
from ..tokenizer import load_tokenizer, unit

TEMPLATE = Path(__file__).parent / "exported" / "train.txt"
DEVICES = {"cpu": '"cpu"', "mps": '"mps"'}  # where one was asked for; else the best there is
BEST_DEVICE = '"cuda" if torch.cuda.is_available() else "cpu"'
LINES = {"cosine": "0.5 * (1 + math.cos(math.pi * gone))", "linear": "(1 - gone)"}


def python(run: Run) -> str:
    """The run's program. NanoGPTError where it has not learned anything yet.

    It trains as many steps as the run has; one of a time budget has the steps it came to, with the learning rate
    falling by steps instead of by the clock.
    """
    settings, model, history = run.settings(), read_config(run.folder), run.history()
    if unit(load_tokenizer(run.folder)) != "character":
        raise NanoGPTError(
            f"The tokens of {run.name} are longer than a character; only a program for single ones is here."
        )
    evaluated = [row["step"] for row in history.rows if row.get("val_loss") is not None]
    steps = max(evaluated, default=0)
    if steps < 1:
        raise NanoGPTError(f"{run.name} has not learned anything yet; its program comes with its second evaluation.")
    train = settled(TrainConfig.of(settings["train"]), model, settings["corpus"]["characters"])
    if train.budget:
        length = _length(train, history, steps)
        train = TrainConfig.of({**train.as_dict(), "budget": 0.0, "max_iters": length, "eval_interval": 0})
    tags = {train.optimizer, train.batches, "warmup" if train.warmup_iters else "steady", *_features(model.features)}
    tags |= {"clip"} if train.grad_clip else set()
    judging = _judging(settings["corpus"]["characters"], model, train, history)
    words = dict(
        name=run.name, text_file=f"{slug(settings['corpus']['name']) or 'input'}.txt", reached=_reached(run, history),
        corpus=literal(settings["corpus"]["name"]), characters=f"{settings['corpus']['characters']:,}",
        sha256=literal(settings["corpus"].get("sha256", "")), device=DEVICES.get(train.device, BEST_DEVICE),
        train_share=TRAIN_SHARE,
        last_step="max_iters" if steps == train.max_iters else f"{steps}  # where the run ended",
        eval_interval=train.evaluate_every, s="s" * (train.optimizer == "muon"),
        line={"cosine": "cosine", "linear": "line"}[train.schedule], left=LINES[train.schedule],
    )  # fmt: skip
    values = {**model.as_dict(), **train.as_dict(), **judging, **words, **_code(model.features)}
    return filled(TEMPLATE.read_text(encoding="utf-8"), tags, values)


def literal(text: Any) -> str:
    """A text as Python writes it down: whatever is in it, it cannot end its quotes or its line."""
    shown = repr(str(text))
    return shown if '"' in shown else f'"{shown[1:-1]}"'


def filled(template: str, tags: set[str], values: dict[str, Any]) -> str:
    """A template's lines with the values in their places.

    A line `#: some tags` begins a section that is left out unless all of them are wanted; `#:` ends it.
    """
    lines, wanted = [], True
    for line in template.splitlines():
        if line.startswith("#:"):
            wanted = set(line.removeprefix("#:").split()) <= tags
        elif wanted:
            lines.append(re.sub(r"\{\{(\w+)\}\}", lambda found: str(values[found[1]]), line))
    return "\n".join(lines) + "\n"


def _features(layout: Layout) -> set[str]:
    """The tags of a layout's sections: `rotary` or `no-rotary`, and so on for each feature."""
    features = asdict(layout)
    features["norm"] = layout.plain_norms or layout.qk_norm
    features["placed"] = layout.rotary or layout.qk_norm  # queries and keys, before they meet
    features["vectors"] = layout.biases or not layout.plain_norms  # parameters that are no matrices
    return {name if on else f"no-{name}" for name, on in features.items()}


def _code(layout: Layout) -> dict[str, Any]:
    """What the model's lines say in a layout."""
    norms = {name: "norm" if layout.plain_norms else f"self.{name}" for name in ("ln1", "ln2", "ln_f")}
    rotated = {z: f"rotate({z}, cos, sin)" if layout.rotary else z for z in "qk"}
    placed = {z: f"norm({rotated[z]})" if layout.qk_norm else rotated[z] for z in "qk"}
    return dict(
        **norms, **placed, bias=layout.biases, activation="ReLUSquared" if layout.relu_squared else "nn.ReLU",
        rope_theta=ROPE_THETA, angles=", cos, sin" if layout.rotary else "",
        rotary=", *self.rotary[:, :T]" if layout.rotary else "",
    )  # fmt: skip


def _length(train: TrainConfig, history: History, steps: int) -> int:
    """The steps in which a timed run would have used its time; more than it has where it ended before that.

    The learning rate that it logged last tells how much of its time was over.
    """
    rows = [row for row in history.rows if row.get("learning_rate") is not None and row["step"] > 0]
    if not rows or train.min_lr == train.learning_rate:
        return steps
    left = (rows[-1]["learning_rate"] - train.min_lr) / (train.learning_rate - train.min_lr)
    left = min(1.0, max(0.0, left))
    gone = math.acos(2 * left - 1) / math.pi if train.schedule == "cosine" else 1 - left
    return steps if not 0.01 < gone < 0.97 else max(steps, round(rows[-1]["step"] / gone))


def _judging(characters: int, model: ModelConfig, train: TrainConfig, history: History) -> dict[str, int]:
    """On how many windows of the held-out text the run was judged, on its way and in the end."""
    tail = characters - train_length(characters)
    due = Timetable(train, 0.0, all_windows=-(-(tail - 1) // model.block_size))
    judged = history.events[-1].get("val_characters") if history.events else None
    final = -(-judged // model.block_size) if isinstance(judged, int) else due.windows
    return dict(eval_windows=due.windows, final_windows=final)


def _reached(run: Run, history: History) -> str:
    """What the run came to, in a sentence or two of a docstring."""
    took = in_words(history.seconds, rough=True)
    said = f"The run it is made from reached a validation loss of {kept_loss(history):.4f} in {took}."
    if TrainConfig.of(run.settings()["train"]).budget:
        said += "\nIt went by the clock; this file takes as many steps, and comes to about the same loss."
    if [event["event"] for event in history.events].count("finished") > 1:
        said += "\nIt was made longer after it had ended; here the learning rate falls once, so the loss will differ."
    return said
