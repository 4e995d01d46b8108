"""Test the split into training and validation set, in characters and in tokens."""

from __future__ import annotations

import numpy as np
import pytest

from nanogpt.holdout import epochs, train_length, train_tokens


@pytest.mark.parametrize("n", [0, 1, 9, 10, 11, 124, 1_115_394])
def test_nine_tenths_are_the_training_set(n):
    assert train_length(n) == int(0.9 * n)  # as in the lecture


@pytest.mark.parametrize("n", [10, 11, 124, 999])
def test_where_a_token_is_a_character_the_split_is_that_of_the_characters(n):
    assert train_tokens(np.zeros(n, dtype=np.uint8), np.ones(1, dtype=np.int64)) == train_length(n)


def test_tokens_of_any_length_are_split_where_nine_tenths_of_the_characters_end():
    lengths = np.array([1, 2, 7])
    tokens = np.array([2, 2, 2, 2, 2, 0, 1, 1, 2, 0])  # 48 characters: 43.2, so 43, are in the training set
    assert lengths[tokens].sum() == 48
    cut = train_tokens(tokens, lengths)
    assert lengths[tokens[:cut]].sum() == 40  # the next token ends at 47, in the validation set
    assert train_tokens(np.array([2] * 9 + [0] * 7), lengths) == 9  # ends right at the cut


def test_epochs_are_counted_by_the_training_set():
    assert epochs(1800, 1000) == 2.0
    assert epochs(450, 1000) == 0.5
    assert epochs(0, 1) == 0.0
