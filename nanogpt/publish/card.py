"""Write the model card: what a newcomer needs to know about a model, and the code to use it.

Texts and names come from users, so they are quoted: nothing in them is read as Markdown, HTML or YAML.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections import Counter
from typing import Any
from unicodedata import category

from huggingface_hub import EvalResult, ModelCardData

from .. import corpus
from ..config import NanoGPTError, TrainConfig
from ..durations import short
from ..explain.baselines import BASELINES, Counted
from ..explain.loss import count_for
from ..formats import kind_of
from ..layout import shape
from ..paths import slug
from ..runs import judged_percent, kept_loss
from ..runs.settings import command, settings_of, text_file
from ..tokenizer import unit
from .readme import signed
from .run_files import RunFiles

LICENSES = {  # the Hub's id -> a short description
    "mit": "MIT: any use, keep the copyright notice",
    "apache-2.0": "Apache 2.0: like MIT, plus a patent grant",
    "cc0-1.0": "CC0: public domain, no conditions",
    "cc-by-4.0": "CC BY 4.0: credit the author",
    "cc-by-sa-4.0": "CC BY-SA 4.0: credit the author, share alike",
    "cc-by-nc-4.0": "CC BY-NC 4.0: credit the author, non-commercial use only",
    "cc-by-nc-sa-4.0": "CC BY-NC-SA 4.0: credit the author, share alike, non-commercial use only",
    "gpl-3.0": "GPL 3.0: share alike, for software",
    "openrail": "OpenRAIL: open, with use restrictions",
    "other": "Other: the owner's own terms; ask the owner before using the model",
}
QUOTED = 500  # characters of the text to show on the card, if its owner agrees


def judged(source: RunFiles) -> Counted:
    """Return the baselines of a run's text, or only the uniform one if nothing of the text is here."""
    found = count_for(source.run)
    return found or Counted({"uniform": math.log(len(source.tokenizer.chars))}, source.settings["corpus"]["characters"])


def card(source: RunFiles, repo: str, compared: Counted, license: str | None = None, quote: bool = False) -> str:
    """Return README.md for the repository. With `quote`, include the start of the text.

    Raise NanoGPTError if the license is unknown, or if the text is to be quoted and is no longer here.
    """
    checked_license(license)
    loss = kept_loss(source.history)
    parts = [
        f"---\n{metadata(source, loss, license)}\n---\n# {repo.split('/')[-1]}",
        introduction(source),
        "## Usage",
        use(source, repo),
        "## Evaluation",
        quality(source, loss, compared),
        "## Training data",
        text_facts(source, quote),
        "## Sample",
        samples(source),
        "## Training",
        making(source),
        "## Limitations",
        limits(source),
        "## License",
        in_words(license),
    ]
    return signed("\n\n".join(parts) + "\n")


def in_words(license: str | None) -> str:
    """Return what a license allows, or that there is none."""
    if license:
        return f"{LICENSES[license]}."
    return "No license has been chosen yet. Ask the owner before you use the model for anything but trying it out."


def checked_license(license: str | None) -> None:
    """Raise NanoGPTError if the license is not one of LICENSES."""
    if license is not None and license not in LICENSES:
        raise NanoGPTError(f"Unknown license {license[:40]!r}; choose one of {', '.join(LICENSES)}.")


def metadata(source: RunFiles, loss: float | None, license: str | None) -> str:
    """Return the card's YAML front matter, with the loss as a `model-index`."""
    text, layout = source.settings["corpus"], source.config.layout
    level = f"{unit(source.tokenizer)}-level"
    name = " ".join(seen(text["name"]).split())
    about = dict(task_type="text-generation", dataset_type=slug(name) or "text", dataset_name=name or "text")
    results = []
    if loss is not None:
        for kind, words, value in (
            ("loss", "Validation loss (nats per character)", loss),
            ("bits-per-character", "Validation loss (bits per character)", loss / math.log(2)),
        ):
            results.append(EvalResult(metric_type=kind, metric_name=words, metric_value=round(value, 4), **about))
    data = ModelCardData(
        license=license, library_name="transformers", pipeline_tag="text-generation",
        tags=["nanogpt", level, layout], model_name=source.name if results else None,
        eval_results=results or None,
    )  # fmt: skip
    return str(data)


