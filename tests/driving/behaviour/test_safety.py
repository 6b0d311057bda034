"""Safety: against transcriptions, filled boxes, simulation, and the library ad-rss if installed."""

import json
import os
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.driving.safety import RSSConfig, monitor, overlap, rss, uncertainty

from . import oracle

CFG = RSSConfig()


def test_same_direction_is_the_equation():
    random = np.random.default_rng(0)
    rear, front = random.uniform(0, 40, (2, 200))
    got = rss.same_direction(jnp.float32(rear), jnp.float32(front), CFG)
    want = [oracle.rss_same(r, f, 1.0, 3.5, 4.0, 8.0) for r, f in zip(rear, front, strict=True)]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)


def test_the_distance_is_just_enough_in_simulation():
    """Rear accelerates for the response time, then brakes; front brakes at once."""
    for rear, front in ((20.0, 15.0), (10.0, 12.0), (30.0, 30.0)):
        gap = float(rss.same_direction(jnp.float32(rear), jnp.float32(front), CFG))
        dt, v_r, v_f, apart = 1e-3, rear, front, gap
        least = apart
        for i in range(20_000):
            a = CFG.accel_max if i * dt < CFG.response_s else -CFG.brake_min
            v_f = max(v_f - CFG.brake_max * dt, 0.0)
            v_r = max(v_r + a * dt, 0.0)
            apart += (v_f - v_r) * dt
            least = min(least, apart)
        assert abs(least) < 0.06


def test_lateral_distance_is_symmetric_and_grows_with_closing():
    zero = jnp.float32(0.0)
    assert float(rss.lateral(zero, zero, CFG)) > CFG.margin_m
    left, right = (rss.lateral(jnp.float32(a), jnp.float32(b), CFG) for a, b in ((1, 0), (0, -1)))
    assert float(left) == pytest.approx(float(right))
    assert float(left) > float(rss.lateral(zero, zero, CFG))


def test_dangerous_needs_both_distances():
    speed, zero = jnp.float32(20.0), jnp.float32(0.0)

    def ask(gap, side):
        return rss.respond(jnp.float32(gap), jnp.float32(side), speed, speed, zero, zero, CFG)

    assert bool(ask(5.0, -1.0).dangerous) and float(ask(5.0, -1.0).brake) == CFG.brake_min
    assert not bool(ask(5.0, 3.0).dangerous) and not bool(ask(200.0, -1.0).dangerous)


@pytest.fixture(scope="module")
def pairs():
    random = np.random.default_rng(2)

    def boxes(n):
        return np.concatenate(
            [random.uniform(-4, 4, (n, 2)), random.uniform(-3, 3, (n, 1)),
             random.uniform(1, 5, (n, 2))], 1,
        )  # fmt: skip

    return boxes(120), boxes(120)


def test_separating_axes_agree_with_filled_boxes(pairs):
    a, b = pairs
    got = np.asarray(overlap.touch(jnp.float32(a), jnp.float32(b)))
    near = np.abs(np.asarray(overlap.clearance(jnp.float32(a), jnp.float32(b)))) < 0.1
    want = np.array([oracle.boxes_touch(x, y) for x, y in zip(a, b, strict=True)])
    assert 20 < want.sum() < 100
    np.testing.assert_array_equal(got[~near], want[~near])


def test_corners_lie_on_the_box(pairs):
    got = np.asarray(overlap.corners(jnp.float32(pairs[0])))
    for box, four in zip(pairs[0][:20], got[:20], strict=True):
        grown = box + np.array([0, 0, 0, 1e-3, 1e-3])
        shrunk = box - np.array([0, 0, 0, 1e-3, 1e-3])
        assert all(oracle.inside(grown, p) and not oracle.inside(shrunk, p) for p in four)


def test_time_to_collision_is_when_moved_boxes_first_touch(pairs):
    a, b = (jnp.float32(x) for x in pairs)
    b = b.at[:, 0].add(12.0)
    random = np.random.default_rng(4)
    va, vb = (jnp.float32(random.uniform(-4, 4, (120, 2))) for _ in range(2))
    got = np.asarray(overlap.time_to_collision(a, va, b, vb))
    times = np.linspace(0, 10, 2001)

    def at(t):
        return overlap.touch(
            a.at[:, :2].add(va * t), b.at[:, :2].add(vb * t)
        )  # fmt: skip

    hits = np.asarray(jax.jit(jax.vmap(at))(jnp.float32(times)))
    first = np.where(hits.any(0), times[hits.argmax(0)], np.inf)
    assert 5 < np.isfinite(first).sum() < 115
    both = np.isfinite(first)
    np.testing.assert_allclose(got[both], first[both], atol=0.006)
    brief = np.isfinite(got) & ~both  # touches shorter than the grid of times
    assert brief.sum() <= 2


def test_calibration_of_known_probabilities():
    random = np.random.default_rng(0)
    p = random.dirichlet(np.ones(4), 20_000)
    label = np.array([random.choice(4, p=row) for row in p[:4000]])
    good = uncertainty.calibration(jnp.log(jnp.float32(p[:4000])), jnp.asarray(label))
    assert float(good.ece) < 0.03 and float(good.share.sum()) == pytest.approx(1.0, abs=1e-5)
    sharp = jax.nn.log_softmax(3 * jnp.log(jnp.float32(p[:4000])))
    bad = uncertainty.calibration(sharp, jnp.asarray(label))
    assert float(bad.ece) > 0.1
    assert float(uncertainty.temperature(sharp, jnp.asarray(label))) == pytest.approx(3.0, rel=0.1)


