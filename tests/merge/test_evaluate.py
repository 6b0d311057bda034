import numpy as np
import pytest

from jaxml.merge import evaluate, splits

RANDOM = np.random.default_rng(0)


def test_joint_scores_need_softmax_within_each_set():
    logits = np.array([[5.0, 4.9, 9.0, 7.0]])  # the second set's logits are larger as a whole
    joint = evaluate.joint_probabilities(logits, [[0, 1], [2, 3]])
    first = np.exp([5.0, 4.9])
    np.testing.assert_allclose(joint[0, :2], first / first.sum())
    assert joint[0].argmax() == 2
    assert evaluate.per_task_accuracy(logits, np.array([0]), [[0, 1], [2, 3]]) == 100.0
    assert evaluate.accuracy(logits, np.array([0])) == 0.0
    confident = np.array([[9.0, 0.0, 20.0, 19.9]])
    assert evaluate.joint_probabilities(confident, [[0, 1], [2, 3]])[0].argmax() == 0
    assert confident.argmax() == 2


def test_ensembles():
    logits = RANDOM.normal(size=(2, 5, 4))
    np.testing.assert_allclose(evaluate.ensemble_logits(logits), (logits[0] + logits[1]) / 2)
    joined = evaluate.ensemble_of_classes(logits, [[0, 3], [1, 2]])
    own = np.exp(logits[1][:, [1, 2]])
    np.testing.assert_allclose(joined[:, [1, 2]], own / own.sum(-1, keepdims=True))
    np.testing.assert_allclose(joined.sum(-1), 2)


def test_curve_and_barrier():
    a, b = {"w": np.array([0.0])}, {"w": np.array([2.0])}
    ts, losses = evaluate.curve(a, b, lambda v: float(v["w"][0] * (2 - v["w"][0])), num=5)
    assert ts == [0.0, 0.25, 0.5, 0.75, 1.0]
    np.testing.assert_allclose(losses, [0, 0.75, 1, 0.75, 0])
    assert evaluate.barrier(losses) == 1.0
    loss = evaluate.cross_entropy(np.array([[0.0, 0.0], [np.log(3.0), 0.0]]), np.array([1, 0]))
    np.testing.assert_allclose(loss, (np.log(2) + np.log(4 / 3)) / 2)


LABELS = np.repeat(np.arange(10), 50)


def test_80_20_is_complementary():
    first, second = splits.split_rows("80-20", LABELS, 2, seed=0)
    counts = np.bincount(LABELS[first], minlength=10)
    assert counts.tolist() == [10] * 5 + [40] * 5
    assert sorted(np.concatenate([first, second])) == list(range(500))


@pytest.mark.parametrize(("split", "n"), [("dirichlet", 3), ("classes", 2), ("classes", 3)])
def test_every_row_has_one_owner(split, n):
    rows = splits.split_rows(split, LABELS, n, seed=1)
    assert sorted(np.concatenate(rows)) == list(range(500))
    owned = [set(LABELS[r].tolist()) for r in rows]
    if split == "classes":
        assert owned == [set(part) for part in splits.class_sets(10, n, 1)]
    again = splits.split_rows(split, LABELS, n, seed=1)
    assert all((a == b).all() for a, b in zip(rows, again, strict=True))


def test_bad_input():
    with pytest.raises(ValueError, match="split 80-20 is for two networks"):
        splits.split_rows("80-20", LABELS, 3, 0)
    with pytest.raises(ValueError, match="split must be one of"):
        splits.split_rows("half", LABELS, 2, 0)
    with pytest.raises(ValueError, match="name each of 4 classes once"):
        evaluate.joint_probabilities(np.zeros((1, 4)), [[0, 1], [1, 2, 3]])
