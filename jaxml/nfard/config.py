"""What the detector does, and the tests it knows."""

import dataclasses
from typing import Literal, NamedTuple

from jaxml.core import check
from jaxml.nfard.distance import METRICS, Metric
from jaxml.nfard.suite import STRATEGIES, Strategy
from jaxml.nfard.threshold import Rule


class Mark(NamedTuple):
    """How a test's threshold is made, see `threshold`."""

    alpha: float
    rule: Rule


TESTS: dict[str, Mark] = {
    "output": Mark(0.9, "mean"),
    "output_projected": Mark(1.0, "mean"),
    "output_contrast": Mark(1.0, "prediction"),
    "hidden": Mark(1.0, "prediction"),
    "hidden_projected": Mark(1.0, "prediction"),
    "labels": Mark(1.0, "prediction"),
    "labels_contrast": Mark(1.0, "prediction"),
}
"""Tests by name. The first two are the specification's; where references are as near as the
nearest independent models, a bound of their mean calls a part of those reuse, and "prediction",
the bound that one more of them stays above, is needed."""
BLACK = ("output_contrast", "output_projected", "output", "labels_contrast")
WHITE = ("hidden", "output_contrast")
HARD = ("labels_contrast", "labels")
"""Default tests by what a suspect shows; the first decides alone where `combine` is "first"."""


@dataclasses.dataclass(frozen=True)
class DetectorConfig:
    """How suspects are judged.

    Attributes:
      access: "white" reads hidden activations, "black" probabilities only.
      metric: of `nf_distance`, for all tests on NF matrices.
      tests: names of `TESTS`, the most trusted first; (): the defaults of the access.
      combine: how tests become a verdict: the "first" that applies decides; the "majority" of
        those that apply; or "any", where the smallest of m p-values, times m, is at most
        1 - confidence; "auto" is "first" for black boxes and "any" for white.
      projection: of outputs: "auto" (lstsq), "lstsq", "procrustes", or "none".
      match: of hidden neurons of equal number: "hungarian" undoes reordering, "none" trusts order.
      ridge: of least squares.
      confidence: of thresholds.
      alpha: of all thresholds; None: each test's own.
      rule: "mean" or "prediction" for all, see `threshold`; "auto": each test's own.
      n_suite: samples, half to fit and half to measure.
      strategy: of their choice.
      layer: whose activations are read; "last" for the last that the model gives.
      eps: stands for smaller probabilities.
    """

    access: Literal["black", "white"] = "black"
    metric: Metric = "cosine"
    tests: tuple[str, ...] = ()
    combine: Literal["auto", "first", "majority", "any"] = "auto"
    projection: Literal["auto", "lstsq", "procrustes", "none"] = "auto"
    match: Literal["hungarian", "none"] = "hungarian"
    ridge: float = 1e-3
    confidence: float = 0.99
    alpha: float | None = None
    rule: Literal["auto", "mean", "prediction"] = "auto"
    n_suite: int = 2000
    strategy: Strategy = "low_confidence"
    layer: str = "last"
    eps: float = 1e-12

    def __post_init__(self):
        check.types(self)
        check.one_of(METRICS, metric=self.metric)
        check.one_of(STRATEGIES, strategy=self.strategy)
        for test in self.tests:
            check.one_of(TESTS, test=test)
            if self.access == "black" and test.startswith("hidden"):
                raise ValueError(f"access='black' sees no hidden activations; got test={test!r}.")
        check.divides(two=2, n_suite=self.n_suite)
        check.at_least(4, n_suite=self.n_suite)
        check.at_least(0, ridge=self.ridge)
        check.positive(eps=self.eps, alpha=1.0 if self.alpha is None else self.alpha)

    @property
    def chosen(self) -> tuple[str, ...]:
        """The tests, most trusted first; without a projection those that need none."""
        tests = self.tests or (WHITE if self.access == "white" else BLACK)
        if self.projection == "none":
            tests = tuple(t for t in tests if t != "output_projected")
        return tests

    @property
    def combination(self) -> str:
        """How tests become a verdict."""
        if self.combine != "auto":
            return self.combine
        return "any" if self.access == "white" else "first"

    def mark_of(self, test: str) -> Mark:
        """How the threshold of a test is made."""
        own = TESTS[test]
        alpha = own.alpha if self.alpha is None else self.alpha
        return Mark(alpha, own.rule if self.rule == "auto" else self.rule)
