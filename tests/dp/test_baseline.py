"""DP-SGD in closed form and as a transformation, AdaSSP, the exact program."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxml import tnl
from jaxml.dp import ConvexReLUConfig, adassp, baseline, dpsgd, exact, gating
from jaxml.models import mlp
from jaxml.tnl import objective
from jaxml.train import loop, state, step


def test_the_networks_clipped_sum_is_that_of_its_gradients():
    key = jax.random.key(0)
    x, label = jax.random.normal(key, (9, 5)), jax.random.randint(key, (9,), 0, 3)
    mask = jnp.arange(9) < 7
    for hidden in ((6,), ()):
        cfg = mlp.MlpConfig(5, hidden, 3)
        params = mlp.init(key, cfg)

        def loss(params, x, label, cfg=cfg):
            z = mlp.apply(params, cfg, x[None])[0]
            return jax.nn.logsumexp(z) - z[label]

        each = jax.vmap(jax.grad(loss), (None, 0, 0))(params, x[:7], label[:7])
        total = jax.tree.map(lambda a: np.zeros(a.shape[1:]), each)
        for i in range(7):
            one = jax.tree.map(lambda a, i=i: np.asarray(a[i], np.float64), each)
            norm = np.sqrt(sum((a**2).sum() for a in jax.tree.leaves(one)))
            total = jax.tree.map(lambda t, a, n=norm: t + a * min(1, 0.5 / n), total, one)
        got = baseline.clipped_sum(params, cfg, x, label, mask, 0.5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, total)


def test_poisson_samples_take_each_row_independently():
    draw = jax.jit(dpsgd.poisson_rows, static_argnums=(1, 3))
    counts, sizes = np.zeros(50), []
    for i in range(300):
        rows, mask = (np.asarray(a) for a in draw(jax.random.key(i), 50, 0.2, 40))
        taken = rows[mask]
        assert len(set(taken)) == len(taken)
        counts[taken] += 1
        sizes.append(len(taken))
    assert abs(counts.mean() / 300 - 0.2) < 0.01
    assert 2.0 < np.var(sizes) / (50 * 0.2 * 0.8) * 2 < 2.6 or abs(np.var(sizes) - 8) < 2
    assert dpsgd.largest_sample(60_000, 1 / 60) < 1300


def test_aggregate_divides_by_the_expected_size_and_noises_once():
    grads = {"w": jnp.array([[3.0, 4.0], [0.3, 0.4]])}
    quiet = dpsgd.aggregate(1.0, 0.0, 4, jax.random.key(0))
    out, _ = quiet.update(grads, quiet.init({"w": jnp.zeros(2)}))
    np.testing.assert_allclose(out["w"], np.array([0.6 + 0.3, 0.8 + 0.4]) / 4, rtol=1e-6)
    loud = dpsgd.aggregate(0.5, 2.0, 4, jax.random.key(0))
    many = {"w": jnp.zeros((3, 20_000))}
    out, after = loud.update(many, loud.init({"w": jnp.zeros(20_000)}))
    assert float(jnp.std(out["w"])) == pytest.approx(0.5 * 2.0 / 4, rel=0.03)
    again, _ = loud.update(many, after)
    assert float(jnp.abs(again["w"] - out["w"]).max()) > 0.1


def test_one_by_one_is_aggregate_for_trainers_of_one_example():
    grads = jax.random.normal(jax.random.key(1), (4, 3))
    one = dpsgd.one_by_one(1.0, 0.0, 2, jax.random.key(0))
    all_at_once = dpsgd.aggregate(1.0, 0.0, 2, jax.random.key(0))
    now, outs = one.init(jnp.zeros(3)), []
    for g in grads:
        out, now = one.update(g, now)
        outs.append(np.asarray(out))
    assert not outs[0].any()
    assert not outs[2].any()
    for i in (0, 2):
        want, _ = all_at_once.update(grads[i : i + 2], all_at_once.init(jnp.zeros(3)))
        np.testing.assert_allclose(outs[i + 1], want, rtol=1e-6)
    with pytest.raises(ValueError, match="clip_norm must be > 0"):
        dpsgd.one_by_one(0.0, 1.0, 2, jax.random.key(0))


@pytest.fixture(scope="module")
def language_model():
    model = tnl.language_model(tnl.TNLConfig(vocab_size=11, width=8, num_layers=1, num_heads=1,
                                             glu_width=8, lrpe_layers=()))  # fmt: skip
    words = np.arange(12 * 9).reshape(12, 9) * 7 % 11
    batch = {"inputs": words[:, :-1].astype(np.int32), "targets": words[:, 1:].astype(np.int32)}
    return model, model.init(jax.random.key(0)), batch


def test_a_language_model_is_tuned_under_dp_by_its_own_trainer(language_model):
    """The shared step, one example a step, with the transformation in front of SGD."""
    model, params, batch = language_model
    private = dpsgd.one_by_one(0.5, 0.0, 3, jax.random.key(1))
    optimizer = optax.chain(private, optax.sgd(0.1))
    update = step.make_step(objective.loss_fn(model), optimizer, donate=False)
    now = state.create(jax.random.key(0), params, optimizer)
    rows = [{n: jnp.asarray(a[i : i + 1]) for n, a in batch.items()} for i in range(3)]

    def loss(params, row):
        return objective.next_token(model, params, row)[0]

    grad, total = jax.jit(jax.grad(loss)), None
    for row in rows:
        one = jax.tree.map(lambda a: np.asarray(a, np.float64), grad(params, row))
        norm = np.sqrt(sum((a**2).sum() for a in jax.tree.leaves(one)))
        assert norm > 0.5
        one = jax.tree.map(lambda a, n=norm: a * 0.5 / n, one)
        total = one if total is None else jax.tree.map(np.add, total, one)
    now = loop.fit(update, now, iter(rows), num_steps=3)
    want = jax.tree.map(lambda p, t: p - 0.1 * t / 3, params, total)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), now.params, want)


def test_a_language_model_is_tuned_on_poisson_samples(language_model):
    model, params, batch = language_model
    optimizer = optax.chain(dpsgd.aggregate(0.5, 0.5, 4, jax.random.key(1)), optax.sgd(0.1))
    update = dpsgd.make_step(objective.loss_fn(model), optimizer)
    now = state.create(jax.random.key(0), params, optimizer)
    now = loop.fit(update, now, dpsgd.poisson_batches(jax.random.key(2), batch, 1 / 3), num_steps=2)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), now.params, params)
    assert max(jax.tree.leaves(moved)) > 1e-3
    assert all(bool(jnp.isfinite(a).all()) for a in jax.tree.leaves(now.params))


def test_dpsgd_learns_and_its_noise_costs():
    r = np.random.default_rng(0)
    centres = 3 * r.normal(size=(3, 8))
    label = r.integers(0, 3, 300)
    x = centres[label] + r.normal(size=(300, 8))
    cfgs = [baseline.DPSGDConfig(50, 20, 1.0, sigma, 1.0, 8) for sigma in (0.0, 200.0)]
    params = baseline.train_dpsgd([jax.random.key(0)] * 2, x, label, 3, cfgs, calls=4)
    good, bad = baseline.accuracies(params, 8, x, label, 3)
    assert good > 95
    assert bad < good - 10
    with pytest.raises(ValueError, match="may differ in learning_rate"):
        other = baseline.DPSGDConfig(50, 10, 1.0, 1.0, 1.0, 8)
        baseline.train_dpsgd([jax.random.key(0)] * 2, x, label, 3, [cfgs[0], other])


def test_adassp_is_ridge_regression_with_bounded_noise():
    r = np.random.default_rng(0)
    x, label = r.normal(size=(400, 5)).astype(np.float32), r.integers(0, 3, 400)
    model = ConvexReLUConfig(5, 3, 2)
    u = gating.sample_gates(jax.random.key(0), 5, 2)
    sums = adassp.moments(jnp.asarray(x), u, jnp.asarray(label), model, chunk=150)
    phi = np.asarray(gating.features(jnp.asarray(x), gating.gates(jnp.asarray(x), u), model))
    np.testing.assert_allclose(sums.second, phi.T @ phi, atol=1e-3)
    exactly = np.linalg.lstsq(sums.second, sums.cross, rcond=None)[0]
    near = adassp.adassp(jax.random.key(1), sums, 1e7)
    np.testing.assert_allclose(phi @ near, phi @ exactly, atol=1e-3)
    # The cross moments' noise has deviation 2 B sqrt(3) / mu per number.
    blank = adassp.Moments(1e9 * np.eye(300), np.zeros((300, 30)))
    noise = 1e9 * adassp.adassp(jax.random.key(2), blank, 0.5)
    assert noise.std() == pytest.approx(2 * np.sqrt(3) / 0.5, rel=0.03)


def test_replacing_an_example_moves_the_moments_within_their_bounds():
    r = np.random.default_rng(0)
    model = ConvexReLUConfig(4, 3, 2)
    u = gating.sample_gates(jax.random.key(0), 4, 2)
    x = r.normal(size=(40, 4)).astype(np.float32)
    each = [
        adassp.moments(jnp.asarray(row[None]), u, jnp.array([i % 3]), model)
        for i, row in enumerate(x[:8])
    ]
    for a, b in itertools.combinations(each, 2):
        assert np.linalg.norm(a.second - b.second) <= np.sqrt(2) + 1e-6
        assert np.linalg.norm(a.cross - b.cross) <= 2 + 1e-6


def test_patterns_are_those_that_random_directions_find():
    r = np.random.default_rng(3)
    x = r.normal(size=(6, 2))
    found = {tuple(row) for row in exact.activation_patterns(x)}
    tried = {tuple(row) for row in (x @ r.normal(size=(2, 20_000)) >= 0).T}
    assert found == tried
    assert len(found) == 12  # 2 n in the plane


def test_the_program_agrees_with_cvxpy_and_with_its_network():
    cp = pytest.importorskip("cvxpy")
    r = np.random.default_rng(0)
    x, y, beta = r.normal(size=(6, 2)), r.normal(size=6), 0.1
    solved = exact.solve_exact_relu_program(x, y, beta)
    gates = solved.patterns.astype(float)
    m = len(gates)
    v, w = cp.Variable((m, 2)), cp.Variable((m, 2))
    out = sum(cp.multiply(gates[i], x @ (v[i] - w[i])) for i in range(m))
    cones = [cp.multiply(2 * gates[i] - 1, x @ q[i]) >= 0 for i in range(m) for q in (v, w)]
    size = sum(cp.norm(q[i]) for i in range(m) for q in (v, w))
    peer = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(out - y) + beta * size), cones)
    peer.solve(solver="CLARABEL")
    assert solved.objective == pytest.approx(peer.value, abs=1e-6)
    u, a = exact.to_relu_network(solved.v, solved.w)
    assert exact.network_objective(x, y, u, a, beta) == pytest.approx(solved.objective, abs=1e-6)
    signs = (2 * gates - 1)[:, :, None] * x[None]
    assert np.einsum("mnd,md->mn", signs, solved.v).min() > -1e-6
    # Local descent from the network does not get below the program's optimum.
    for seed in range(3):
        shift = np.random.default_rng(seed)
        near = u + 1e-2 * shift.normal(size=u.shape), a + 1e-2 * shift.normal(size=a.shape)
        assert exact.network_objective(x, y, *near, beta) >= solved.objective - 1e-9
    with pytest.raises(ValueError, match="beta must be > 0"):
        exact.solve_exact_relu_program(x, y, 0.0)