def introduction(source: RunFiles) -> str:
    """Return the first paragraph: what the model is, its size, and what it was trained on."""
    config, text = source.config, source.settings["corpus"]
    one = unit(source.tokenizer)
    architecture = {
        "gpt2": "It is the GPT of Andrej Karpathy's lecture *Let's build GPT*, saved as `GPT2LMHeadModel`",
        "nanochat": "It has rotary positions, RMSNorm and squared ReLU, and is saved as `NanoChatForCausalLM`, which "
        "needs transformers 5 or newer",
    }
    return (
        f"A small {one}-level GPT, trained from scratch on {code(text['name'])}: "
        f"{shape(config.n_layer, config.n_head, config.n_embd)}, a context length of {config.block_size} {one}s "
        f"and a vocabulary of {config.vocab_size} {one}s. {architecture[kind_of(config.features)]}; no custom code is "
        "needed to load it."
    )


def use(source: RunFiles, repo: str) -> str:
    """Return code that generates text with the model: transformers, this library, and the command line."""
    start = json.dumps(opening(source), ensure_ascii=False)
    return (
        f'```python\nfrom transformers import pipeline\nwriter = pipeline("text-generation", model="{repo}")\n'
        f'print(writer({start})[0]["generated_text"])\n```\n\n'
        "Or with nanogpt, which made the model and can also generate past the context length:\n\n"
        f'```python\nimport nanogpt\nmodel = nanogpt.GPT.from_pretrained("{repo}")\n'
        f"print(model.write({start}, length=500, temperature=0.8))\n```\n\n"
        f"```bash\npython -m nanogpt pull {repo}\n```"
    )


def opening(source: RunFiles) -> str:
    """Return a prompt that the model can encode: the most common word of its samples, or else its first letter."""
    alphabet, most = source.tokenizer.chars, source.config.block_size // 2
    letters = [ch for ch in alphabet if ch.isalnum()] or alphabet
    start = favorite_word(source, most)
    return start if start and set(start) <= set(alphabet) else letters[0]


def favorite_word(source: RunFiles, most: int) -> str:
    """Return the most common word of the last samples that has at least 3 and fewer than `most` letters, or ""."""
    written = " ".join(row["text"] for row in source.samples[-3:])
    words = [word for word in written.split() if word.isalpha() and 2 < len(word) < most]
    return Counter(words).most_common(1)[0][0] if words else ""


def quality(source: RunFiles, loss: float | None, compared: Counted) -> str:
    """Return the loss curve and a table that compares the validation loss with the baselines."""
    lines = ["| | nats per character | bits per character |", "|---|---:|---:|"]
    learns = lambda one: "; keeps learning as it reads" if one.adaptive else ""
    known = [(f"{one.label}: {one.knows_of(compared.losses)}{learns(one)}", key) for key, one in BASELINES.items()]
    rows = [(label, compared.losses[key]) for label, key in known if key in compared.losses]
    rows += [("**This model**", loss)] if loss is not None else []
    lines += [f"| {label} | {value:.4f} | {value / math.log(2):.3f} |" for label, value in rows]
    curve = "![Training and validation loss by step](loss.png)\n\n" if len(source.history.saved_rows) > 1 else ""
    return f"{curve}{judged_on(source, compared)}\n\n" + "\n".join(lines)


def judged_on(source: RunFiles, compared: Counted) -> str:
    """Return on what part of the text the losses are."""
    percent = judged_percent(source.history, source.settings) or 100
    part = "" if percent == 100 else f"; this model's is on {percent}% of that"
    sentence = f"Loss on the validation set, the last 10% of the text{part}. Lower is better."
    characters = source.settings["corpus"]["characters"]
    if compared.characters >= characters:
        return sentence
    return f"{sentence} The others were counted on {compared.characters:,} of the text's {characters:,} characters."


def text_facts(source: RunFiles, quote: bool) -> str:
    """Return the text's name, length and hash, and the start of the text if `quote` is set."""
    about = source.settings["corpus"]
    hashed = f", SHA-256 `{about['sha256']}`" if re.fullmatch("[0-9a-f]{64}", str(about.get("sha256"))) else ""
    facts = (
        f"{code(about['name'])}, {about['characters']:,} characters{hashed}. The text itself is not included in this "
    )
    facts += "repository."
    if not quote:
        return facts
    return f"{facts} It starts like this:\n\n{fenced(corpus.load(about['id']).between(0, QUOTED))}"


