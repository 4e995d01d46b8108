"""A model to carry in a pocket: one HTML file with the weights inside, which writes in any browser, offline.

It is `exported/page.html` with four things put in: the forward pass in plain JavaScript (`exported/gpt.js`), the fields
around it (`exported/page.js`), the style, and the numbers. The page asks nobody for anything, and forbids itself to.
What comes from a text or a name is escaped here, or put into the page as text there.
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
from typing import Any

import numpy as np

from ..config import ModelConfig, NanoGPTError
from ..durations import in_words
from ..model import GPT, ROPE_THETA, ShapesOnly
from ..runs import Run, kept_loss
from ..tokenizer import LOOKALIKES, unit
from .run_files import RunFiles

HERE = Path(__file__).parent / "exported"
LETTERS = 4  # of base64 a number: 24 bits, of which 16 are its digits, so that it is right to 1 part in 131,072
LAYOUT_WORDS = {"classic": "as in the lecture"}  # others go by their name
MAX_MB = 50  # of a page; a phone has to hold it as text and as numbers


def html(run: Run) -> str:
    """The run's page. NanoGPTError where it has no weights yet, or more than a page can carry.

    Its scores differ from PyTorch's by less than 1e-3, which tests/test_page_export.py holds it to.
    """
    return page(RunFiles(run))


def page(source: RunFiles) -> str:
    """`html`, of a run whose files may have been read already."""
    text, config, tokenizer = source.settings["corpus"]["name"], source.config, source.tokenizer
    if unit(tokenizer) != "character":
        raise NanoGPTError(
            f"The tokens of {source.name} are longer than a character, which a page cannot write yet. Publish the "
            "model instead."
        )
    with ShapesOnly():
        parameters = GPT(config).count_parameters()
    if parameters * LETTERS > MAX_MB * 1_000_000:
        raise NanoGPTError(
            f"{source.name} has {parameters / 1e6:.1f} million numbers, which would make a page of "
            f"{parameters * LETTERS / 1e6:.0f} MB; a phone opens one of up to {MAX_MB} MB. Publish the model instead."
        )
    about = dict(config=_config(config), chars=tokenizer.chars, lookalikes=LOOKALIKES)
    style, gpt, fields = (_source(name) for name in ("page.css", "gpt.js", "page.js"))
    parts = dict(
        name=_text(source.name), text=_text(text), facts=_facts(source, parameters),
        how=_how(config), style=style, gpt=gpt, page=fields, about=_json(about), weights=_weights(source.model),
        style_hash=_hash(style), script_hashes=f"{_hash(gpt)} {_hash(fields)}",
    )  # fmt: skip
    # in one pass: what was put in is not looked at again, whatever it looks like
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _source("page.html"))


def _config(config: ModelConfig) -> dict[str, Any]:
    """The sizes and features that `exported/gpt.js` reads."""
    sizes = {name: getattr(config, name) for name in ("block_size", "n_layer", "n_head", "n_embd", "vocab_size")}
    return {**sizes, **asdict(config.features), "rope_theta": ROPE_THETA}


def _source(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _text(text: str) -> str:
    """A text as HTML that shows just that; half a character, which no file can hold, becomes a question mark."""
    return escape(text.encode("utf-8", "replace").decode())


def _hash(source: str) -> str:
    """What a Content-Security-Policy knows an inline script or style by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode('utf-8')).digest()).decode()}'"


def _json(value: Any) -> str:
    """JSON that cannot end its script element, nor begin a comment in it."""
    return json.dumps(value).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _weights(model: GPT) -> str:
    """Every tensor as an element with its name and its numbers; a matrix row by row."""
    return "\n".join(
        f'<script type="text/plain" data-tensor="{name}">{_packed(tensor.numpy())}</script>'
        for name, tensor in model.state_dict().items()
    )


def _packed(numbers: np.ndarray) -> str:
    """float32 rounded to 24 bits, the highest byte first, in base64: four letters a number."""
    bits = np.ascontiguousarray(numbers, np.float32).reshape(-1).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x80) >> 8).astype(">u4")  # (n,)
    return base64.b64encode(rounded.view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()).decode()


def _facts(source: RunFiles, parameters: int) -> str:
    """What there is to say in numbers, as the entries of a list."""
    about, config, history = source.settings["corpus"], source.config, source.history
    facts = {"Text": f"{about['characters']:,} characters"}
    if (loss := kept_loss(history)) is not None:
        facts["Validation loss"] = f"{loss:.2f} nats ({loss / math.log(2):.2f} bits) a character"
    facts["Parameters"] = f"{parameters:,}"
    facts["Alphabet"] = f"{config.vocab_size:,} characters"
    facts["Sees back"] = f"{config.block_size:,} characters"
    facts["Layers and heads"] = f"{config.n_layer} and {config.n_head}, {config.n_embd} wide"
    facts["Layout"] = LAYOUT_WORDS.get(str(config.layout), str(config.layout))
    if history.step:
        facts["Training"] = f"{history.step:,} steps in {in_words(history.seconds, rough=True)}"
    return "\n".join(f"<div><dt>{_text(what)}</dt><dd>{_text(said)}</dd></div>" for what, said in facts.items())


def _how(config: ModelConfig) -> str:
    return (
        f"It reads the last {config.block_size:,} characters. Layer after layer, each character looks back at those "
        "before it and gathers what it needs. At the end every character of the alphabet has a score for coming next; "
        "one is drawn, joins the text, and all begins again."
    )
