"""A trained model for programs: `nanogpt.GPT.from_pretrained("user/repo")`, then `model.write("Dear ")`."""

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
from .hub import NEEDED, repository
from .hub_errors import spoken


class GPT(model.GPT):
    """The model together with its tokenizer."""

    tokenizer: Tokenizer

    def __init__(self, config: ModelConfig):
        super().__init__(config)

    @classmethod
    def from_pretrained(
        cls, repo_or_folder: str | os.PathLike[str], device: str | torch.device = "cpu", token: str | None = None
    ) -> GPT:
        """The model of a run folder, or of a repository on the Hub, which is kept in the Hub client's cache.

        NanoGPTError where it is not there or of another form. Only safetensors and JSON are read.
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
            raise NanoGPTError(f"The alphabet of {repo_or_folder} is not that of its model.")
        return loaded

    def write(self, prompt: str = "", **settings) -> str:
        """The prompt and its continuation. Settings are those of SampleConfig: length, temperature, seed and so on.

        Characters of the prompt that the model never saw are written as the nearest it knows, or left out.
        """
        start = self.tokenizer.fit(prompt).text
        return start + "".join(stream(self, self.tokenizer, start, SampleConfig(**settings)))
