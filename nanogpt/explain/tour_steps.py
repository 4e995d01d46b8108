"""The steps of the tour, in words. What they ask, and which answer is right, comes from the reader's own model."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..runs import kept_loss
from . import tiny
from .features import is_letter
from .opened import Opened

WORD = 7  # letters of a word that is short enough to count

LEARNED = (
    "The model was never told which characters are alike. It learned this only because it helps to predict what comes "
    "next."
)
NOT_LEARNED = "In your model that means little: its rows are no more alike than random ones would be."


@dataclass(frozen=True)
class Step:
    """A step: what it says, what it asks, what there is to do, and the answer, in the words of the page."""

    key: str  # how tour.js shows it
    title: str
    says: str
    question: str
    choices: tuple[str, ...]
    right: int  # index of the right choice
    do: str
    answer: str


@dataclass(frozen=True)
class Passage:
    """A piece of text as the model reads it, N tokens."""

    tokens: list[str]
    bits: list[float]  # (N,) that each token costs
    likeliest: list[list[dict[str, Any]]]  # (N,) the five likeliest tokens at each place
    wei: Any  # (N, N) the attention of one head
    head: str  # its name
    says: str  # what it looks at


def quoted(token: str) -> str:
    """Return a token in quotes, with whitespace visible."""
    return "“" + {"\n": "↵", " ": "␣", "\t": "⇥"}.get(token, token) + "”"


def percent(share: float) -> str:
    """Return a share from 0 to 1 in percent."""
    return f"{share:.0%}" if share >= 0.005 else "less than 1%"


def is_word(token: str) -> bool:
    """Return True if a token can be part of a word."""
    return all(map(is_letter, token))


def mixed(right: str, wrong: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """Return choices in an order that gives nothing away, and where the right one is."""
    choices = sorted([right, *wrong])
    random.Random("".join(choices)).shuffle(choices)
    return tuple(choices), choices.index(right)


# ---- the steps -------------------------------------------------------------------------------------------------------


def text_to_numbers(opened: Opened, passage: Passage) -> Step:
    word, size = word_of(passage.tokens, [*opened.tokenizer.itos.values()]), opened.tokenizer.vocab_size
    count = len(opened.tokenizer.encode(word))
    choices, right = mixed(
        f"{count}, one per character", ["1, for the whole word", f"{size}, one per character it knows"]
    )
    return Step(
        "numbers", "Text becomes numbers",
        f"A model can only compute with numbers. This one knows {size} characters, sorted, and calls each by its "
        "place in the list: its id.",
        f"How many numbers does the model get for the word “{word}”?", choices, right,
        "Type any word and press Encode.",
        f"One per character. An id is only a name: nothing about it says what the character means or sounds like. "
        f"Your model has to find that out from the text. “{word}” becomes {count} ids.",
    )  # fmt: skip


def word_of(tokens: Sequence[str], alphabet: Sequence[str]) -> str:
    """Return something to encode: the first word of three to seven letters in a text, else the start of its longest
    word, else its first characters that can be seen, or those of the alphabet if the text has fewer than two."""
    words = "".join(token if is_word(token) else " " for token in tokens).split()
    longest = max(words, key=len, default="")[:WORD]
    seen, known = ("".join([token for token in some if not token.isspace()][:4]) for some in (tokens, alphabet))
    short = [word for word in words if 3 <= len(word) <= WORD]
    return next((one for one in [*short, longest, seen] if len(one) > 1), known)


def place_to_guess(passage: Passage) -> int:
    """Return a place where the model is rather sure, and right: the first one within a word."""
    inside = [
        i for i in range(min(12, len(passage.tokens) - 1), len(passage.tokens))
        if is_word(passage.tokens[i]) and is_word(passage.tokens[i - 1])
    ]  # fmt: skip
    sure = [i for i in inside if 0.3 < passage.bits[i] < 1.8]
    return (sure or inside or [len(passage.tokens) - 1])[0]


def next_character(passage: Passage) -> Step:
    i = place_to_guess(passage)
    own, before = passage.tokens[i], "".join(passage.tokens[max(0, i - 24) : i]).replace("\n", "↵")
    others = [one["token"] for one in passage.likeliest[i] if one["token"] != own][:3]
    choices, right = mixed(quoted(own), [quoted(one) for one in others])
    best, own_share = passage.likeliest[i][0], percent(2 ** -passage.bits[i])
    more = best["token"] != own and percent(best["p"]) != own_share
    instead = f"; it expected {quoted(best['token'])} more, with {percent(best['p'])}" if more else ""
    return Step(
        "next", "What comes next?",
        "The model does one thing only: it reads the characters so far and gives every character of its alphabet a "
        "probability of being next.",
        f"What follows “{before}” in the text?", choices, right,
        "Choose three places in the text to see what the model expected there.",
        f"The text has {quoted(own)}, to which the model gave {own_share}{instead}. "
        "To write, it picks one of the likely characters, appends it to the text, and reads that. It has no plan and "
        "no grammar, only this.",
    )  # fmt: skip


def surprise(opened: Opened, passage: Passage) -> Step:
    loss = kept_loss(opened.run.history())
    own = ""
    if loss is not None:
        own = (
            f" Your model's loss on held-out text is {loss:.2f} nats ({loss / math.log(2):.2f} bits) per character: "
            f"it is as unsure as if it had to choose among {math.exp(loss):.1f} equally likely ones."
        )
    return Step(
        "surprise", "What does an error cost?",
        "A character to which the model gave probability 1/2 costs 1 bit, at 1/4 it costs 2 bits. The surer the "
        "model was of something else, the more it costs.",
        "The model gave the right character probability 1/8. How many bits is that?",
        ("1/8 of a bit", "3 bits", "8 bits"), 1,
        "Find the character that surprised the model most. You have three tries; then the colors show all.",
        "3 bits, because 2 × 2 × 2 = 8. The average cost is called the loss, and training does nothing but reduce "
        f"it.{starts_and_ends(passage)}{own}",
    )  # fmt: skip


def starts_and_ends(passage: Passage) -> str:
    """Return how much more the beginnings of words cost than their ends, or nothing if they don't in this passage."""
    kinds = "".join("w" if is_word(token) else " " for token in passage.tokens)
    words = [found.span() for found in re.finditer("ww+", kinds)]
    if len(words) < 3:
        return ""
    first = sum(passage.bits[start] for start, _ in words) / len(words)
    last = sum(passage.bits[end - 1] for _, end in words) / len(words)
    if first < 2 * last:
        return ""
    return (
        f" Look where the color is: at the beginnings of words, where much is possible. In this text they cost "
        f"{first:.1f} bits on average, and the ends of words {last:.1f}."
    )


