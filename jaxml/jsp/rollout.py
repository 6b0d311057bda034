"""Whole schedules from the policy: one scan over steps, vmapped over samples and instances."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxml.core import check, param
from jaxml.core.types import Array, Key, PyTree
from jaxml.jsp import policy
from jaxml.jsp import state as states
from jaxml.jsp.config import SPNConfig
from jaxml.jsp.policy import Prepared
from jaxml.jsp.problem import Problem
from jaxml.jsp.state import State


class Rollouts(NamedTuple):
    """Sampled schedules; leading axes as the function says.

    Attributes:
      seqs: which job goes at every step, int32 [.., n * m]; -1 once all are done.
      makespans: int32 [..].
      logp: log-probability of the schedule, float32 [..].
    """

    seqs: Array
    makespans: Array
    logp: Array


def rollout(
    ready: Prepared, cfg: SPNConfig, key: Key, temperature: Array, dtype: Any = jnp.float32
) -> Rollouts:
    """One schedule; step t draws from `fold_in(key, t)`.

    Args:
      ready: the policy on one instance.
      cfg: its sizes.
      key: of this sample alone.
      temperature: float []; 0 takes the likeliest job every time.
      dtype: of the decoder's wide products.
    """
    problem, known = ready.problem, ready.known

    def step(carry: tuple[State, Array], t: Array) -> tuple[tuple[State, Array], Array]:
        state, logp = carry
        scores = policy.logits(ready, cfg, state, dtype)
        noise = jax.random.gumbel(jax.random.fold_in(key, t), scores.shape)
        job = jnp.argmax(scores + temperature * noise).astype(jnp.int32)
        left = jnp.any(states.valid(problem, state))
        own = scores[job] - jax.nn.logsumexp(scores)
        after = states.advance(problem, state, job)
        return (after, logp + jnp.where(left, own, 0.0)), jnp.where(left, job, -1)

    start = (states.init_state(problem, known), jnp.zeros(()))
    (last, logp), seq = jax.lax.scan(step, start, jnp.arange(problem.num_steps))
    return Rollouts(seq, states.makespan(known, last), logp)


def sample_prepared(
    ready: Prepared, cfg: SPNConfig, keys: Key, temperatures: Array, dtype: Any = jnp.float32
) -> Rollouts:
    """One schedule per key and temperature, all of one instance."""
    each = functools.partial(rollout, dtype=dtype)
    return jax.vmap(each, (None, None, 0, 0))(ready, cfg, keys, temperatures)


def sample_keys(key: Key, num_samples: int) -> Key:
    """Keys of samples 0, 1, ...: more samples leave the first ones as they were."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(num_samples))


@functools.partial(jax.jit, static_argnums=(1, 5))
def _sample(
    params: PyTree, cfg: SPNConfig, problem: Problem, keys: Key, temperatures: Array, mesh: Any
) -> Rollouts:
    ready = policy.prepare(params, cfg, problem)

    def local(ready: Prepared, keys: Key, temperatures: Array) -> Rollouts:
        return sample_prepared(ready, cfg, keys, temperatures)

    if mesh is None:
        return local(ready, keys, temperatures)
    split = PartitionSpec(mesh.axis_names)
    body = jax.shard_map(
        local, mesh=mesh, in_specs=(PartitionSpec(), split, split), out_specs=split, check_vma=False
    )
    return body(ready, keys, temperatures)


def sample(
    params: PyTree,
    cfg: SPNConfig,
    problem: Problem,
    key: Key,
    num_samples: int,
    temperature: float = 1.0,
    mesh: Mesh | None = None,
) -> Rollouts:
    """Independent schedules of one instance.

    Args:
      params: of the policy.
      cfg: its sizes.
      problem: one instance.
      key: sample i draws from `fold_in(key, i)`, on whatever device it runs.
      num_samples: beta.
      temperature: of the softmax over jobs; 0 makes every sample the greedy one.
      mesh: samples are split over all its devices; None: one device.

    Returns:
      Rollouts with one leading axis, [beta].

    Raises:
      ValueError: no samples, a negative temperature, or samples that the devices do not divide.
    """
    check.positive(num_samples=num_samples)
    check.at_least(0, temperature=temperature)
    if mesh is not None:
        check.divides(devices=mesh.size, num_samples=num_samples)
    temperatures = jnp.full((num_samples,), temperature, jnp.float32)
    return _sample(params, cfg, problem, sample_keys(key, num_samples), temperatures, mesh)


def greedy(params: PyTree, cfg: SPNConfig, problem: Problem) -> Rollouts:
    """The schedule that takes the likeliest job at every step, without a leading axis."""
    key = jax.random.key(0)[None]
    found = _sample(params, cfg, problem, key, jnp.zeros((1,)), None)
    return jax.tree.map(lambda x: x[0], found)


@functools.cache
def compiled(
    cfg: SPNConfig, shape: tuple[int, int], num_samples: int
) -> Callable[[PyTree, Problem, Key, Array], Rollouts]:
    """`(params, problem, keys, temperatures) -> Rollouts` compiled ahead for one shape."""
    num_jobs, num_machines = shape
    sizes = ((num_jobs, num_machines), (num_jobs, num_machines), (num_jobs,), (num_jobs,))
    ints: Any = [jax.ShapeDtypeStruct(size, jnp.int32) for size in (*sizes, (num_machines,))]
    keys = jax.eval_shape(lambda: sample_keys(jax.random.key(0), num_samples))
    temperatures = jax.ShapeDtypeStruct((num_samples,), jnp.float32)
    params = param.abstract(policy.params(cfg))
    return _sample.lower(params, cfg, Problem(*ints), keys, temperatures, None).compile()


def replay(problem: Problem, known: Any, seq: Array) -> tuple[State, State]:
    """The states before every step of a schedule, stacked, and the last one."""

    def step(state: State, job: Array) -> tuple[State, State]:
        return states.advance(problem, state, jnp.maximum(job, 0)), state

    last, before = jax.lax.scan(step, states.init_state(problem, known), seq)
    return before, last
