"""Use a trained model from Python: `nanogpt.GPT.from_pretrained("user/repo")`, then `model.write("Dear ")`."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import torch
from huggingface_hub import constants, get_token

from .. import model
from ..config import NanoGPTError, SampleConfig
from ..errors import writing_to
from ..formats import load_model
from ..paths import NAME
from ..presets import check_known
from ..runs import Run
from ..sample import keep_ready, stream
from ..tokenizer import Tokenizer, load_tokenizer
from .account import repository
from .hub_client import client
from .hub_errors import spoken
from .pull import NEEDED


class GPT(model.GPT):
    """The model, together with its tokenizer."""

    tokenizer: Tokenizer
    prepared: int = -1  # a checksum of the weights for which `ready` was made

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | os.PathLike[str], device: str | torch.device = "cpu", token: str | None = None
    ) -> GPT:
        """Load a model by the name of a run, from a folder, or from the Hub by way of the Hub client's cache.

        Only safetensors and JSON are read. Raise NanoGPTError if the model is missing or in another format, and OSError
        if that cache can't be written to.
        """
        folder = folder_of(str(name_or_path), token)
        loaded = load_model(folder, device, cls)
        assert isinstance(loaded, GPT)
        loaded.tokenizer = load_tokenizer(folder)
        if loaded.tokenizer.vocab_size != loaded.config.vocab_size:
            raise NanoGPTError(f"The tokenizer of {name_or_path} doesn't match its model. Download both again.")
        return loaded

    def write(self, prompt: str = "", **settings) -> str:
        """Return the prompt and its continuation. Settings are those of SampleConfig: length, temperature, seed, ...

        Characters of the prompt that are not in the vocabulary are replaced by similar ones, or skipped. Raise
        NanoGPTError for a setting that is unknown or out of range, or if the model has no tokenizer.
        """
        return "".join(self.stream(prompt, **settings))

    def stream(self, prompt: str = "", **settings) -> Iterator[str]:
        """Return an iterator over what `write` returns, character by character, as they are generated."""
        check_known(settings, SampleConfig)
        config = SampleConfig(**settings)
        if config.num_samples > 1:
            raise NanoGPTError("This writes one text at a time, so num_samples must be 1. Use another seed for each.")
        if not hasattr(self, "tokenizer"):
            raise NanoGPTError("This model has no tokenizer. Load one with from_pretrained, or set model.tokenizer.")
        self.prepare()
        start = self.tokenizer.fit(prompt).text
        return chain(start, stream(self, self.tokenizer, start, config))

    def train(self, mode: bool = True) -> GPT:
        """Switch dropout on or off. Forget the weights prepared for sampling, because training will change them."""
        self.ready = None
        return super().train(mode)

    def prepare(self) -> None:
        """Prepare the weights for sampling, unless they are those of the last time: training may have changed them."""
        if self.device.type != "cpu":  # elsewhere, nothing is prepared
            return
        # a checksum, because not every way to change them is counted in their versions: `p.data += ...` isn't
        state = 0
        for p in self.parameters():
            state = zlib.crc32(p.detach().contiguous().view(torch.uint8).numpy(), state)
        if self.ready is None or state != self.prepared:
            keep_ready(self)
            self.prepared = state


def folder_of(name: str, token: str | None) -> Path:
    """Return the folder with the files of a model: a run, a folder at this path, or a repository's copy in the cache.

    Raise NanoGPTError if there is none.
    """
    is_name = bool(NAME.fullmatch(name))
    if is_name and Run(name).exists():
        return Run(name).folder
    if Path(name).is_dir():
        return Path(name)
    if is_name:
        raise Run(name).missing()
    try:
        repo = repository(name)
        with spoken(repo), writing_to(constants.HF_HUB_CACHE):
            api = client(token or get_token())
            return Path(api.snapshot_download(repo, allow_patterns=list(NEEDED)))
    except NanoGPTError as problem:  # without the name, which may be a token by mistake
        raise NanoGPTError(f"There is no such folder on this machine. {problem}") from None
