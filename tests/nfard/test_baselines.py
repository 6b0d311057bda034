"""The other detectors: what their suites and distances are, by plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from jaxml.nfard import baselines
from jaxml.nfard.baselines import BASELINES, Pool
from tests.nfard import oracle

DRAW = np.random.default_rng(3)
IMAGES = DRAW.integers(0, 256, (40, 4, 4, 3)).astype(np.uint8)
PARAMS = jnp.asarray(DRAW.normal(size=(48, 5)) / 100, jnp.float32)


def logits(params, x):
    return (x.reshape(len(x), -1) - 128.0) @ params


PROBS = softmax(np.asarray(logits(PARAMS, IMAGES.astype(np.float32))), axis=1)
POOL = Pool(IMAGES, DRAW.integers(0, 5, 40), PROBS)


def test_pgd_stays_in_its_ball_and_raises_the_loss():
    labels = PROBS.argmax(1)
    x = IMAGES.astype(np.float32)
    moved = np.asarray(baselines.pgd(logits, PARAMS, x, labels, eps=0.03, steps=10))
    assert np.abs(moved - x).max() <= 0.03 * 255 + 1e-3
    assert moved.min() >= 0 and moved.max() <= 255
    rows = np.arange(40)
    before, after = (
        -np.log(softmax(np.asarray(logits(PARAMS, v)), axis=1)[rows, labels]) for v in (x, moved)
    )
    assert (after > before).all()
    # one step, by hand: the gradient of the loss of a linear map is W (p - onehot)
    grad = (PROBS - np.eye(5)[labels]) @ np.asarray(PARAMS).T
    want = np.clip(x + 0.03 * 255 / 4 * np.sign(grad).reshape(x.shape), 0, 255)
    one = np.asarray(baselines.pgd(logits, PARAMS, x, labels, eps=0.03, steps=1))
    np.testing.assert_allclose(one, want, atol=1e-3)


def test_deepjudge_takes_the_surest_seeds():
    queries = BASELINES["deepjudge_jsd"].make(logits, PARAMS, POOL, 10, jax.random.key(0))
    want = np.argsort(-(PROBS**2).sum(1), kind="stable")[:10]
    assert (queries.labels == PROBS[want].argmax(1)).all()
    assert np.abs(queries.images - IMAGES[want]).max() <= 0.03 * 255 + 1e-3


def test_divergence_and_decision_vectors():
    p, q = (softmax(DRAW.normal(size=(12, 5)), axis=1) for _ in range(2))
    assert baselines.jsd(p, q) == pytest.approx(oracle.js_divergence(p, q))
    assert baselines.jsd(p, p) == 0
    assert baselines.jsd(np.eye(3), np.roll(np.eye(3), 1, 0)) == pytest.approx(np.log(2))
    want = [
        1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(p[:6], p[6:], strict=True)
    ]
    np.testing.assert_allclose(baselines.ddv(p), want)


def test_ipguard_ends_nearer_to_the_boundary():
    queries = baselines._ipguard(logits, PARAMS, POOL, 20, jax.random.key(0), steps=60)
    z = np.sort(np.asarray(logits(PARAMS, queries.images)), 1)
    seeds = np.asarray(jax.random.permutation(jax.random.key(0), 40))[:20]
    start = np.sort(np.asarray(logits(PARAMS, IMAGES[seeds].astype(np.float32))), 1)
    assert (z[:, -1] - z[:, -2]).mean() < 0.5 * (start[:, -1] - start[:, -2]).mean() + 10
    assert (queries.labels == PROBS[seeds].argmax(1)).all()
    assert queries.images.min() >= 0 and queries.images.max() <= 255


def test_mistakes_come_first():
    queries = BASELINES["akh"].make(logits, PARAMS, POOL, 20, jax.random.key(0))
    wrong = PROBS.argmax(1) != POOL.labels
    num = min(20, int(wrong.sum()))
    given = {i.tobytes() for i in queries.images[:num].astype(np.uint8)}
    assert given <= {i.tobytes() for i in IMAGES[wrong]}


@pytest.mark.parametrize("name", BASELINES)
def test_a_copy_is_at_zero_and_others_are_not(name):
    base = BASELINES[name]
    queries = base.make(logits, PARAMS, POOL, 16, jax.random.key(1))
    other = jnp.asarray(DRAW.normal(size=(48, 5)) / 100, jnp.float32)
    own, far = (softmax(np.asarray(logits(w, queries.images)), axis=1) for w in (PARAMS, other))
    assert len(queries.images) == len(queries.labels) == 16
    assert base.distance(queries, own, own) == pytest.approx(0, abs=1e-6)
    if name != "deepjudge_rob":  # two fragile networks are alike in being fragile
        assert base.distance(queries, own, far) > 0.01
