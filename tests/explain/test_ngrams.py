"""Test the n-gram models against a plain implementation with dictionaries."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from nanogpt.explain.ngrams import discounts, kneser_ney
from nanogpt.holdout import train_length


def ids_of(text: str) -> tuple[np.ndarray, int]:
    alphabet = sorted(set(text))
    return np.array([alphabet.index(ch) for ch in text], dtype=np.uint8), len(alphabet)


class Plain:
    """Interpolated modified Kneser-Ney as in the paper: one dictionary per order, one probability at a time."""

    def __init__(self, train: list[int], order: int, vocab_size: int):
        self.order, self.vocab_size = order, vocab_size
        grams = lambda k: [tuple(train[i : i + k]) for i in range(len(train) - k + 1)]
        self.counts = {k: Counter(gram[1:] for gram in set(grams(k + 1))) for k in range(1, order)}
        self.counts[order] = Counter(grams(order))
        self.discount = {k: discounts(np.array(list(count.values()))) for k, count in self.counts.items()}
        self.followers = {k: defaultdict(dict) for k in self.counts}
        for k, count in self.counts.items():
            for gram, times in count.items():
                self.followers[k][gram[:-1]][gram[-1]] = times

    def p(self, context: tuple[int, ...], token: int) -> float:
        k = len(context) + 1
        inner = self.p(context[1:], token) if context else 1 / self.vocab_size
        after = self.followers[k].get(context, {})
        if not after:
            return inner
        give = lambda times: self.discount[k][min(times, 3)]
        own = after.get(token, 0)
        given = sum(map(give, after.values()))
        return (own - give(own) + given * inner) / sum(after.values())


@pytest.mark.parametrize("order", [1, 2, 3, 5, 7])
def test_each_probability_is_that_of_the_plain_implementation(tiny_text, order):
    tokens, vocab_size = ids_of(tiny_text)
    n = train_length(len(tokens))
    plain = Plain(tokens[:n].tolist(), order, vocab_size)
    expected = [plain.p(tuple(tokens[i - order + 1 : i].tolist()), int(tokens[i])) for i in range(n + 1, len(tokens))]
    found = kneser_ney(tokens, n, vocab_size, (order,))
    assert found[order] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("context", ["The mil", "The mi\n", "zzzzzzz"], ids=["seen", "seen at its end", "unseen"])
@pytest.mark.parametrize("order", [2, 5, 7])
def test_the_probabilities_of_the_whole_alphabet_sum_to_one(tiny_text, context, order):
    train, alphabet = tiny_text[:3000], sorted({*tiny_text, "z", "ß"})  # of which the last occurs nowhere
    p = []
    for ch in alphabet:
        tokens = np.array([alphabet.index(c) for c in train + context + ch])
        p.append(kneser_ney(tokens, len(train), len(alphabet), (order,))[order][-1])
    assert sum(p) == pytest.approx(1, abs=1e-12)
    assert min(p) > 0


def test_orders_can_be_computed_together(tiny_text):
    tokens, vocab_size = ids_of(tiny_text)
    n = train_length(len(tokens))
    together = kneser_ney(tokens, n, vocab_size, (2, 5, 7))
    for order, p in together.items():
        assert p == pytest.approx(kneser_ney(tokens, n, vocab_size, (order,))[order], rel=1e-12)


def test_large_alphabets_need_no_more_than_numbers_of_64_bits():
    generator = np.random.default_rng(1)
    points = generator.zipf(1.2, 40_000) % 5000  # (N,) 13 bits per character, 91 per 7-gram
    n = 36_000
    plain = Plain(points[:n].tolist(), 7, 5000)
    found = kneser_ney(points, n, 5000, (7,))[7]
    for i in range(0, 4000 - 1, 97):
        at = n + 1 + i
        assert found[i] == pytest.approx(plain.p(tuple(points[at - 6 : at].tolist()), int(points[at])), rel=1e-9)


def test_a_training_set_shorter_than_the_n_gram_is_no_error():
    found = kneser_ney(np.array([0, 1, 0, 1, 1, 0]), 3, 2, (2, 5, 7))
    assert all(p.shape == (2,) and (p > 0).all() and (p < 1).all() for p in found.values())
