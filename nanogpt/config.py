"""All settings, each defined once with its default, range and help text.

Command-line flags and sliders are built from these fields, `run.json` stores them under the same names, and every
value is validated here. To add a setting, add a line.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from .layout import LAYOUTS, Layout


class NanoGPTError(ValueError):
    """An error that the user can fix. Its message is shown as it is, on the page and on the command line."""


def knob(default: Any, help: str, low: float | None = None, high: float | None = None, *, usual: str = "", choices=()):
    """Return a dataclass field that carries its range and help text."""
    return field(default=default, metadata=dict(help=help, low=low, high=high, usual=usual, choices=choices))


@dataclass(frozen=True)
class Knob:
    """One setting: what a flag or a slider needs to know about it."""

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

    def parse(self, value: Any, called: str | None = None) -> Any:
        """Return the value in the setting's own type. Raise NanoGPTError if it is invalid or out of range.

        The error calls the setting by its name, or by `called`, such as its label on the page.
        """
        called = called or self.name
        allowed, given, quoted = self._allowed(), brief(str(value)), brief(repr(value))
        self._refuse_nothing(value, called)
        if self.name == "budget" and isinstance(value, str):
            value = duration(value)
        try:
            number = self.kind(value) if self.kind is not int else _whole(value)
        except (TypeError, ValueError, OverflowError):
            raise NanoGPTError(f"{called} was {quoted}; it must be {allowed}.") from None
        if not self._fits(number):
            raise NanoGPTError(f"{called} was {quoted if self.choices else given}; it must be {allowed}.")
        return number

    def _fits(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        if self.name == "weight_decay" and -1 < value < 0:  # only -1 itself has a meaning
            return False
        return self.low is None or self.high is None or self.low <= value <= self.high  # False for NaN

    def _refuse_nothing(self, value: Any, called: str) -> None:
        if value is None or value == "" and self.kind is not str:
            raise NanoGPTError(f"{called} is empty; it must be {self._allowed()}.")

    def _allowed(self) -> str:
        if self.choices:
            return "one of " + ", ".join(str(c) for c in self.choices)
        if self.low is None:
            return "text" if self.kind is str else "a number"
        if self.name == "budget":
            return "a time up to 30d, such as 90s, 3m or 1h"
        if self.name == "weight_decay":
            return f"a number from 0 to {self.high:,}, or -1"
        return f"a {'whole ' if self.kind is int else ''}number from {self.low:,} to {self.high:,}"


MOST_STEPS = 10_000_000  # that can be asked for; the estimate for a time budget is cut off here
NO_TIME = "Enter a time budget, such as 60s or 3m, or choose another preset."


def brief(value: str) -> str:
    """Return a value to name in a message, cut off if it is long."""
    return value if len(value) <= 60 else f"{value[:60]}…"


def duration(text: str) -> float:
    """Return the seconds in "90", "90s", "3m", "1.5h", "1h 30m" or "1d". Raise NanoGPTError for anything else."""
    unit = r"(?:(s|seconds?|secs?)|(m|minutes?|mins?)|(h|hours?)|(d|days?))"
    part = rf"(\d+(?:\.\d+)?)\s*{unit}\s*"
    value = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    if not re.fullmatch(f"(?:{part})+", value):
        raise NanoGPTError(f"Couldn't read {brief(repr(text))} as a time. Try 90s, 3m or 1h 30m.")
    sizes = (1, 60, 3600, 86400)
    return sum(
        float(found[1]) * next(size for size, name in zip(sizes, found.groups()[1:]) if name)
        for found in re.finditer(part, value)
    )


def _whole(value: Any) -> int:
    number = float(value)
    if number != int(number):
        raise ValueError(value)
    try:
        return int(value) if isinstance(value, (int, str)) else int(number)  # a float would round the largest seeds
    except ValueError:
        return int(number)  # as "1.0" and "1e3" are written


def knobs(config: type) -> list[Knob]:
    """Return the settings of a config class, in the order they are defined."""
    return [
        Knob(f.name, f.default, type(f.default), **f.metadata)
        for f in dataclasses.fields(config)
        if "help" in f.metadata
    ]


class Config:
    """The base of the three configs: validated on creation, converted from and to plain dicts."""

    def __post_init__(self):
        for k in knobs(type(self)):
            value = getattr(self, k.name)
            if not (k.name == "layout" and isinstance(value, Layout)):  # a Layout object has no name to validate
                object.__setattr__(self, k.name, k.parse(value))

    @classmethod
    def of(cls, settings: Mapping[str, Any]):
        """Return a config from a dict, ignoring the keys that belong to other configs."""
        known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        return cls(**{key: value for key, value in settings.items() if key in known})

    def as_dict(self) -> dict[str, Any]:
        """Return the settings by name. Unlike dataclasses.asdict, keep a Layout whole."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class ModelConfig(Config):
    """The shape of a GPT. `vocab_size` comes from the text; the rest is up to you."""

    vocab_size: int = 0  # unique characters in the text; 0 until the text is known
    # a name in files and on the command line; Python code may pass a Layout instead
    layout: str | Layout = knob(
        "classic", "Architecture: classic (as in the lecture) or modern (faster).", choices=LAYOUTS
    )
    block_size: int = knob(64, "Context length in characters.", 2, 4096, usual="64 to 256")
    n_layer: int = knob(4, "Number of Transformer blocks.", 1, 48, usual="4 to 6")
    n_head: int = knob(4, "Attention heads per block; must divide n_embd.", 1, 64, usual="4 to 6")
    n_embd: int = knob(128, "Embedding width.", 4, 4096, usual="128 to 384")
    dropout: float = knob(
        0.0, "Fraction of activations dropped during training, to reduce overfitting.", 0.0, 0.9, usual="0 to 0.3"
    )

    def __post_init__(self):
        super().__post_init__()
        step = self.n_head * (2 if self.features.rotary else 1)  # rotary positions turn the numbers of a head in pairs
        advice = f"Try n_embd {max(1, round(self.n_embd / step)) * step}."
        if self.n_embd % self.n_head:
            raise NanoGPTError(f"n_embd ({self.n_embd}) must be divisible by n_head ({self.n_head}). {advice}")
        if self.n_embd % step:
            raise NanoGPTError(
                f"n_embd ({self.n_embd}) / n_head ({self.n_head}) must be even in the {self.layout} architecture. "
                f"{advice}"
            )

    @property
    def features(self) -> Layout:
        """Return `layout` as a Layout, looking it up if it is a name."""
        return self.layout if isinstance(self.layout, Layout) else LAYOUTS[self.layout]


