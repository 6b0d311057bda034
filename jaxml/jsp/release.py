"""What the weights that come with the package are worth, on instances that took no part in them."""

import time
from collections.abc import Sequence

from jaxml.core import rng
from jaxml.core.types import Key
from jaxml.inputs.source import DataNotFoundError
from jaxml.jsp import benchmark, policy, quality
from jaxml.jsp.config import SPNConfig
from jaxml.jsp.instance import JSPInstance
from jaxml.report.claim import Claim, Promise, at_least, at_most

SAMPLES, SHOWN = 128, "ta21"

RULES = Promise(
    "jsp",
    "shipped-beats-rules",
    "The trained policy's best sample beats the best of as many randomised runs of a dispatching "
    "rule",
    "8.38 against 14.49 on Taillard's instances, best of 128",
    "read",
    "points of mean gap",
    at_least(0.0, "classical instances of 10 jobs and 10 machines; weights as shipped"),
)
GAP = Promise(
    "jsp",
    "shipped-ta21",
    "The shipped weights schedule 20 jobs on 20 machines",
    "no such number in the paper",
    "none",
    "% above the best known makespan",
    at_most(11.0, f"our own mark: {SHOWN}, best of {SAMPLES}"),
)
SECONDS = Promise(
    "jsp",
    "shipped-seconds",
    f"and does so in seconds ({SAMPLES} schedules, compiled before)",
    "no such number in the paper",
    "none",
    "s",
    at_most(5.0, "our own mark"),
)


def missing(reason: str, scale: str) -> list[Claim]:
    """The claims, where the instances are not found."""
    return [promise.missing(reason, scale) for promise in (RULES, GAP, SECONDS)]


def claims(
    shops: Sequence[JSPInstance], drawn: quality.Method, samples: int, key: Key, scale: str
) -> tuple[list[Claim], quality.Method]:
    """The claims, and the weights' best samples of the instances.

    Args:
      shops: classical instances.
      drawn: the best randomised runs of a rule on them, as many as `samples`.
      samples: schedules per instance.
      key: of the samples.
      scale: of the recipe.
    """
    params, cfg = policy.shipped(), SPNConfig()
    key = rng.fold(key, "shipped")
    _, best = quality.of_policy(params, cfg, shops, key, samples)
    found = [RULES.measured(drawn.mean - best.mean, scale, why=f"policy {best.mean:.2f} %")]
    try:
        shown = [entry.instance for entry in benchmark.load([SHOWN])]
    except DataNotFoundError as error:
        return [*found, *(p.missing(str(error), scale) for p in (GAP, SECONDS))], best
    quality.of_policy(params, cfg, shown, key, SAMPLES)  # compiles
    begun = time.perf_counter()
    _, large = quality.of_policy(params, cfg, shown, key, SAMPLES)
    seconds = time.perf_counter() - begun
    return [*found, GAP.measured(large.mean, scale), SECONDS.measured(seconds, scale)], best
