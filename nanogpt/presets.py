"""The presets: named settings for a model and its training, and what to expect from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .config import NO_TIME, ModelConfig, NanoGPTError, TrainConfig, brief, knobs
from .similar import did_you_mean


@dataclass(frozen=True)
class Preset:
    """A named set of settings, and what to expect from it."""

    label: str
    expect: str
    settings: Mapping[str, Any]

    def configs(self, **changes: Any) -> tuple[ModelConfig, TrainConfig]:
        """Return the preset's two configs with some settings changed. A layout brings its training recipe with it."""
        check_known(changes)
        changes = {key: value for key, value in changes.items() if value is not None}
        layout = changes.get("layout", self.settings.get("layout", ModelConfig.layout))
        settings = {**self.settings, **RECIPES.get(str(layout), {}), **changes}
        if "max_iters" in changes and "budget" not in changes:
            settings["budget"] = 0.0  # steps that the user chose win over a preset's time
        if "learning_rate" in changes and "min_lr" not in changes:
            settings["min_lr"] = _at_most(changes["learning_rate"], settings)
        return ModelConfig.of(settings), TrainConfig.of(settings)


def check_known(changes: Mapping[str, Any], *configs: type) -> None:
    """Raise NanoGPTError if there is no setting of one of these names, by default among those of a run."""
    known = {k.name for config in configs or (ModelConfig, TrainConfig) for k in knobs(config)}
    if unknown := sorted(set(changes) - known):
        meant = did_you_mean(unknown[0], sorted(known))
        choices = f"; {meant}" if meant else f". Choose one of {', '.join(sorted(known))}."
        raise NanoGPTError(f"There is no setting {brief(repr(unknown[0]))}{choices}")


def _at_most(learning_rate: Any, settings: Mapping[str, Any]) -> float:
    """Return the lowest learning rate of some settings, but no more than a rate that the user chose."""
    knob_of = {k.name: k for k in knobs(TrainConfig)}
    rate: float = knob_of["learning_rate"].parse(learning_rate)
    return min(settings.get("min_lr", knob_of["min_lr"].default), rate)


# How the modern layout is trained. Measured on Tiny Shakespeare; see benchmarks/README.md.
MODERN: dict[str, Any] = dict(
    layout="modern", optimizer="muon", schedule="linear", learning_rate=0.012, matrix_lr=0.03, momentum=0.9, min_lr=0.0,
    warmup_iters=0, beta1=0.8, beta2=0.95, weight_decay=-1.0, batches="shuffled",
)  # fmt: skip
# The training settings that come with a layout, by its name: they aren't features of the model, so Layout doesn't hold
# them. A layout not listed here is trained as the preset says.
RECIPES = {"modern": MODERN}

PRESETS: dict[str, Preset] = {
    "timed": Preset(
        "Time budget",
        "Picks the model that reaches the lowest loss in the time you give it.",
        dict(
            budget=60.0, layout="modern", n_layer=3, n_head=3, n_embd=96, block_size=64, batch_size=8, max_iters=1000,
        ),
    ),
    "quick": Preset(
        "Quick",
        "About 20 seconds on two recent CPU cores, a minute or two on older ones. Expect word-like output that makes "
        "little sense. Validation loss about 1.89 on Tiny Shakespeare.",
        dict(
            n_layer=4, n_head=4, n_embd=128, block_size=64,
            batch_size=16, max_iters=1000, learning_rate=3e-3, min_lr=1e-5, warmup_iters=50,
        ),
    ),
    "laptop": Preset(
        "Laptop",
        "nanoGPT's settings for a CPU: half a minute on two recent cores, a few minutes on older ones. "
        "Validation loss about 1.79 on Tiny Shakespeare.",
        dict(
            n_layer=4, n_head=4, n_embd=128, block_size=64,
            batch_size=12, max_iters=2000, learning_rate=1e-3, min_lr=1e-4, warmup_iters=100,
        ),
    ),
    "lecture": Preset(
        "Lecture",
        "The lecture's final model: minutes on a GPU, many hours on a laptop. "
        "The lecture reached a validation loss of 1.48 on Tiny Shakespeare.",
        dict(
            n_layer=6, n_head=6, n_embd=384, block_size=256, dropout=0.2,
            batch_size=64, max_iters=5000, eval_interval=500, learning_rate=3e-4, min_lr=3e-4, warmup_iters=0,
            weight_decay=0.01, beta2=0.999, grad_clip=0.0,
        ),
    ),
}  # fmt: skip


PLANNED = ("n_layer", "n_head", "n_embd", "block_size", "batch_size")  # chosen by a time budget, unless you set them


def preset(name: str) -> Preset:
    """Return the preset with this key or label. Raise NanoGPTError if there is none."""
    return PRESETS[preset_key(name)]


def preset_key(name: str) -> str:
    """Return a preset's key, given its key or its label in any case. Raise NanoGPTError if there is none."""
    for key, found in PRESETS.items():
        if str(name).strip().lower() in (key, found.label.lower()):
            return key
    meant = did_you_mean(str(name), PRESETS)
    choices = f"; {meant}" if meant else f". Choose one of {', '.join(PRESETS)}."
    raise NanoGPTError(f"There is no preset {brief(repr(name))}{choices}")


def default_key(changes: Mapping[str, Any]) -> str:
    """Return the key of the preset that goes with `changes` where none is named: the first one, or quick for steps."""
    return "quick" if "max_iters" in changes else next(iter(PRESETS))


def pick(name: str | None, changes: Mapping[str, Any]) -> tuple[str, ModelConfig, TrainConfig]:
    """Return the key of the preset with this key or label, and its configs with `changes`.

    Without a name, it is the quick preset or, with a time budget, the timed one. Raise NanoGPTError if there is no such
    preset, or if it doesn't go with a time budget, or with none.
    """
    key = "quick" if name is None else preset_key(name)
    model, train = PRESETS[key].configs(**changes)
    if train.budget and key != "timed":
        if name is None:
            return pick("timed", changes)
        raise NanoGPTError(
            "A time budget chooses the model itself. Leave out the preset, or give max_iters instead of the budget."
        )
    if key == "timed" and not (train.budget or "max_iters" in changes):
        raise NanoGPTError(NO_TIME)
    return key, model, train
