"""The model card: what a stranger needs to know of a model, and the code that writes with it.

Texts and names are somebody's own: they are fenced, so that nothing in them is read as Markdown, HTML or YAML.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections import Counter
from hashlib import sha256
from unicodedata import category

from huggingface_hub import EvalResult, ModelCardData

from .. import corpus
from ..config import NanoGPTError
from ..explain.baselines import baselines_of
from ..formats import kind_of, read_config
from ..paths import slug
from ..runs import Run, kept_loss
from ..runs.settings import command, settings_of
from ..tokenizer import load_tokenizer, unit

LICENSES = {  # what the Hub calls it -> what it is
    "mit": "MIT: do what you like, keep the notice",
    "apache-2.0": "Apache 2.0: as MIT, with a grant of patents",
    "cc0-1.0": "CC0: everybody's, no conditions",
    "cc-by-4.0": "CC BY 4.0: name the author",
    "cc-by-sa-4.0": "CC BY-SA 4.0: name the author, share alike",
    "cc-by-nc-4.0": "CC BY-NC 4.0: name the author, not for money",
    "cc-by-nc-sa-4.0": "CC BY-NC-SA 4.0: name the author, share alike, not for money",
    "gpl-3.0": "GPL 3.0: share alike, as software",
    "openrail": "OpenRAIL: with limits on use",
    "other": "Another one, written into the card on the Hub",
}
QUOTED = 500  # characters of the text, where its owner wants them on the card
BASELINES = {
    "uniform": "Every character equally likely",
    "unigram": "Characters as often as in the text",
    "bigram": "Pairs of characters as often as in the text",
}


def judged(run: Run) -> dict[str, float]:
    """The baselines of a run's text, if it is still here; what needs no text at all otherwise."""
    try:
        return baselines_of(corpus.load(run.settings()["corpus"]["id"]).text())
    except NanoGPTError:
        return {"uniform": math.log(len(load_tokenizer(run.folder).chars))}


def card(run: Run, repo: str, compared: dict[str, float], license: str | None = None, quote: bool = False) -> str:
    """README.md of the repository. With `quote` it shows how the text begins. NanoGPTError for an unknown licence."""
    checked_license(license)
    loss = kept_loss(run.history())
    parts = [
        f"---\n{metadata(run, loss, license)}\n---\n# {repo.split('/')[-1]}",
        introduction(run),
        "## Use it",
        use(run, repo),
        "## How good is it",
        quality(run, loss, compared),
        "## What it was trained on",
        text_facts(run, quote),
        "## What it writes",
        samples(run),
        "## How it was made",
        making(run),
        "## Limits",
        limits(run),
        "## Licence",
        f"{LICENSES[license]}."
        if license
        else "None was chosen yet: ask its owner before you use it for more than a try.",
    ]
    return signed("\n\n".join(parts) + "\n")


def signed(text: str) -> str:
    """The card with a hash of itself, not to be seen, by which a later push knows whether it was changed by hand."""
    return f"{text}\n<!-- {sha256(text.encode()).hexdigest()} -->\n"


def is_untouched(text: str) -> bool:
    """Whether a card is as `signed` made it."""
    return text == signed(text.rpartition("\n<!-- ")[0])


def checked_license(license: str | None) -> None:
    """NanoGPTError for a licence that is none of LICENSES."""
    if license is not None and license not in LICENSES:
        raise NanoGPTError(f"The licence was {license[:40]!r}; it must be one of {', '.join(LICENSES)}.")


def metadata(run: Run, loss: float | None, license: str | None) -> str:
    """The card's front matter (YAML), with `model-index` for the loss."""
    text, layout = run.settings()["corpus"], read_config(run.folder).layout
    level = f"{unit(load_tokenizer(run.folder))}-level"
    name = " ".join(seen(text["name"]).split())
    about = dict(task_type="text-generation", dataset_type=slug(name) or "text", dataset_name=name or "text")
    results = []
    if loss is not None:
        for kind, words, value in (
            ("loss", "Validation loss, nats a character", loss),
            ("bits-per-character", "Validation loss, bits a character", loss / math.log(2)),
        ):
            results.append(EvalResult(metric_type=kind, metric_name=words, metric_value=round(value, 4), **about))
    data = ModelCardData(
        license=license, library_name="transformers", pipeline_tag="text-generation",
        tags=["nanogpt", level, layout], model_name=run.name if results else None,
        eval_results=results or None,
    )  # fmt: skip
    return str(data)


def introduction(run: Run) -> str:
    config, text = read_config(run.folder), run.settings()["corpus"]
    one = unit(load_tokenizer(run.folder))
    vocabulary = "an alphabet" if one == "character" else "a vocabulary"
    how = {
        "gpt2": "It is the GPT of Andrej Karpathy's lecture *Let's build GPT*, saved as `GPT2LMHeadModel`",
        "nanochat": "It has rotary positions, RMS norm and ReLU squared, and is saved as `NanoChatForCausalLM`",
    }
    return (
        f"A small GPT that writes {one} by {one}, trained from nothing on {code(text['name'])}: "
        f"{config.n_layer} layers, {config.n_head} heads, {config.n_embd} numbers a {one}, a window of "
        f"{config.block_size} {one}s, {vocabulary} of {config.vocab_size}. {how[kind_of(config.features)]}; "
        "no code has to be trusted to load it."
    )


