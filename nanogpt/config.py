"""The numbers: each knob once, with its default, its range and its sentence.

The command line's flags and the page's sliders are built from these fields, `run.json` keeps them under the same
names, and a value is checked here, where it enters. Adding a knob is adding a line.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from .layout import LAYOUTS, Layout


class NanoGPTError(ValueError):
    """Something the reader can put right. Its text is the one sentence they see, on the page or on the command line."""


def knob(default: Any, help: str, low: float | None = None, high: float | None = None, *, usual: str = "", choices=()):
    """A dataclass field that knows its own range and its own sentence."""
    return field(default=default, metadata=dict(help=help, low=low, high=high, usual=usual, choices=choices))


@dataclass(frozen=True)
class Knob:
    """One setting as a flag or a slider needs it."""

    name: str
    default: Any
    kind: type
    help: str
    low: float | None
    high: float | None
    usual: str
    choices: Collection[str]

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def label(self) -> str:
        return self.name.replace("_", " ").capitalize()

    def parse(self, value: Any) -> Any:
        """The value in the knob's own type and range; a sentence (NanoGPTError) when it does not fit."""
        allowed = self._allowed()
        if self.name == "budget" and isinstance(value, str):
            value = duration(value)
        try:
            number = self.kind(value) if self.kind is not int else _whole(value)
        except (TypeError, ValueError, OverflowError):
            raise NanoGPTError(f"{self.name} was {value!r}; it must be {allowed}.") from None
        if self.choices and number not in self.choices:
            raise NanoGPTError(f"{self.name} was {value!r}; it must be {allowed}.")
        if self.low is not None and self.high is not None and not self.low <= number <= self.high:  # `not`: NaN, too
            raise NanoGPTError(f"{self.name} was {value}; it must be {allowed}.")
        return number

    def _allowed(self) -> str:
        if self.choices:
            return "one of " + ", ".join(str(c) for c in self.choices)
        if self.low is None:
            return "text" if self.kind is str else "a number"
        return f"a {'whole ' if self.kind is int else ''}number from {self.low:,} to {self.high:,}"


def duration(text: str) -> float:
    """Seconds of "90", "90s", "3m", "1.5h" or "1d". NanoGPTError for anything else."""
    unit = r"(?:(s|seconds?|secs?)|(m|minutes?|mins?)|(h|hours?)|(d|days?))"
    part = rf"(\d+(?:\.\d+)?)\s*{unit}\s*"
    said = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", said):
        return float(said)
    if not re.fullmatch(f"(?:{part})+", said):
        raise NanoGPTError(f"The time was {text!r}; write it as 90s, 3m, 1h or 1h 30m.")
    sizes = (1, 60, 3600, 86400)
    return sum(
        float(found[1]) * next(size for size, name in zip(sizes, found.groups()[1:]) if name)
        for found in re.finditer(part, said)
    )


def _whole(value: Any) -> int:
    number = float(value)
    if number != int(number):
        raise ValueError(value)
    return int(value) if isinstance(value, (int, str)) and "." not in str(value) else int(number)


def knobs(config: type) -> list[Knob]:
    """Every knob of a config class, in the order in which it is written there."""
    return [
        Knob(f.name, f.default, type(f.default), **f.metadata)
        for f in dataclasses.fields(config)
        if "help" in f.metadata
    ]


