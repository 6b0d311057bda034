"""Social-GAN (Gupta et al. 2018): LSTMs, pooling over all agents of a window, a discriminator.

Windows are padded to one number of agents: positions [b, a, t, 2] with a mask [b, a].
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxml.core import check, param, rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.driving.tracks.windows import Windows
from jaxml.nn import linear, recurrent
from jaxml.nn.recurrent import State


@dataclasses.dataclass(frozen=True)
class GanConfig:
    """Sizes of the published model 20V-20-P.

    Attributes:
      embedding: of a displacement.
      width: of the LSTMs.
      pool_hidden: of the pooling MLP.
      bottleneck: of the pooled vector.
      noise: drawn once for a window.
      num_future: steps forecast.
      num_samples: k of the variety loss.
      variety_weight: of that loss beside the adversarial one.
      lr: of both sides.
    """

    embedding: int = 16
    width: int = 32
    pool_hidden: int = 512
    bottleneck: int = 8
    noise: int = 8
    num_future: int = 12
    num_samples: int = 20
    variety_weight: float = 1.0
    lr: float = 1e-3

    def __post_init__(self):
        check.positive(embedding=self.embedding, width=self.width, lr=self.lr)
        check.between(1, self.width - 1, noise=self.noise)
        check.positive(pool_hidden=self.pool_hidden, bottleneck=self.bottleneck)
        check.positive(num_future=self.num_future, num_samples=self.num_samples)


class Crowd(NamedTuple):
    """Windows as rectangles: positions relative to its first agent's last one, metres."""

    past: Any
    future: Any
    mask: Any


