"""Re-planning: what is left of a schedule that has begun, as an instance of its own."""

import dataclasses

import numpy as np

from jaxml.core import check
from jaxml.jsp.instance import JSPInstance
from jaxml.jsp.schedule import InfeasibleScheduleError


@dataclasses.dataclass(frozen=True, eq=False)
class Remainder:
    """The part of a shop that has not begun at a moment.

    Attributes:
      instance: jobs with the operations that are left; release times and busy machines follow from
        what runs at the moment. Jobs keep their numbers; one that is done has no operation.
      begun: operations of every job that have started, int [n].
      starts: the old start times, [n, k].
      whole: the instance it is the rest of.
    """

    instance: JSPInstance
    begun: np.ndarray
    starts: np.ndarray
    whole: JSPInstance

    def merge(self, starts: np.ndarray) -> np.ndarray:
        """Start times of the whole shop from those of the remainder, int64 [n, k]."""
        merged = self.starts.astype(np.int64).copy()
        for job, first in enumerate(self.begun):
            length = int(self.whole.lengths[job])
            merged[job, first:length] = starts[job, : length - first]
        return merged


def remainder(instance: JSPInstance, starts: np.ndarray, now: int) -> Remainder:
    """What is left at `now` of a schedule: operations that have started stay as they are.

    Nothing new starts before `now`.

    Args:
      instance: the shop.
      starts: its schedule, [n, k].
      now: the moment; an operation that starts before it has begun.

    Raises:
      InfeasibleScheduleError: a job whose operation has begun before an earlier one.
      ValueError: nothing is left, or a negative moment.
    """
    check.at_least(0, now=now)
    there = instance.machines >= 0
    started = there & (np.asarray(starts) < now)
    begun = started.sum(1)
    if (started != (np.arange(there.shape[1])[None] < begun[:, None])).any():
        job = int(
            np.nonzero((started != (np.arange(there.shape[1])[None] < begun[:, None])).any(1))[0][0]
        )
        raise InfeasibleScheduleError(f"job {job}: a later operation begins before an earlier one.")
    if (begun == instance.lengths).all():
        raise ValueError(f"now must leave an operation to plan; got now={now}, all have begun.")
    ends = np.asarray(starts) + instance.durations
    release = np.maximum(instance.release, now)
    available = np.maximum(instance.available, now)
    width = int((instance.lengths - begun).max())
    machines = np.full((instance.num_jobs, width), -1, np.int32)
    durations = np.zeros((instance.num_jobs, width), np.int32)
    for job, first in enumerate(begun):
        length = int(instance.lengths[job])
        machines[job, : length - first] = instance.machines[job, first:length]
        durations[job, : length - first] = instance.durations[job, first:length]
        for op in range(first):
            machine = instance.machines[job, op]
            release[job] = max(release[job], ends[job, op])
            available[machine] = max(available[machine], ends[job, op])
    left = JSPInstance(
        machines,
        durations,
        f"{instance.name} from {now}".strip(),
        num_machines=instance.num_machines,
        release=release,
        available=available,
    )
    return Remainder(left, begun, np.asarray(starts), instance)
