"""Explanations of a model and its loss, as plain data that the page, the command line or a model card can show.

`opened` opens a run for them, `passages` chooses the text that they look at, and `cache` keeps what takes long in the
run's folder. `characters` colors a text by what the model expected, `seen` asks the training text the same, `ablation`
switches parts of the model off, `attention` says where its heads look, `readout` what could be predicted after each
block, `units` which single unit knows a feature of the text (`features`), `copies` finds what a text repeats of the
training text, and `guessing` lets a person compete with a model. `baselines` and `adaptive` compute what counting
models and compressors reach, `dynamic` what the model reaches if it keeps learning, and `loss` puts these on one ruler.
`doctor` says what a run's losses show, by `rules`; `timemachine` lets it write as it did earlier, `neighbors` shows
which characters it treats alike, `replay` trains the lecture's stages, and `architecture` describes a model's parts.
`tour` puts steps together for beginners (`tour_steps`), and `tiny` trains the models that three of them need. None of
them imports the page.

A module is imported when it is first used, as in `explain.characters.read(...)`: most of them import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import (
        ablation,
        adaptive,
        architecture,
        attention,
        baselines,
        cache,
        characters,
        copies,
        doctor,
        dynamic,
        features,
        guessing,
        loss,
        neighbors,
        opened,
        passages,
        readout,
        replay,
        seen,
        timemachine,
        tiny,
        tour,
        tour_steps,
        units,
    )

__all__ = [
    "ablation", "adaptive", "architecture", "attention", "baselines", "cache", "characters", "copies", "doctor",
    "dynamic", "features", "guessing", "loss", "neighbors", "opened", "passages", "readout", "replay", "seen",
    "timemachine", "tiny", "tour", "tour_steps", "units",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a module of this room on its first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f".{name}", __name__)
