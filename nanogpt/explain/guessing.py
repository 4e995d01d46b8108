"""Beat your model: a person guesses held-out text character by character, and both are scored in bits per character.

This is Shannon's game ("Prediction and Entropy of Printed English", 1951). What counts is how often the first guess is
right, how often the second, and so on: a program that knew your guesses would only have to store which of them was
right. Its bits are yours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ..config import NanoGPTError
from . import characters
from .opened import Opened

HIDDEN = 30  # characters to guess
CONTEXT = 160  # characters shown before them
TRIES = 3  # guesses per character


@dataclass(frozen=True)
class Game:
    """A game: the text from the context to the last hidden character, and how far it is."""

    text: str
    hidden: int  # how many characters at its end are to be guessed
    ranks: tuple[int, ...] = ()  # of each guessed character: the number of the right guess, or TRIES + 1 if none was
    wrong: tuple[str, ...] = ()  # wrong guesses for the current character
    model_bits: tuple[float, ...] = ()  # what each guessed character cost the model

    @property
    def place(self) -> int:
        """Return the index in `text` of the character to guess."""
        return len(self.text) - self.hidden + len(self.ranks)

    @property
    def over(self) -> bool:
        """Return True if every hidden character has been guessed or shown."""
        return len(self.ranks) == self.hidden


def new_game(opened: Opened, seed: int) -> Game:
    """Choose a passage of held-out text. Raise NanoGPTError if the text isn't here or is too short."""
    text = opened.held_out_text()
    if text is None:
        raise NanoGPTError("The text of this model isn't here. Guessing needs a part of it that the model hasn't seen.")
    length = CONTEXT + HIDDEN
    if len(text) < length:
        raise NanoGPTError(f"The held-out text has only {len(text):,} characters. A game needs {length}.")
    start = int(np.random.default_rng(seed).integers(len(text) - length + 1))
    return Game(text[start : start + length], HIDDEN)


def guess(game: Game, letter: str, opened: Opened) -> Game:
    """Return the game after a guess. After a right one, or the last wrong one, the next character is to be guessed.

    Raise NanoGPTError if the game is over, or if the guess isn't one character that hasn't been tried here.
    """
    if game.over:
        raise NanoGPTError("This game is over. Start a new one.")
    if len(letter) != 1:
        raise NanoGPTError("Guess one character. For a line break, press Enter in the empty field.")
    if letter in game.wrong:
        raise NanoGPTError(f"You have tried {letter!r} here already. Guess another character.")
    right = game.text[game.place]
    if letter != right and len(game.wrong) + 1 < TRIES:
        return replace(game, wrong=(*game.wrong, letter))
    rank = len(game.wrong) + 1 if letter == right else TRIES + 1
    bits = float(characters.read(opened.model, opened.tokenizer, game.text[: game.place + 1]).bits[-1])
    return replace(game, ranks=(*game.ranks, rank), wrong=(), model_bits=(*game.model_bits, bits))


def player_bits(ranks: tuple[int, ...], vocab_size: int) -> float:
    """Return your bits per character: what it costs to store which of your guesses was right, each time.

    The code learns how often each guess is right as it goes (Laplace's rule: as if each outcome had been seen once
    before). Where no guess was right, the character is stored, too, one of those you didn't name.
    """
    seen, total = [1] * (TRIES + 1), 0.0
    for rank in ranks:
        total -= math.log2(seen[rank - 1] / sum(seen))
        total += math.log2(max(1, vocab_size - TRIES)) if rank > TRIES else 0.0
        seen[rank - 1] += 1
    return total / len(ranks) if ranks else 0.0


def result(game: Game, vocab_size: int) -> str:
    """Return how a game stands or has ended, in a sentence."""
    if not game.ranks:
        return ""
    yours, models = player_bits(game.ranks, vocab_size), sum(game.model_bits) / len(game.model_bits)
    first = sum(rank == 1 for rank in game.ranks)
    right = f"{first} of {len(game.ranks)} right on the first guess"
    scores = f"You: {yours:.2f} bits per character, {right}. The model: {models:.2f}."
    if not game.over:
        return scores
    return f"{scores} " + ("You beat your model." if yours < models else "Your model beats you. Try another passage?")
