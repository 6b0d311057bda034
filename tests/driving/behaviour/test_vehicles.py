"""The forecaster of vehicles and Social-GAN on made tracks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.driving.prediction import (
    baselines,
    gan_train,
    h100,
    kinematics,
    scene,
    socialgan,
    vector,
    vehicles,
)  # fmt: skip
from jaxml.driving.prediction.config import (
    PRESETS,
    MotionConfig,
    VehicleConfig,
    VehicleTrainConfig,
)  # fmt: skip
from jaxml.driving.tracks import argoverse, toy
from jaxml.driving.tracks.windows import concatenate
from jaxml.train.optim import OptimConfig

CFG = VehicleConfig(num_modes=3, num_neighbours=2, num_lines=2, width=16, num_heads=2)
GAN = socialgan.GanConfig(pool_hidden=16, num_samples=3)


@pytest.fixture(scope="module")
def roads():
    random = np.random.default_rng(0)
    points = np.stack([argoverse.resample(random.normal(0, 20, (3, 2))) for _ in range(5)])
    return argoverse.Map(points, np.array([0, 0, 1, 2, 0], np.int32), np.zeros(5, bool))


@pytest.fixture(scope="module")
def cars():
    return toy.traffic(0, 24)


@pytest.fixture(scope="module")
def apply():
    return jax.jit(lambda p, s: vector.apply(p, CFG, s))


@pytest.fixture(scope="module")
def params():
    made = vector.init(jax.random.key(0), CFG)
    kernel = made["head"]["kernel"]
    noise = 0.05 * jax.random.normal(jax.random.key(1), kernel.shape)
    return {**made, "head": {**made["head"], "kernel": noise}}


def test_frames_there_and_back(cars):
    place = scene.pose(cars)
    back = scene.to_world(place, scene.to_frame(place, cars.future))
    np.testing.assert_allclose(back, cars.future, atol=1e-9)
    np.testing.assert_allclose(scene.to_frame(place, cars.past)[:, -1], 0.0, atol=1e-9)


def test_an_untrained_network_drives_straight_on(cars, roads, apply):
    seen = scene.see(cars, 2, 2, roads)
    found = apply(vector.init(jax.random.key(0), CFG), seen)
    place = scene.pose(cars)
    straight = scene.to_frame(place, baselines.constant_velocity(cars.past, 15, 2))
    np.testing.assert_allclose(found.paths[:, 0, :, 1], 0.0, atol=1e-4)
    np.testing.assert_allclose(found.paths[:, 0, -1, 0], straight[:, -1, 0], atol=1e-2)


def test_a_future_of_nan_changes_nothing(cars, roads, apply, params):
    plain, blind = (apply(params, scene.see(w, 2, 2, roads)) for w in (cars, cars.blind()))
    for a, b in zip(plain, blind, strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_array_equal(a, b)


def test_the_forecast_turns_and_moves_with_the_world(cars, roads, apply, params):
    turn = np.array([[0.6, 0.8], [-0.8, 0.6]])
    angle = np.arctan2(0.8, 0.6)
    moved = dataclasses.replace(
        cars, past=cars.past @ turn + [500.0, -90.0], heading=cars.heading + angle
    )
    map_ = roads._replace(points=roads.points @ turn + [500.0, -90.0])
    a = apply(params, scene.see(cars, 2, 2, roads))
    b = apply(params, scene.see(moved, 2, 2, map_))
    np.testing.assert_allclose(a.paths, b.paths, atol=5e-3)


def test_masked_lines_and_points_order_do_not_matter(cars, roads, apply, params):
    seen = scene.see(cars, 2, 2, roads)
    hidden = seen._replace(lines_mask=np.zeros_like(seen.lines_mask))
    other = hidden._replace(lines=hidden.lines + 9.0)
    np.testing.assert_array_equal(apply(params, hidden).paths, apply(params, other).paths)
    turned = seen._replace(lines=seen.lines[:, :, ::-1])
    np.testing.assert_allclose(apply(params, seen).paths, apply(params, turned).paths, atol=1e-4)


def test_density_is_the_bivariate_gaussian():
    random = np.random.default_rng(0)
    paths, truth = random.normal(size=(1, 1, 1, 2)), random.normal(size=(1, 1, 2))
    log_scale, rho = np.array([[[[0.2, -0.3]]]]), np.array([[[0.4]]])
    found = vector.Gaussians(*(jnp.float32(x) for x in (paths, [[0.0]], log_scale, rho)))
    sx, sy = np.exp(0.2), np.exp(-0.3)
    cov = np.array([[sx**2, 0.4 * sx * sy], [0.4 * sx * sy, sy**2]])
    gap = truth[0, 0] - paths[0, 0, 0]
    want = 0.5 * gap @ np.linalg.inv(cov) @ gap + np.log(2 * np.pi * np.sqrt(np.linalg.det(cov)))
    got = float(vector.nll(found, jnp.float32(truth))[0, 0])
    assert got == pytest.approx(want, rel=1e-4)


def test_paths_are_those_a_car_could_drive(cars, roads, apply, params):
    wild = {**params, "head": {**params["head"], "kernel": 200 * params["head"]["kernel"]}}
    paths = np.asarray(apply(wild, scene.see(cars, 2, 2, roads)).paths, np.float64)
    whole = np.concatenate([np.zeros_like(paths[:, :, :1]), paths], 2)
    speed = np.linalg.norm(np.diff(whole, axis=2), axis=-1) / 0.2
    assert np.abs(np.diff(speed, axis=2)).max() < 2 * 6.0 * 0.2 + 0.05


def test_a_map_must_be_given(cars):
    with pytest.raises(ValueError, match="roads must be given"):
        scene.see(cars, 2, 2)


@pytest.mark.slow
def test_training_beats_the_start():
    plan = VehicleTrainConfig(
        dataclasses.replace(CFG, num_lines=0),
        OptimConfig(lr=3e-3, schedule="constant", total_steps=60), batch_size=32, num_checks=3,
        motion=MotionConfig(60, 64, 3e-3),
    )  # fmt: skip
    train, choice = toy.traffic(1, 96), toy.traffic(2, 48)
    found, score = vehicles.fit(jax.random.key(0), plan, train, choice)
    start = vehicles.score(vector.init(jax.random.key(0), plan.model), plan.model, choice)
    end = vehicles.score(found, plan.model, choice)
    assert score == pytest.approx(end.nll, rel=1e-3)
    assert end.single_ade < start.single_ade


@pytest.fixture(scope="module")
def crowd():
    windows = toy.crowd(0, 12)
    return windows, *socialgan.crowds(windows, 12)


def test_crowds_hold_every_agent_once(crowd):
    windows, found, flat = crowd
    assert found.mask.sum() == len(windows) == len(set(flat.tolist()))
    past = found.past.reshape(-1, 8, 2)[flat]
    np.testing.assert_allclose(past - past[:, -1:], windows.past - windows.past[:, -1:], atol=1e-4)


def test_pooling_ignores_padding_and_the_order_of_agents(crowd):
    _, found, _ = crowd
    some = jax.tree.map(lambda x: jnp.asarray(x[:3]), found)
    p = socialgan.start(jax.random.key(0), GAN).params["generator"]
    hidden = jax.random.normal(jax.random.key(1), (*some.mask.shape, GAN.width))
    run = jax.jit(lambda h, x, m: socialgan.pool(p, h, x, m))
    place = some.past[:, :, -1]
    base = run(hidden, place, some.mask)
    junk = jnp.where(some.mask[..., None], hidden, 99.0)
    keep = np.asarray(some.mask)
    np.testing.assert_allclose(
        np.asarray(run(junk, place, some.mask))[keep], np.asarray(base)[keep], atol=1e-5
    )
    order = np.random.default_rng(0).permutation(keep.shape[1])
    mixed = run(hidden[:, order], place[:, order], some.mask[:, order])
    np.testing.assert_allclose(mixed, base[:, order], atol=1e-5)


def test_variety_is_the_least_sum_over_a_window():
    random = np.random.default_rng(0)
    paths, truth = random.normal(size=(3, 2, 4, 5, 2)), random.normal(size=(2, 4, 5, 2))
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1]], bool)
    total = 0.0
    for b in range(2):
        total += min(
            sum(
                ((paths[k, b, a] - truth[b, a]) ** 2).sum(-1).mean() for a in range(4) if mask[b, a]
            )
            for k in range(3)
        )
    got = socialgan.variety(*(jnp.asarray(x) for x in (paths, truth, mask)))
    assert float(got) == pytest.approx(total / mask.sum(), rel=1e-5)


@pytest.mark.slow
def test_the_script_for_a_large_machine_runs_on_made_tracks():
    folds = toy.folds()
    plan = gan_train.GanPlan(GAN, num_steps=4, batch_size=4, most=8, num_checks=2)
    found = gan_train.study({"eth": folds["eth"]}, plan, lambda line: None)
    assert 0 < found["test"]["mean"]["min_ade"] < 20
    cfg = h100.shorter(PRESETS["tiny"], 4)
    for run in (cfg, h100.alone(cfg)):
        scores = h100.social_run(folds, run, 0, None)
        assert set(scores["test"]) == {*folds, "mean"}


@pytest.fixture(scope="module")
def fitted_motion():
    """The motion layer on made traffic of three drives, the last two left out in turn."""
    windows = [toy.traffic(i, 48) for i in range(3)]
    every, drive = concatenate("all", windows), np.repeat(np.arange(3), 48)
    plan = VehicleTrainConfig(motion=MotionConfig(120, 64, 3e-3))

    def errors(train):
        return vehicles.motion_alone(
            jax.random.key(0), plan, train, drive, every, drive, ((0,), (1,), (2,))
        )

    return every, errors


def test_motion_is_learnt_across_drives(fitted_motion):
    every, errors = fitted_motion
    found = errors(every)
    gap = np.linalg.norm(baselines.constant_velocity(every.past, 15, 2) - every.future, axis=-1)
    assert found.shape == (144, 2)
    assert (found.mean(0) < 0.6 * np.array([gap.mean(), gap[:, -1].mean()])).all()
    wrong = every.future.copy()
    wrong[:48] += 50.0  # a drive's own future has no say in what is said of it
    other = errors(dataclasses.replace(every, future=wrong))
    np.testing.assert_array_equal(found[:48], other[:48])
    assert np.abs(found[48:] - other[48:]).max() > 1e-3


def test_the_first_mode_is_the_motion_layer(cars, roads, apply, params):
    kernel = 0.02 * jax.random.normal(jax.random.key(2), params["motion"]["kernel"].shape)
    bent = {**params, "motion": {"kernel": kernel}}
    seen = scene.see(cars, 2, 2, roads)
    found = apply(bent, seen)
    alone = jax.jit(lambda p, s: kinematics.path(p, s, 0.2, 15))(bent["motion"], seen)
    np.testing.assert_allclose(found.paths[:, 0], alone, atol=1e-3)
    assert np.abs(found.paths[:, 1] - alone).max() > 0.1
    mirrored, flipped = scene.mirror(seen, jnp.zeros((24, 15, 2)), -jnp.ones(24))
    assert np.isfinite(flipped).all()
    np.testing.assert_allclose(kinematics.features(mirrored, 0.2)[:, 0],
                               kinematics.features(seen, 0.2)[:, 0], atol=1e-6)  # fmt: skip
