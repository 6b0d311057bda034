"""From an instance to a schedule: sample, mirror, polish; every stage timed."""

import dataclasses
import time
from collections.abc import Callable

import jax
import numpy as np

from jaxml.core import check, rng
from jaxml.core.types import Key, PyTree
from jaxml.jsp import rollout, schedule, tabu
from jaxml.jsp.config import SPNConfig
from jaxml.jsp.instance import JSPInstance, reverse
from jaxml.jsp.problem import from_instance


@dataclasses.dataclass(frozen=True)
class SolveConfig:
    """How hard to try.

    Attributes:
      samples: schedules drawn from the policy, beside the greedy one.
      polish_s: seconds of tabu search from the best schedules.
      starts: how many schedules the tabu search starts from, side by side.
      mirror: draw half of the samples on the instance reversed in time (not with dates).
      temperature: of the draws.
      round_up: pad jobs and machines to multiples of this, so that compiled code serves more sizes.
      seed: of all draws.
    """

    samples: int = 128
    polish_s: float = 2.0
    starts: int = 1
    mirror: bool = False
    temperature: float = 1.0
    round_up: int = 1
    seed: int = 0

    def __post_init__(self):
        check.types(self)
        check.positive(samples=self.samples, starts=self.starts, round_up=self.round_up)
        check.at_least(0, polish_s=self.polish_s, temperature=self.temperature)


@dataclasses.dataclass(frozen=True, eq=False)
class Solution:
    """A schedule that has been checked.

    Attributes:
      starts: int64 [n, k].
      seq: a job sequence that gives it, int32 [N].
      makespan: its length, counted from 0.
      stages: (name, makespan so far, seconds of the stage, of them compiling).
    """

    starts: np.ndarray
    seq: np.ndarray
    makespan: int
    stages: tuple[tuple[str, int, float, float], ...]


def solve(
    instance: JSPInstance, params: PyTree, cfg: SPNConfig, how: SolveConfig | None = None
) -> Solution:
    """The best schedule that the policy and the search find.

    Compiling is not counted as search: each stage's compiled code is made before its clock starts.

    Raises:
      InfeasibleScheduleError: never, unless there is a mistake in this library: the result is
        validated.
    """
    how = SolveConfig() if how is None else how
    key, stages = jax.random.key(how.seed), []
    seqs, spans = _timed(stages, "policy", *_sampling(instance, params, cfg, how, key))
    if how.polish_s > 0 and instance.num_jobs > 1:
        ranked = np.argsort(spans, kind="stable")[: how.starts]
        polish = Polish(
            instance, seqs[ranked], rng.fold(key, "tabu"), how.polish_s, _shape(instance, how)
        )
        more, lengths = _timed(stages, "tabu search", polish.compile, polish.run)
        seqs, spans = np.concatenate([seqs, more]), np.concatenate([spans, lengths])
    seq = seqs[int(np.argmin(spans))]
    starts = schedule.start_times(instance, seq)
    return Solution(starts, seq, schedule.validate_schedule(instance, starts), tuple(stages))


def _timed(
    stages: list[tuple[str, int, float, float]],
    name: str,
    prepare: Callable[[], None],
    run: Callable[[], tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    begun = time.perf_counter()
    prepare()
    ready = time.perf_counter()
    seqs, spans = run()
    done = time.perf_counter()
    best = min([int(spans.min()), *(stage[1] for stage in stages)])
    stages.append((name, best, done - ready, ready - begun))
    return seqs, spans


def _shape(instance: JSPInstance, how: SolveConfig) -> tuple[int, int]:
    step = how.round_up
    return tuple(-(-size // step) * step for size in instance.shape)  # pyright: ignore


def _sampling(
    instance: JSPInstance, params: PyTree, cfg: SPNConfig, how: SolveConfig, key: Key
) -> tuple[Callable[[], None], Callable[[], tuple[np.ndarray, np.ndarray]]]:
    """Compiles, and draws: sequences [s, N] and makespans [s]."""
    mirror = how.mirror and not (instance.release.any() or instance.available.any())
    views = [instance, reverse(instance)] if mirror else [instance]
    share = -(-how.samples // len(views)) + 1
    temperatures = np.full(share, how.temperature, np.float32)
    temperatures[0] = 0.0
    problems = [from_instance(v, _shape(v, how)) for v in views]
    keys = [rollout.sample_keys(rng.fold(key, "samples", i), share) for i in range(len(views))]

    def prepare() -> None:
        rollout.compiled(cfg, _shape(instance, how), share)

    def run() -> tuple[np.ndarray, np.ndarray]:
        found, draw = [], rollout.compiled(cfg, _shape(instance, how), share)
        for view, problem, own in zip(views, problems, keys, strict=True):
            drawn = np.asarray(draw(params, problem, own, jax.numpy.asarray(temperatures)).seqs)
            rows = drawn[drawn >= 0].reshape(share, -1)
            found += [rows if view is instance else schedule.mirrored(instance, view, rows)]
        seqs = np.concatenate(found)
        return seqs, np.asarray([schedule.makespan(instance, seq) for seq in seqs])

    return prepare, run


class Polish:
    """Tabu search for a number of seconds.

    Args:
      instance: the shop.
      seqs: where to start, [s, N].
      key: of all draws.
      seconds: of wall time, compiling not counted.
      shape: (jobs, machines) to pad to.
      chunk: moves between looks at the clock.
    """

    def __init__(
        self,
        instance: JSPInstance,
        seqs: np.ndarray,
        key: Key,
        seconds: float,
        shape: tuple[int, int] | None = None,
        chunk: int = 50,
    ):
        self.instance, self.seconds, self.chunk = instance, seconds, chunk
        self.problem, self.searches = tabu.begin(instance, seqs, key, shape)
        self.moves = 0

    def compile(self) -> None:
        """Compiles, without moving."""
        jax.block_until_ready(tabu.advance(self.problem, self.searches, self.chunk))

    def run(self) -> tuple[np.ndarray, np.ndarray]:
        """The best sequences [s, N] and makespans [s]."""
        end, bound = time.monotonic() + self.seconds, self.instance.trivial_bound
        origin = int(self.instance.release[self.instance.lengths > 0].min())
        while time.monotonic() < end and int(self.searches.best.min()) + origin > bound:
            self.searches = tabu.advance(self.problem, self.searches, self.chunk)
            jax.block_until_ready(self.searches)
            self.moves += self.chunk
        return tabu.harvest(self.instance, self.searches)
