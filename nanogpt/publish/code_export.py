"""Export a run as one readable Python file that needs only torch and retrains the same model.

The file is `exported/train.txt` with the run's settings filled in and the sections for other layouts and optimizers
left out. It draws random numbers in the same order as train.py, so on a CPU it reaches the same loss.
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
from ..layout import ROPE_THETA, Layout
from ..paths import slug
from ..runs import History, Run, kept_loss
from ..runs.saved import saved_progress
from ..timetable import Timetable
from ..tokenizer import load_tokenizer, unit

TEMPLATE = Path(__file__).parent / "exported" / "train.txt"
DEVICES = {"cpu": '"cpu"', "mps": '"mps"'}  # if the run's settings name one; otherwise the best available
BEST_DEVICE = '"cuda" if torch.cuda.is_available() else "cpu"'
DECAY = {"cosine": "0.5 * (1 + math.cos(math.pi * progress))", "linear": "(1 - progress)"}


def python(run: Run) -> str:
    """Return the run's program. Raise NanoGPTError if the run hasn't trained yet or its tokens are not characters.

    The program trains for as many steps as the run. If the run had a time budget, these are the steps it got through,
    and the learning rate decays by step instead of by time.
    """
    from ..schedule import WARM_UP, settled  # here, because it imports torch

    settings, model, history = run.settings(), read_config(run.folder), run.history()
    if unit(load_tokenizer(run.folder)) != "character":
        raise NanoGPTError(
            f"{run.name} has tokens longer than a character, which code export can't handle. Publish it instead."
        )
    evaluated = [row["step"] for row in history.saved_rows if row.get("val_loss") is not None]
    steps = max(evaluated, default=0)
    if steps < 1:
        raise NanoGPTError(f"{run.name} hasn't been trained yet. You can export it after its second evaluation.")
    train = settled(TrainConfig.of(settings["train"]), model, settings["corpus"]["characters"])
    if train.budget:
        length = _length(train, history, steps)
        warmup = min(train.warmup_iters, round(WARM_UP * length))
        by_step = dict(budget=0.0, max_iters=length, warmup_iters=warmup, eval_interval=0)
        train = TrainConfig.of({**train.as_dict(), **by_step})
    tags = {train.optimizer, train.batches, "warmup" if train.warmup_iters else "steady", *_features(model.features)}
    tags |= {"clip"} if train.grad_clip else set()
    windows = _eval_windows(settings["corpus"]["characters"], model, train, history, _windows_used(run))
    words = dict(
        program_file=program_file(run), text_file=text_file(run), reached=_reached(run, history),
        corpus=literal(settings["corpus"]["name"]), characters=f"{settings['corpus']['characters']:,}",
        sha256=literal(settings["corpus"].get("sha256", "")), device=DEVICES.get(train.device, BEST_DEVICE),
        train_share=TRAIN_SHARE,
        last_step="max_iters" if steps == train.max_iters else f"{steps}  # where the run ended",
        eval_interval=train.evaluate_every, s="s" * (train.optimizer == "muon"),
        line=train.schedule, decay=DECAY[train.schedule],
    )  # fmt: skip
    values = {**model.as_dict(), **train.as_dict(), **windows, **words, **_code(model.features)}
    return filled(TEMPLATE.read_text(encoding="utf-8"), tags, values)


def program_file(run: Run) -> str:
    """Return a name for the run's program that no module has: PyTorch imports `email`, and a run may have that name."""
    return f"train-{run.name}.py"


def text_file(run: Run) -> str:
    """Return the name of the file from which the run's program reads the text, unless it is given another."""
    return f"{slug(run.settings()['corpus']['name']) or 'input'}.txt"


def literal(text: Any) -> str:
    """Return a text as a Python string literal, which nothing in the text can end early."""
    code = repr(str(text))
    return code if '"' in code else f'"{code[1:-1]}"'


