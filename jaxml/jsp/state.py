"""A partial schedule: completion times as integers, kept sorted, and what the policy sees of it."""

from typing import NamedTuple

import jax.numpy as jnp

from jaxml.core.types import Array
from jaxml.jsp.problem import Facts, Problem

NUM_CONTEXT = 11
NEVER = 2**30  # later than any date; stands for padding in sorted lists


class State(NamedTuple):
    """What is scheduled so far.

    Attributes:
      job_times: completion of every job's last scheduled operation, int32 [n].
      machine_times: the same for machines, int32 [m].
      sorted_jobs: `job_times` of jobs that are not padding in order, then NEVER.
      sorted_machines: `machine_times` of machines in use in order, then NEVER.
      position: operations scheduled of every job, int32 [n].
    """

    job_times: Array
    machine_times: Array
    sorted_jobs: Array
    sorted_machines: Array
    position: Array


def init_state(problem: Problem, known: Facts) -> State:
    """Nothing scheduled yet."""
    return State(
        job_times=problem.release,
        machine_times=problem.available,
        sorted_jobs=jnp.sort(jnp.where(known.job_mask, problem.release, NEVER)),
        sorted_machines=jnp.sort(jnp.where(known.machine_mask, problem.available, NEVER)),
        position=jnp.zeros_like(problem.lengths),
    )


def valid(problem: Problem, state: State) -> Array:
    """True for jobs with an operation left, [n]."""
    return state.position < problem.lengths


def ready(problem: Problem, state: State) -> Array:
    """Index of every job's next operation, int32 [n]; a finished job shows its first again."""
    return jnp.where(valid(problem, state), state.position, 0)


def advance(problem: Problem, state: State, job: Array) -> State:
    """Schedules the next operation of `job` after everything on its machine.

    A finished job changes nothing.
    """
    jobs = jnp.arange(problem.lengths.shape[0])
    op = state.position[job]
    real = op < problem.lengths[job]
    op = jnp.where(real, op, 0)
    machine, duration = problem.machines[job, op], problem.durations[job, op]
    was_job, was_machine = state.job_times[job], state.machine_times[machine]
    end = jnp.maximum(was_job, was_machine) + duration
    now_job, now_machine = jnp.where(real, end, was_job), jnp.where(real, end, was_machine)
    machines = jnp.arange(problem.available.shape[0])
    return State(
        job_times=jnp.where(jobs == job, now_job, state.job_times),
        machine_times=jnp.where(machines == machine, now_machine, state.machine_times),
        sorted_jobs=_moved(state.sorted_jobs, was_job, now_job),
        sorted_machines=_moved(state.sorted_machines, was_machine, now_machine),
        position=state.position + ((jobs == job) & real),
    )


def _moved(ordered: Array, old: Array, new: Array) -> Array:
    """A sorted list after one entry rose from `old` to `new`."""
    after = jnp.concatenate([ordered[1:], jnp.full((1,), NEVER, ordered.dtype)])
    return jnp.where(ordered < old, ordered, jnp.minimum(jnp.maximum(ordered, new), after))


def context_features(problem: Problem, known: Facts, state: State) -> Array:
    """What the decoder sees of every job, float32 [n, 11].

    With J the completion time of a job and M that of the machine of its next operation, over the
    longest duration: 0 J - M; 1-3 J minus the quartiles over jobs; 4 J minus their mean; 5 J over
    the latest job; 6-8 M minus the quartiles over machines; 9 M minus their mean; 10 M over the
    latest job. Finished jobs count like all others.
    """
    jobs = state.job_times.astype(jnp.float32)
    all_machines = state.machine_times.astype(jnp.float32)
    rows = jnp.arange(jobs.shape[0])
    needed = all_machines[problem.machines[rows, ready(problem, state)]]
    in_order = state.sorted_jobs.astype(jnp.float32)
    job_quartiles = jnp.sum(known.job_weights * in_order[None, :], -1)
    machine_quartiles = jnp.sum(
        known.machine_weights * state.sorted_machines.astype(jnp.float32)[None, :], -1
    )
    latest = jnp.max(jnp.where(known.job_mask, jobs, 0.0)) + 1e-5 * known.scale
    columns = [
        (jobs - needed)[:, None],
        jobs[:, None] - job_quartiles[None, :],
        (jobs - _mean(jobs, known.job_mask))[:, None],
        (jobs * (known.scale / latest))[:, None],
        needed[:, None] - machine_quartiles[None, :],
        (needed - _mean(all_machines, known.machine_mask))[:, None],
        (needed * (known.scale / latest))[:, None],
    ]
    return jnp.concatenate(columns, -1) / known.scale


def _mean(x: Array, mask: Array) -> Array:
    return jnp.sum(jnp.where(mask, x, 0.0)) / jnp.sum(mask)


def makespan(known: Facts, state: State) -> Array:
    """Completion of the last job, int32 []."""
    return jnp.max(jnp.where(known.job_mask, state.job_times, 0))
