"""Schedules on the host, in exact integers: times, makespan, validation."""

from collections.abc import Sequence

import numpy as np

from jaxml.jsp.instance import JSPInstance


class InfeasibleScheduleError(ValueError):
    """A schedule that breaks a rule of the shop, or machine orders that wait for each other."""


def start_times(instance: JSPInstance, seq: Sequence[int] | np.ndarray) -> np.ndarray:
    """Starts of the semi-active schedule of a job sequence.

    Args:
      instance: the shop.
      seq: jobs in the order in which their next operations are appended; entries -1 are skipped.

    Returns:
      int64 [n, k]; -1 where a job has no operation.

    Raises:
      InfeasibleScheduleError: a job named too often or not often enough, or that is none.
    """
    jobs = [int(job) for job in seq if job >= 0]
    free = instance.available.astype(np.int64).tolist()
    done = instance.release.astype(np.int64).tolist()
    position = [0] * instance.num_jobs
    starts = np.full(instance.machines.shape, -1, np.int64)
    lengths = instance.lengths.tolist()
    for step, job in enumerate(jobs):
        if job >= instance.num_jobs or position[job] >= lengths[job]:
            raise InfeasibleScheduleError(
                f"step {step}: job {job} has no operation left (it has "
                f"{lengths[job] if job < instance.num_jobs else 0})."
            )
        op = position[job]
        machine = int(instance.machines[job, op])
        starts[job, op] = max(done[job], free[machine])
        done[job] = free[machine] = int(starts[job, op]) + int(instance.durations[job, op])
        position[job] += 1
    if position != lengths:
        job = next(j for j in range(instance.num_jobs) if position[j] != lengths[j])
        raise InfeasibleScheduleError(
            f"job {job}: {position[job]} of {lengths[job]} operations are scheduled."
        )
    return starts


def makespan(instance: JSPInstance, seq: Sequence[int] | np.ndarray) -> int:
    """Completion of the last operation of a job sequence.

    >>> shop = JSPInstance(np.array([[0, 1], [1, 0]]), np.array([[3, 2], [2, 4]]))
    >>> makespan(shop, [0, 1, 0, 1])
    7
    """
    return makespan_of(instance, start_times(instance, seq))


def makespan_of(instance: JSPInstance, starts: np.ndarray) -> int:
    """Completion of the last operation, from start times."""
    there = instance.machines >= 0
    return int((np.asarray(starts) + instance.durations)[there].max())


def sequence_of(instance: JSPInstance, starts: np.ndarray) -> np.ndarray:
    """A job sequence whose schedule is nowhere later than `starts`, int32 [N].

    Operations go by start, then by end, so that an operation of no duration precedes what starts
    with it; then by their place in the job.
    """
    jobs, ops = np.nonzero(instance.machines >= 0)
    begin = np.asarray(starts)[jobs, ops]
    end = begin + instance.durations[jobs, ops]
    return jobs[np.lexsort((jobs, ops, end, begin))].astype(np.int32)


def machine_orders(instance: JSPInstance, seq: Sequence[int] | np.ndarray) -> list[list[int]]:
    """Jobs in the order in which every machine serves them."""
    orders: list[list[int]] = [[] for _ in range(instance.num_machines)]
    position = [0] * instance.num_jobs
    for job in (int(j) for j in seq if j >= 0):
        orders[int(instance.machines[job, position[job]])].append(job)
        position[job] += 1
    return orders


def from_machine_sequences(instance: JSPInstance, orders: Sequence[Sequence[int]]) -> np.ndarray:
    """A job sequence, int32 [N], that serves every machine in the given order of jobs.

    Raises:
      InfeasibleScheduleError: an order that is not one of the machine's jobs, or orders that wait
        for each other in a circle.
    """
    for machine, order in enumerate(orders):
        users = sorted(np.nonzero((instance.machines == machine).any(1))[0].tolist())
        if sorted(order) != users:
            raise InfeasibleScheduleError(
                f"machine {machine}: its order must hold jobs {users} once each; got {list(order)}."
            )
    if len(orders) != instance.num_machines:
        raise InfeasibleScheduleError(
            f"orders must name {instance.num_machines} machines; got {len(orders)}."
        )
    position, head, seq = [0] * instance.num_jobs, [0] * len(orders), []
    moved = True
    while moved:
        moved = False
        for machine, order in enumerate(orders):
            while head[machine] < len(order):
                job = order[head[machine]]
                op = position[job]
                if op >= instance.lengths[job] or instance.machines[job, op] != machine:
                    break
                seq.append(job)
                position[job] += 1
                head[machine] += 1
                moved = True
    if len(seq) < instance.num_ops:
        stuck = {m: o[head[m]] for m, o in enumerate(orders) if head[m] < len(o)}
        raise InfeasibleScheduleError(
            f"the machine orders wait for each other: next jobs by machine {stuck}."
        )
    return np.asarray(seq, np.int32)


def mirrored(instance: JSPInstance, view: JSPInstance, seqs: np.ndarray) -> np.ndarray:
    """Job sequences [s, N] of `view`, the reversal of an instance, as sequences of the instance.

    The machine orders are turned round, which leaves the longest path as long as it was.
    """
    turned = [[order[::-1] for order in machine_orders(view, seq)] for seq in seqs]
    return np.stack([from_machine_sequences(instance, orders) for orders in turned])


def validate_schedule(instance: JSPInstance, starts: np.ndarray) -> int:
    """The makespan of a schedule, after checking every rule of the shop.

    Raises:
      InfeasibleScheduleError: names the operation that starts before its release, before its
        predecessor ends, before its machine is free, or while the machine serves another.
    """
    starts = np.asarray(starts)
    if starts.shape != instance.machines.shape or starts.dtype.kind not in "iu":
        raise InfeasibleScheduleError(
            f"starts must be integers {list(instance.machines.shape)}; got {starts.dtype} "
            f"{list(starts.shape)}."
        )
    starts = starts.astype(np.int64)
    ends = starts + instance.durations
    for job, length in enumerate(instance.lengths):
        earliest = int(instance.release[job])
        for op in range(length):
            if starts[job, op] < earliest:
                what = "its release" if op == 0 else f"operation {op - 1} ends"
                raise InfeasibleScheduleError(
                    f"job {job}, operation {op}: starts at {starts[job, op]}, before {what} "
                    f"at {earliest}."
                )
            earliest = int(ends[job, op])
    for machine in range(instance.num_machines):
        _check_machine(instance, starts, ends, machine)
    return makespan_of(instance, starts)


def _check_machine(
    instance: JSPInstance, starts: np.ndarray, ends: np.ndarray, machine: int
) -> None:
    jobs, ops = np.nonzero(instance.machines == machine)
    begin, end = starts[jobs, ops], ends[jobs, ops]
    free, who = int(instance.available[machine]), "it is free"
    for i in np.lexsort((end, begin)):
        if begin[i] < free:
            raise InfeasibleScheduleError(
                f"job {jobs[i]}, operation {ops[i]}: starts at {begin[i]} on machine {machine}, "
                f"before {who} at {free}."
            )
        free, who = int(end[i]), f"job {jobs[i]} leaves it"