class Config:
    """What the three configs share: checked on creation, read from and written to plain dicts."""

    def __post_init__(self):
        for k in knobs(type(self)):
            value = getattr(self, k.name)
            if not (k.name == "layout" and isinstance(value, Layout)):  # which has no name to check, as in rungs.py
                object.__setattr__(self, k.name, k.parse(value))

    @classmethod
    def of(cls, settings: Mapping[str, Any]):
        """A config from those entries of `settings` that it knows."""
        known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        return cls(**{key: value for key, value in settings.items() if key in known})

    def as_dict(self) -> dict[str, Any]:
        """Return the settings by name. Not dataclasses.asdict, which would take a Layout apart."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class ModelConfig(Config):
    """The shape of a GPT. `vocab_size` comes from the text, everything else is chosen."""

    vocab_size: int = 0  # distinct characters of the text; 0 until the text is known
    # a name in files and on the command line; from Python also a Layout that has no name
    layout: str | Layout = knob("classic", "classic is the lecture's model, modern learns faster.", choices=LAYOUTS)
    block_size: int = knob(64, "How many characters back the model can see.", 2, 4096, usual="64 to 256")
    n_layer: int = knob(4, "How many blocks stand on top of each other.", 1, 48, usual="4 to 6")
    n_head: int = knob(4, "How many attention heads work side by side; must divide n_embd.", 1, 64, usual="4 to 6")
    n_embd: int = knob(128, "How many numbers describe one character inside the model.", 4, 4096, usual="128 to 384")
    dropout: float = knob(
        0.0,
        "The share of activations switched off at random while training, against overfitting.",
        0.0,
        0.9,
        usual="0 to 0.3",
    )

    def __post_init__(self):
        super().__post_init__()
        if self.features.rotary and (self.n_embd // self.n_head) % 2:  # numbers are rotated in pairs
            raise NanoGPTError(
                f"n_embd was {self.n_embd} and n_head {self.n_head}; in the {self.layout} layout n_embd / n_head must "
                "be even."
            )
        if self.n_embd % self.n_head:
            raise NanoGPTError(
                f"n_embd was {self.n_embd} and n_head {self.n_head}; n_embd must be a multiple of n_head, "
                f"for example {max(1, round(self.n_embd / self.n_head)) * self.n_head}."
            )

    @property
    def features(self) -> Layout:
        """Return the layout that `layout` names, or is."""
        return self.layout if isinstance(self.layout, Layout) else LAYOUTS[self.layout]


@dataclass(frozen=True)
class TrainConfig(Config):
    """How a GPT is trained: how long, how fast, and on what."""

    max_iters: int = knob(
        2000, "How many batches to learn from: the length of the run.", 1, 10_000_000, usual="500 to 5,000"
    )
    budget: float = knob(
        0.0,
        "Train for so long instead: seconds, or with a unit as in 90s, 3m, 1h; 0 goes by max_iters.",
        0.0,
        86400.0,
        usual="1m to 1h",
    )
    batch_size: int = knob(12, "How many pieces of text are in one batch.", 1, 4096, usual="12 to 64")
    batches: str = knob(
        "random",
        "Where the pieces of a batch are from: random places as in the lecture, or passes that take each once.",
        choices=("random", "shuffled"),
    )
    learning_rate: float = knob(
        1e-3, "How large a step the weights take after each batch.", 1e-6, 1.0, usual="3e-4 to 3e-3; beside muon 0.012"
    )
    min_lr: float = knob(
        1e-4,
        "How large that step still is at the end; set it to learning_rate to keep it the same all the time.",
        0.0,
        1.0,
        usual="a tenth of learning_rate, or 0",
    )
    schedule: str = knob(
        "cosine", "Whether the learning rate falls along a cosine or a straight line.", choices=("cosine", "linear")
    )
    optimizer: str = knob(
        "adamw",
        "What turns gradients into steps: adamw as in the lecture, or muon, which is faster, for the large matrices.",
        choices=("adamw", "muon"),
    )
    matrix_lr: float = knob(
        0.03, "Muon's learning rate, for the matrices inside the blocks.", 1e-6, 1.0, usual="0.02 to 0.05"
    )
    momentum: float = knob(0.95, "Muon's memory of past gradients.", 0.0, 0.9999, usual="0.9 to 0.95")
    warmup_iters: int = knob(
        100, "Over how many batches the learning rate rises from zero.", 0, 100_000, usual="0 to 200"
    )
    weight_decay: float = knob(
        0.1,
        "How strongly the matrices are pulled towards zero, against learning by heart; "
        "-1 goes by how often the text is read.",
        -1.0,
        10.0,
        usual="-1, or 0 to 0.1",
    )
    beta1: float = knob(0.9, "AdamW's memory of past gradients.", 0.0, 0.9999, usual="0.8 to 0.9")
    beta2: float = knob(0.99, "AdamW's memory of past squared gradients.", 0.0, 0.99999, usual="0.95 to 0.999")
    grad_clip: float = knob(1.0, "Longest gradient let through; 0 switches clipping off.", 0.0, 1e6, usual="1")
    eval_interval: int = knob(
        0,
        "Batches between two evaluations, each with a sample and a save; 0 means twenty a run.",
        0,
        10_000_000,
        usual="0",
    )
    patience: int = knob(
        5,
        "Stop early after so many evaluations in a row 0.05 above the best validation loss; 0 never does.",
        0,
        10_000,
        usual="5",
    )
    seed: int = knob(1337, "The same seed and settings give the same run.", 0, 2**53 - 1, usual="any")
    device: str = knob("auto", "Where to train; auto takes the best there is.", choices=("auto", "cuda", "mps", "cpu"))

    def __post_init__(self):
        super().__post_init__()
        if self.min_lr > self.learning_rate:
            raise NanoGPTError(
                f"min_lr was {self.min_lr} and learning_rate {self.learning_rate}; min_lr must not be the larger."
            )

    @property
    def evaluate_every(self) -> int:
        """`eval_interval` with 0 spelled out: twenty evaluations a run."""
        return self.eval_interval or max(1, self.max_iters // 20)


@dataclass(frozen=True)
class SampleConfig(Config):
    """How the model writes."""

    temperature: float = knob(
        0.8,
        "Below 1 plays safe, above 1 takes risks, 0 always takes the likeliest character.",
        0.0,
        2.0,
        usual="0.7 to 1",
    )
    length: int = knob(500, "How many characters to write.", 1, 10_000)
    top_k: int = knob(0, "Choose only among the k likeliest characters; 0 means all.", 0, 10_000, usual="0 or 10 to 50")
    top_p: float = knob(
        1.0, "Choose only among the likeliest characters that together have this probability; 1 means all.", 0.0, 1.0
    )
    seed: int = knob(1337, "The same seed and settings give the same text.", 0, 2**53 - 1)
    num_samples: int = knob(1, "How many texts to write side by side; each has the next seed.", 1, 16)
    stop: str = knob("", r"End before this text; empty means none. \n is a new line.", usual=r"\n\n")


@dataclass(frozen=True)
class Preset:
    """A named set of numbers, and what to expect of it."""

    label: str
    expect: str
    settings: Mapping[str, Any]

    def configs(self, **changes: Any) -> tuple[ModelConfig, TrainConfig]:
        """Return the preset's two configs with some knobs changed. A layout brings its recipe with it."""
        known = {k.name for config in (ModelConfig, TrainConfig) for k in knobs(config)}
        if unknown := sorted(set(changes) - known):
            raise NanoGPTError(f"There is no setting {unknown[0]!r}; there are {', '.join(sorted(known))}.")
        changes = {key: value for key, value in changes.items() if value is not None}
        layout = changes.get("layout", self.settings.get("layout", ModelConfig.layout))
        settings = {**self.settings, **RECIPES.get(str(layout), {}), **changes}
        if "learning_rate" in changes and "min_lr" not in changes:
            knob_of = {k.name: k for k in knobs(TrainConfig)}
            rate = knob_of["learning_rate"].parse(changes["learning_rate"])
            usual = settings.get("min_lr", knob_of["min_lr"].default)
            settings["min_lr"] = min(usual, rate)  # the number that was changed wins over one that was not
        return ModelConfig.of(settings), TrainConfig.of(settings)


