"""Training and scoring of the forecaster of vehicles."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxml.core import rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.driving.metrics import trajectory
from jaxml.driving.prediction import kinematics, vector
from jaxml.driving.prediction import scene as scenes
from jaxml.driving.prediction.config import VehicleConfig, VehicleTrainConfig
from jaxml.driving.prediction.scene import Scene
from jaxml.driving.prediction.vector import Gaussians
from jaxml.driving.tracks.argoverse import Map
from jaxml.driving.tracks.windows import Windows
from jaxml.train import optim


class Scores(NamedTuple):
    """Means over agents; metres, nats per step, shares; `single` is the first mode."""

    num_agents: int
    single_ade: float
    single_fde: float
    ml_ade: float
    ml_fde: float
    min_ade: float
    min_fde: float
    nll: float
    miss: float


def truth(windows: Windows) -> np.ndarray:
    """The future in each agent's frame, float32 [n, s, 2]."""
    return scenes.to_frame(scenes.pose(windows), windows.future).astype(np.float32)


def _scaled(scene: Scene, future: Array, size: Array) -> tuple[Scene, Array]:
    """A world `size` [n] times as large: other speeds, the same shapes."""
    one = jnp.ones_like(size)
    four = jnp.stack([size, size, one, one], -1)
    return scene._replace(
        history=scene.history * four[:, None], others=scene.others * four[:, None, None],
        lines=scene.lines * four[:, None, None],
    ), future * size[:, None, None]  # fmt: skip


def _noisy(scene: Scene, key: Key, noise_m: float) -> Scene:
    """Noise on observed places, not on the last one, which is the origin."""

    def one(points: Array, name: str) -> Array:
        noise = noise_m * jax.random.normal(rng.fold(key, name), (*points.shape[:-1], 2))
        noise = noise.at[..., -1, :].set(0.0)
        return points.at[..., :2].add(noise)

    return scene._replace(history=one(scene.history, "own"), others=one(scene.others, "others"))


def make_steps(cfg: VehicleTrainConfig, num_steps: int, step_s: float) -> Callable[..., tuple]:
    """`(params, opt, step, motion, scene, future, key) -> (params, opt, step, losses)`, compiled.

    `motion` are the parameters that stay.
    """
    optimizer = optim.make(cfg.optim)

    def lost(params: PyTree, motion: PyTree, scene: Scene, future: Array) -> Array:
        whole = {**params, "motion": motion}
        return vector.loss(cfg.model, vector.apply(whole, cfg.model, scene, step_s), future)[0]

    def steps(params, opt, count, motion, scene, future, key):
        def step(carry, _):
            params, opt, count = carry
            own = rng.fold(key, count)
            rows = jax.random.randint(rng.fold(own, "rows"), (cfg.batch_size,), 0, len(future))
            drawn, ahead = jax.tree.map(lambda x: x[rows], (scene, future))
            left = jax.random.bernoulli(rng.fold(own, "mirror"), 0.5, (cfg.batch_size,))
            drawn, ahead = scenes.mirror(drawn, ahead, jnp.where(left, 1.0, -1.0))
            size = jax.random.uniform(
                rng.fold(own, "size"), left.shape, minval=-cfg.stretch, maxval=cfg.stretch
            )
            drawn, ahead = _scaled(drawn, ahead, jnp.exp(size))
            drawn = _noisy(drawn, rng.fold(own, "noise"), cfg.noise_m)
            value, grads = jax.value_and_grad(lost)(params, motion, drawn, ahead)
            updates, opt = optimizer.update(grads, opt, params)
            return (optax.apply_updates(params, updates), opt, count + 1), value

        (params, opt, count), losses = jax.lax.scan(step, (params, opt, count), length=num_steps)
        return params, opt, count, losses

    return jax.jit(steps)


