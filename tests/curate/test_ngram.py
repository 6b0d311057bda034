import collections
import itertools

import numpy as np
import pytest

from jaxml.curate import ngram
from jaxml.curate import words as words_

CORPUS = [
    [0, 1, 2, 0, 1],
    [0, 1],
    [2, 2, 2, 2],
    [],
    [3, 0, 1, 2, 0, 1, 4],
    [1, 0, 1, 2],
    [0, 3, 2, 4],
]


class Slow:
    """The formulas once more, with dictionaries of tuples."""

    def __init__(self, corpus, order, vocab_size):
        self.order, self.v = order, vocab_size
        rows = [["<s>", *row, "</s>"] for row in corpus]
        raw = [collections.Counter() for _ in range(order + 1)]
        for row in rows:
            for n in range(1, order + 1):
                raw[n].update(tuple(row[i : i + n]) for i in range(len(row) - n + 1))
        self.c = [None] * (order + 1)
        self.c[order] = dict(raw[order])
        for n in range(1, order):
            left = collections.defaultdict(set)
            for gram in raw[n + 1]:
                left[gram[1:]].add(gram[0])
            self.c[n] = {g: raw[n][g] if g[0] == "<s>" else len(left[g]) for g in raw[n]}
        self.c[1] = {g: k for g, k in self.c[1].items() if g != ("<s>",)}
        self.d = [None] * (order + 1)
        for n in range(1, order + 1):
            k = collections.Counter(self.c[n].values())
            if all(k[i] for i in (1, 2, 3, 4)):
                y = k[1] / (k[1] + 2 * k[2])
                self.d[n] = [
                    0,
                    1 - 2 * y * k[2] / k[1],
                    2 - 3 * y * k[3] / k[2],
                    3 - 4 * y * k[4] / k[3],
                ]
                self.d[n] = [min(max(d, 0), i) for i, d in enumerate(self.d[n])]
            else:
                self.d[n] = [0, 0.5, 1.0, 1.5]

    def p(self, word, history):
        history = tuple(history)[-(self.order - 1) :] if self.order > 1 else ()
        n = len(history) + 1
        below = self.p(word, history[1:]) if history else 1 / (self.v + 1)
        followers = {g[-1]: k for g, k in self.c[n].items() if g[:-1] == history}
        total = sum(followers.values())
        if not total:
            return below
        gamma = sum(self.d[n][min(k, 3)] for k in followers.values()) / total
        count = followers.get(word, 0)
        return max(count - self.d[n][min(count, 3)], 0) / total + gamma * below


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_are_those_of_the_formulas(order):
    lm = ngram.fit([np.array(row, int) for row in CORPUS], order, vocab_size=6)
    slow = Slow(CORPUS, order, 6)
    test = [[0, 1, 2, 4], [5, 5, 0], [], [2, 2, 2], [3, 0, 1, 2, 0, 1, 4]]
    logs, owner = ngram.token_log10(lm, [np.array(row, int) for row in test])
    want, rows = [], []
    for i, row in enumerate(test):
        full = ["<s>", *row, "</s>"]
        for j in range(1, len(full)):
            want.append(np.log10(slow.p(full[j], full[:j])))
            rows.append(i)
    np.testing.assert_allclose(logs, want, rtol=1e-12)
    assert owner.tolist() == rows


def test_probabilities_sum_to_one_for_every_context():
    lm = ngram.fit([np.array(row, int) for row in CORPUS], 3, vocab_size=6)
    for history in itertools.chain(
        [()], itertools.product(range(6), repeat=1), itertools.product(range(6), repeat=2)
    ):
        logs, owner = ngram.token_log10(lm, [np.array([*history, w], int) for w in range(6)])
        at = np.array([np.flatnonzero(owner == i)[len(history)] for i in range(6)])
        end, _ = ngram.token_log10(lm, [np.array(history, int)])
        assert np.sum(10 ** logs[at]) + 10 ** end[-1] == pytest.approx(1, abs=1e-12)


def test_discounts_from_counts_of_counts():
    rng = np.random.default_rng(0)
    rows = [rng.zipf(1.5, 40).clip(max=200) - 1 for _ in range(200)]
    lm = ngram.fit(rows, 3, vocab_size=200)
    assert all(level.discounts != (0.5, 1.0, 1.5) for level in lm.levels)
    assert all(0 < a < b < c < 3 for a, b, c in (level.discounts for level in lm.levels))
    slow = Slow([row.tolist() for row in rows], 3, 200)
    for n, level in enumerate(lm.levels, 2):
        np.testing.assert_allclose(level.discounts, slow.d[n][1:], rtol=1e-12)


def test_perplexity_by_hand_and_by_document():
    lm = ngram.fit([np.array([0]), np.array([1])], 1, vocab_size=2)
    # counts 1, 1 and 2 of the end; D = .5, .5, 1 of 4; the rest (2 / 4) spread over 3
    p_word, p_end = 0.5 / 4 + 2 / 4 / 3, 1 / 4 + 2 / 4 / 3
    want = (p_word * p_end) ** -0.5
    np.testing.assert_allclose(ngram.perplexity(lm, [np.array([0])]), [want])
    both = ngram.document_perplexity(lm, [[np.array([0]), np.array([0])], []])
    np.testing.assert_allclose(both, [want, np.inf])


def test_buckets_are_percentiles():
    got = ngram.buckets(np.arange(100.0)[::-1])
    assert np.bincount(got).tolist() == [30, 30, 40]
    assert got[0] == 2


def test_vocabulary_and_lines():
    words = words_.vocabulary(["b a a", "a c b"], 3)
    assert words == {"a": 1, "b": 2}
    assert [line.tolist() for line in words_.encode("a c\n\nb", words)] == [[1, 0], [2]]


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="order must be >= 1; got order=0"):
        ngram.fit([np.array([1])], 0)
    with pytest.raises(ValueError, match="at least one sequence"):
        ngram.fit([])
    with pytest.raises(ValueError, match="got 0 to 3, vocab_size=2"):
        ngram.fit([np.array([0, 3])], 2, vocab_size=2)
    with pytest.raises(ValueError, match="middle must lie in"):
        ngram.buckets(np.ones(3), 60, 30)
