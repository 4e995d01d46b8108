"""Tokenizers: text to ids and back. Every unique character of the text is one token, as in the lecture.

    stoi = {ch: i}, itos = {i: ch}, encode: text -> ids, decode: ids -> text

`Tokenizer` is the interface that the rest of the package uses. To add a tokenizer, write a class like `CharTokenizer`
and return it from `make_tokenizer` and `load_tokenizer`; no other file names a tokenizer class. A run folder stores it
as `tokenizer.json` in the format of Hugging Face's tokenizers, so that `AutoTokenizer` loads it and produces the same
ids. Try it: `python -m nanogpt.tokenizer FILE`.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from . import disk
from .config import NanoGPTError

# Typographic characters and the ASCII characters that look like them.
LOOKALIKES = dict(zip("‘’‚‛′`´“”„‟″«»‐‑‒–—―−…\u00a0\u2009\u202f·•×", "'''''''\"\"\"\"\"\"\"-------. \u0020\u0020..x"))
LOOKALIKES["\t"] = " "
NAMED = 10  # changed characters, at most, that a message names: a prompt may have thousands
PIECE = 1 << 18  # characters that encode_array processes at a time, so that temporary arrays stay in the CPU cache


@dataclass(frozen=True)
class Fitted:
    """A prompt written in the model's alphabet, and which characters were changed."""

    text: str
    replaced: dict[str, str]  # unknown character -> its replacement, "" if it was skipped

    def __str__(self) -> str:
        """Return a sentence that says what was changed, or "" if nothing was."""
        swaps = [f"{_shown(a)} → {_shown(b)}" for a, b in self.replaced.items() if b]
        drops = [_shown(a) for a, b in self.replaced.items() if not b]
        parts = [f"replaced {_first(swaps, ', ')}"] if swaps else []
        parts += [f"skipped {_first(drops, ' ')}"] if drops else []
        return f"Not in this model's alphabet: {'; '.join(parts)}." if parts else ""


class Tokenizer(Protocol):
    """The interface of a tokenizer. Each token is a string of one or more characters."""

    stoi: dict[str, int]  # token -> id
    itos: dict[int, str]  # id -> token; decoding joins them
    vocab_size: int
    chars: list[str]  # the alphabet: every character that occurs in a token, sorted

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text. Raise NanoGPTError, naming the character, if one isn't in the alphabet."""

    def encode_array(self, text: str) -> np.ndarray:
        """Return the ids of a long text as an array (N,) of the smallest unsigned dtype. Raise as `encode` does."""

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of some ids."""

    def fit(self, text: str) -> Fitted:
        """Return a prompt in the alphabet: replace unknown characters by the nearest known ones, or skip them."""

    def files(self, model_max_length: int) -> dict[str, str]:
        """Return the tokenizer as {file name: text}, in the format of Hugging Face's tokenizers."""


def make_tokenizer(text: str) -> Tokenizer:
    """Return the tokenizer for a text."""
    return CharTokenizer(text)


def load_tokenizer(folder: Path, content: bytes | None = None) -> Tokenizer:
    """Load the tokenizer of a run folder from `tokenizer.json`, or from its `content` if it has already been read.

    Raise NanoGPTError if it is missing or unreadable.
    """
    return CharTokenizer.load(folder, content)


def token_lengths(tokenizer: Tokenizer) -> np.ndarray:
    """Return the number of characters in each token, (vocab_size,), to convert losses per token to per character."""
    return np.array([len(tokenizer.itos[i]) for i in range(tokenizer.vocab_size)], dtype=np.int32)


def unit(tokenizer: Tokenizer) -> str:
    """Return the word for one token in messages: "character" if every token is one character, else "token"."""
    return "character" if all(len(token) == 1 for token in tokenizer.stoi) else "token"


