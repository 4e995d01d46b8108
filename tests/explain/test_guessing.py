"""The guessing game: its rules, and scores computed by hand."""

from __future__ import annotations

import math

import pytest
from conftest import CLASSIC, ended_run

from nanogpt import corpus
from nanogpt.config import NanoGPTError
from nanogpt.explain import characters, guessing
from nanogpt.explain.guessing import Game, guess, new_game, player_bits
from nanogpt.explain.opened import open_run


@pytest.fixture
def one(home, tiny_text):
    return open_run(ended_run(corpus.add(tiny_text, "A play"), "one", **CLASSIC))


def test_a_passage_is_held_out_and_the_same_for_a_seed(one):
    game = new_game(one, 7)
    assert game.text in one.held_out_text()
    assert len(game.text) == guessing.CONTEXT + guessing.HIDDEN
    assert game.place == guessing.CONTEXT
    assert new_game(one, 7) == game


def test_right_and_wrong_guesses(one):
    game = new_game(one, 7)
    right = game.text[game.place]
    other = [ch for ch in "abcdef" if ch != right][:3]
    after = guess(game, right, one)
    assert after.ranks == (1,)
    assert after.place == game.place + 1
    wrong = guess(guess(game, other[0], one), other[1], one)
    assert wrong.ranks == ()
    assert wrong.wrong == (other[0], other[1])
    assert guess(wrong, right, one).ranks == (3,)
    missed = guess(wrong, other[2], one)
    assert missed.ranks == (4,)
    assert missed.wrong == ()
    bits = characters.read(one.model, one.tokenizer, game.text).bits[game.place]
    assert after.model_bits == pytest.approx((bits,), abs=1e-4)


def test_a_guess_that_is_none_is_refused_and_costs_nothing(one):
    game = guess(new_game(one, 7), "~", one)
    for letter, why in (("", "Guess one character"), ("ab", "Guess one character"), ("~", "You have tried '~'")):
        with pytest.raises(NanoGPTError, match=why):
            guess(game, letter, one)


def test_a_game_ends(one):
    game = new_game(one, 7)
    while not game.over:
        game = guess(game, game.text[game.place], one)
    assert game.ranks == (1,) * guessing.HIDDEN
    assert guessing.result(game, 40).endswith("You beat your model.")
    with pytest.raises(NanoGPTError, match="This game is over"):
        guess(game, "a", one)


def test_bits_by_hand():
    assert player_bits((), 40) == 0.0
    assert player_bits((1,), 40) == pytest.approx(2.0)  # four outcomes, as likely
    assert player_bits((1, 1), 40) == pytest.approx((2 - math.log2(2 / 5)) / 2)
    assert player_bits((4,), 40) == pytest.approx(2 + math.log2(37))
    assert player_bits((1,) * 1000, 40) < 0.03


def test_a_result_says_who_is_ahead():
    game = Game("x" * 40, 2, ranks=(1, 4), model_bits=(1.0, 2.0))
    # (2 + log2(5) + log2(37)) / 2
    scores = "You: 4.77 bits per character, 1 of 2 right on the first guess. The model: 1.50."
    assert guessing.result(game, 40) == f"{scores} Your model beats you. Try another passage?"
    assert guessing.result(Game("x" * 40, 30), 40) == ""


def test_without_held_out_text_it_says_so(one):
    with pytest.raises(NanoGPTError, match="isn't here"):
        new_game(open_run(one.run, may_read_text=False), 0)
