"""A job-shop instance as a planner holds it: integers on the host, checked once."""

import dataclasses

import numpy as np

from jaxml.core.types import Key

LARGEST = 2**24
"""Durations and dates stay below this, so that float32 holds every one exactly."""


class InstanceError(ValueError):
    """An instance that is no job shop; the message names the job and the operation."""


@dataclasses.dataclass(frozen=True, eq=False)
class JSPInstance:
    """n jobs, each a chain of operations, on m machines.

    Attributes:
      machines: of every operation, int32 [n, k], counted from 0; a job that is shorter than the
        longest has -1 after its last operation. No job visits a machine twice.
      durations: int32 [n, k], >= 0; 0 after a job's last operation.
      name: shown in messages and charts.
      lb: largest known lower bound of the makespan, or None.
      ub: makespan of the best known schedule, or None.
      num_machines: m; None: one more than the largest machine in use.
      release: earliest start of every job, int32 [n]; None: 0.
      available: time until which every machine is busy, int32 [m]; None: 0.

    Raises:
      InstanceError: names the job and operation that break a rule above.
    """

    machines: np.ndarray
    durations: np.ndarray
    name: str = ""
    lb: int | None = None
    ub: int | None = None
    num_machines: int = None  # pyright: ignore[reportAssignmentType]
    release: np.ndarray = None  # pyright: ignore[reportAssignmentType]
    available: np.ndarray = None  # pyright: ignore[reportAssignmentType]

    def __post_init__(self):
        machines = _whole("machines", self.machines, lowest=-1)
        durations = _whole("durations", self.durations)
        if machines.ndim != 2 or machines.shape != durations.shape or not machines.size:
            raise InstanceError(
                "machines and durations must be [jobs, operations] and not empty; got shapes "
                f"{machines.shape} and {durations.shape}."
            )
        _check_routes(machines, durations)
        largest = int(machines.max()) + 1
        count = largest if self.num_machines is None else self.num_machines
        if count < largest:
            job, op = np.argwhere(machines >= count)[0]
            raise InstanceError(
                f"job {job}, operation {op}: machine must lie in [0, {count - 1}]; "
                f"got {machines[job, op]}."
            )
        set_ = object.__setattr__
        set_(self, "machines", machines)
        set_(self, "durations", durations)
        set_(self, "num_machines", count)
        set_(self, "release", _dates("release", self.release, machines.shape[0]))
        set_(self, "available", _dates("available", self.available, count))

    @property
    def num_jobs(self) -> int:
        """Jobs, n."""
        return self.machines.shape[0]

    @property
    def lengths(self) -> np.ndarray:
        """Operations of every job, int [n]."""
        return (self.machines >= 0).sum(1)

    @property
    def num_ops(self) -> int:
        """Operations of all jobs, N."""
        return int((self.machines >= 0).sum())

    @property
    def shape(self) -> tuple[int, int]:
        """Jobs and machines, (n, m)."""
        return self.num_jobs, self.num_machines

    @property
    def trivial_bound(self) -> int:
        """A lower bound: the longest job, or the busiest machine, from its first free moment."""
        jobs = self.release + self.durations.sum(1)
        loads = [self.durations[self.machines == i].sum() for i in range(self.num_machines)]
        used = [bool((self.machines == i).any()) for i in range(self.num_machines)]
        machines = self.available + np.asarray(loads)
        return int(max(jobs[self.lengths > 0].max(), machines[used].max()))


def _whole(what: str, values: np.ndarray, lowest: int = 0) -> np.ndarray:
    """Integers as int32, or an error that names the first entry that is none."""
    array = np.asarray(values)
    if array.dtype.kind not in "iuf" or array.dtype == object:
        raise InstanceError(f"{what} must be integers in rows of equal length; got {array.dtype}.")
    with np.errstate(invalid="ignore"):
        good = np.isfinite(array) & (array == np.floor(array)) & (array >= lowest)
        good &= array < LARGEST
    if not good.all():
        where = np.argwhere(~good)[0]
        place = "job {}, operation {}".format(*where) if len(where) == 2 else f"entry {where[0]}"
        value = array[tuple(where)]
        raise InstanceError(
            f"{place}: {what} must be integers in [{max(lowest, 0)}, {LARGEST - 1}]; got {value}."
        )
    return array.astype(np.int32)


def _dates(what: str, values: np.ndarray | None, size: int) -> np.ndarray:
    dates = np.zeros(size, np.int32) if values is None else _whole(what, values)
    if dates.shape != (size,):
        raise InstanceError(f"{what} must have shape [{size}]; got {dates.shape}.")
    return dates


def _check_routes(machines: np.ndarray, durations: np.ndarray) -> None:
    for job, row in enumerate(machines):
        length = int((row >= 0).sum())
        if (row[:length] < 0).any():
            raise InstanceError(
                f"job {job}: -1 may only stand after the last operation; got {row}."
            )
        if durations[job, length:].any():
            raise InstanceError(f"job {job}: durations after the last operation must be 0.")
        seen: dict[int, int] = {}
        for op, machine in enumerate(row[:length].tolist()):
            if machine in seen:
                raise InstanceError(
                    f"job {job}, operation {op}: a job visits a machine once; machine {machine} "
                    f"is already that of operation {seen[machine]}."
                )
            seen[machine] = op
    if not (machines >= 0).any():
        raise InstanceError("an instance must hold an operation; got none.")


def random_instance(
    key: Key, num_jobs: int, num_machines: int, low: int = 5, high: int = 199
) -> JSPInstance:
    """Uniform integer durations in [low, high], every route a random order of all machines.

    The defaults are the distribution of the paper's training instances.

    >>> import jax
    >>> random_instance(jax.random.key(0), 3, 2).shape
    (3, 2)
    """
    from jaxml.jsp.problem import random_problems

    made = random_problems(key, 1, num_jobs, num_machines, low=low, high=high)
    return JSPInstance(np.asarray(made.machines[0]), np.asarray(made.durations[0]), "random")


def reverse(instance: JSPInstance) -> JSPInstance:
    """Every job backwards in time: the same optimal makespan, another problem for a policy.

    Raises:
      InstanceError: release times or busy machines, which have no mirror image here.
    """
    if instance.release.any() or instance.available.any():
        raise InstanceError("an instance with release times or busy machines has no reversal.")
    machines, durations = instance.machines.copy(), instance.durations.copy()
    for job, length in enumerate(instance.lengths):
        machines[job, :length] = instance.machines[job, :length][::-1]
        durations[job, :length] = instance.durations[job, :length][::-1]
    return dataclasses.replace(instance, machines=machines, durations=durations)
