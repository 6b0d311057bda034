"""Pruning of models that are not ours to change: TNL, and users' flax models."""

import functools

import flax.linen
import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxml import cap, tnl
from jaxml.cap import transform, wanda
from jaxml.cap.calibrate import input_norms
from jaxml.core import tree
from jaxml.train import state
from jaxml.train.step import Loss, make_step
from tests.cap import oracle

SIZES = tnl.TNLConfig(vocab_size=17, width=16, num_layers=3, num_heads=2, glu_width=12)


def stacked(path):
    return int(path.startswith("stretch_"))


@pytest.fixture(scope="module")
def lm():
    model = tnl.language_model(SIZES)
    return model, model.init(jax.random.key(0))


@pytest.fixture(scope="module")
def tokens():
    """A language in which the next token follows from the last."""
    start = np.random.default_rng(0).integers(0, 17, (16, 1))
    ids = (start + 3 * np.arange(13)[None]) % 17
    return {"inputs": jnp.asarray(ids[:, :-1]), "targets": jnp.asarray(ids[:, 1:])}


@pytest.mark.slow
def test_pruning_while_training_a_language_model(lm, tokens):
    model, params = lm
    schedule = functools.partial(
        cap.cubic_threshold, total=30, start=1.0, end=0.3, warmup=4, cooldown=8
    )
    make = cap.pruning(optax.adam(1e-2), schedule, every=2, num_stacked=stacked)
    step = make_step(tnl.loss_fn(model), make)
    now = state.create(jax.random.key(1), params, make)
    losses = []
    for _ in range(40):
        now, metrics = step(now, tokens)
        losses.append(float(metrics["loss"]))
    for path, leaf in tree.flatten(now.params).items():
        if path.endswith(("kernel", "qkvu", "out")):
            per_layer = np.asarray(leaf).reshape(leaf.shape[0], -1)
            assert (np.count_nonzero(per_layer, 1) == int(0.3 * per_layer.shape[1])).all(), path
    assert float(jnp.count_nonzero(now.params["embed"]["embedding"])) == 17 * 16
    assert losses[-1] < 0.8 * losses[0]


def test_the_transformation_removes_the_smallest_and_keeps_the_rest():
    params = {"kernel": jnp.arange(1.0, 13.0).reshape(3, 4), "bias": jnp.ones(4)}
    make = cap.pruning(optax.sgd(1.0), lambda count: jnp.float32(0.5))
    grads = {"kernel": jnp.full((3, 4), 0.25), "bias": jnp.full(4, 0.5)}
    after, opt = params, make.init(params)
    for _ in range(2):
        updates, opt = make.update(grads, opt, after)
        after = optax.apply_updates(after, updates)
    want = np.where(np.arange(12).reshape(3, 4) >= 6, np.arange(1.0, 13).reshape(3, 4) - 0.5, 0)
    np.testing.assert_array_equal(after["kernel"], want)
    np.testing.assert_array_equal(after["bias"], jnp.zeros(4))
    assert transform.density(after) == 0.5
    with pytest.raises(ValueError, match="params must be given"):
        make.update(grads, opt)


def test_two_of_four_as_a_transformation():
    params = {"kernel": jax.random.normal(jax.random.key(0), (8, 3))}
    make = cap.pruning(
        optax.sgd(0.0), lambda count: jnp.float32(1.0), mask_fn=lambda x, keep: cap.nm_mask(x)
    )
    updates, _ = make.update(params, make.init(params), params)
    after = optax.apply_updates(params, updates)["kernel"]
    assert (np.count_nonzero(np.asarray(after).reshape(2, 4, 3), 1) == 2).all()


class Linen(flax.linen.Module):
    @flax.linen.compact
    def __call__(self, x):
        return flax.linen.Dense(3)(flax.linen.relu(flax.linen.Dense(8)(x)))


def _linen(x):
    model = Linen()
    return model.apply, model.init(jax.random.key(0), x)


def _nnx(x):
    class Net(flax.nnx.Module):
        def __init__(self, rngs):
            self.a = flax.nnx.Linear(5, 8, rngs=rngs)
            self.b = flax.nnx.Linear(8, 3, rngs=rngs)

        def __call__(self, x):
            return self.b(flax.nnx.relu(self.a(x)))

    graph, params = flax.nnx.split(Net(flax.nnx.Rngs(0)))
    return lambda p, x: flax.nnx.merge(graph, p)(x), flax.nnx.to_pure_dict(params)


