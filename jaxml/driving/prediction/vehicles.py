"""Training and scoring of the forecaster of vehicles."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxml.core import rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.driving.metrics import trajectory
from jaxml.driving.prediction import scene as scenes
from jaxml.driving.prediction import vector
from jaxml.driving.prediction.config import VehicleConfig, VehicleTrainConfig
from jaxml.driving.prediction.scene import Scene
from jaxml.driving.prediction.vector import Gaussians
from jaxml.driving.tracks.argoverse import Map
from jaxml.driving.tracks.windows import Windows
from jaxml.train import optim


class Scores(NamedTuple):
    """Means over agents; metres, nats per step, shares."""

    num_agents: int
    ml_ade: float
    ml_fde: float
    min_ade: float
    min_fde: float
    nll: float
    miss: float


def truth(windows: Windows) -> np.ndarray:
    """The future in each agent's frame, float32 [n, s, 2]."""
    return scenes.to_frame(scenes.pose(windows), windows.future).astype(np.float32)


def _mirror(scene: Scene, future: Array, sign: Array) -> tuple[Scene, Array]:
    """The same roads the other way round, where `sign` [n] is -1."""
    one = jnp.ones_like(sign)
    four, two = jnp.stack([one, sign, one, sign], -1), jnp.stack([one, sign], -1)
    return scene._replace(
        history=scene.history * four[:, None], others=scene.others * four[:, None, None],
        lines=scene.lines * four[:, None, None],
    ), future * two[:, None]  # fmt: skip


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
    """`(params, opt, step, scene, future, key) -> (params, opt, step, losses)`, one program."""
    optimizer = optim.make(cfg.optim)

    def lost(params: PyTree, scene: Scene, future: Array) -> Array:
        return vector.loss(cfg.model, vector.apply(params, cfg.model, scene, step_s), future)[0]

    def steps(params, opt, count, scene, future, key):
        def step(carry, _):
            params, opt, count = carry
            own = rng.fold(key, count)
            rows = jax.random.randint(rng.fold(own, "rows"), (cfg.batch_size,), 0, len(future))
            drawn, ahead = jax.tree.map(lambda x: x[rows], (scene, future))
            left = jax.random.bernoulli(rng.fold(own, "mirror"), 0.5, (cfg.batch_size,))
            drawn, ahead = _mirror(drawn, ahead, jnp.where(left, 1.0, -1.0))
            size = jax.random.uniform(
                rng.fold(own, "size"), left.shape, minval=-cfg.stretch, maxval=cfg.stretch
            )
            drawn, ahead = _scaled(drawn, ahead, jnp.exp(size))
            drawn = _noisy(drawn, rng.fold(own, "noise"), cfg.noise_m)
            value, grads = jax.value_and_grad(lost)(params, drawn, ahead)
            updates, opt = optimizer.update(grads, opt, params)
            return (optax.apply_updates(params, updates), opt, count + 1), value

        (params, opt, count), losses = jax.lax.scan(step, (params, opt, count), length=num_steps)
        return params, opt, count, losses

    return jax.jit(steps)


def fit(
    key: Key, cfg: VehicleTrainConfig, windows: Windows, choice: Windows, *,
    roads: Map | None = None, say: Callable[[str], None] = lambda line: None,
) -> tuple[PyTree, float]:  # fmt: skip
    """Trains on windows; others, of drives that are not trained on, choose the check kept.

    Args:
      key: of everything.
      cfg: settings.
      windows: to train on.
      choice: that choose: ADE + FDE / 2 of the most likely path.
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
    opt, count = optim.make(cfg.optim).init(params), jnp.int32(0)
    steps = make_steps(cfg, cfg.optim.total_steps // cfg.num_checks, step_s)
    run = jax.jit(lambda p: _scores(vector.apply(p, model, kept, step_s), wanted))
    best, lowest = params, np.inf
    for check_ in range(cfg.num_checks):
        params, opt, count, losses = steps(params, opt, count, train, ahead, rng.fold(key, "steps"))
        found = run(params)
        ade, fde = (float(jnp.mean(found[name])) for name in ("ml_ade", "ml_fde"))
        say(f"check {check_ + 1}: loss {losses.mean():.3f}, to choose {ade:.3f}/{fde:.3f}")
        if ade + 0.5 * fde < lowest:
            best, lowest = params, ade + 0.5 * fde
    return best, float(lowest)


def _scores(found: Gaussians, future: Array) -> dict[str, Array]:
    likely = trajectory.most_likely(found.paths, found.log_prob, future)
    best = trajectory.best_per_agent(found.paths, future)
    joint = jax.nn.logsumexp(-vector.nll(found, future) * future.shape[1] + found.log_prob, 1)
    return {
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