def fit(
    key: Key, cfg: VehicleTrainConfig, windows: Windows, choice: Windows, *,
    roads: Map | None = None, say: Callable[[str], None] = lambda line: None,
) -> tuple[PyTree, float]:  # fmt: skip
    """Fits the motion layer, then the network; drives that are not trained on choose the check.

    Args:
      key: of everything.
      cfg: settings.
      windows: to train on.
      choice: that choose, by their negative log density.
      roads: the map, if the model sees one.
      say: told the scores.

    Returns:
      Parameters, and their score on `choice`.
    """
    model, step_s = cfg.model, windows.step_s
    (train, ahead), (kept, wanted) = (
        jax.tree.map(
            jnp.asarray, (scenes.see(w, model.num_neighbours, model.num_lines, roads), truth(w))
        )
        for w in (windows, choice)
    )
    params = vector.init(rng.fold(key, "init"), model, ahead.shape[1])
    own = rng.fold(key, "motion")[None]
    rows, count = jnp.arange(len(ahead))[None], jnp.array([len(ahead)])
    fitted = _fits(own, cfg, train, ahead, step_s, rows, count)
    motion = jax.tree.map(lambda x: x[0], fitted)
    del params["motion"]
    opt, count = optim.make(cfg.optim).init(params), jnp.int32(0)
    steps = make_steps(cfg, cfg.optim.total_steps // cfg.num_checks, step_s)
    run = jax.jit(
        lambda p: _scores(vector.apply({**p, "motion": motion}, model, kept, step_s), wanted)
    )
    best, lowest = params, np.inf
    for check_ in range(cfg.num_checks):
        named = rng.fold(key, "steps")
        params, opt, count, losses = steps(params, opt, count, motion, train, ahead, named)
        found = {name: float(jnp.mean(x)) for name, x in run(params).items()}
        say(
            f"check {check_ + 1}: loss {losses.mean():.3f}, to choose {found['nll']:.3f} nats, "
            f"most likely {found['ml_ade']:.3f}/{found['ml_fde']:.3f}"
        )
        if found["nll"] < lowest:
            best, lowest = params, found["nll"]
    return {**best, "motion": motion}, lowest


@functools.partial(jax.jit, static_argnames=("cfg", "step_s"))
def _fits(
    keys: Key, cfg: VehicleTrainConfig, scene: Scene, future: Array, step_s: float,
    rows: Array, counts: Array,
) -> PyTree:  # fmt: skip
    """Motion layers, one for each key and set of rows."""
    return jax.vmap(lambda k, r, n: kinematics.fit(k, cfg.motion, scene, future, step_s, r, n))(
        keys, rows, counts
    )


@functools.partial(jax.jit, static_argnames=("step_s", "num_future"))
def _paths(layers: PyTree, scene: Scene, step_s: float, num_future: int) -> Array:
    """Paths [m, n, s, 2] of m motion layers."""
    return jax.vmap(lambda p: kinematics.path(p, scene, step_s, num_future))(layers)


def motion_alone(
    key: Key, cfg: VehicleTrainConfig, windows: Windows, drive: np.ndarray, tested: Windows,
    of: np.ndarray, folds: Sequence[tuple[int, ...]],
) -> np.ndarray:  # fmt: skip
    """Errors of the motion layer on drives that it was not fitted to; all folds in one program.

    Args:
      key: of the fits.
      cfg: settings.
      windows: to fit to, and `drive`, the drive of each.
      drive: int [n].
      tested: windows of the same drives, and `of`, the drive of each.
      of: int [m].
      folds: drives that are left out together.

    Returns:
      ADE and FDE of every window of `tested`, [m, 2].
    """
    (seen, ahead), (kept, wanted) = (
        jax.tree.map(jnp.asarray, (scenes.see(w, 0), truth(w))) for w in (windows, tested)
    )
    inside = np.stack([~np.isin(drive, fold) for fold in folds])
    rows = jnp.asarray(np.argsort(~inside, axis=1, kind="stable"))
    keys, counts = jax.random.split(key, len(folds)), jnp.asarray(inside.sum(1))
    fitted = _fits(keys, cfg, seen, ahead, windows.step_s, rows, counts)
    found = _paths(fitted, kept, windows.step_s, wanted.shape[1])
    gap = np.linalg.norm(np.asarray(found) - np.asarray(wanted), axis=-1)
    fold = np.argmax([np.isin(of, f) for f in folds], 0)
    own = gap[fold, np.arange(len(of))]
    return np.stack([own.mean(-1), own[:, -1]], -1)


def _scores(found: Gaussians, future: Array) -> dict[str, Array]:
    likely = trajectory.most_likely(found.paths, found.log_prob, future)
    best = trajectory.best_per_agent(found.paths, future)
    first = trajectory.displacement(found.paths[:, :1], future)
    joint = jax.nn.logsumexp(-vector.nll(found, future) * future.shape[1] + found.log_prob, 1)
    return {
        "single_ade": first.ade[:, 0], "single_fde": first.fde[:, 0],
        "ml_ade": likely.ade, "ml_fde": likely.fde, "min_ade": best.ade, "min_fde": best.fde,
        "nll": -joint / future.shape[1], "miss": trajectory.miss(found.paths, future),
    }  # fmt: skip


def forecast(
    params: PyTree, cfg: VehicleConfig, windows: Windows, roads: Map | None = None
) -> Gaussians:
    """Forecasts of all vehicles of `windows`, in the world frame (paths; widths in the agent's)."""
    seen = scenes.see(windows, cfg.num_neighbours, cfg.num_lines, roads)
    found = jax.jit(lambda p, s: vector.apply(p, cfg, s, windows.step_s))(params, seen)
    place = scenes.pose(windows)
    world = scenes.to_world(place, np.asarray(found.paths, np.float64))
    return Gaussians(world, *(np.asarray(x) for x in found[1:]))


def score(
    params: PyTree, cfg: VehicleConfig, windows: Windows, rows: np.ndarray | None = None,
    roads: Map | None = None,
) -> Scores:  # fmt: skip
    """Scores on some agents (default: all); neighbours are taken from all of them."""
    seen = scenes.see(windows, cfg.num_neighbours, cfg.num_lines, roads)
    future = truth(windows)
    run = jax.jit(lambda p, s, y: _scores(vector.apply(p, cfg, s, windows.step_s), y))
    found = jax.tree.map(np.asarray, run(params, seen, future))
    rows = np.arange(len(windows)) if rows is None else rows
    return Scores(len(rows), **{name: float(x[rows].mean()) for name, x in found.items()})