def use(run: Run, repo: str) -> str:
    start = json.dumps(opening(run), ensure_ascii=False)
    return (
        f'```python\nfrom transformers import pipeline\nwriter = pipeline("text-generation", model="{repo}")\n'
        f'print(writer({start})[0]["generated_text"])\n```\n\n'
        "Or with the program that made it, which also writes beyond the window:\n\n"
        f'```python\nimport nanogpt\nmodel = nanogpt.GPT.from_pretrained("{repo}")\n'
        f"print(model.write({start}, length=500, temperature=0.8))\n```\n\n"
        f"```bash\npython -m nanogpt pull {repo}\n```"
    )


def opening(run: Run) -> str:
    """Return a prompt in the model's alphabet: the word it writes most often, else its first letter."""
    alphabet, most = load_tokenizer(run.folder).chars, read_config(run.folder).block_size // 2
    letters = [ch for ch in alphabet if ch.isalnum()] or alphabet
    start = favorite_word(run, most)
    return start if start and set(start) <= set(alphabet) else letters[0]


def favorite_word(run: Run, most: int) -> str:
    """Return the word of 3 to `most` letters, `most` not included, that the last samples have most often, or ""."""
    written = " ".join(row["text"] for row in run.history().samples[-3:])
    words = [word for word in written.split() if word.isalpha() and 2 < len(word) < most]
    return Counter(words).most_common(1)[0][0] if words else ""


def quality(run: Run, loss: float | None, compared: dict[str, float]) -> str:
    lines = ["| | nats a character | bits a character |", "|---|---:|---:|"]
    rows = [(label, compared[key]) for key, label in BASELINES.items() if key in compared]
    rows += [("**This model**", loss)] if loss is not None else []
    lines += [f"| {label} | {value:.4f} | {value / math.log(2):.3f} |" for label, value in rows]
    said = "Loss over the last tenth of the text, which was held out; lower is better."
    curve = "![Training and validation loss over the steps](loss.png)\n\n" if run.history().rows else ""
    return f"{curve}{said}\n\n" + "\n".join(lines)


def text_facts(run: Run, quote: bool) -> str:
    about = run.settings()["corpus"]
    hashed = f", SHA-256 `{about['sha256']}`" if re.fullmatch("[0-9a-f]{64}", str(about.get("sha256"))) else ""
    said = f"{code(about['name'])}, {about['characters']:,} characters{hashed}. The text itself is not part of this "
    said += "repository."
    if not quote:
        return said
    return f"{said} It begins:\n\n{fenced(corpus.load(about['id']).text()[:QUOTED])}"


def samples(run: Run) -> str:
    written = run.history().samples
    if not written:
        return "No sample was kept."
    return f"At step {written[-1]['step']:,}, temperature 0.8:\n\n{fenced(written[-1]['text'].strip())}"


def making(run: Run) -> str:
    settings = settings_of(run)
    table = [
        "| setting | value |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in settings.items() if key != "device"),
    ]
    history = run.history()
    took = f"{history.step:,} steps, {history.seconds:,.1f} seconds of training. " if history.step else ""
    found = run.settings().get("versions")
    versions = found if isinstance(found, dict) else {}  # of a pulled run somebody else wrote them
    number = lambda key: re.fullmatch(r"[0-9][\w.+-]{0,40}", str(versions.get(key)))
    made = ", ".join(f"{key} {versions[key]}" for key in ("nanogpt", "torch", "python") if number(key))
    return f"{took}{made and made + '.'}\n\n```bash\n{public_command(run)}\n```\n\n" + "\n".join(table)


def public_command(run: Run) -> str:
    """The command that repeats the run, for somebody who has the text but not this machine's id of it."""
    words, about = shlex.split(command(run)), run.settings()["corpus"]
    if "--text" in words and words[words.index("--text") + 1] == about["id"]:
        at = words.index("--text")
        words[at : at + 2] = [f"{slug(about['name']) or 'text'}.txt"]
    return fence_safe(shlex.join(words))


def limits(run: Run) -> str:
    config, tokenizer = read_config(run.folder), load_tokenizer(run.folder)
    one = unit(tokenizer)
    beyond = (
        "with more, transformers goes on, but the text soon falls apart"
        if config.features.rotary
        else "with more, transformers ends with an IndexError"
    )
    return (
        f"- The window has {config.block_size} {one}s: in transformers `max_new_tokens` may be at most "
        f"{config.block_size} less the {one}s of the prompt ({beyond}). `model.write` goes beyond.\n"
        f"- A prompt can only have the {len(tokenizer.chars)} characters of its alphabet; transformers drops others "
        "silently.\n"
        "- It learned letters, not facts: it writes in the manner of its text, knows nothing, and may repeat passages "
        "of its text word for word."
    )


# ---- somebody's own words, in Markdown -------------------------------------------------------------------------------


def seen(text: str) -> str:
    """The text without control characters, which would hide or reorder what is read."""
    return "".join(ch if category(ch)[0] != "C" or ch in "\n\t\u200c\u200d" else "\ufffd" for ch in text)


def fence_safe(text: str) -> str:
    return seen(text).replace("```", "'''")


def fenced(text: str) -> str:
    """A block of plain text; its fence is longer than any row of backticks in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{seen(text)}\n{fence}"


def code(text: str) -> str:
    """A name inside a sentence."""
    plain = " ".join(seen(text).split()) or "a text without a name"
    marks = "`" * (1 + max(map(len, re.findall("`+", plain)), default=0))
    return f"{marks} {plain} {marks}" if plain[0] == "`" or plain[-1] == "`" else f"{marks}{plain}{marks}"
