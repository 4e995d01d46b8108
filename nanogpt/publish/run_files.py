"""Read the files of a run that is being published, each of them once.

A page and a Space need the same few files. If each read them again, a run that is still training could change in
between, and large weights would be in memory twice.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from .. import disk
from ..config import ModelConfig
from ..formats import load_model, read_config
from ..runs import History, Run, kept_step
from ..tokenizer import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from ..model import GPT

MODEL = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
PUBLIC = ("README.md", *MODEL, "run.json", "metrics.jsonl", "loss.png")  # everything a push may upload


class RunFiles:
    """The files of a run and what they contain, each read on first use and then kept."""

    def __init__(self, run: Run):
        self.name, self.run = run.name, run
        self._contents: dict[str, bytes | None] = {}

    def content(self, name: str) -> bytes | None:
        """Return the bytes of a file, or None if there is no such file."""
        if name not in self._contents:
            path = self.run.folder / name
            self._contents[name] = disk.read(path) if path.exists() else None
        return self._contents[name]

    @cached_property
    def settings(self) -> dict[str, Any]:
        return self.run.settings()

    @cached_property
    def history(self) -> History:
        history = History(self.run.folder)  # its own: the page refreshes the shared one while this is being published
        history.refresh()
        return history

    @cached_property
    def kept_step(self) -> int:
        """The step of the saved weights, which is not the last one if the run became worse after it."""
        return kept_step(self.history)

    @cached_property
    def samples(self) -> list[dict[str, Any]]:
        """The samples up to that step, the last of them from the saved weights, or those of a slightly earlier step."""
        return [row for row in self.history.saved_samples if row["step"] <= self.kept_step]

    @cached_property
    def config(self) -> ModelConfig:
        return read_config(self.run.folder, self.content("config.json"))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return load_tokenizer(self.run.folder, self.content("tokenizer.json"))

    @cached_property
    def model(self) -> GPT:
        return load_model(self.run.folder, config=self.config, weights=self.content("model.safetensors"))