# How the modern layout is trained: measured on Tiny Shakespeare, see benchmarks/README.md.
MODERN: dict[str, Any] = dict(
    layout="modern", optimizer="muon", schedule="linear", learning_rate=0.012, matrix_lr=0.03, momentum=0.9, min_lr=0.0,
    warmup_iters=0, beta1=0.8, beta2=0.95, weight_decay=-1.0, batches="shuffled",
)  # fmt: skip
# The settings that a layout brings with it, by the layout's name: how a model is trained is no feature of it. A layout
# that is not here is trained as the preset says.
RECIPES = {"modern": MODERN}

PRESETS: dict[str, Preset] = {
    "timed": Preset(
        "By the clock",
        "Measures this machine for a moment, chooses a model for the time you have, and is done when it is over.",
        dict(
            budget=60.0, layout="modern", n_layer=3, n_head=3, n_embd=96, block_size=64, batch_size=8, max_iters=1000,
        ),
    ),
    "quick": Preset(
        "Quick look",
        "About a minute on two CPU cores: words and line shapes appear, sense does not. 1.90 on Tiny Shakespeare.",
        dict(
            n_layer=4, n_head=4, n_embd=128, block_size=64,
            batch_size=16, max_iters=1000, learning_rate=3e-3, min_lr=1e-5, warmup_iters=50,
        ),
    ),
    "laptop": Preset(
        "Laptop",
        "nanoGPT's settings for a CPU, two to three minutes: a validation loss near 1.79 on Tiny Shakespeare.",
        dict(
            n_layer=4, n_head=4, n_embd=128, block_size=64,
            batch_size=12, max_iters=2000, learning_rate=1e-3, min_lr=1e-4, warmup_iters=100,
        ),
    ),
    "lecture": Preset(
        "Lecture",
        "The lecture's last model: minutes on a GPU, many hours on a laptop. "
        "The lecture reached a validation loss of 1.48 on Tiny Shakespeare.",
        dict(
            n_layer=6, n_head=6, n_embd=384, block_size=256, dropout=0.2,
            batch_size=64, max_iters=5000, eval_interval=500, learning_rate=3e-4, min_lr=3e-4, warmup_iters=0,
            weight_decay=0.01, beta2=0.999, grad_clip=0.0,
        ),
    ),
}  # fmt: skip


PLANNED = ("n_layer", "n_head", "n_embd", "block_size", "batch_size")  # what a time budget chooses, unless it is given


def preset(name: str) -> Preset:
    """The preset of that name, by key or by label."""
    for key, found in PRESETS.items():
        if str(name).strip().lower() in (key, found.label.lower()):
            return found
    raise NanoGPTError(f"There is no preset {name!r}; there are {', '.join(PRESETS)}.")
