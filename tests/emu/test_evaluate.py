import numpy as np
import pytest

from jaxml.emu import data, evaluate
from tests.emu import oracle


@pytest.fixture(scope="module")
def sets():
    draw = np.random.default_rng(0)
    q, g = draw.normal(size=(30, 6)), draw.normal(size=(40, 6))
    return q, draw.integers(0, 4, 30), g, draw.integers(0, 4, 40)


def test_against_brute_force(sets):
    q, ql, g, gl = sets
    assert evaluate.acc_at_1(*sets) == pytest.approx(oracle.nearest(*sets))
    q_ids, g_ids = np.arange(30) % 7, np.arange(40) % 7
    got = evaluate.acc_at_1(*sets, (q_ids, g_ids))
    assert got == pytest.approx(oracle.nearest(q, ql, g, gl, q_ids, g_ids))
    own = np.arange(30)
    want = oracle.nearest(q, ql, q, ql, own, own)
    assert evaluate.leave_one_out(q, ql) == pytest.approx(want)


def test_blocks_change_nothing(sets):
    ids = (np.arange(30) % 7, np.arange(40) % 7)
    want = evaluate.nearest(sets[0], sets[2], ids)
    got = evaluate.nearest(sets[0], sets[2], ids, block=9)
    np.testing.assert_array_equal(got[0], want[0])


def test_a_duplicated_gallery_is_always_right(sets):
    q, ql, *_ = sets
    assert evaluate.acc_at_1(q, ql, np.concatenate([q, q]), np.concatenate([ql, ql])) == 100.0


def test_leave_one_out_never_gives_the_query_back(sets):
    q = np.repeat(sets[0][:5], 2, 0)  # a twin of everyone: the twin, never oneself
    own = np.arange(10)
    rows, _ = evaluate.nearest(q, q, (own, own))
    assert (rows != own).all() and (rows == (own ^ 1)).all()


def test_a_translation_in_the_gallery_inflates(sets):
    """On parallel data the query's own translation must go."""
    draw, n = np.random.default_rng(1), 30
    pid, label = np.arange(n, dtype=np.int32), draw.integers(0, 4, n)
    english = draw.normal(size=(n, 6))
    emb = {"en": english, "de": english + 0.05 * draw.normal(size=(n, 6))}
    part = {k: data.Sentences(("x",) * n, label, pid) for k in emb}
    apart = evaluate.by_language(emb, part)
    inside = evaluate.by_language(emb, part, exclude=False)
    assert inside["de"].cross == 100.0 and apart["de"].cross < 60
    assert apart["en"] == inside["en"] and apart["en"].mono == apart["en"].cross
    assert apart["de"].num == n
    assert evaluate.alignment(emb["de"], emb["en"]) == 100.0


def test_a_probe_finds_languages_only_where_they_are():
    draw = np.random.default_rng(2)
    lang = np.arange(200) % 2
    same = draw.normal(size=(200, 4))
    apart = same + 4 * lang[:, None] * np.array([1.0, 0, 0, 0])
    assert evaluate.language_probe(apart, lang) > 90
    assert 30 < evaluate.language_probe(same, lang) < 70


def test_logistic_regression_on_frozen_embeddings():
    draw = np.random.default_rng(3)
    label = np.arange(60) % 3
    x = np.eye(3)[label] + 0.1 * draw.normal(size=(60, 3))
    found = evaluate.logistic_accuracy(x[:30], label[:30], {"en": (x[30:], label[30:])})
    assert found == {"en": 100.0}


BAD = {
    "row 1 has none": lambda q, l: evaluate.leave_one_out(q * np.array([[1.0], [0.0], [1.0]]), l),
    "query 0 has none of 3 left": lambda q, l: evaluate.nearest(q, q, (np.zeros(3), np.zeros(3))),
    "q_labels must have shape": lambda q, l: evaluate.acc_at_1(q, l[:2], q, l),
    "two languages or more": lambda q, l: evaluate.language_probe(q, np.zeros(3, int)),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(message):
    with pytest.raises(ValueError, match=message):
        BAD[message](np.eye(3), np.arange(3))
