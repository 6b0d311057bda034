"""Pillars and the centre head: invariances, decoding of targets, one learnt run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.driving import boxes, sim
from jaxml.driving import detection3d as d3
from jaxml.driving.detection3d import objective
from jaxml.driving.detection3d import train as training
from jaxml.train.optim import OptimConfig
from jaxml.train.run import RunConfig

CFG = d3.PRESETS["tiny"]


@pytest.fixture(scope="module")
def net():
    return d3.init(jax.random.key(0), CFG), d3.init_state(CFG)


@pytest.fixture(scope="module")
def cloud():
    rng = np.random.default_rng(0)
    points = rng.uniform([-18, -18, -2, 0], [18, 18, 1, 1], (300, 4)).astype(np.float32)
    return jnp.asarray(points)


@pytest.fixture(scope="module")
def apply():
    return jax.jit(lambda p, s, x, m: d3.apply(p, CFG, x[None], m[None], s, train=True))


def test_neither_order_nor_padding_matters(net, cloud, apply):
    """Padding reaches neither the batch statistics nor the maximum."""
    padded = jnp.concatenate([cloud, jnp.full((100, 4), 3.0)])
    mask = jnp.arange(400) < 300
    order = jax.random.permutation(jax.random.key(1), 400)
    maps, state = apply(*net, padded, mask)
    again, state2 = apply(*net, padded[order].at[:, 3].add(0.0), mask[order])
    other, state3 = apply(*net, padded.at[300:].set(-7.0), mask)
    for a, b in ((maps, again), (maps, other), (state, state2), (state, state3)):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-4), a, b)


def test_pillar_features_by_a_loop(cloud):
    made = d3.pillarize(cloud, jnp.ones(300, bool), CFG.grid)
    points = np.asarray(cloud, np.float64)
    cells = np.floor((points[:, :2] + 16) / CFG.grid.pillar_m).astype(int)
    for i in (0, 7, 80, 123):
        inside = (np.abs(points[i, :2]) < 16).all() and -3 <= points[i, 2] < 1.5
        assert bool(made.mask[i]) == inside
        if not inside:
            continue
        mine = points[(cells == cells[i]).all(1)]
        middle = np.array([*((cells[i] + 0.5) * CFG.grid.pillar_m - 16), -0.75])
        want = np.concatenate(
            [points[i], points[i, :3] - mine[:, :3].mean(0), points[i, :3] - middle]
        )
        np.testing.assert_allclose(made.feature[i], want, atol=1e-5)


def test_points_need_an_intensity(cloud):
    with pytest.raises(ValueError, match="x, y, z, intensity"):
        d3.pillarize(cloud[:, :3], jnp.ones(300, bool), CFG.grid)
    with pytest.raises(ValueError, match="must rise"):
        d3.GridConfig(x_m=(1.0, 0.0))
    with pytest.raises(ValueError, match="all_strides must divide"):
        dataclasses.replace(CFG, strides=(2, 2, 3))


def test_decoding_the_targets_gives_the_boxes():
    truth = boxes.make(
        np.array([[3.3, -7.1, -0.8, 4.2, 1.8, 1.5, 2.0], [-9, 5, -0.5, 0.8, 0.6, 1.7, -1.0]]),
        np.array([0, 1]),
        room=4,
    )
    made = d3.targets(truth, CFG)
    maps = {"heat": jnp.log(made["heat"] + 1e-6) * 3 + 5}
    for name in ("offset", "z", "size", "turn"):
        empty = jnp.zeros((*CFG.map_shape, made[name].shape[-1]))
        maps[name] = empty.at[made["cell"][:2, 0], made["cell"][:2, 1]].set(made[name][:2])
    found = d3.decode({k: v[None] for k, v in maps.items()}, CFG)
    for i in range(2):
        (at,) = np.flatnonzero(found.mask[0] & (found.label[0] == i) & (found.score[0] > 0.9))
        np.testing.assert_allclose(found.box[0, at], truth.box[i], atol=1e-4)


def test_augmentation_moves_points_with_their_boxes(cloud):
    truth = boxes.make(np.array([[3.0, 2, 0, 6, 4, 3, 0.5]]))
    batch = jax.tree.map(lambda x: x[None], truth)
    inside = boxes.points_in_boxes(cloud, truth.box)
    assert int(inside.sum()) > 1
    for seed in range(4):
        points, moved = objective.augmented(jax.random.key(seed), cloud[None], batch)
        np.testing.assert_array_equal(boxes.points_in_boxes(points[0], moved.box[0]), inside)


@pytest.mark.slow
def test_a_run_learns_and_goes_on_exactly(tmp_path):
    layouts = sim.generated(12, 16)
    cfg = training.TrainConfig(
        CFG, sim.PRESETS["tiny"], 2, OptimConfig(lr=1e-2, warmup_steps=3, clip_norm=10.0),
        RunConfig(num_steps=12, save_every=6, log_every=1),
    )  # fmt: skip
    straight = training.train(cfg, layouts, tmp_path / "a")
    half = dataclasses.replace(cfg, run=dataclasses.replace(cfg.run, num_steps=6))
    half = dataclasses.replace(half, optim=dataclasses.replace(cfg.optim, schedule="constant"))
    whole = dataclasses.replace(cfg, optim=half.optim)
    training.train(half, layouts, tmp_path / "b")
    resumed = training.train(whole, layouts, tmp_path / "b")
    again = training.train(whole, layouts, tmp_path / "c")
    jax.tree.map(np.testing.assert_array_equal, resumed.params, again.params)
    import json

    lines = (tmp_path / "a/metrics.jsonl").read_text().splitlines()
    loss = [json.loads(line)["loss"] for line in lines]
    assert np.mean(loss[-3:]) < 0.7 * np.mean(loss[:3])
    scores = training.evaluate(straight, cfg, layouts, num=4)
    assert set(scores) == {"AP@0.5", "AP@0.7"}