class CharTokenizer:
    """A tokenizer with one token per unique character of a text, in sorted order."""

    def __init__(self, chars: Iterable[str]):
        self.chars = sorted(set(chars))
        self.stoi = {ch: i for i, ch in enumerate(self.chars)}
        self.itos = dict(enumerate(self.chars))
        self.vocab_size = len(self.chars)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text. Raise NanoGPTError, naming the character, if one isn't in the alphabet."""
        try:
            return [self.stoi[ch] for ch in text]
        except KeyError as unknown:
            raise NanoGPTError(f"The character {_shown(unknown.args[0])} is not in this model's alphabet.") from None

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of some ids."""
        return "".join([self.itos[int(i)] for i in ids])

    def encode_array(self, text: str) -> np.ndarray:
        """Return the ids as `encode` does, but as an array (N,) of the smallest unsigned dtype, and much faster."""
        table = np.full(0x110000, -1, dtype=np.int32)  # code point -> id; a table is 20 times as fast as searchsorted
        table[[ord(ch) for ch in self.chars]] = range(self.vocab_size)
        small = np.uint8 if self.vocab_size <= 256 else np.uint16 if self.vocab_size <= 65536 else np.uint32
        ids = np.empty(len(text), dtype=small)
        for start in range(0, len(text), PIECE):
            # surrogatepass: pasted text may contain unpaired surrogates, which are unknown characters like any other
            points = np.frombuffer(text[start : start + PIECE].encode("utf-32-le", "surrogatepass"), dtype="<u4")
            found = table[points]
            if found.min() < 0:
                raise NanoGPTError(
                    f"The character {_shown(chr(points[found < 0][0]))} is not in this model's alphabet."
                )
            ids[start : start + PIECE] = found
        return ids

    def fit(self, text: str) -> Fitted:
        """Return `text` in this alphabet: replace unknown characters by the nearest known ones, or skip them.

        First compose letters and their accents, as macOS separates them in file names, if more are known then.
        """
        unknown = lambda text: sum(ch not in self.stoi for ch in text)
        if not set(text) <= self.stoi.keys() and unknown(composed := unicodedata.normalize("NFC", text)) < unknown(
            text
        ):
            text = composed
        replaced = {ch: self._nearest(ch) for ch in dict.fromkeys(text) if ch not in self.stoi}
        return Fitted("".join([replaced.get(ch, ch) for ch in text]), replaced)

    def _nearest(self, ch: str) -> str:
        decomposed = unicodedata.normalize("NFKD", ch)
        bare = "".join(c for c in decomposed if not unicodedata.combining(c))
        look = LOOKALIKES.get(ch, "")
        swapped = ch.swapcase() if len(ch.swapcase()) == 1 else ch.casefold()  # ß is written ss, not SS
        for guess in (swapped, look, unicodedata.normalize("NFKC", ch), decomposed, bare, bare.swapcase()):
            if guess and all(c in self.stoi for c in guess):
                return guess
        return ""

    def files(self, model_max_length: int) -> dict[str, str]:
        """Return the alphabet as {file name: text}, in Hugging Face's tokenizers format (a BPE without merges)."""
        model: dict[str, Any] = dict(
            type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None,
            fuse_unk=False, byte_fallback=False, ignore_merges=False, vocab=self.stoi, merges=[],
        )  # fmt: skip
        tokenizer: dict[str, Any] = dict(
            version="1.0", truncation=None, padding=None, added_tokens=[], normalizer=None, pre_tokenizer=None,
            post_processor=None, decoder={"type": "Fuse"}, model=model,
        )  # fmt: skip
        config = dict(
            tokenizer_class="PreTrainedTokenizerFast",
            clean_up_tokenization_spaces=False,
            model_input_names=["input_ids", "attention_mask"],  # not token types, which GPT-2 would add to its input
            model_max_length=model_max_length,
        )
        return {
            "tokenizer.json": json.dumps(tokenizer, ensure_ascii=False, indent=1),
            "tokenizer_config.json": json.dumps(config, indent=1),
        }

    @classmethod
    def load(cls, folder: Path, content: bytes | None = None) -> CharTokenizer:
        """Load `tokenizer.json`, or its `content` if it has already been read.

        Raise NanoGPTError if it is missing, unreadable, or not character-level.
        """
        try:
            data = disk.read(folder / "tokenizer.json") if content is None else content
            vocab = disk.from_json(data)["model"]["vocab"]
            tokenizer = cls(vocab)
        except (OSError, ValueError, KeyError, TypeError):
            raise NanoGPTError(
                f"{folder.name} has no readable tokenizer.json. Restore the file to use the model."
            ) from None
        if tokenizer.stoi != vocab or any(len(ch) != 1 for ch in vocab):
            raise NanoGPTError(f"The tokenizer.json of {folder.name} is not an alphabet of single characters.")
        return tokenizer


def _first(words: list[str], between: str) -> str:
    """Return the first NAMED words, and how many there are more."""
    more = len(words) - NAMED
    return between.join(words[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _shown(ch: str) -> str:
    """Return a character as shown in messages: itself if it is visible, else its name or code point."""
    if ch.isprintable() and not ch.isspace():
        return ch
    return {"\n": "newline", "\t": "tab", " ": "space", "\r": "carriage return"}.get(ch, f"U+{ord(ch):04X}")


if __name__ == "__main__":
    from .demo import text_of_argument

    with text_of_argument() as text:
        tokenizer = make_tokenizer(text)
        print(tokenizer.vocab_size, f"{unit(tokenizer)}s:", "".join(tokenizer.chars))
        print(tokenizer.encode("".join(tokenizer.chars[-5:])))
