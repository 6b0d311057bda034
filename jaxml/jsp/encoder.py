"""Two layers of GATv2 over the disjunctive graph, machine by machine, without an edge list.

An operation hears the operation before it in its job and all others on its machine. Laid out as
[machine, job], the second kind is dense attention inside a row, so a layer costs O(m n^2) and
builds neither edges nor an N x N matrix.
"""

import jax
import jax.numpy as jnp

from jaxml.core.param import Param
from jaxml.core.types import Array, PyTree
from jaxml.jsp.config import SPNConfig
from jaxml.jsp.features import NUM_FEATURES
from jaxml.jsp.problem import Facts, Problem
from jaxml.nn import initializer, linear

NEGATIVE = -1e30
"""Score of what must not be heard."""


def _attention_init(key, shape, dtype=jnp.float32):
    """Glorot uniform over (heads, width)."""
    bound = (6.0 / (shape[0] + shape[1])) ** 0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def _layer(width_in: int, width: int, heads: int, width_out: int) -> dict[str, PyTree]:
    side = {
        "kernel": Param((width_in, heads * width), ("embed", "heads"), initializer.glorot_uniform),
        "bias": Param((heads * width,), ("heads",), initializer.uniform(width_in**-0.5)),
    }
    return {
        "source": side,
        "target": dict(side),
        "attention": Param((heads, width), ("heads", None), _attention_init),
        "bias": Param((width_out,), (None,), initializer.zeros),
    }


def params(cfg: SPNConfig) -> dict[str, PyTree]:
    """Declared parameters of both layers."""
    joined = cfg.hidden * cfg.heads
    return {
        "first": _layer(NUM_FEATURES, cfg.hidden, cfg.heads, joined),
        "second": _layer(NUM_FEATURES + joined, cfg.embed, cfg.heads, cfg.embed),
    }


def width(cfg: SPNConfig) -> int:
    """Width of an operation's embedding."""
    return NUM_FEATURES + cfg.embed


def apply(tree: PyTree, cfg: SPNConfig, problem: Problem, known: Facts, x: Array) -> Array:
    """Embeddings of the operations of one instance.

    Args:
      tree: parameters.
      cfg: their sizes.
      problem: the instance.
      known: its facts.
      x: features [n, m, 15].

    Returns:
      [n, m, 15 + embed]: the features, and what the layers make of them.
    """
    heard = _gat(tree["first"], cfg, problem, known, x)
    flat = heard.reshape(*heard.shape[:2], -1) + tree["first"]["bias"][None, None]
    h = jnp.concatenate([x, jax.nn.relu(flat)], -1)
    heard = jnp.mean(_gat(tree["second"], cfg, problem, known, h), axis=2)
    return jnp.concatenate([x, jax.nn.relu(heard + tree["second"]["bias"][None, None])], -1)


def _gat(p: PyTree, cfg: SPNConfig, problem: Problem, known: Facts, x: Array) -> Array:
    """One layer before its bias: [n, m, f] -> [n, m, heads, width]."""
    shape = (*x.shape[:2], cfg.heads, -1)
    source, target = (linear.apply(p[side], x).reshape(shape) for side in ("source", "target"))
    before = jnp.concatenate([jnp.zeros_like(source[:, :1]), source[:, :-1]], 1)

    def score(a: Array, b: Array) -> Array:
        return jnp.sum(jax.nn.leaky_relu(a + b, cfg.slope) * p["attention"][None, None], -1)

    chain = score(before, target)  # [n, m, heads]
    chain = jnp.where(jnp.arange(x.shape[1])[None, :, None] > 0, chain, NEGATIVE)
    jobs = jnp.arange(x.shape[0])

    def one_machine(place: Array) -> Array:
        own, others = target[jobs, place], source[jobs, place]  # [n, heads, width]
        there = known.op_mask[jobs, place]
        peers = score(others[None, :], own[:, None])  # [n, n, heads]
        heard = there[None, :] & (jobs[None, :] != jobs[:, None])
        peers = jnp.where(heard[..., None], peers, NEGATIVE)
        scores = jnp.concatenate([peers, chain[jobs, place][:, None]], 1)
        weight = jax.nn.softmax(scores, axis=1) * (scores > NEGATIVE / 2)
        mixed = jnp.einsum("ijh,jhc->ihc", weight[:, :-1], others)
        return mixed + weight[:, -1, :, None] * before[jobs, place]

    at_once = _chunk(*source.shape)
    if at_once == x.shape[1]:
        by_machine = jax.vmap(one_machine)(known.place)
    else:
        by_machine = jax.lax.map(one_machine, known.place, batch_size=at_once)
    return by_machine[problem.machines, jobs[:, None]]


def _chunk(num_jobs: int, num_machines: int, heads: int, width: int) -> int:
    """Machines attended to at once: as many as keep a score's products below 2^26 elements."""
    return max(1, min(num_machines, 2**26 // (num_jobs**2 * heads * width)))
