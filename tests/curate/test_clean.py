"""Personal data and contamination."""

import time

import numpy as np
import pytest

from jaxml.curate import contaminate, pii, text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("mail a.b+c@sub.example.co.uk now", "mail <EMAIL> now"),
        ("no@mail, @handle, a@b", "no@mail, @handle, a@b"),
        ("8.8.8.8 and 1.1.1.1:53", "<IP_ADDRESS> and <IP_ADDRESS>:53"),
        (
            "10.0.0.1 127.0.0.1 192.168.1.1 203.0.113.9",
            "10.0.0.1 127.0.0.1 192.168.1.1 203.0.113.9",
        ),
        (
            "version 1.2.3.4.5 and 300.1.1.1 and 8.8.8.888",
            "version 1.2.3.4.5 and 300.1.1.1 and 8.8.8.888",
        ),
        ("<x@y.org>, x@y.org.", "<<EMAIL>>, <EMAIL>."),
    ],
)
def test_redaction_by_hand(before, after):
    got = pii.redact(before)
    assert got.text == after
    assert got.num_emails == after.count("<EMAIL>")
    assert got.num_addresses == after.count("<IP_ADDRESS>")


def test_redaction_takes_linear_time():
    start = time.process_time()
    pii.redact("@" + "a-" * 50_000 + "1." * 50_000)
    assert time.process_time() - start < 5


TEST = "which river flows through the old town of the capital before it meets the sea"
ANSWER = "it is the long winding river that the maps of the last century call the green one"


def slow_grams(query, answer, n):
    q, words = text.normalise(query).split(), text.normalise(f"{query} {answer}").split()
    spans = range(len(words) - n + 1)
    return {tuple(words[i : i + n]) for i in spans if i + n > len(q)}


def test_index_holds_the_grams_that_end_in_the_label():
    for n in (3, 8, 12):
        found = contaminate.index({"qa": [(TEST, ANSWER)], "other": [("a", "b")]}, n)
        assert len(found.hashes) == len(slow_grams(TEST, ANSWER, n))
        assert found.num_short == 1


def test_match_is_by_normalised_words_and_by_task():
    tests = contaminate.index(
        {"qa": [(TEST, ANSWER)], "cloze": [("", "One two, three four five six!")]}, 5
    )
    docs = [
        "Nothing of the sort.",
        f"He asked: {TEST.upper()}? And they said - {ANSWER}; so it was.",
        TEST,  # the query alone is no leak
        "zero one TWO three four five six seven",
        "",
    ]
    got = contaminate.match(docs, tests)
    assert (got.hits > 0).tolist() == [False, True, False, True, False]
    assert got.hits[0] == got.hits[2] == got.hits[4] == 0
    assert got.hits[3] == 2
    words = text.normalise(docs[1]).split()
    inside = {tuple(words[i : i + 5]) for i in range(len(words) - 4)}
    assert got.hits[1] == len(inside & slow_grams(TEST, ANSWER, 5))
    assert got.task.tolist() == [-1, 0, -1, 1, -1]
    assert got.per_task == {"qa": 1, "cloze": 1}


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="n must be >= 1; got n=0"):
        contaminate.index({"a": [("b", "c")]}, 0)
    with pytest.raises(ValueError, match="at least one task"):
        contaminate.index({})
    empty = contaminate.index({"a": [("b", "c")]}, 5)
    np.testing.assert_array_equal(contaminate.match(["x y z"], empty).hits, [0])
