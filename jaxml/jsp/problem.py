"""Instances as the device sees them: arrays of static shape, masked where a job is shorter."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check, rng
from jaxml.core.types import Array, Key
from jaxml.jsp.instance import JSPInstance


class Problem(NamedTuple):
    """One instance, or a batch of them along leading axes.

    Every row of `machines` is an order of all m machines; those a job does not visit stand after
    its last operation. So the place of every machine in every job has one index.

    Attributes:
      machines: int32 [n, m].
      durations: int32 [n, m], 0 after the last operation of a job.
      lengths: operations of every job, int32 [n]; 0 for a job that is padding.
      release: earliest start of every job, int32 [n].
      available: when every machine is free, int32 [m].
    """

    machines: Array
    durations: Array
    lengths: Array
    release: Array
    available: Array

    @property
    def num_steps(self) -> int:
        """Scheduling steps that cover every instance of this shape, n * m."""
        return self.machines.shape[-2] * self.machines.shape[-1]


def from_instance(instance: JSPInstance, shape: tuple[int, int] | None = None) -> Problem:
    """The arrays of one instance, padded to `shape` (jobs, machines).

    Dates are counted from the earliest release of a job that is not finished.

    Raises:
      ValueError: the instance does not fit into the shape.
    """
    return Problem(*map(jnp.asarray, _padded(instance, shape or instance.shape)))


def _padded(instance: JSPInstance, shape: tuple[int, int]) -> tuple[np.ndarray, ...]:
    num_jobs, num_machines = shape
    if num_jobs < instance.num_jobs or num_machines < instance.num_machines:
        raise ValueError(f"shape must hold {instance.shape}; got shape={(num_jobs, num_machines)}.")
    machines = np.tile(np.arange(num_machines, dtype=np.int32), (num_jobs, 1))
    durations = np.zeros((num_jobs, num_machines), np.int32)
    lengths = np.zeros(num_jobs, np.int32)
    lengths[: instance.num_jobs] = instance.lengths
    for job, length in enumerate(instance.lengths):
        route = instance.machines[job, :length]
        rest = np.setdiff1d(np.arange(num_machines), route)
        machines[job] = np.concatenate([route, rest])
        durations[job, :length] = instance.durations[job, :length]
    start = origin(instance)
    release, available = np.zeros(num_jobs, np.int32), np.zeros(num_machines, np.int32)
    release[: instance.num_jobs] = np.maximum(instance.release - start, 0)
    available[: instance.num_machines] = np.maximum(instance.available - start, 0)
    return machines, durations, lengths, release, available


def origin(instance: JSPInstance) -> int:
    """The date from which `from_instance` counts."""
    return int(instance.release[instance.lengths > 0].min())


def pad_batch(instances: Sequence[JSPInstance], shape: tuple[int, int] | None = None) -> Problem:
    """Instances of any shapes as one batch, padded to the largest (or to `shape`).

    Raises:
      ValueError: no instance, or one that does not fit.
    """
    if not instances:
        raise ValueError("instances must hold at least one; got none.")
    if shape is None:
        shape = max(i.num_jobs for i in instances), max(i.num_machines for i in instances)
    parts = [_padded(instance, shape) for instance in instances]
    return Problem(*(jnp.asarray(np.stack(part)) for part in zip(*parts, strict=True)))


def random_problems(
    key: Key,
    batch: int,
    num_jobs: int,
    num_machines: int,
    *,
    low: int = 5,
    high: int = 199,
    two_sets: float = 0.0,
) -> Problem:
    """A batch of random instances, drawn on the device; see `instance.random_instance`.

    Args:
      key: of all draws.
      batch: number of instances.
      num_jobs: of each.
      num_machines: of each.
      low: shortest duration.
      high: longest duration.
      two_sets: chance of an instance whose jobs all visit the first half of the machines before
        the second half, each half in random order.

    Raises:
      ValueError: a size that is not positive, or an empty range of durations.
    """
    check.positive(batch=batch, num_jobs=num_jobs, num_machines=num_machines)
    check.at_least(0, low=low)
    check.at_least(low, high=high)
    shape = (batch, num_jobs, num_machines)
    durations = jax.random.randint(rng.fold(key, "durations"), shape, low, high + 1, jnp.int32)
    noise = jax.random.uniform(rng.fold(key, "machines"), shape)
    if two_sets:
        chosen = jax.random.uniform(rng.fold(key, "sets"), (batch, 1, 1)) < two_sets
        second = (jnp.arange(num_machines) >= num_machines // 2)[None, None]
        noise = noise + jnp.where(chosen & second, 1.0, 0.0)
    return Problem(
        machines=jnp.argsort(noise, axis=-1).astype(jnp.int32),
        durations=durations,
        lengths=jnp.full(shape[:2], num_machines, jnp.int32),
        release=jnp.zeros(shape[:2], jnp.int32),
        available=jnp.zeros((batch, num_machines), jnp.int32),
    )


class Facts(NamedTuple):
    """What of one problem never changes while it is scheduled.

    Attributes:
      job_mask: True for jobs that are not padding, [n].
      machine_mask: True for machines that some operation needs, [m].
      op_mask: True for operations that exist, [n, m].
      place: index of every machine in every job's route, int32 [m, n].
      job_weights: weights [3, n] that read quartiles off sorted completion times of jobs.
      machine_weights: the same for machines, [3, m].
      scale: the longest duration (1 if all are 0), float32 [].
    """

    job_mask: Array
    machine_mask: Array
    op_mask: Array
    place: Array
    job_weights: Array
    machine_weights: Array
    scale: Array


def facts(problem: Problem) -> Facts:
    """The facts of one problem (no batch axis)."""
    num_jobs, num_machines = problem.machines.shape
    op_mask = jnp.arange(num_machines)[None, :] < problem.lengths[:, None]
    place = jnp.argsort(problem.machines, axis=1).T.astype(jnp.int32)
    used = jnp.any(place < problem.lengths[None, :], axis=1)
    job_mask = problem.lengths > 0
    return Facts(
        job_mask=job_mask,
        machine_mask=used,
        op_mask=op_mask,
        place=place,
        job_weights=quartile_weights(jnp.sum(job_mask), num_jobs),
        machine_weights=quartile_weights(jnp.sum(used), num_machines),
        scale=jnp.maximum(jnp.max(problem.durations), 1).astype(jnp.float32),
    )


def quartile_weights(count: Array, size: int) -> Array:
    """Weights [..., 3, size]: linear-interpolation quartiles of the first `count` sorted values.

    >>> (quartile_weights(jnp.asarray(3), 4) * jnp.array([10, 20, 40, 0.0])[None]).sum(-1).tolist()
    [15.0, 20.0, 30.0]
    """
    last = jnp.maximum(count - 1, 0).astype(jnp.float32)
    where = jnp.stack([0.25 * last, 0.5 * last, 0.75 * last], -1)[..., None]
    index = jnp.arange(size, dtype=jnp.float32).reshape((1,) * (where.ndim - 1) + (size,))
    return jnp.maximum(0.0, 1.0 - jnp.abs(where - index))
