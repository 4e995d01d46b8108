"""A run, opened for its explanations: the model, its tokenizer, and the text it was trained on if that is here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from .. import corpus, disk
from ..config import NanoGPTError, SampleConfig
from ..errors import shortages
from ..formats import load_model
from ..holdout import train_length
from ..runs import Run
from ..tokenizer import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from ..model import GPT


HELD_OUT, WRITTEN = "held-out text", "text it wrote itself"  # what a model can be measured on
PART = 20_000_000  # characters: of a longer text, the part around the split is looked at


@dataclass(frozen=True)
class Opened:
    """A run's best weights, ready to be looked into. Explanations never change the model; they copy it first."""

    run: Run
    model: GPT
    tokenizer: Tokenizer
    weights: str  # the first 16 hex digits of the SHA-256 of model.safetensors
    corpus_id: str | None  # None if the text isn't here, or isn't the reader's to read

    @shortages()
    def write(self, config: SampleConfig) -> str:
        """Return a text that the model writes, without a prompt."""
        from ..sample import stream  # here, because it imports torch

        return "".join(stream(self.model, self.tokenizer, "", config))

    def text_folder(self) -> Path | None:
        """Return the folder of the stored text, or None if the text isn't here."""
        return corpus.load(self.corpus_id).folder if self.corpus_id else None

    def training_text(self) -> str | None:
        """Return the training set of the run's text, or None if the text isn't here.

        Of a large text, this is only the end of it, as `looked_at` says.
        """
        return _halves(self.corpus_id)[0] if self.corpus_id else None

    def held_out_text(self) -> str | None:
        """Return the last tenth of the text, which the model has not seen, or None if the text isn't here.

        Of a large text, this is only the beginning of it.
        """
        return _halves(self.corpus_id)[1] if self.corpus_id else None

    def looked_at(self) -> str:
        """Return a sentence about the part of the training set that `training_text` is; "" if it is all of it."""
        characters = corpus.load(self.corpus_id).characters if self.corpus_id else 0
        if characters <= PART:
            return ""
        last, all_of_it = f"{train_length(PART):,}", f"{train_length(characters):,}"
        return f"Only the last {last} of the training text's {all_of_it} characters were searched."


@shortages()
def open_run(run: Run, may_read_text: bool = True) -> Opened:
    """Open a run. Without `may_read_text`, leave out its text: a shared run can be sampled from, not read.

    Raise NanoGPTError if the run has no weights yet or can't be read.
    """
    use_all_threads()
    settings = run.settings()
    model, tokenizer, weights = _loaded(run.folder, version(run))
    return Opened(run, model, tokenizer, weights, _corpus_id(settings["corpus"]) if may_read_text else None)


def use_all_threads() -> None:
    """Have torch compute with all threads here: a server's new threads inherit what a sampler has just chosen."""
    import torch

    try:
        from ..fast.threads import all_threads
    except ImportError:
        return
    torch.set_num_threads(all_threads()[1])


def version(run: Run) -> tuple[int, ...] | None:
    """Return the version of a run's weights, which change while it trains; None if it has none yet."""
    return disk.version(run.folder / "model.safetensors")


@lru_cache(maxsize=2)
def _loaded(folder: Path, weights: tuple[int, ...] | None) -> tuple[GPT, Tokenizer, str]:
    """Load a run's model, with this version of its `weights`."""
    data = disk.read(folder / "model.safetensors") if weights else None
    model = load_model(folder, weights=data)
    return model, load_tokenizer(folder), hash_of(data or b"")


def hash_of(data: bytes) -> str:
    """Return the first 16 hex digits of the SHA-256 of a model.safetensors."""
    return hashlib.sha256(data).hexdigest()[:16]


def _corpus_id(about: dict) -> str | None:
    """Return the id of a run's text, or None if that text isn't stored here."""
    try:
        return corpus.load(str(about.get("id"))).id
    except NanoGPTError:
        return None


@lru_cache(maxsize=2)
def _halves(id: str) -> tuple[str, str]:
    """Return the training and the held-out part of a stored text, or their ends that meet if it is longer than PART.

    Caching is safe: the id is made from its hash.
    """
    return corpus.load(id).part(PART)
