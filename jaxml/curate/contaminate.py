"""Test examples inside training text: n-grams of the tests, found in documents."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxml.core import check
from jaxml.curate import text as texts_


class Index(NamedTuple):
    """N-grams of tests.

    Attributes:
      hashes: uint64 [g], ascending.
      task: int32 [g], which task each is from (the first, where several have it).
      names: of the tasks.
      n: words of a gram.
      num_short: examples too short to have an n-gram; they cannot be found.
    """

    hashes: np.ndarray
    task: np.ndarray
    names: tuple[str, ...]
    n: int
    num_short: int


def index(tasks: Mapping[str, Sequence[tuple[str, str]]], n: int = 12) -> Index:
    """N-grams of the labels of tests, and those that span the border of query and label.

    Texts are compared as in `text.normalise`. A test without a query gives `("", text)`.

    Args:
      tasks: (query, label) pairs by task.
      n: words of a gram (GPT-3 used 13).

    Raises:
      ValueError: n < 1, or no task.
    """
    check.at_least(1, n=n)
    if not tasks:
        raise ValueError("tasks must hold at least one task; got none.")
    pairs = [(t, q, a) for t, (_, rows) in enumerate(tasks.items()) for q, a in rows]
    packed = texts_.pack([f"{q} {a}" for _, q, a in pairs])
    found = texts_.grams(packed, n)
    lengths = np.array([len(texts_.normalise(f"{q} {a}").split()) for _, q, a in pairs], np.int64)
    query = np.array([len(texts_.normalise(q).split()) for _, q, _ in pairs], np.int64)
    _, first = np.unique(found.doc, return_index=True)
    count = np.diff(np.append(first, len(found.doc)))
    place = np.arange(len(found.doc)) - np.repeat(first, count)
    wanted = (place + n > query[found.doc]) & (lengths[found.doc] >= n)
    task = np.array([t for t, _, _ in pairs], np.int32)[found.doc[wanted]]
    hashes, where = np.unique(found.hash[wanted], return_index=True)
    return Index(hashes, task[where], tuple(tasks), n, int(np.sum(lengths < n)))


class Match(NamedTuple):
    """What was found.

    Attributes:
      hits: int64 [n], grams of tests in each document.
      task: int32 [n], task of the first hit, -1 where there is none.
      per_task: documents with a hit by task.
    """

    hits: np.ndarray
    task: np.ndarray
    per_task: dict[str, int]


def match(texts: Sequence[str], tests: Index) -> Match:
    """Looks for the tests in documents; `hits == 0` is what to keep."""
    found = texts_.grams(texts_.pack(texts), tests.n)
    hits, task = np.zeros(len(texts), np.int64), np.full(len(texts), -1, np.int32)
    per_task = dict.fromkeys(tests.names, 0)
    if not len(tests.hashes) or not len(found.hash):
        return Match(hits, task, per_task)
    where = np.minimum(np.searchsorted(tests.hashes, found.hash), len(tests.hashes) - 1)
    hit = tests.hashes[where] == found.hash
    doc, of = found.doc[hit], tests.task[where[hit]]
    hits += np.bincount(doc, minlength=len(texts))
    docs, first = np.unique(doc, return_index=True)
    task[docs] = of[first]
    for t, name in enumerate(tests.names):
        per_task[name] = len(np.unique(doc[of == t]))
    return Match(hits, task, per_task)
