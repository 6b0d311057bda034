"""Suites, thresholds, ways to a model, verdicts."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax

from jaxml.nfard import access, detector, score
from jaxml.nfard.config import TESTS, DetectorConfig
from jaxml.nfard.suite import select_suite
from jaxml.nfard.threshold import Threshold, p_value, threshold
from tests.nfard import oracle

DRAW = np.random.default_rng(2)
POOL = DRAW.normal(size=(120, 5)).astype(np.float32)
CFG = DetectorConfig(n_suite=80)


def net(seed, base=1.0, noise=0.4):
    """A model of the task: a shared map and its own part."""
    draw = np.random.default_rng(seed)
    shared = np.random.default_rng(99)
    first = base * shared.normal(size=(5, 8)) + noise * draw.normal(size=(5, 8))
    last = base * shared.normal(size=(8, 4)) + noise * draw.normal(size=(8, 4))
    return {"a": first.astype(np.float32), "b": last.astype(np.float32)}


def apply(p, x):
    hidden = jnp.maximum(x @ p["a"], 0)
    return hidden @ p["b"], {"hidden": hidden}


def white(p):
    return access.from_params(apply, p, layer="last", batch_size=50)


VICTIM = net(0)
COPY = jax.tree.map(lambda w: w + 0.01, VICTIM)
REFERENCES = [white(net(seed)) for seed in range(10, 16)]


@pytest.fixture(scope="module")
def calibration():
    return detector.calibrate(white(VICTIM), REFERENCES, POOL, CFG)


def test_the_suite_is_the_least_sure_half_of_it_on_each_side():
    probs = softmax(DRAW.normal(size=(50, 4)) * 3, axis=1)
    suite = select_suite(probs, 20)
    want = set(np.argsort(probs.max(1))[:20])
    assert set(suite.rows) == want and len(suite.fit) == len(suite.measure) == 10
    assert abs(probs[suite.fit].max(1).mean() - probs[suite.measure].max(1).mean()) < 0.05
    assert set(select_suite(probs, 20, "high_confidence").rows) == set(
        np.argsort(-probs.max(1))[:20]
    )
    gini = 1 - (probs**2).sum(1)
    assert set(select_suite(probs, 20, "gini").rows) == set(np.argsort(-gini)[:20])
    a, b = (select_suite(probs, 20, "random", jax.random.key(i)).rows for i in (0, 1))
    assert len(set(a)) == 20 and set(a) != set(b)


@pytest.mark.parametrize(
    ("n", "strategy", "message"),
    [
        (7, "gini", "two must divide n"),
        (60, "gini", r"n must lie in \[4, 50\]"),
        (20, "random", "key must be given"),
        (20, "unsure", "strategy must be one of"),
    ],
)
def test_bad_suites(n, strategy, message):
    with pytest.raises(ValueError, match=message):
        select_suite(np.full((50, 2), 0.5), n, strategy)


def test_threshold_and_p_value():
    d = [0.41, 0.39, 0.44, 0.40, 0.42]
    found = threshold(d)
    assert found.value == pytest.approx(0.379768, abs=1e-6)
    mean, sd, t = np.mean(d), np.std(d, ddof=1), oracle.t_quantile(0.99, 4)
    assert found.value == pytest.approx(mean - t * sd / 5**0.5, abs=1e-6)
    wide = threshold(d, rule="prediction", alpha=0.9)
    assert wide.value == pytest.approx(0.9 * mean * np.exp(-t * sd / mean * 1.2**0.5), abs=1e-6)
    # at the prediction bound the p-value is 1 - confidence
    assert p_value(threshold(d, rule="prediction").value, found) == pytest.approx(0.01)
    assert p_value(0.1, Threshold(0.1, 0.2, 0.0, 3)) == 0
    # of such references, one more falls below the prediction bound one time in a hundred
    draw = np.exp(0.05 * np.random.default_rng(0).normal(size=(4000, 7)))
    below = [x[6] <= threshold(x[:6], rule="prediction").value for x in draw]
    assert stats.binomtest(sum(below), len(below), 0.01).pvalue > 0.01
    loose = np.mean([x[6] <= threshold(x[:6]).value for x in draw])
    assert loose > 0.05  # what the bound of the mean lets through
    for bad, message in (([1.0, 2.0], "at least 3"), ([1, 2, np.nan], "must be finite")):
        with pytest.raises(ValueError, match=message):
            threshold(bad)


def test_scores_are_counted_right():
    truth = [True, True, False, True, False, False]
    d = [0.1, 0.4, 0.4, 0.2, 0.9, 0.15]
    assert score.auc(truth, d) == pytest.approx(oracle.auc(truth, d))
    many = DRAW.integers(0, 6, 60) / 6
    flags = DRAW.random(60) < 0.4
    assert score.auc(flags, many) == pytest.approx(oracle.auc(flags, many))
    assert score.f1(truth, [True, False, True, True, False, False]) == (
        pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(2 / 3),
    )  # fmt: skip
    assert score.f1([True], [False]) == (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="both copies and others; got 2 and 0"):
        score.auc([True, True], [1, 2])


def test_a_copy_is_found_and_another_is_not(calibration):
    found = detector.detect(white(VICTIM), white(COPY), POOL, calibration, CFG)
    assert found.reuse and found.margin > 0 and found.p_value < 0.01 and not found.weaker
    assert found.threshold - found.distance == found.margin
    assert [f.test for f in found.tests] == list(CFG.chosen)
    other = detector.detect(None, white(net(77)), POOL, calibration, CFG)
    assert not other.reuse and other.margin < 0 and other.p_value > 0.01
    exact = detector.detect(None, white(VICTIM), POOL, calibration, CFG)
    assert all(f.distance < 0.01 for f in exact.tests)


def test_white_box_survives_reordered_and_rescaled_neurons():
    cfg = DetectorConfig(access="white", n_suite=80, combine="any")
    made = detector.calibrate(white(VICTIM), REFERENCES, POOL, cfg)
    order, scale = DRAW.permutation(8), DRAW.uniform(0.2, 5, 8).astype(np.float32)
    attacked = {"a": (COPY["a"] * scale)[:, order], "b": (COPY["b"] / scale[:, None])[order]}
    plain, moved = (detector.detect(None, white(p), POOL, made, cfg) for p in (COPY, attacked))
    assert plain.reuse and moved.reuse
    for a, b in zip(plain.tests, moved.tests, strict=True):
        assert a.distance == pytest.approx(b.distance, abs=1e-4)
    trusting = DetectorConfig(access="white", n_suite=80, match="none", tests=("hidden",))
    made = detector.calibrate(white(VICTIM), REFERENCES, POOL, trusting)
    assert not detector.detect(None, white(attacked), POOL, made, trusting).reuse


def test_votes(calibration):
    reading = detector.measure.reading(white(COPY)(POOL, calibration.suite.rows), CFG)
    for combine in ("first", "majority", "any"):
        cfg = DetectorConfig(n_suite=80, combine=combine)
        found = detector.judge(calibration, reading, cfg)
        assert found.reuse
        if combine == "any":
            assert found.p_value == min(1, 4 * min(f.p_value for f in found.tests))
    results = [
        detector.Finding("output", 0.2, 0.3, 0.1, 0.001, True),
        detector.Finding("labels", 0.4, 0.3, -0.1, 0.5, False),
        detector.Finding("output_contrast", 0.4, 0.3, -0.1, 0.6, False),
    ]
    said = {
        c: detector._verdict(results, DetectorConfig(combine=c), False, "").reuse
        for c in ("first", "majority", "any")
    }
    assert said == {"first": True, "majority": False, "any": True}


def test_hard_labels_get_the_weaker_test(calibration):
    found = detector.detect(None, access.hard(white(COPY)), POOL, calibration, CFG)
    assert found.weaker and "hard labels only" in found.note
    assert {f.test for f in found.tests} == {"labels", "labels_contrast"}
    labels = white(COPY)(POOL, np.arange(120)).labels
    one_hot = access.from_table(np.eye(4)[labels])
    assert detector.detect(None, one_hot, POOL, calibration, CFG) == found


def test_another_label_set_needs_a_projection(calibration):
    narrow = {"a": COPY["a"], "b": COPY["b"][:, :3]}
    found = detector.detect(None, white(narrow), POOL, calibration, CFG)
    assert found.weaker and "another label set" in found.note
    assert {f.test for f in found.tests} == {"output_projected", "output_contrast"}
    none = DetectorConfig(n_suite=80, projection="none")
    with pytest.raises(ValueError, match="3 classes, the victim 4; with projection='none'"):
        detector.detect(None, white(narrow), POOL, calibration, none)


def test_tables_and_calls_are_the_model(calibration, tmp_path):
    rows = calibration.suite.rows
    probs = white(COPY)(POOL, np.arange(120)).probs
    want = detector.detect(None, white(COPY), POOL, calibration, CFG)
    np.savez(tmp_path / "all.npz", probs=probs)
    np.savez(tmp_path / "some.npz", probs=probs[rows], index=rows)
    with (tmp_path / "some.csv").open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(["index", *(f"p{c}" for c in range(4))])
        table.writerows([r, *map(repr, map(float, probs[r]))] for r in rows[::-1])
    asked = []

    def client(x):
        asked.append(len(x))
        return softmax(np.asarray(apply(COPY, jnp.asarray(x))[0]), axis=1)

    for suspect in (
        access.from_table(probs),
        access.from_table(tmp_path / "all.npz"),
        access.from_table(tmp_path / "some.npz"),
        access.from_table(tmp_path / "some.csv"),
        access.from_callable(client, batch_size=32),
    ):
        got = detector.detect(None, suspect, POOL, calibration, CFG)
        assert got.reuse == want.reuse
        assert got.distance == pytest.approx(want.distance, abs=1e-4)
    assert asked == [32, 32, 16]


def test_bad_tables(calibration, tmp_path):
    rows = calibration.suite.rows
    probs = white(COPY)(POOL, np.arange(120)).probs
    with pytest.raises(ValueError, match="the table lacks 80 samples of the suite"):
        access.from_table(probs[:3], np.array([500, 501, 502]))(POOL, rows)
    with pytest.raises(ValueError, match="got 3 rows for 120 samples"):
        access.from_table(probs[:3])(POOL, rows)
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="columns p0, p1"):
        access.from_table(tmp_path / "x.csv")
    with pytest.raises(FileNotFoundError):
        access.from_table(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="must end in .csv or .npz"):
        (tmp_path / "x.txt").write_text("")
        access.from_table(tmp_path / "x.txt")


def test_bad_models(calibration):
    broken = jax.tree.map(lambda w: w * np.nan, COPY)
    with pytest.raises(ValueError, match="outputs must be finite"):
        detector.detect(None, white(broken), POOL, calibration, CFG)
    with pytest.raises(ValueError, match="layer must be one of hidden"):
        access.from_params(apply, COPY, layer="hiden")(POOL, np.arange(3))
    with pytest.raises(ValueError, match="at least 3 reference models; got 2"):
        detector.calibrate(white(VICTIM), REFERENCES[:2], POOL, CFG)
    with pytest.raises(ValueError, match="gives labels only"):
        detector.calibrate(access.hard(white(VICTIM)), REFERENCES, POOL, CFG)
    with pytest.raises(ValueError, match="sees no hidden activations"):
        DetectorConfig(tests=("hidden",))
    with pytest.raises(ValueError, match="test must be one of"):
        DetectorConfig(tests=("outputs",))


def test_flax_models_go_in_as_they_are(calibration):
    from flax import linen

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            hidden = linen.relu(linen.Dense(8, use_bias=False)(x))
            return linen.Dense(4, use_bias=False)(hidden)

    params = {"params": {"Dense_0": {"kernel": COPY["a"]}, "Dense_1": {"kernel": COPY["b"]}}}
    suspect = access.from_params(Net().apply, params)
    got = detector.detect(None, suspect, POOL, calibration, CFG)
    want = detector.detect(None, white(COPY), POOL, calibration, CFG)
    assert got.reuse and got.distance == pytest.approx(want.distance, abs=1e-4)


def test_every_test_has_a_threshold_and_leaves_the_reference_out():
    cfg = DetectorConfig(access="white", n_suite=80, tests=tuple(TESTS))
    made = detector.calibrate(white(VICTIM), REFERENCES, POOL, cfg)
    assert set(made.thresholds) == set(TESTS)
    # with itself among the controls a reference would leave no residual
    assert min(made.distances["output_contrast"]) > 0.2
    more = detector.calibrate(white(VICTIM), REFERENCES[:4], POOL, cfg, controls=REFERENCES[4:])
    assert len(more.controls) == 6
    assert more.thresholds["output_contrast"].n == 4
