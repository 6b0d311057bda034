"""The same self-labelling on another problem: tours of a salesman, with a small attention model.

Nothing of the loss is new here: a policy that samples tours and scores given ones is handed to
`objective.self_labelling`.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxml.core import check, param, rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.jsp import objective
from jaxml.jsp.objective import Sampled
from jaxml.nn import initializer, linear
from jaxml.train import state, step

_CLIP = 10.0  # bound of the logits, as in the attention models for routing
_HIDDEN = -1e30


@dataclasses.dataclass(frozen=True)
class TSPConfig:
    """Policy and training.

    Attributes:
      num_cities: n, uniform in the unit square.
      width: of the embeddings.
      heads: of every attention.
      layers: of the encoder.
      batch: instances per update.
      num_samples: tours per instance, beta.
      num_steps: updates.
      lr: of Adam.
      seed: of everything.
    """

    num_cities: int = 20
    width: int = 64
    heads: int = 4
    layers: int = 2
    batch: int = 32
    num_samples: int = 32
    num_steps: int = 300
    lr: float = 1e-3
    seed: int = 0

    def __post_init__(self):
        check.types(self)
        check.positive(num_cities=self.num_cities, layers=self.layers, batch=self.batch)
        check.positive(num_samples=self.num_samples, num_steps=self.num_steps, lr=self.lr)
        check.divides(heads=self.heads, width=self.width)


def params(cfg: TSPConfig) -> PyTree:
    """Declared parameters."""
    d, init = cfg.width, initializer.uniform_fan_in

    def layer() -> PyTree:
        return {
            "qkv": linear.params(d, 3 * d, init=init),
            "out": linear.params(d, d, init=init),
            "up": linear.params(d, 4 * d, init=init),
            "down": linear.params(4 * d, d, init=init),
        }

    return {
        "embed": linear.params(2, d, init=init),
        "layers": [layer() for _ in range(cfg.layers)],
        "query": linear.params(3 * d, d, init=init),
        "memory": linear.params(d, 3 * d, init=init),
        "glimpse": linear.params(d, d, init=init),
    }


def _attend(cfg: TSPConfig, q: Array, k: Array, v: Array, mask: Array) -> Array:
    """Attention of [t, d] over [s, d] with `mask` [t, s]."""
    split = (-1, cfg.heads, cfg.width // cfg.heads)
    q, k, v = q.reshape(split), k.reshape(split), v.reshape(split)
    scores = jnp.einsum("thc,shc->hts", q, k) * q.shape[-1] ** -0.5
    weight = jax.nn.softmax(jnp.where(mask[None], scores, _HIDDEN), -1)
    return jnp.einsum("hts,shc->thc", weight, v).reshape(-1, cfg.width)


def _norm(x: Array) -> Array:
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + 1e-6)


class Map(NamedTuple):
    """Cities encoded: embeddings [n, d]; keys, values and pointer keys [n, d]."""

    cities: Array
    keys: Array
    values: Array
    pointers: Array


def encode(tree: PyTree, cfg: TSPConfig, xy: Array) -> Map:
    """Encodes coordinates [n, 2]."""
    h = linear.apply(tree["embed"], xy - 0.5)
    everything = jnp.ones((xy.shape[0],) * 2, bool)
    for p in tree["layers"]:
        q, k, v = jnp.split(linear.apply(p["qkv"], _norm(h)), 3, axis=-1)
        h = h + linear.apply(p["out"], _attend(cfg, q, k, v, everything))
        h = h + linear.apply(p["down"], jax.nn.relu(linear.apply(p["up"], _norm(h))))
    return Map(h, *jnp.split(linear.apply(tree["memory"], _norm(h)), 3, axis=-1))


def logits(tree: PyTree, cfg: TSPConfig, known: Map, here: Array, free: Array) -> Array:
    """Logits [t, n] of the next city, from cities `here` [t] with `free` [t, n] still to visit."""
    mean = jnp.broadcast_to(jnp.mean(known.cities, 0)[None], (here.shape[0], cfg.width))
    first = jnp.broadcast_to(known.cities[:1], mean.shape)
    query = linear.apply(tree["query"], jnp.concatenate([mean, first, known.cities[here]], -1))
    seen = _attend(cfg, query, known.keys, known.values, free)
    query = query + linear.apply(tree["glimpse"], seen)
    scores = _CLIP * jnp.tanh(query @ known.pointers.T * cfg.width**-0.5)
    return jnp.where(free, scores, _HIDDEN)


def length(xy: Array, tour: Array) -> Array:
    """Length of the closed tour [n] through [n, 2]."""
    path = xy[tour]
    return jnp.sum(jnp.linalg.norm(path - jnp.roll(path, 1, axis=0), axis=-1))


def rollout(
    tree: PyTree, cfg: TSPConfig, known: Map, key: Key, temperature: Array
) -> tuple[Array, Array]:
    """A tour [n] that begins at city 0, and its log-probability."""
    cities = jnp.arange(cfg.num_cities)

    def go(carry: Any, t: Array) -> Any:
        here, free, logp = carry
        scores = logits(tree, cfg, known, here[None], free[None])[0]
        noise = jax.random.gumbel(jax.random.fold_in(key, t), scores.shape)
        city = jnp.argmax(scores + temperature * noise)
        logp = logp + scores[city] - jax.nn.logsumexp(scores)
        return (city, free & (cities != city), logp), city

    start = (jnp.zeros((), cities.dtype), cities > 0, jnp.zeros(()))
    (_, _, logp), rest = jax.lax.scan(go, start, jnp.arange(cfg.num_cities - 1))
    return jnp.concatenate([jnp.zeros((1,), rest.dtype), rest]), logp


def sample(
    tree: PyTree, cfg: TSPConfig, xy: Array, key: Key, num_samples: int, temperature: Any = 1.0
) -> Sampled:
    """Tours of a batch [b, n, 2]; with temperature 0 the greedy ones."""

    def one(xy: Array, key: Key) -> Sampled:
        known = encode(tree, cfg, xy)
        keys = jax.random.split(key, num_samples)
        each = jax.vmap(
            lambda k: rollout(tree, cfg, known, k, jnp.asarray(temperature, jnp.float32))
        )
        tours, logp = each(keys)
        return Sampled(tours, jax.vmap(lambda tour: length(xy, tour))(tours), logp)

    return jax.vmap(one)(xy, jax.random.split(key, xy.shape[0]))


def log_likelihood(tree: PyTree, cfg: TSPConfig, xy: Array, tours: Array) -> Array:
    """Mean log-probability [b] of given tours [b, n], their forced last choice left out."""

    def one(xy: Array, tour: Array) -> Array:
        known = encode(tree, cfg, xy)
        visited = jnp.cumsum(jax.nn.one_hot(tour, cfg.num_cities), 0)[:-1] > 0.5
        scores = jax.nn.log_softmax(logits(tree, cfg, known, tour[:-1], ~visited))
        chosen = jnp.take_along_axis(scores, tour[1:, None], 1)[:, 0]
        return jnp.sum(chosen) / max(cfg.num_cities - 2, 1)

    return jax.vmap(one)(xy, tours)


def instances(key: Key, batch: int, num_cities: int) -> Array:
    """Cities uniform in the unit square, [b, n, 2]."""
    return jax.random.uniform(key, (batch, num_cities, 2))


def train(cfg: TSPConfig) -> tuple[PyTree, list[dict[str, float]]]:
    """Trains from scratch on fresh instances.

    Returns:
      Parameters, and the metrics of every tenth update.
    """
    key = jax.random.key(cfg.seed)
    tree = jax.jit(lambda k: param.init(k, params(cfg)))(rng.fold(key, "init"))
    loss_fn = objective.self_labelling(
        lambda p, xy, k: sample(p, cfg, xy, k, cfg.num_samples),
        lambda p, xy, tours: log_likelihood(p, cfg, xy, tours),
    )
    optimizer = optax.adam(optax.cosine_decay_schedule(cfg.lr, cfg.num_steps, 0.1))
    now = state.create(key, tree, optimizer)
    update = step.make_step(loss_fn, optimizer)
    draw = jax.jit(lambda k: instances(k, cfg.batch, cfg.num_cities))
    history = []
    for index in range(cfg.num_steps):
        now, metrics = update(now, draw(rng.fold(key, "instances", index)))
        if index % 10 == 0 or index == cfg.num_steps - 1:
            history.append({"step": index + 1} | {k: float(v) for k, v in metrics.items()})
    return now.params, history


def optimum(xy: np.ndarray) -> float:
    """Length of the shortest tour through [n, 2], by Held and Karp's recursion; n <= 20.

    Raises:
      ValueError: more cities.

    >>> round(optimum(np.array([[0, 0], [1, 1], [0, 1], [1, 0]], float)), 6)
    4.0
    """
    num = len(xy) - 1
    check.between(1, 20, num_cities=num + 1)
    if num == 0:
        return 0.0
    between = np.linalg.norm(xy[:, None] - xy[None], axis=-1)
    best = np.full((2**num, num), np.inf, np.float32)
    best[1 << np.arange(num), np.arange(num)] = between[0, 1:]
    masks = np.arange(2**num)
    bits = np.array([m.bit_count() for m in range(2**num)], np.int8)
    for size in range(1, num):
        level = masks[bits == size]
        for city in range(num):
            open_ = level[(level >> city) & 1 == 0]
            reach = (best[open_] + between[1:, city + 1][None]).min(1)
            best[open_ | (1 << city), city] = reach
    return float((best[-1] + between[1:, 0]).min())