def test_ece_is_the_sum_over_bins():
    prob = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.55, 0.45]])
    label = np.array([0, 1, 0, 0])
    got = uncertainty.calibration(jnp.log(jnp.float32(prob)), jnp.asarray(label), 10)
    want = 0.25 * abs(0.9 - 1) + 0.25 * abs(0.8 - 0) + 0.5 * abs(0.575 - 1.0)
    assert float(got.ece) == pytest.approx(want, abs=1e-5)


def test_an_ensemble_is_the_mixture_of_its_members():
    random = np.random.default_rng(1)
    paths = jnp.float32(random.normal(size=(3, 5, 2, 4, 2)))
    log_prob = jax.nn.log_softmax(jnp.float32(random.normal(size=(3, 5, 2))))
    found = uncertainty.ensemble(paths, log_prob, jnp.ones((3, 5, 2, 4)))
    np.testing.assert_allclose(jnp.exp(found.log_prob).sum(1), 1.0, rtol=1e-5)
    assert found.paths.shape == (5, 6, 4, 2)
    same = uncertainty.ensemble(
        jnp.broadcast_to(paths[:1], paths.shape), jnp.broadcast_to(log_prob[:1], log_prob.shape),
        jnp.ones((3, 5, 2, 4)),
    )  # fmt: skip
    np.testing.assert_allclose(same.epistemic_m, 0.0, atol=1e-3)
    assert float(found.epistemic_m.min()) > 0


def test_gaussian_density():
    got = uncertainty.gaussian_nll(jnp.float32(1.0), jnp.log(jnp.float32(2.0)), jnp.float32(4.0))
    want = 0.5 * (3 / 2) ** 2 + np.log(2) + 0.5 * np.log(2 * np.pi)
    assert float(got) == pytest.approx(want, rel=1e-5)


def drive_behind(speed, brake):
    """Ego drives towards a standing car 60 m ahead and brakes from the start."""
    t = np.arange(80) * 0.1
    v = np.maximum(speed - brake * t, 0.0)
    x = np.concatenate([[0], np.cumsum(v[:-1] * 0.1)])
    rows = np.zeros((80, 6), np.float32)
    rows[:, 0], rows[:, 3:5], rows[:, 5] = x, [4.5, 1.8], v
    other = np.zeros((80, 1, 6), np.float32)
    other[:, 0, 0], other[:, 0, 3:5] = 60.0, [4.5, 1.8]
    return jnp.asarray(rows), jnp.asarray(other), jnp.ones((80, 1), bool)


def test_the_monitor_tells_a_crash_from_a_stop():
    crash = monitor.judge(*drive_behind(20.0, 0.0), 0.1)
    stop = monitor.judge(*drive_behind(20.0, 5.0), 0.1)
    assert float(crash.collided) == 1.0 and float(stop.collided) == 0.0
    assert float(crash.first_contact_s) == pytest.approx(55.5 / 20, abs=0.11)
    assert float(crash.least_ttc_s) == 0.0 and float(stop.least_ttc_s) > 1.0
    assert float(crash.blamed) > float(stop.blamed) == 0.0
    assert float(stop.least_clearance_m) == pytest.approx(60 - 4.5 - 40 - 1.0, abs=0.2)


def test_a_masked_car_is_not_there():
    ego, other, mask = drive_behind(20.0, 0.0)
    alone = monitor.judge(ego, other, jnp.zeros_like(mask), 0.1)
    assert float(alone.collided) == 0.0 and float(alone.dangerous) == 0.0
    assert not np.isfinite(alone.least_ttc_s)


def test_bad_assumptions_are_refused():
    with pytest.raises(ValueError, match="brake_min must be <= brake_max"):
        RSSConfig(brake_min=9.0)
    with pytest.raises(ValueError, match="step_s must be > 0"):
        monitor.judge(*drive_behind(20.0, 0.0), 0.0)


@pytest.mark.skipif(
    not os.environ.get("JAXML_PEERS_DRIVING"), reason="JAXML_PEERS_DRIVING names no environment"
)
def test_distances_are_those_of_ad_rss():
    random = np.random.default_rng(5)
    speeds = random.uniform(0, 30, (50, 2)).tolist()
    worker = os.path.join(os.path.dirname(__file__), "../../benchmarks/peers/rss_worker.py")
    run = [os.environ["JAXML_PEERS_DRIVING"], worker]
    done = subprocess.run(
        run, input=json.dumps({"speeds": speeds, "repeats": 1}), capture_output=True, text=True
    )
    found = json.loads(done.stdout.strip().splitlines()[-1])
    a, b = jnp.asarray(speeds, jnp.float32).T
    for name, got in (
        ("same", rss.same_direction(a, b, CFG)),
        ("opposite", rss.opposite_direction(a, b, CFG)),
        ("lateral", rss.lateral((a - 15) / 30, (b - 15) / 30, CFG)),
    ):
        np.testing.assert_allclose(got, found[name], rtol=1e-5, atol=1e-4, err_msg=name)
