"""Training of several folds at once: the folds are one axis of every array.

Each fold has its own training agents, its own space and its own validation agents, cut from the
training scenes; the scene that is tested takes no part, and which checkpoint is kept is decided by
validation alone.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxml.core import rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.driving.metrics import trajectory
from jaxml.driving.prediction import eigen, objective, social
from jaxml.driving.prediction.config import SocialConfig, TrainConfig
from jaxml.driving.prediction.eigen import EigenSpace
from jaxml.driving.prediction.observed import Observed, flip, observe, truth
from jaxml.driving.prediction.social import Forecast
from jaxml.driving.tracks.windows import Windows
from jaxml.train import optim


class Pool(NamedTuple):
    """Agents of all folds, one after the other; fold f owns `count[f]` rows from `start[f]`."""

    seen: Observed
    future: Array
    start: Array
    count: Array


class Fitted(NamedTuple):
    """Parameters and spaces with a leading fold axis, and the validation scores of every check."""

    params: PyTree
    space: EigenSpace
    scores: np.ndarray
    names: tuple[str, ...]

    def fold(self, name: str) -> tuple[PyTree, EigenSpace]:
        """One fold's own."""
        index = self.names.index(name)
        return jax.tree.map(lambda x: x[index], (self.params, self.space))


def pool(parts: list[Windows], num_neighbours: int) -> Pool:
    """Puts the agents of several folds into one set of arrays."""
    seen = [observe(part, max(num_neighbours, 1)) for part in parts]
    count = np.array([len(part) for part in parts], np.int32)
    start = np.cumsum([0, *count[:-1]]).astype(np.int32)
    arrays = [jnp.asarray(np.concatenate(x)) for x in zip(*seen, strict=True)]
    future = jnp.asarray(np.concatenate([truth(part) for part in parts]))
    return Pool(Observed(*arrays), future, jnp.asarray(start), jnp.asarray(count))


def fit_space(key: Key, cfg: SocialConfig, train: Windows) -> EigenSpace:
    """A fold's space; which agents move is a quantile of *training* speeds."""
    past = train.past - train.past[:, -1:]
    speed = np.linalg.norm(past[:, -1] - past[:, -3], axis=-1) / 2
    return EigenSpace.fit(
        key, past, train.future - train.past[:, -1:], num_vectors=cfg.num_vectors,
        num_anchors=cfg.num_modes, threshold=float(np.quantile(speed, cfg.quantile)),
    )  # fmt: skip


def _draw(pool_: Pool, key: Key, batch_size: int) -> tuple[Observed, Array]:
    """Agents of every fold, mirrored at random: leaves [folds, batch, ...]."""
    shape = (len(pool_.count), batch_size)
    share = jax.random.uniform(rng.fold(key, "rows"), shape)
    rows = pool_.start[:, None] + (share * pool_.count[:, None]).astype(jnp.int32)
    seen, future = jax.tree.map(lambda x: x[rows], (pool_.seen, pool_.future))
    sign = jnp.where(jax.random.bernoulli(rng.fold(key, "flip"), 0.5, shape), 1.0, -1.0)
    return jax.vmap(flip)(seen, future, sign)


class Carry(NamedTuple):
    """What a step passes on; leaves with a leading fold axis, but for the number of steps."""

    params: PyTree
    opt: Any
    step: Array


def start(key: Key, cfg: TrainConfig, num_folds: int, num_past: int, num_future: int) -> Carry:
    """Parameters and optimiser state of every fold before the first step."""
    keys = jax.random.split(rng.fold(key, "init"), num_folds)
    params = jax.vmap(lambda k: social.init(k, cfg.model, num_past, num_future))(keys)
    return Carry(params, jax.vmap(_optimizer(cfg).init)(params), jnp.int32(0))


def _optimizer(cfg: TrainConfig) -> optax.GradientTransformation:
    return optim.make(cfg.optim)


def make_steps(cfg: TrainConfig, num_steps: int) -> Callable[..., tuple[Carry, Array]]:
    """`(carry, pool, spaces, key) -> (carry, losses [num_steps, folds])`, one program."""
    optimizer = _optimizer(cfg)

    def one(params: PyTree, space: EigenSpace, seen: Observed, future: Array) -> Array:
        coded = social.predict(params, cfg.model, space, seen)
        return objective.loss(cfg.model, space, seen, coded, future)[0]

    def update(params, opt, space, seen, future):
        value, grads = jax.value_and_grad(one)(params, space, seen, future)
        updates, opt = optimizer.update(grads, opt, params)
        return optax.apply_updates(params, updates), opt, value

    def steps(carry: Carry, pool_: Pool, spaces: EigenSpace, key: Key) -> tuple[Carry, Array]:
        def step(carry: Carry, _: None) -> tuple[Carry, Array]:
            seen, future = _draw(pool_, rng.fold(key, carry.step), cfg.batch_size)
            params, opt, value = jax.vmap(update)(carry.params, carry.opt, spaces, seen, future)
            return Carry(params, opt, carry.step + 1), value

        return jax.lax.scan(step, carry, length=num_steps)

    return jax.jit(steps, donate_argnums=0)


