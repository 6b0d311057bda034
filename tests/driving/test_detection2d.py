"""CenterNet: targets and losses by hand, decoding of targets, one learnt batch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.driving import detection2d as d2
from jaxml.driving.detection2d import train as training
from jaxml.train.optim import OptimConfig
from jaxml.train.run import RunConfig

CFG = d2.PRESETS["tiny"]


def test_radius_is_that_of_the_published_program():
    def reference(h, w, o):
        b1, c1 = h + w, w * h * (1 - o) / (1 + o)
        r1 = (b1 + np.sqrt(b1**2 - 4 * c1)) / 2
        b2, c2 = 2 * (h + w), (1 - o) * w * h
        r2 = (b2 + np.sqrt(b2**2 - 16 * c2)) / 2
        a3, b3, c3 = 4 * o, -2 * o * (h + w), (o - 1) * w * h
        return min(r1, r2, (b3 + np.sqrt(b3**2 - 4 * a3 * c3)) / 2)

    for h, w in ((3, 4), (10, 20), (40, 8)):
        for o in (0.7, 0.1):
            got = d2.gaussian_radius(jnp.float32(h), jnp.float32(w), o)
            np.testing.assert_allclose(got, reference(h, w, o), rtol=1e-4)


def test_focal_loss_by_hand():
    p, target = np.array([0.8, 0.3, 0.6]), np.array([1.0, 0.5, 0.0])
    logits = jnp.asarray(np.log(p / (1 - p)), jnp.float32)
    want = -(0.2**2 * np.log(0.8) + 0.5**4 * 0.3**2 * np.log(0.7) + 0.6**2 * np.log(0.4))
    np.testing.assert_allclose(d2.focal_loss(logits, jnp.asarray(target)), want, rtol=1e-5)
    none = d2.focal_loss(logits, jnp.zeros(3))
    np.testing.assert_allclose(none, -np.sum(p**2 * np.log(1 - p)), rtol=1e-5)


def test_decoding_the_targets_gives_the_boxes():
    box = jnp.array([[8.0, 9, 31, 40], [50, 10, 70, 22], [0, 0, 1, 1]])
    label, mask = jnp.array([0, 2, 1]), jnp.array([True, True, False])
    made = d2.targets(box, label, mask, (16, 24), 3)
    maps = {"heat": jnp.log(made["heat"] + 1e-6) * 2 + 4}
    for name in ("size", "offset"):
        empty = jnp.zeros((16, 24, 2))
        maps[name] = empty.at[made["cell"][:2, 0], made["cell"][:2, 1]].set(made[name][:2])
    got, names, score = d2.decode({k: v[None] for k, v in maps.items()}, 5)
    order = jnp.argsort(names[0, :2])
    np.testing.assert_allclose(got[0, :2][order], box[:2], atol=1e-3)
    assert sorted(names[0, :2].tolist()) == [0, 2]
    assert float(score[0, 2]) < 0.5 < float(score[0, 1])


def test_overlapping_gaussians_take_the_larger():
    heat = d2.draw(
        jnp.array([[5.2, 5.0], [7.9, 5.0]]), jnp.array([3.0, 3.0]), jnp.array([0, 0]),
        jnp.ones(2, bool), (12, 12, 1),
    )  # fmt: skip
    assert float(heat[5, 5, 0]) == 1.0 == float(heat[5, 7, 0])
    np.testing.assert_allclose(heat[5, 6, 0], np.exp(-1 / (2 * (7 / 6) ** 2)), rtol=1e-5)


@pytest.mark.slow
def test_a_few_images_are_learnt(tmp_path):
    data = training.made_up(8, height=32, width=48)
    cfg = training.TrainConfig(
        CFG, 4, OptimConfig(lr=1e-2, warmup_steps=3), RunConfig(num_steps=40, save_every=40)
    )
    trained = training.train(cfg, data, tmp_path / "run")
    before = training.Trained(d2.init(jax.random.key(0), CFG), d2.init_state(CFG))
    after, first = (training.evaluate(x, CFG, data, 4)["AP50"] for x in (trained, before))
    assert after > first + 0.02
    again = training.train(cfg, data, tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, trained.params, again.params)


def test_sizes_are_checked():
    p, s = d2.init(jax.random.key(0), CFG), d2.init_state(CFG)
    with pytest.raises(ValueError, match="deepest_stride must divide height"):
        d2.apply(p, CFG, jnp.zeros((1, 30, 32, 3)), s)
    with pytest.raises(ValueError, match="two strides"):
        dataclasses.replace(CFG, widths=(8,))
