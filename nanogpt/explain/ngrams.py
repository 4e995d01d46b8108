"""N-gram models of characters: interpolated modified Kneser-Ney (Chen & Goodman, 1999), counted with NumPy.

An n-gram model predicts a character from the n - 1 before it, by how often each has followed them in the training set.
Contexts that it has seldom seen borrow from shorter ones. Each n-gram gets a number, its rank among all that occur,
so that counting is `np.bincount`, whatever the length of the n-gram and the size of the alphabet.
"""

from __future__ import annotations

import numpy as np


def kneser_ney(tokens: np.ndarray, n: int, vocab_size: int, orders: tuple[int, ...]) -> dict[int, np.ndarray]:
    """Return {order: probability that a model of that order gives each of `tokens[n + 1 :]`, (N - n - 1,)}.

    The counts are from `tokens[:n]`, the training set. The first token of the validation set is only ever context, as
    it is for the model. An order too long for the training set equals the longest that isn't.
    """
    longest = max(orders)
    inner = np.full(len(tokens) - n - 1, 1 / vocab_size)  # before anything is counted, all are equally likely
    found = dict.fromkeys(orders, inner)
    shorter, known = np.zeros(len(tokens) + 1, dtype=np.int32), 1  # (N + 1,) the empty n-gram at every place
    grams, count = numbered(shorter, known, tokens, vocab_size)  # (N,) the single characters
    for k in range(1, min(longest, n) + 1):  # the k-gram grams[i] starts at i, as does its context, shorter[i]
        scored = slice(n + 2 - k, None) if n + 2 > k else slice(0, None)
        context = np.zeros(count, dtype=np.int32)
        context[grams] = shorter[: len(grams)]
        own, held = grams[: n - k + 1], (grams[scored], shorter[scored][: len(grams[scored])])
        p = interpolated(np.bincount(own, minlength=count), context, known, held, inner)
        found |= {order: p for order in orders if order >= k}
        if k < longest:
            longer, more = numbered(grams, count, tokens[k:], vocab_size)
            inner = interpolated(preceded(longer[: n - k], more, grams, count), context, known, held, inner)
            shorter, known, grams, count = grams, count, longer, more
    return found


def numbered(contexts: np.ndarray, known: int, tokens: np.ndarray, vocab_size: int) -> tuple[np.ndarray, int]:
    """Number the n-grams that end with `tokens` (M,), given the numbers of what stands before, from 0 to `known` - 1.

    Return the numbers (M,), equal for equal n-grams, and how many different ones there are.
    """
    keys = contexts[: len(tokens)].astype(np.int64) * vocab_size + tokens  # (M,)
    order = np.argsort(keys)
    keys = keys[order]
    steps = np.zeros(len(keys), dtype=np.int32)
    np.cumsum(keys[1:] != keys[:-1], out=steps[1:])
    numbers = np.empty_like(steps)
    numbers[order] = steps
    return numbers, int(steps[-1]) + 1 if len(steps) else 0


def preceded(longer: np.ndarray, more: int, grams: np.ndarray, count: int) -> np.ndarray:
    """Return by how many different characters each n-gram is preceded, (count,).

    `longer` are the n-grams of the training set that are one character longer, by where they start. Kneser and Ney's
    idea: "Francisco" is frequent, but it says little about other contexts, because it only ever follows "San".
    """
    somewhere = np.full(more, -1, dtype=np.int64)
    somewhere[longer] = np.arange(len(longer))  # one of the places where each different one stands
    return np.bincount(grams[somewhere[somewhere >= 0] + 1], minlength=count)


def interpolated(
    counts: np.ndarray, context: np.ndarray, known: int, held: tuple[np.ndarray, np.ndarray], inner: np.ndarray
) -> np.ndarray:
    """Return the probabilities (M,) of the n-grams `held[0]` (M,) in the contexts `held[1]` (M,).

    A part of each of the `counts` (G,) is given up, and `inner` (M,), the probability from the next shorter context,
    decides who gets it. `context` (G,) is the context that each n-gram extends, from 0 to `known` - 1.
    """
    discount = discounts(counts)[np.minimum(counts, 3)]  # (G,)
    total = np.bincount(context, weights=counts, minlength=known)  # (known,)
    given = np.bincount(context, weights=discount, minlength=known)
    grams, contexts = held
    seen = total[contexts]
    kept = counts[grams] - discount[grams] + given[contexts] * inner
    return np.divide(kept, seen, out=inner.copy(), where=seen > 0)  # in a context never seen, `inner` itself


def discounts(counts: np.ndarray) -> np.ndarray:
    """Return how much to give up of a count of 0, 1, 2, and 3 or more, (4,), estimated from the counts of counts.

    Short texts have too few of them for an estimate. Then, half of the usual range is given up.
    """
    n1, n2, n3, n4 = (int((counts == i).sum()) for i in (1, 2, 3, 4))
    if not (n1 and n2 and n3 and n4):
        return np.array([0.0, 0.5, 0.75, 1.0])
    y = n1 / (n1 + 2 * n2)
    estimate = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    return np.clip(estimate, [0.0, 0.1, 0.1, 0.1], [0.0, 1.0, 2.0, 3.0])  # something is left for what was never seen