@pytest.mark.parametrize(
    "make", [_linen, pytest.param(_nnx, marks=pytest.mark.slow)], ids=["linen", "nnx"]
)
def test_users_models_are_pruned_and_calibrated(make):
    x = jax.random.normal(jax.random.key(1), (32, 5))
    apply, params = make(x)
    y = jnp.sin(x[:, :3])
    optimizer = cap.pruning(optax.adam(3e-2), lambda count: jnp.float32(0.5))
    step = make_step(lambda p, b, k, e: Loss(jnp.mean((apply(p, b) - y) ** 2)), optimizer)
    now = state.create(jax.random.key(0), params, optimizer)
    for _ in range(30):
        now, metrics = step(now, x)
    assert transform.density(now.params) == pytest.approx(0.5, abs=0.05)
    assert float(metrics["loss"]) < 0.4
    norms = input_norms(apply, now.params, x)
    assert len(norms) == 2
    first = next(v for v in norms.values() if v.squares.shape == (5, 1))
    np.testing.assert_allclose(first.squares[:, 0], np.square(x).sum(0), rtol=1e-5)


def test_input_norms_of_tnl_equal_those_of_its_parts(lm, tokens):
    """The norm of the hidden state that the gated unit of the last layer gets, by hand."""
    model, params = lm
    norms = jax.jit(lambda p, ids: {
        k: v.squares for k, v in input_norms(model.hidden, p, ids).items()
    })(params, tokens["inputs"])  # fmt: skip
    names = {n for n in tree.flatten(params) if n.endswith(("kernel", "qkvu", "out"))}
    assert names <= set(norms)
    x = np.asarray(params["embed"]["embedding"], float)[np.asarray(tokens["inputs"])] * 4
    first = x / np.sqrt((x**2).mean(-1, keepdims=True) + SIZES.eps)
    got = norms["stretch_0/qkvu"]
    assert got.shape == (1, 16, 1, 1, 1)
    np.testing.assert_allclose(got[0, :, 0, 0, 0], (first**2).sum((0, 1)), rtol=1e-4)
    assert norms["stretch_1/out"].shape == (2, 2, 8, 1)
    assert norms["stretch_1/glu/down/kernel"].shape == (2, 12, 1)


def test_wanda_keeps_the_most_telling_inputs_of_each_output():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 8)) * np.geomspace(0.01, 10, 8)
    params = {"layer": {"kernel": jnp.asarray(rng.normal(size=(8, 5)), jnp.float32)}}
    batches = [jnp.asarray(part, jnp.float32) for part in np.split(x, 2)]
    norms = cap.calibrated(lambda p, b: b @ p["layer"]["kernel"], params, batches)
    np.testing.assert_allclose(norms["layer/kernel"].squares[:, 0], (x**2).sum(0), rtol=1e-4)
    mask = np.asarray(cap.wanda_masks(params, norms, 0.5)["layer/kernel"])
    scores = np.abs(np.asarray(params["layer"]["kernel"])) * np.sqrt((x**2).sum(0))[:, None]
    for o in range(5):
        np.testing.assert_array_equal(mask[:, o], oracle.topk(scores[:, o], 4))
    pairs = np.asarray(cap.wanda_masks(params, norms, 1.0, pattern=(2, 4))["layer/kernel"])
    assert (pairs.reshape(2, 4, 5).sum(1) == 2).all()


@pytest.mark.slow
def test_wanda_sees_through_a_rescaling_that_changes_nothing(lm, tokens):
    """Hidden units of TNL's gated part times s, their outgoing weights over s: the same function.

    Wanda removes the same weights as before, magnitude others, and the answer shows it.
    """
    model, params = lm
    order = np.random.default_rng(0).permutation(12)
    scale = jnp.asarray(np.geomspace(0.05, 20, 12)[order], jnp.float32)
    leaves = tree.flatten(params)
    for name in ("stretch_0", "stretch_1"):
        leaves[f"{name}/glu/up/kernel"] *= scale[None, None]
        leaves[f"{name}/glu/down/kernel"] /= scale[None, :, None]
    moved = tree.unflatten(leaves)
    hidden = jax.jit(model.hidden)
    dense = hidden(params, tokens["inputs"])
    np.testing.assert_allclose(hidden(moved, tokens["inputs"]), dense, atol=1e-4)
    before, after = (cap.calibrated(model.hidden, p, [tokens["inputs"]]) for p in (params, moved))
    down = lambda path, leaf: "glu/down" in path  # noqa: E731
    masks = cap.wanda_masks(moved, after, 0.5, select=down)
    assert len(masks) == 2
    for path, mask in cap.wanda_masks(params, before, 0.5, select=down).items():
        assert float(jnp.mean(mask == masks[path])) > 0.99, path
    ones = {path: n._replace(squares=jnp.ones_like(n.squares)) for path, n in after.items()}
    plain = cap.wanda_masks(moved, ones, 0.5, select=down)
    assert sum(int(m.sum()) for m in masks.values()) == sum(int(m.sum()) for m in plain.values())
    errors = [
        float(jnp.mean((hidden(wanda.apply_masks(moved, m), tokens["inputs"]) - dense) ** 2))
        for m in (masks, plain)
    ]
    assert errors[0] < 0.7 * errors[1], errors