def crowds(windows: Windows, most: int) -> tuple[Crowd, np.ndarray]:
    """Windows padded to `most` agents, and where each agent went: its index or -1, [n].

    Agents beyond `most` in a window are left out.
    """
    check.positive(most=most)
    groups, inverse = np.unique(windows.group, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    first = np.searchsorted(inverse[order], np.arange(len(groups)))
    slot = np.empty(len(inverse), int)
    slot[order] = np.arange(len(inverse)) - first[inverse[order]]
    kept = slot < most
    flat = np.where(kept, inverse * most + slot, -1)
    shape = (len(groups) * most,)
    arrays = []
    for x in (windows.past, windows.future):
        full = np.zeros((*shape, *x.shape[1:]), np.float32)
        centre = windows.past[order[first], -1][inverse]
        full[flat[kept]] = (x - centre[:, None])[kept]
        arrays.append(full.reshape(len(groups), most, *x.shape[1:]))
    mask = np.zeros(shape, bool)
    mask[flat[kept]] = True
    return Crowd(arrays[0], arrays[1], mask.reshape(len(groups), most)), flat


def params(cfg: GanConfig) -> PyTree:
    """Declares `generator` and `discriminator`."""
    e, w, b = cfg.embedding, cfg.width, cfg.bottleneck
    encoder = {"embed": linear.params(2, e), "lstm": recurrent.lstm_params(e, w)}
    return {
        "generator": {
            "encoder": encoder,
            "pool_embed": linear.params(2, e),
            "pool_up": linear.params(e + w, cfg.pool_hidden),
            "pool_down": linear.params(cfg.pool_hidden, b),
            "context": linear.params(w + b, w - cfg.noise),
            "decoder_embed": linear.params(2, e),
            "decoder": recurrent.lstm_params(e, w),
            "out": linear.params(w, 2),
        },
        "discriminator": {
            "encoder": encoder,
            "up": linear.params(w, 64),
            "down": linear.params(64, 1),
        },
    }


def _encode(p: PyTree, steps: Array) -> Array:
    """The last hidden state of displacements [n, t, 2], [n, width]."""
    return recurrent.lstm(p["lstm"], linear.apply(p["embed"], steps))[1].h


def pool(p: PyTree, hidden_baw: Array, place: Array, mask: Array) -> Array:
    """Pooling over every agent of the window, itself included, [b, a, bottleneck].

    Args:
      p: the generator's parameters.
      hidden_baw: hidden states [b, a, w].
      place: last positions [b, a, 2].
      mask: [b, a], True = an agent.
    """
    b, a, w = hidden_baw.shape
    apart = place[:, None] - place[:, :, None]  # [b, i, j, 2], j seen from i
    near = linear.apply(p["pool_embed"], apart)
    other = jnp.broadcast_to(hidden_baw[:, None], (b, a, a, w))
    x = jax.nn.relu(linear.apply(p["pool_up"], jnp.concatenate([near, other], -1)))
    x = jax.nn.relu(linear.apply(p["pool_down"], x))
    return jnp.max(jnp.where(mask[:, None, :, None], x, 0.0), 2)


def generate(p: PyTree, cfg: GanConfig, crowd: Crowd, noise: Array) -> Array:
    """Paths relative to each agent's last position, [k, b, a, s, 2].

    Args:
      p: the generator's parameters.
      cfg: sizes.
      crowd: `future` is not read.
      noise: one draw for each sample and window, [k, b, noise].
    """
    b, a = crowd.mask.shape
    steps = jnp.diff(crowd.past, axis=2)
    hidden = _encode(p["encoder"], steps.reshape(b * a, -1, 2)).reshape(b, a, -1)
    pooled = pool(p, hidden, crowd.past[:, :, -1], crowd.mask)
    context = jax.nn.relu(linear.apply(p["context"], jnp.concatenate([hidden, pooled], -1)))
    last = steps[:, :, -1].reshape(b * a, 2)

    def one(noise_bz: Array) -> Array:
        drawn = jnp.broadcast_to(noise_bz[:, None], (b, a, noise_bz.shape[-1]))
        h = jnp.concatenate([context, drawn], -1).reshape(b * a, -1)

        def step(carry: tuple[State, Array], _: None) -> tuple[tuple[State, Array], Array]:
            state, move = carry
            x = linear.apply(p["decoder_embed"], move)[:, None]
            state = recurrent.lstm(p["decoder"], x, state=state)[1]
            move = linear.apply(p["out"], state.h)
            return (state, move), move

        _, moves = jax.lax.scan(step, (State(h, jnp.zeros_like(h)), last), length=cfg.num_future)
        return jnp.cumsum(jnp.moveaxis(moves, 0, 1), 1).reshape(b, a, -1, 2)

    return jax.vmap(one)(noise)


def judge(p: PyTree, past: Array, future: Array) -> Array:
    """Logits that whole paths are real, [b, a]; `future` relative to the last position."""
    b, a = past.shape[:2]
    whole = jnp.concatenate([past - past[:, :, -1:], future], 2)
    steps = jnp.diff(whole, axis=2).reshape(b * a, -1, 2)
    x = jax.nn.relu(linear.apply(p["up"], _encode(p["encoder"], steps)))
    return linear.apply(p["down"], x).reshape(b, a)


def variety(paths: Array, truth: Array, mask: Array) -> Array:
    """Best-of-k L2 of a window, the minimum over samples of the sum over its agents, [] mean."""
    square = jnp.mean(jnp.sum((paths - truth[None]) ** 2, -1), -1)
    total = jnp.sum(jnp.where(mask[None], square, 0.0), -1)
    return jnp.sum(jnp.min(total, 0)) / jnp.maximum(jnp.sum(mask), 1)


def _bce(logits: Array, label: Array, mask: Array) -> Array:
    each = optax.sigmoid_binary_cross_entropy(logits, label)
    return jnp.sum(jnp.where(mask, each, 0.0)) / jnp.maximum(jnp.sum(mask), 1)


def _labels(key: Key, low: float, high: float, like: Array) -> Array:
    return jnp.broadcast_to(jax.random.uniform(key, (), minval=low, maxval=high), like.shape)


class GanState(NamedTuple):
    """Parameters and optimiser states of both sides, and steps done."""

    params: PyTree
    opt: Any
    step: Array


def start(key: Key, cfg: GanConfig) -> GanState:
    """The state before the first step."""
    made = param.init(rng.fold(key, "init"), params(cfg))
    return GanState(made, optax.adam(cfg.lr).init(made), jnp.int32(0))


def make_step(cfg: GanConfig) -> Callable[[GanState, Crowd, Key], tuple[GanState, Array]]:
    """`(state, crowd, key) -> (state, variety loss)`: one update of each side."""

    def losses(p: PyTree, crowd: Crowd, key: Key) -> tuple[Array, Array]:
        truth = crowd.future - crowd.past[:, :, -1:]
        shape = (cfg.num_samples, crowd.mask.shape[0], cfg.noise)
        noise = jax.random.normal(rng.fold(key, "noise"), shape)
        paths = generate(p["generator"], cfg, crowd, noise)
        frozen = jax.lax.stop_gradient(p["discriminator"])
        fooled = judge(frozen, crowd.past, paths[0])
        good = _labels(rng.fold(key, "fooled"), 0.7, 1.2, fooled)
        close = variety(paths, truth, crowd.mask)
        real = judge(p["discriminator"], crowd.past, truth)
        fake = judge(p["discriminator"], crowd.past, jax.lax.stop_gradient(paths[0]))
        told = _bce(real, _labels(rng.fold(key, "real"), 0.7, 1.2, real), crowd.mask)
        told += _bce(fake, _labels(rng.fold(key, "fake"), 0.0, 0.3, fake), crowd.mask)
        return cfg.variety_weight * close + _bce(fooled, good, crowd.mask) + told, close

    @jax.jit
    def step(state: GanState, crowd: Crowd, key: Key) -> tuple[GanState, Array]:
        (_, close), grads = jax.value_and_grad(losses, has_aux=True)(state.params, crowd, key)
        updates, opt = optax.adam(cfg.lr).update(grads, state.opt, state.params)
        return GanState(optax.apply_updates(state.params, updates), opt, state.step + 1), close

    return step
