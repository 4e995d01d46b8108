"""Export a model as one HTML file that contains the weights and generates text offline, in any browser.

The file is `exported/page.html` with its parts filled in: the forward pass (`exported/gpt.js`), whose products with
matrices exist in JavaScript (`exported/math.js`) and, several times as fast, in WebAssembly (`exported/math.wasm`, made
from `exported/math.wat`), the form around it (`exported/page.js`), and the weights. `exported/complete.js` says so if
not all of that is there. The page makes no requests, and its Content-Security-Policy forbids them. Text from users is
escaped here, or inserted as plain text by the script.
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
from ..layout import ROPE_THETA, shape
from ..runs import Run, kept_loss
from ..tokenizer import LOOKALIKES, unit
from .run_files import RunFiles

if TYPE_CHECKING:
    from ..model import GPT

HERE = Path(__file__).parent / "exported"
SCRIPTS = ("complete.js", "math.js", "gpt.js", "text_cells.js", "surprise.js", "page.js")
LETTERS = 4  # base64 letters per weight: 24 bits, 16 of them significant digits, accurate to 1 part in 131,072
LAYOUT_WORDS = {"classic": "classic (as in the lecture)"}  # other layouts go by their name
MAX_MB = 50  # size of a page; a phone has to hold it in memory both as text and as numbers


def html(run: Run, int8: bool = False) -> str:
    """Return the run's page. Raise NanoGPTError if the run has no weights yet, or too many for a page.

    The page's logits differ from PyTorch's by less than 1e-3, as tests/publish/test_page_export.py checks. With `int8`,
    matrices are rounded to 8 bits, which makes the page a third as large and costs less than 0.005 nats per character.
    """
    return page(RunFiles(run), int8)


def page(source: RunFiles, int8: bool = False) -> str:
    """Return the page as `html` does, from files that may have been read already."""
    text, config, tokenizer = source.settings["corpus"]["name"], source.config, source.tokenizer
    if unit(tokenizer) != "character":
        raise NanoGPTError(
            f"{source.name} has tokens longer than a character, which the web page can't handle yet. Publish the model "
            "instead."
        )
    parameters, megabytes = size(config, int8)
    if megabytes > MAX_MB:
        smaller = "Publish the model instead"
        if not int8 and needs_int8(config):
            smaller = "Round its weights to 8 bits: --int8, or Small web page on the page"
        raise NanoGPTError(
            f"{source.name} has {parameters / 1e6:.1f} million parameters, which would make a page of "
            f"{megabytes:.0f} MB; phones can open up to {MAX_MB} MB. {smaller}."
        )
    about = dict(config=_config(config), chars=tokenizer.chars, lookalikes=LOOKALIKES)
    style, *scripts = map(_source, ("page.css", *SCRIPTS))
    parts = dict(
        name=escape(source.name), text=escape(text), facts=_facts(source, parameters, int8),
        how=_how(config), about=_json(about), weights=_weights(source.model, int8),
        wasm=base64.b64encode((HERE / "math.wasm").read_bytes()).decode(), style=style, style_hash=_hash(style),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
        script_hashes=" ".join(map(_hash, scripts)),
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


def _hash(source: str) -> str:
    """Return the hash by which a Content-Security-Policy allows an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode('utf-8')).digest()).decode()}'"


def _json(value: Any) -> str:
    """Return JSON that can't close the script element around it, or open a comment in it."""
    return json.dumps(value).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def size(config: ModelConfig, int8: bool) -> tuple[int, float]:
    """Return a model's number of parameters, and about how many megabytes they take in a page."""
    from ..model import count_parameters  # here, because it imports torch

    parameters = count_parameters(config)
    rows = config.vocab_size + (0 if config.features.rotary else config.block_size)
    rounded = parameters - rows * config.n_embd if int8 else 0  # all but the embeddings
    return parameters, (rounded * 4 / 3 + (parameters - rounded) * LETTERS) / 1e6


def needs_int8(config: ModelConfig) -> bool:
    """Return True if a model is too large for a page, unless it is rounded to 8 bits."""
    return size(config, int8=False)[1] > MAX_MB >= size(config, int8=True)[1]


def _weights(model: GPT, int8: bool) -> str:
    """Return one element per tensor, with its name and its weights; matrices are stored row by row."""
    elements = []
    for name, tensor in model.state_dict().items():
        weight, scales = tensor.numpy(), ""
        if int8 and can_be_rounded(name, weight.ndim):
            weight, sizes = rounded(weight)
            scales = f' data-scales="{_packed(sizes)}"'
        letters = base64.b64encode(weight.tobytes()).decode() if scales else _packed(weight)
        elements.append(f'<script type="text/plain" data-tensor="{name}"{scales}>{letters}</script>')
    return "\n".join(elements)


def can_be_rounded(name: str, dimensions: int) -> bool:
    """Return True for the matrices that the model multiplies with, which are almost all of it."""
    return dimensions == 2 and "embedding" not in name


def rounded(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round a matrix (rows, n) to 8 bits. Return whole numbers (rows, n) and the scale of each row (rows,)."""
    scales = np.abs(weight).max(axis=1) / 127  # (rows,)
    scales[scales == 0] = 1.0
    return np.rint(weight / scales[:, None]).astype(np.int8), scales


def _packed(numbers: np.ndarray) -> str:
    """Round float32 to 24 bits and encode them, highest byte first, in base64: four letters per number."""
    bits = np.ascontiguousarray(numbers, np.float32).reshape(-1).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x80) >> 8).astype(">u4")  # (n,)
    return base64.b64encode(rounded.view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()).decode()


def _facts(source: RunFiles, parameters: int, int8: bool) -> str:
    """Return the facts about the model as the entries of a description list."""
    about, config, history = source.settings["corpus"], source.config, source.history
    facts = {"Text": f"{about['characters']:,} characters"}
    if (loss := kept_loss(history)) is not None:
        facts["Validation loss"] = f"{loss:.2f} nats ({loss / math.log(2):.2f} bits) per character"
    facts["Parameters"] = f"{parameters:,}"
    if int8:
        facts["Precision"] = "8 bits per parameter, rounded to make the page smaller"
    facts["Alphabet"] = f"{config.vocab_size:,} characters"
    facts["Context length"] = f"{config.block_size:,} characters"
    facts["Size"] = shape(config.n_layer, config.n_head, config.n_embd)
    facts["Architecture"] = LAYOUT_WORDS.get(str(config.layout), str(config.layout))
    if history.step:
        kept = f"; the weights are those of step {source.kept_step:,}" if source.kept_step < history.step else ""
        facts["Training"] = f"{history.step:,} steps in {in_words(history.seconds, rough=True)}{kept}"
    return "\n".join(f"<div><dt>{escape(what)}</dt><dd>{escape(value)}</dd></div>" for what, value in facts.items())


def _how(config: ModelConfig) -> str:
    """Return how the model works, in a few sentences."""
    return (
        f"The model sees at most {config.block_size:,} characters at a time. Once it has that many, it forgets the "
        "older half and continues. In each layer, every character attends to the ones before it and gathers what it "
        "needs. The result is a probability for each character in the alphabet to come next; one is drawn, added to "
        "the text, and the model runs again."
    )