def newer_half(block_size: int) -> int:
    """Return how many tokens generation continues with once the context is full: those of its newer half."""
    return block_size // 2


@dataclass(frozen=True)
class TrainConfig(Config):
    """How a GPT is trained: for how long, how fast, and on which device."""

    max_iters: int = knob(2000, "Number of training steps.", 1, MOST_STEPS, usual="500 to 5,000")
    budget: float = knob(
        0.0,
        "Train for this long instead of max_iters, e.g. 90s, 3m, 1h (0 = off).",
        0.0,
        30 * 86400.0,  # in all, for a run that is extended night after night
        usual="1m to 1h",
    )
    batch_size: int = knob(12, "Sequences per batch.", 1, 4096, usual="12 to 64")
    batches: str = knob(
        "random",
        "Sample sequences at random (as in the lecture) or in shuffled epochs.",
        choices=("random", "shuffled"),
    )
    learning_rate: float = knob(
        1e-3, "How far each step moves the weights.", 1e-6, 1.0, usual="3e-4 to 3e-3; 0.012 with Muon"
    )
    min_lr: float = knob(
        1e-4,
        "Final learning rate; set it equal to learning_rate for a constant rate.",
        0.0,
        1.0,
        usual="a tenth of learning_rate, or 0",
    )
    schedule: str = knob(
        "cosine", "Learning rate schedule: cosine or linear decay to min_lr.", choices=("cosine", "linear")
    )
    optimizer: str = knob(
        "adamw",
        "Optimizer: adamw (as in the lecture), or muon for the weight matrices (faster).",
        choices=("adamw", "muon"),
    )
    matrix_lr: float = knob(
        0.03, "Muon's learning rate, for the weight matrices in the blocks.", 1e-6, 1.0, usual="0.02 to 0.05"
    )
    momentum: float = knob(0.95, "How much of its previous updates Muon keeps.", 0.0, 0.9999, usual="0.9 to 0.95")
    warmup_iters: int = knob(
        100, "Steps in which the learning rate rises from 0; at most 5% of a budget.", 0, 100_000, usual="0 to 200"
    )
    weight_decay: float = knob(
        0.1,
        "Weight decay (regularization); -1 chooses it from the number of epochs.",
        -1.0,
        10.0,
        usual="-1, or 0 to 0.1",
    )
    beta1: float = knob(0.9, "AdamW's beta1: decay of the gradient average.", 0.0, 0.9999, usual="0.8 to 0.9")
    beta2: float = knob(
        0.99, "AdamW's beta2: decay of the squared-gradient average.", 0.0, 0.99999, usual="0.95 to 0.999"
    )
    grad_clip: float = knob(1.0, "Gradient-norm clipping (0 = off).", 0.0, 1e6, usual="1")
    eval_interval: int = knob(
        0,
        "Steps between evaluations; each also writes a sample and a checkpoint (0 = 20 per run).",
        0,
        MOST_STEPS,
        usual="0",
    )
    patience: int = knob(
        5,
        "Stop after this many evaluations in a row more than 0.05 above the best (0 = never).",
        0,
        10_000,
        usual="5",
    )
    seed: int = knob(1337, "Random seed; the same seed and number of steps give the same run.", 0, 2**53 - 1)
    snapshots: str = knob(
        "auto",
        "Keep the weights of about 20 steps for the time machine, 2 bytes per parameter each; auto: for models of "
        "up to 3 million parameters.",
        choices=("auto", "on", "off"),
    )
    device: str = knob(
        "auto", "Device to train on; auto picks the fastest one available.", choices=("auto", "cuda", "mps", "cpu")
    )

    def __post_init__(self):
        super().__post_init__()
        if self.min_lr > self.learning_rate:
            raise NanoGPTError(f"min_lr ({self.min_lr}) must not be larger than learning_rate ({self.learning_rate}).")

    @property
    def evaluate_every(self) -> int:
        """Return the steps between evaluations: `eval_interval`, or a twentieth of the run if that is 0."""
        return self.eval_interval or max(1, self.max_iters // 20)


@dataclass(frozen=True)
class SampleConfig(Config):
    """How text is generated."""

    temperature: float = knob(
        0.8,
        "Lower is safer, higher is wilder; 0 always picks the likeliest character.",
        0.0,
        2.0,
        usual="0.7 to 1",
    )
    length: int = knob(500, "Number of characters to generate.", 1, 10_000)
    top_k: int = knob(0, "Sample from the k likeliest characters only (0 = all).", 0, 10_000, usual="0 or 10 to 50")
    top_p: float = knob(
        1.0, "Sample from the smallest set of characters with this total probability (1 = all).", 0.0, 1.0
    )
    seed: int = knob(1337, "Random seed; the same seed and settings give the same text.", 0, 2**53 - 1)
    num_samples: int = knob(1, "Number of samples; each one uses the next seed.", 1, 16)
    stop: str = knob("", r"Stop sequence (optional): end before this text. Write \n for a new line.", usual=r"\n\n")

    @property
    def plain(self) -> bool:
        """Return True if the next token is drawn from softmax(logits / temperature) as it is.

        Only such tokens are drawn for several texts at once, or on a GPU. All others are drawn by `sample.weights`.
        """
        return self.temperature > 0 and not self.top_k and self.top_p == 1


DASHES = "\n---------------\n"  # between two samples, as in nanoGPT


def unescaped(text: str) -> str:
    """Return a typed text with \\n replaced by a newline and \\t by a tab, for shells and one-line text fields."""
    return re.sub(r"\\([nt\\])", lambda found: {"n": "\n", "t": "\t"}.get(found[1], found[1]), text)