def likened(near: list[dict[str, Any]], passage: Passage) -> dict[str, Any]:
    """Return the character to ask about: a vowel of the passage, else another letter of it, with its neighbors."""
    letters = [one for one in near if one["token"].isalpha() and one["token"] in passage.tokens]
    vowels = [one for one in letters if one["token"] in tuple("eaio")]
    return (vowels or letters or near)[0]


def unlike(near: list[dict[str, Any]], one: dict[str, Any]) -> list[str]:
    """Return two characters that aren't near one, letters if possible; in a small alphabet, its last neighbors."""
    close = [one["token"], *(other["token"] for other in one["near"])]
    far = [other["token"] for other in near if other["token"] not in close]
    letters = [token for token in far if token.islower()]
    some = letters if len(letters) > 1 else far if len(far) > 1 else close[-2:]
    return some[len(some) // 3 :: max(1, len(some) // 3)][:2]


def alike(near: list[dict[str, Any]], passage: Passage, learned: bool) -> Step:
    one = likened(near, passage)
    close = [other["token"] for other in one["near"]]
    choices, right = mixed(quoted(close[0]), [quoted(token) for token in unlike(near, one)])
    return Step(
        "alike", "Embeddings: which characters are alike?",
        "The first layer is a table: each id looks up a row of numbers, its embedding. The rows start at random and "
        "are learned. Characters that are used alike get rows that point the same way.",
        f"Which character is most like {quoted(one['token'])} in your model?", choices, right,
        "Choose a few characters to see their nearest neighbors.",
        f"The row nearest to that of {quoted(one['token'])} is {quoted(close[0])}, then "
        f"{', '.join(map(quoted, close[1:3]))}. {LEARNED if learned else NOT_LEARNED}",
    )  # fmt: skip


def place_to_look_from(passage: Passage) -> int:
    """Return a place from which the head looks most clearly at an earlier one."""
    T = len(passage.tokens)
    rows = range(min(T - 1, max(6, T // 3)), T)
    return max(rows, key=lambda i: float(passage.wei[i, :i].max()) if i else 0.0)


def looking_back(passage: Passage) -> Step:
    i = place_to_look_from(passage)
    order = passage.wei[i, : i + 1].argsort(descending=True).tolist()
    name = lambda j: f"{quoted(passage.tokens[j])} {f'{i - j} back' if i > j else '(itself)'}"
    least = [j for j in order[len(order) // 2 :] if passage.tokens[j] != passage.tokens[order[0]]][-2:]
    choices, right = mixed(name(order[0]), [name(j) for j in least])
    before = "".join(passage.tokens[max(0, i - 16) : i + 1]).replace("\n", "↵")
    share = float(passage.wei[i, order[0]])
    says = (
        passage.says
        if passage.says.startswith("looks")
        else "puts " + passage.says.replace("%", "% of its attention", 1)
    )
    return Step(
        "attention", "Attention: look back",
        "So far each character was on its own. In attention, each one looks back at the earlier ones and collects "
        f"what it needs from them. A head decides how much from where. Here is {passage.head}, which {says}.",
        f"From the end of “{before}”, where does this head look most?", choices, right,
        "Choose three characters. The text is shaded by where the head looks from there.",
        f"It puts {share:.0%} of its attention on {name(order[0])}. The shares of a character always add up to 100%. "
        "They are computed from the characters and their positions, so they are different in every text.",
    )  # fmt: skip


def trained_on(opened: Opened) -> str:
    """Return the name of the text that tiny models are trained on."""
    return "your text" if opened.corpus_id else "Python's reference manual (your model's text isn't here)"


def looking_ahead(opened: Opened) -> Step:
    return Step(
        "mask", "The mask: no looking ahead",
        "Each character may look at the ones before it, never at those after it. The causal mask sees to that: it "
        "sets the attention to what lies ahead to zero. What if we leave it out?",
        "Two tiny models train on the same text, one of them without the mask. What happens to its loss?",
        ("It stays about the same", "It gets worse", "It falls nearly to zero"), 2,
        f"Train both, on {trained_on(opened)}. It usually takes less than a minute.",
        "",  # with what the two models did
    )  # fmt: skip


def two_parts() -> Step:
    return Step(
        "parts", "Gather, then compute",
        "A block has two parts. Attention gathers from other characters; the feed-forward layer then computes with "
        "what was gathered, for each character alone. Each adds its result to what flows past.",
        "We switch all attention off. What will the model write?",
        ("Words, but no sentences", "Letters, but hardly a word", "The same text as before"), 1,
        "Switch one of them off and read. Then try the other.",
        "Letters: without attention, a character knows only itself, so a model can't even know how far into a word "
        "it is. Without the feed-forward layers it can still look back, but does little with what it finds.",
    )  # fmt: skip


def training(opened: Opened) -> Step:
    size = tiny.alphabet(opened)
    return Step(
        "training", "Training: a little better, many times",
        "Training is a few lines of PyTorch, again and again: compute the loss, find out for each weight in which "
        "direction the loss falls (`loss.backward()`), and move it a little that way (`optimizer.step()`).",
        f"A tiny model will learn {trained_on(opened)}. If it finds all {size} characters of its alphabet equally "
        "likely before the first step, what is its loss?",
        ("0 nats", f"about {math.log(size):.1f} nats", f"about {size} nats"), 1,
        "Train it yourself: one step, then ten, then a hundred.",
        f"The natural logarithm of {size}: {math.log(size):.2f}. So you can check a new model before you train it: its "
        "loss is near that, usually a little more, because its first guesses aren't quite even. A single "
        "step changes each weight by a few thousandths at most; the loss jumps because each batch is another piece of "
        "text, but it falls.",
    )  # fmt: skip


def adamw(opened: Opened) -> Step:
    return Step(
        "adamw", "AdamW: a step of its own for each weight",
        "Plain gradient descent (SGD) moves a weight by learning rate × gradient. AdamW keeps two running averages "
        "for each weight: m of its gradient, and v of the gradient's square. It moves the weight by −learning rate × "
        f"m / √v, with a learning rate of {tiny.RATE} here. Both averages begin at 0; m and v are corrected for that.",
        "Weight A has gradients ten times as large as weight B. How far does AdamW move A?",
        ("Ten times as far as B", "About as far as B", "A tenth as far as B"), 1,
        f"Train the same tiny model with both, on {trained_on(opened)}, and follow two of its weights.",
        "",  # with what was measured
    )  # fmt: skip


def dice() -> Step:
    return Step(
        "dice", "Sampling: rolling dice",
        "The model only gives probabilities; the next character is drawn with loaded dice. At temperature 1, the dice "
        "follow the model. Below 1, they favor the likely characters more; above 1, all become more alike.",
        "At temperature 0, you let the model write twice, with different dice (seeds). Do the texts differ?",
        ("No, they are the same", "Only in a few places", "Yes, completely"), 0,
        "Write at temperature 0, then at two others.",
        "At 0 the likeliest character always wins, so no dice are rolled, and soon the text repeats itself. At 2 "
        "almost anything goes. The model is the same each time. Most people like 0.7 to 1.",
    )  # fmt: skip


# ---- answers that need what the reader measured ----------------------------------------------------------------------


def mask_words(last: dict[str, Any]) -> str:
    """Return the answer of the step on the mask, from the last event of `tiny.mask`."""
    ours, cheat = last["with"], last["without"]
    return (
        f"On held-out text the model without the mask has a loss of {cheat['held_out']:.2f}, the other one "
        f"{ours['held_out']:.2f}. It has learned nothing about the language: the answer is the next character, "
        "so it looks there and copies it. When it writes, nothing is there yet, and its loss is "
        f"{cheat['writing']:.2f} instead of {ours['writing']:.2f}. Read what both write. A loss that is too good "
        "usually means that a model has seen the answers."
    )


def adamw_words(last: dict[str, Any]) -> str:
    """Return the answer of the step on AdamW, from the last event of `tiny.adamw`."""
    one, other = last["weights"]
    a, b = one["typical"], other["typical"]
    times = lambda key: f"{a[key] / b[key]:.1f}" if b[key] else "many"
    share = lambda one: f"{one['share']:.{0 if one['share'] >= 1 else 2}f}% of the text"
    end = lambda key: sum(last[key][-20:]) / len(last[key][-20:])
    return (
        f"Weight A is in the embedding of {quoted(one['character'])}, which is {share(one)}, B in that of "
        f"{quoted(other['character'])}, which is {share(other)}. A's gradients are {times('gradient')} times as large, "
        f"but AdamW moves it {times('adamw')} times as far; SGD, {times('sgd')} times. The division by √v cancels the "
        f"size, so that rare characters are learned, too. After {len(last['adamw']) - 1} steps the loss is "
        f"{end('adamw'):.2f} with AdamW and {end('sgd'):.2f} with SGD at the best of three learning rates "
        f"({last['rate']:g}). The W stands for weight decay: each step also shrinks the weights a little."
    )
