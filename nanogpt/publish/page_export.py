"""Export a model as one HTML file that contains the weights and generates text offline, in any browser.

The file is `exported/page.html` with four parts filled in: the forward pass in plain JavaScript (`exported/gpt.js`),
the form around it (`exported/page.js`), the style sheet, and the weights. The page makes no requests, and its
Content-Security-Policy forbids them. Text from users is escaped here, or inserted as plain text by the script.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import ModelConfig, NanoGPTError
from ..durations import in_words
from ..layout import ROPE_THETA
from ..runs import Run, kept_loss
from ..tokenizer import LOOKALIKES, unit
from .run_files import RunFiles

if TYPE_CHECKING:
    from ..model import GPT

HERE = Path(__file__).parent / "exported"
LETTERS = 4  # base64 letters per weight: 24 bits, 16 of them significant digits, accurate to 1 part in 131,072
LAYOUT_WORDS = {"classic": "classic (as in the lecture)"}  # other layouts go by their name
MAX_MB = 50  # size of a page; a phone has to hold it in memory both as text and as numbers


def html(run: Run) -> str:
    """Return the run's page. Raise NanoGPTError if the run has no weights yet, or too many for a page.

    The page's logits differ from PyTorch's by less than 1e-3, as tests/publish/test_page_export.py checks.
    """
    return page(RunFiles(run))


def page(source: RunFiles) -> str:
    """Return the page as `html` does, from files that may have been read already."""
    from ..model import count_parameters  # here, because it imports torch

    text, config, tokenizer = source.settings["corpus"]["name"], source.config, source.tokenizer
    if unit(tokenizer) != "character":
        raise NanoGPTError(
            f"{source.name} has tokens longer than a character, which the web page can't handle yet. Publish the model "
            "instead."
        )
    parameters = count_parameters(config)
    if parameters * LETTERS > MAX_MB * 1_000_000:
        raise NanoGPTError(
            f"{source.name} has {parameters / 1e6:.1f} million parameters, which would make a page of "
            f"{parameters * LETTERS / 1e6:.0f} MB; phones can open up to {MAX_MB} MB. Publish the model instead."
        )
    about = dict(config=_config(config), chars=tokenizer.chars, lookalikes=LOOKALIKES)
    style, gpt, fields = (_source(name) for name in ("page.css", "gpt.js", "page.js"))
    parts = dict(
        name=_text(source.name), text=_text(text), facts=_facts(source, parameters),
        how=_how(config), style=style, gpt=gpt, page=fields, about=_json(about), weights=_weights(source.model),
        style_hash=_hash(style), script_hashes=f"{_hash(gpt)} {_hash(fields)}",
    )  # fmt: skip
    # in one pass, so that {{...}} inside a filled-in value is left alone
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _source("page.html"))


def _config(config: ModelConfig) -> dict[str, Any]:
    """Return the sizes and features that `exported/gpt.js` reads."""
    sizes = {name: getattr(config, name) for name in ("block_size", "n_layer", "n_head", "n_embd", "vocab_size")}
    return {**sizes, **asdict(config.features), "rope_theta": ROPE_THETA}


def _source(name: str) -> str:
    """Return a file of the page's source."""
    return (HERE / name).read_text(encoding="utf-8")


def _text(text: str) -> str:
    """Escape a text for HTML. An unpaired surrogate, which UTF-8 can't encode, becomes a question mark."""
    return escape(text.encode("utf-8", "replace").decode())


def _hash(source: str) -> str:
    """Return the hash by which a Content-Security-Policy allows an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode('utf-8')).digest()).decode()}'"


def _json(value: Any) -> str:
    """Return JSON that can't close the script element around it, or open a comment in it."""
    return json.dumps(value).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _weights(model: GPT) -> str:
    """Return one element per tensor, with its name and its weights; matrices are stored row by row."""
    return "\n".join(
        f'<script type="text/plain" data-tensor="{name}">{_packed(tensor.numpy())}</script>'
        for name, tensor in model.state_dict().items()
    )


def _packed(numbers: np.ndarray) -> str:
    """Round float32 to 24 bits and encode them, highest byte first, in base64: four letters per number."""
    bits = np.ascontiguousarray(numbers, np.float32).reshape(-1).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x80) >> 8).astype(">u4")  # (n,)
    return base64.b64encode(rounded.view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()).decode()


def _facts(source: RunFiles, parameters: int) -> str:
    """Return the facts about the model as the entries of a description list."""
    about, config, history = source.settings["corpus"], source.config, source.history
    facts = {"Text": f"{about['characters']:,} characters"}
    if (loss := kept_loss(history)) is not None:
        facts["Validation loss"] = f"{loss:.2f} nats ({loss / math.log(2):.2f} bits) per character"
    facts["Parameters"] = f"{parameters:,}"
    facts["Alphabet"] = f"{config.vocab_size:,} characters"
    facts["Context length"] = f"{config.block_size:,} characters"
    facts["Size"] = f"{config.n_layer} layers, {config.n_head} heads, width {config.n_embd}"
    facts["Architecture"] = LAYOUT_WORDS.get(str(config.layout), str(config.layout))
    if history.step:
        facts["Training"] = f"{history.step:,} steps in {in_words(history.seconds, rough=True)}"
    return "\n".join(f"<div><dt>{_text(what)}</dt><dd>{_text(said)}</dd></div>" for what, said in facts.items())


def _how(config: ModelConfig) -> str:
    """Return how the model works, in a few sentences."""
    return (
        f"The model reads the last {config.block_size:,} characters. In each layer, every character attends to "
        "the ones before it and gathers what it needs. The result is a probability for each character in the "
        "alphabet to come next; one is drawn, added to the text, and the model runs again."
    )
