"""Beam search: the likeliest partial schedules side by side."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array, PyTree
from jaxml.jsp import decoder, policy
from jaxml.jsp import state as states
from jaxml.jsp.config import SPNConfig
from jaxml.jsp.problem import Problem
from jaxml.jsp.rollout import Rollouts
from jaxml.jsp.state import State


class _Beam(NamedTuple):
    state: State
    logp: Array
    seqs: Array


def beam_search(params: PyTree, cfg: SPNConfig, problem: Problem, width: int) -> Rollouts:
    """The schedules that survive a beam of the `width` likeliest prefixes, likeliest first.

    Width 1 is the greedy schedule.

    Returns:
      Rollouts with a leading axis of `width`; where fewer schedules exist than that, the rest
      have log-probability -inf and repeat others.

    Raises:
      ValueError: a width below 1.
    """
    check.at_least(1, width=width)
    return _search(params, cfg, problem, width)


@functools.partial(jax.jit, static_argnums=(1, 3))
def _search(params: PyTree, cfg: SPNConfig, problem: Problem, width: int) -> Rollouts:
    ready = policy.prepare(params, cfg, problem)
    first = states.init_state(problem, ready.known)
    num_jobs = problem.lengths.shape[0]
    start = _Beam(
        state=jax.tree.map(lambda x: jnp.broadcast_to(x[None], (width, *x.shape)), first),
        logp=jnp.full((width,), -jnp.inf).at[0].set(0.0),
        seqs=jnp.full((width, problem.num_steps), -1, jnp.int32),
    )

    def step(beam: _Beam, t: Array) -> tuple[_Beam, None]:
        scores = jax.vmap(lambda state: policy.logits(ready, cfg, state))(beam.state)
        open_ = scores > decoder.MASKED / 2
        grown = beam.logp[:, None] + jax.nn.log_softmax(scores)
        grown = jnp.where(open_, grown, -jnp.inf)
        logp, index = jax.lax.top_k(grown.reshape(-1), width)
        parent, job = index // num_jobs, index % num_jobs
        chosen = jax.tree.map(lambda x: x[parent], beam.state)
        after = jax.vmap(lambda state, j: states.advance(problem, state, j))(chosen, job)
        seqs = beam.seqs[parent].at[:, t].set(job.astype(jnp.int32))
        going = t < jnp.sum(problem.lengths)
        moved = _Beam(after, logp, seqs)
        return jax.tree.map(lambda new, old: jnp.where(going, new, old), moved, beam), None

    last, _ = jax.lax.scan(step, start, jnp.arange(problem.num_steps))
    spans = jax.vmap(lambda state: states.makespan(ready.known, state))(last.state)
    return Rollouts(last.seqs, spans, last.logp)