def samples(source: RunFiles) -> str:
    """Return the last sample that was logged up to the step of the weights."""
    written = source.samples
    if not written:
        return "No sample was saved."
    return f"At step {written[-1]['step']:,}, temperature 0.8:\n\n{fenced(written[-1]['text'].strip())}"


def making(source: RunFiles) -> str:
    """Return how the model was trained: steps, time, versions, the command and every setting."""
    table = ["| setting | value |", "|---|---|", *(f"| {key} | {value} |" for key, value in in_effect(source).items())]
    took = trained_for(source)
    found = source.settings.get("versions")
    versions = found if isinstance(found, dict) else {}  # a pulled run's run.json comes from a stranger
    number = lambda key: re.fullmatch(r"[0-9][\w.+-]{0,40}", str(versions.get(key)))
    made = ", ".join(f"{key} {versions[key]}" for key in ("nanogpt", "torch", "python") if number(key))
    return f"{took}{made and made + '.'}\n\n```bash\n{public_command(source)}\n```\n\n" + "\n".join(table)


def in_effect(source: RunFiles) -> dict[str, Any]:
    """Return the settings as they were in effect: numbers or words where the run's own are only placeholders."""
    from ..schedule import settled  # here, because it imports torch

    values, train = settings_of(source.run), TrainConfig.of(source.settings["train"])
    del values["device"]
    values["weight_decay"] = settled(train, source.config, source.settings["corpus"]["characters"]).weight_decay
    values["budget"] = short(train.budget) if train.budget else "no limit"
    values["max_iters"] = "set by the time budget" if train.budget else train.max_iters
    return values


def trained_for(source: RunFiles) -> str:
    """Return how long the run has trained and which step's weights it saved, or "" if that is unknown."""
    history = source.history
    last = (history.saved_rows or [{}])[-1]
    step, seconds = (history.step, history.seconds) if history.ended else (last.get("step"), last.get("seconds") or 0.0)
    kept = f"The weights are those of step {source.kept_step:,}. " if source.kept_step < (step or 0) else ""
    return f"{step:,} steps, {seconds:,.1f} seconds of training. {kept}" if step else ""


def public_command(source: RunFiles) -> str:
    """Return the command that reproduces the run, with a file name in place of this machine's id of the text."""
    words, about = shlex.split(command(source.run)), source.settings["corpus"]
    if "--text" in words and words[words.index("--text") + 1] == about["id"]:
        at = words.index("--text")
        words[at : at + 2] = [text_file(about)]
    return fence_safe(shlex.join(words))


def limits(source: RunFiles) -> str:
    """Return the model's limitations as a list: context length, characters, and what it can't know."""
    config, tokenizer = source.config, source.tokenizer
    one = unit(tokenizer)
    beyond = (
        "beyond that, transformers keeps going but the text soon degrades"
        if config.features.rotary
        else "beyond that, transformers raises an IndexError"
    )
    return (
        f"- The context length is {config.block_size} {one}s: with transformers, the prompt and `max_new_tokens` "
        f"together may be at most {config.block_size} ({beyond}). `model.write` has no such limit.\n"
        f"- A prompt can only use the {len(tokenizer.chars)} characters that the model was trained on; transformers "
        "silently drops any others.\n"
        "- The model has learned spelling and style, not facts: it imitates its text, makes things up, and may repeat "
        "passages word for word."
    )


# ---- quoting what users wrote, in Markdown ---------------------------------------------------------------------------


def seen(text: str) -> str:
    """Replace control characters, which could hide or reorder the text around them."""
    return "".join(ch if category(ch)[0] != "C" or ch in "\n\t\u200c\u200d" else "\ufffd" for ch in text)


def fence_safe(text: str) -> str:
    """Return the text so that it can't close the code block around it."""
    return seen(text).replace("```", "'''")


def fenced(text: str) -> str:
    """Return the text as a code block, with a fence longer than any run of backticks inside."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{seen(text)}\n{fence}"


def code(text: str) -> str:
    """Return a name as inline code."""
    plain = " ".join(seen(text).split()) or "an unnamed text"
    marks = "`" * (1 + max(map(len, re.findall("`+", plain)), default=0))
    return f"{marks} {plain} {marks}" if plain[0] == "`" or plain[-1] == "`" else f"{marks}{plain}{marks}"
