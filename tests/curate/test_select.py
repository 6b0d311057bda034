"""Pruning, selection, attribution, curriculum: each against a transcription in float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxml.curate import attribute, curriculum, perexample, prune, select

N, D, C = 12, 3, 4


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def logits(params, x):
    return x @ params["w"] + params["b"]


def loss(params, example):
    return -jax.nn.log_softmax(logits(params, example["x"]))[example["y"]]


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    runs = [
        {
            "b": rng.normal(size=C).astype(np.float32),
            "w": rng.normal(size=(D, C)).astype(np.float32),
        }
        for _ in range(2)
    ]
    examples = {"x": rng.normal(size=(N, D)).astype(np.float32), "y": rng.integers(0, C, N)}
    targets = {"x": rng.normal(size=(5, D)).astype(np.float32), "y": rng.integers(0, C, 5)}
    return runs, examples, targets


def gradients(params, examples):
    """d loss / d (b, w) of every example, by hand: [n, C + D C], and p of the right class."""
    p = softmax(examples["x"].astype(float) @ params["w"].astype(float) + params["b"].astype(float))
    error = p - np.eye(C)[examples["y"]]
    outer = examples["x"][:, :, None] * error[:, None, :]
    return np.concatenate([error, outer.reshape(len(p), -1)], 1), p[
        np.arange(len(p)), examples["y"]
    ]


def test_el2n_and_grand(problem):
    runs, examples, _ = problem
    errors, norms = [], []
    for params in runs:
        g, _ = gradients(params, examples)
        errors.append(np.linalg.norm(g[:, :C], axis=1))
        norms.append(np.linalg.norm(g, axis=1))
    got = prune.el2n(logits, runs, examples["x"], examples["y"], batch_size=5)
    np.testing.assert_allclose(got, np.mean(errors, 0), rtol=1e-5)
    np.testing.assert_allclose(prune.grand(loss, runs, examples, 5), np.mean(norms, 0), rtol=1e-5)


def test_forgetting_by_hand():
    right = np.array([[1, 0, 1, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 0, 1, 0]], bool)
    assert prune.forgetting(right).tolist() == [2, np.inf, 0, 1]
    assert prune.forgetting(np.stack([right, right]), never=4).tolist() == [4, 8, 0, 2]


def test_what_is_kept():
    scores = np.array([3.0, 1, 2, 5, 4])
    assert prune.keep_highest(scores, 0.4).tolist() == [False, False, False, True, True]
    assert prune.keep_middle(scores, 0.6).tolist() == [True, False, True, False, True]


def test_eight_devices_give_the_scores_of_one(problem):
    runs, examples, _ = problem
    mesh = Mesh(np.array(jax.devices()), ("data",))
    split = NamedSharding(mesh, PartitionSpec("data"))
    one = perexample.map_batched(loss, runs[0], examples, 8)
    many = perexample.map_batched(loss, runs[0], examples, 8, split)
    np.testing.assert_allclose(many, one, rtol=1e-6)  # a device adds up in an order of its own


def test_k_center_is_the_farthest_each_time():
    emb = np.random.default_rng(1).normal(size=(20, 2))
    chosen = [0]
    while len(chosen) < 6:
        far = [min(np.linalg.norm(e - emb[c]) for c in chosen) for e in emb]
        chosen.append(int(np.argmax(far)))
    assert select.k_center(emb, 6).tolist() == chosen
    assert sorted(select.k_center(np.zeros((4, 2)), 4).tolist()) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"k must lie in \[1, 20\]; got k=21"):
        select.k_center(emb, 21)


def test_ifd_is_a_ratio_of_losses():
    got = select.ifd(
        np.array([1.0, 2.0, 1.0, 3.0]), np.array([2.0, 2.0, 4.0, 2.0]), np.array([0, 0, 1, 0], bool)
    )
    assert got.score.tolist() == [0.5, 1.0, 0.25, 1.5]  # of perplexities it would be e^-1, ...
    assert got.keep.tolist() == [True, False, False, False]
    with pytest.raises(ValueError, match="least_loss_alone must be > 0"):
        select.ifd(np.ones(1), np.zeros(1))


def test_deita_by_hand():
    emb = np.array([[1, 0], [1, 0.1], [0, 1], [-1, 0.0], [0, 2.0]])
    assert select.deita(np.array([5.0, 6, 1, 3, 2]), emb, 5).tolist() == [1, 3, 4]
    assert select.deita(np.array([5.0, 6, 1, 3, 2]), emb, 2).tolist() == [1, 3]
    rating = select.expected_rating(
        np.log(np.array([[0, 0, 0, 1, 1, 0], [1, 1, 1, 1, 1, 1]]) + 1e-30)
    )
    np.testing.assert_allclose(rating, [4.5, 3.5])


def test_instag_by_hand():
    tags = [["a"], ["a", "b", "c"], ["b", "c"], ["d"], [], ["a", "d"]]
    # by number of tags: 1, 2, 5, 0, 3; the first pass takes 1 and 5, the second the rest
    assert select.instag(tags, 5).tolist() == [1, 5, 2, 0, 3]
    with pytest.raises(ValueError, match=r"num must lie in \[0, 5\]; got num=6"):
        select.instag(tags, 6)


def test_less_is_its_formula(problem, key):
    runs, train, targets = problem
    rng = np.random.default_rng(2)
    checkpoints, want = [], np.zeros((2, N))
    tasks = [jax.tree.map(lambda a: a[:2], targets), jax.tree.map(lambda a: a[2:], targets)]
    for params, lr in zip(runs, (3e-4, 1e-4), strict=True):
        m = jax.tree.map(lambda a: rng.normal(size=a.shape).astype(np.float32), params)
        v = jax.tree.map(lambda a: rng.uniform(0.1, 1, a.shape).astype(np.float32), params)
        checkpoints.append(select.Checkpoint(params, m, v, lr))
        g, _ = gradients(params, train)
        flat_m, flat_v = (np.concatenate([t["b"], t["w"].ravel()]).astype(float) for t in (m, v))
        direction = (0.9 * flat_m + 0.1 * g) / np.sqrt(0.999 * flat_v + 0.001 * g**2 + 1e-8)
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        for i, task in enumerate(tasks):
            plain, _ = gradients(params, task)
            plain /= np.linalg.norm(plain, axis=1, keepdims=True)
            want[i] += lr / 4e-4 * (direction @ plain.T).mean(1)
    got = select.less(key, loss, checkpoints, train, tasks, width=0, batch_size=4)
    np.testing.assert_allclose(got, want.max(0), atol=1e-6)
    rough = select.less(key, loss, checkpoints, train, tasks, width=1024, batch_size=4)
    assert np.corrcoef(rough, got)[0, 1] > 0.95


def test_projection_keeps_inner_products(key):
    vectors = np.random.default_rng(0).normal(size=(3, 3000)).astype(np.float32)
    project = perexample.rademacher(key, 3000, 4096)
    got = np.asarray(jax.vmap(project)(vectors))
    np.testing.assert_allclose(got @ got.T / 4096, vectors @ vectors.T, atol=300)


def slow_trak(runs, train, targets, ridge):
    """The formula: gradients of ln(p / (1 - p)) are those of -loss over 1 - p."""
    effect, doubt = 0, 0
    for params in runs:
        phi = []
        for examples in (train, targets):
            g, p = gradients(params, examples)
            phi.append(-g / (1 - p)[:, None])
        _, p = gradients(params, train)
        inverse = np.linalg.inv(phi[0].T @ phi[0] + ridge * np.eye(phi[0].shape[1]))
        effect = effect + phi[1] @ inverse @ phi[0].T / len(runs)
        doubt = doubt + (1 - p) / len(runs)
    return effect * doubt


def test_trak_is_its_formula(problem, key):
    runs, train, targets = problem
    got = attribute.trak(key, loss, runs, train, targets, width=0, ridge=0.3, batch_size=5)
    np.testing.assert_allclose(got, slow_trak(runs, train, targets, 0.3), rtol=2e-3, atol=1e-5)


@pytest.mark.slow
def test_influence_is_its_formula(problem):
    runs, train, targets = problem
    params = runs[0]

    def mean(vector):
        tree = {"b": vector[:C], "w": vector[C:].reshape(D, C)}
        return jnp.mean(jax.vmap(lambda e: loss(tree, e))(train))

    flat = np.concatenate([params["b"], params["w"].ravel()])
    hessian = np.asarray(jax.hessian(mean)(flat), float) + 0.1 * np.eye(len(flat))
    g, _ = gradients(params, train)
    z, _ = gradients(params, targets)
    want = -z @ np.linalg.solve(hessian, g.T)
    got = attribute.influence(loss, params, train, targets, ridge=0.1, batch_size=5)
    np.testing.assert_allclose(got, want, rtol=1e-2, atol=1e-3)


def test_lds_is_one_for_the_truth_and_about_zero_for_noise():
    rng = np.random.default_rng(0)
    scores, subsets = rng.normal(size=(3, 40)), rng.random((60, 40)) < 0.5
    outputs = subsets @ scores.T
    np.testing.assert_allclose(attribute.lds(scores, subsets, outputs), 1)
    assert np.all(np.abs(attribute.lds(rng.normal(size=(3, 40)), subsets, outputs)) < 0.5)
    with pytest.raises(ValueError, match="num_subsets must be >= 3"):
        attribute.lds(scores, subsets[:2], outputs[:2])


def test_curriculum_by_hand():
    np.testing.assert_allclose(
        curriculum.competence(np.array([0, 50, 100, 200]), 100, 0.1), [0.1, np.sqrt(0.505), 1, 1]
    )
    np.testing.assert_allclose(curriculum.percentile(np.array([3.0, 1, 2])), [1, 1 / 3, 2 / 3])
    np.testing.assert_allclose(
        curriculum.task_mixture([10, 100, 1000], 100), [10 / 210, 100 / 210, 100 / 210]
    )


def test_losses_that_are_not_finite_are_named(problem):
    runs, examples, _ = problem
    bad = {**examples, "x": examples["x"].copy()}
    bad["x"][7] = np.nan
    with pytest.raises(ValueError, match="grand must be finite; got nan for example 7"):
        prune.grand(loss, runs, bad)
    with pytest.raises(ValueError, match="one leading size"):
        prune.grand(loss, runs, {"x": np.ones((2, 3)), "y": np.ones(3)})