@functools.cache
def forecaster(cfg: SocialConfig) -> Callable[[PyTree, EigenSpace, Observed], Forecast]:
    """`social.apply`, compiled once for each number of agents."""
    return jax.jit(lambda params, space, seen: social.apply(params, cfg, space, seen))


def forecast(
    cfg: SocialConfig, params: PyTree, space: EigenSpace, windows: Windows, block: int = 2048
) -> Forecast:
    """Forecasts of all agents, [n, ...] in NumPy, relative to their last positions."""
    seen = observe(windows, max(cfg.num_neighbours, 1))
    return forecast_seen(cfg, params, space, seen, block)


def forecast_seen(
    cfg: SocialConfig, params: PyTree, space: EigenSpace, seen: Observed, block: int = 2048
) -> Forecast:
    """The same from pasts alone; blocks of one size, so one program serves all."""
    n, parts = len(seen.past), []
    for first in range(0, n, block):
        rows = np.minimum(np.arange(first, first + block), n - 1)
        part = Observed(*(jnp.asarray(np.asarray(x)[rows]) for x in seen))
        parts.append([np.asarray(x) for x in forecaster(cfg)(params, space, part)])
    return Forecast(*(np.concatenate(x)[:n] for x in zip(*parts, strict=True)))


def validate(cfg: SocialConfig, params: PyTree, space: EigenSpace, windows: Windows) -> float:
    """What a checkpoint is chosen by: minADE + minFDE + half of the most likely path's errors."""
    found, future = forecast(cfg, params, space, windows), truth(windows)
    best = trajectory.best_per_agent(jnp.asarray(found.paths), jnp.asarray(future))
    likely = trajectory.most_likely(
        jnp.asarray(found.paths), jnp.asarray(found.log_prob), jnp.asarray(future)
    )
    return float(jnp.mean(best.ade + best.fde) + 0.5 * jnp.mean(likely.ade + likely.fde))


def fit(
    key: Key,
    cfg: TrainConfig,
    train: Mapping[str, Windows],
    validation: Mapping[str, Windows],
    say: Callable[[str], None] = lambda line: None,
) -> Fitted:
    """Trains all folds side by side.

    Args:
      key: of everything.
      cfg: settings.
      train: windows by fold.
      validation: windows by fold that choose among checks; never those of the tested scene.
      say: told the loss at every check.

    Raises:
      ValueError: folds that differ.
    """
    names = tuple(train)
    if names != tuple(validation):
        raise ValueError(f"validation must hold folds {names}; got {tuple(validation)}.")
    spaces = [fit_space(rng.fold(key, "space", n), cfg.model, train[n]) for n in names]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *spaces)
    agents = pool(list(train.values()), cfg.model.num_neighbours)
    sizes = agents.seen.past.shape[1], agents.future.shape[1]
    carry = start(key, cfg, len(names), *sizes)
    steps = make_steps(cfg, cfg.optim.total_steps // cfg.num_checks)
    best, scores = jax.tree.map(jnp.copy, carry.params), []
    for check_ in range(cfg.num_checks):
        carry, losses = steps(carry, agents, stacked, rng.fold(key, "steps"))
        now = [
            validate(cfg.model, jax.tree.map(lambda x, i=i: x[i], carry.params), spaces[i], w)
            for i, w in enumerate(validation.values())
        ]
        better = np.array(now) < np.min(scores, 0) if scores else np.ones(len(names), bool)
        scores.append(now)
        best = _better(jnp.asarray(better), carry.params, best)
        say(f"check {check_ + 1}: loss {losses.mean():.4f}, validation {np.mean(now):.4f}")
    return Fitted(best, stacked, np.array(scores), names)


def _better(better: Array, new: PyTree, old: PyTree) -> PyTree:
    """Of every fold the new parameters where they are better."""

    def one(new: Array, old: Array) -> Array:
        return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return jax.tree.map(one, new, old)


def anchors_only(space: EigenSpace, windows: Windows) -> np.ndarray:
    """The forecast of a space without a network, [n, m, s, 2]."""
    past = jnp.asarray(windows.past - windows.past[:, -1:], jnp.float32)
    return np.asarray(jax.jit(eigen.anchor_paths)(space, past))
