"""Use a trained model from Python: `nanogpt.GPT.from_pretrained("user/repo")`, then `model.write("Dear ")`."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from huggingface_hub import snapshot_download

from .. import model
from ..config import ModelConfig, NanoGPTError, SampleConfig
from ..formats import load_model
from ..sample import stream
from ..tokenizer import Tokenizer, load_tokenizer
from .hub import repository
from .hub_errors import spoken
from .pull import NEEDED


class GPT(model.GPT):
    """The model, together with its tokenizer."""

    tokenizer: Tokenizer

    def __init__(self, config: ModelConfig):
        super().__init__(config)

    @classmethod
    def from_pretrained(
        cls, repo_or_folder: str | os.PathLike[str], device: str | torch.device = "cpu", token: str | None = None
    ) -> GPT:
        """Load a model from a run folder, or from the Hub by way of the Hub client's cache.

        Only safetensors and JSON are read. Raise NanoGPTError if the model is missing or in another format.
        """
        folder = Path(repo_or_folder)
        if not folder.is_dir():
            repo = repository(str(repo_or_folder))
            with spoken(repo):
                folder = Path(snapshot_download(repo, allow_patterns=list(NEEDED), token=token))
        loaded = load_model(folder, device, cls)
        assert isinstance(loaded, GPT)
        loaded.tokenizer = load_tokenizer(folder)
        if loaded.tokenizer.vocab_size != loaded.config.vocab_size:
            raise NanoGPTError(f"The tokenizer of {repo_or_folder} doesn't match its model. Download both again.")
        return loaded

    def write(self, prompt: str = "", **settings) -> str:
        """Return the prompt and its continuation. Settings are those of SampleConfig: length, temperature, seed, ...

        Characters of the prompt that are not in the vocabulary are replaced by similar ones, or skipped.
        """
        start = self.tokenizer.fit(prompt).text
        return start + "".join(stream(self, self.tokenizer, start, SampleConfig(**settings)))