def filled(template: str, tags: set[str], values: dict[str, Any]) -> str:
    """Fill in a template: `{{name}}` becomes `values[name]`.

    A line `#: tag ...` starts a section that is kept only if all its tags are in `tags`; `#:` ends it.
    """
    lines, wanted = [], True
    for line in template.splitlines():
        if line.startswith("#:"):
            wanted = set(line.removeprefix("#:").split()) <= tags
        elif wanted:
            lines.append(re.sub(r"\{\{(\w+)\}\}", lambda found: str(values[found[1]]), line))
    return "\n".join(lines) + "\n"


def _features(layout: Layout) -> set[str]:
    """Return the section tags of a layout: `rotary` or `no-rotary`, and so on for each feature."""
    features = asdict(layout)
    features["norm"] = layout.plain_norms or layout.qk_norm
    features["placed"] = layout.rotary or layout.qk_norm  # queries and keys change before attention
    features["vectors"] = layout.biases or not layout.plain_norms  # parameters with one dimension
    return {name if on else f"no-{name}" for name, on in features.items()}


def _code(layout: Layout) -> dict[str, Any]:
    """Return the values for the lines of the model that depend on the layout."""
    norms = {name: "norm" if layout.plain_norms else f"self.{name}" for name in ("ln1", "ln2", "ln_f")}
    rotated = {z: f"rotate({z}, cos, sin)" if layout.rotary else z for z in "qk"}
    placed = {z: f"norm({rotated[z]})" if layout.qk_norm else rotated[z] for z in "qk"}
    return dict(
        **norms, **placed, bias=layout.biases, activation="ReLUSquared" if layout.relu_squared else "nn.ReLU",
        rope_theta=ROPE_THETA, angles=", cos, sin" if layout.rotary else "",
        rotary=", *self.rotary[:, :T]" if layout.rotary else "",
    )  # fmt: skip


def _length(train: TrainConfig, history: History, steps: int) -> int:
    """Return how many steps a timed run would take in its full budget; if it stopped early, more than it took.

    The last learning rate it logged tells how much of the budget it had used.
    """
    rows = [row for row in history.rows if row.get("learning_rate") is not None and row["step"] > 0]
    if not rows or train.min_lr == train.learning_rate:
        return steps
    left = (rows[-1]["learning_rate"] - train.min_lr) / (train.learning_rate - train.min_lr)
    left = min(1.0, max(0.0, left))
    used = math.acos(2 * left - 1) / math.pi if train.schedule == "cosine" else 1 - left
    return steps if not 0.01 < used < 0.97 else max(steps, round(rows[-1]["step"] / used))


def _windows_used(run: Run) -> int:
    """Return how many windows of the validation set each evaluation of a run used, by its checkpoint; 0 if unknown."""
    windows = saved_progress(run.folder).get("windows")
    return windows if isinstance(windows, int) and windows > 0 else 0


def _eval_windows(
    characters: int, model: ModelConfig, train: TrainConfig, history: History, used: int = 0
) -> dict[str, int]:
    """Return how many windows of the validation set to evaluate on, during training and at the end.

    They are those that the run `used`; if that is unknown, those of a run without a time budget.
    """
    tail = characters - train_length(characters)
    due = Timetable(train, 0.0, all_windows=-(-(tail - 1) // model.block_size), windows=used)
    evaluated = history.last_trained.get("val_characters")
    final = -(-evaluated // model.block_size) if isinstance(evaluated, int) else due.windows
    return dict(eval_windows=due.windows, final_windows=final)


def _reached(run: Run, history: History) -> str:
    """Return what the run reached, as text for the program's docstring."""
    took = in_words(history.seconds, rough=True)
    sentences = f"The original run reached a validation loss of {kept_loss(history):.4f} in {took}."
    if TrainConfig.of(run.settings()["train"]).budget:
        sentences += "\nIt had a time budget; this file takes the same number of steps and reaches about the same loss."
    if [event["event"] for event in history.events].count("finished") > 1:
        sentences += (
            "\nIt was extended after it had finished; here the learning rate decays only once, so the loss will differ."
        )
    return sentences
