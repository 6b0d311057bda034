"""What the detector does, and the tests it knows."""

import dataclasses
from typing import Literal

from jaxml.core import check
from jaxml.nfard.distance import METRICS, Metric
from jaxml.nfard.suite import STRATEGIES, Strategy
from jaxml.nfard.threshold import RULES, Rule

TESTS: dict[str, float] = {
    "output": 0.9,
    "output_projected": 1.0,
    "output_contrast": 1.0,
    "hidden": 1.0,
    "hidden_projected": 1.0,
    "labels": 1.0,
    "labels_contrast": 1.0,
}
"""Tests by name, with the alpha of their thresholds (the first two are the specification's)."""
BLACK = ("output_projected", "output", "output_contrast", "labels_contrast")
WHITE = ("hidden", "hidden_projected", *BLACK)
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
        1 - confidence.
      projection: of outputs: "auto" (lstsq), "lstsq", "procrustes", or "none".
      match: of hidden neurons of equal number: "hungarian" undoes reordering, "none" trusts order.
      ridge: of least squares.
      confidence: of thresholds.
      alpha: of all thresholds; None: each test's own.
      rule: "mean" or "prediction", see `threshold`.
      n_suite: samples, half to fit and half to measure.
      strategy: of their choice.
      layer: whose activations are read; "last" for the last that the model gives.
      eps: stands for smaller probabilities.
    """

    access: Literal["black", "white"] = "black"
    metric: Metric = "cosine"
    tests: tuple[str, ...] = ()
    combine: Literal["first", "majority", "any"] = "first"
    projection: Literal["auto", "lstsq", "procrustes", "none"] = "auto"
    match: Literal["hungarian", "none"] = "hungarian"
    ridge: float = 1e-3
    confidence: float = 0.99
    alpha: float | None = None
    rule: Rule = "mean"
    n_suite: int = 2000
    strategy: Strategy = "low_confidence"
    layer: str = "last"
    eps: float = 1e-12

    def __post_init__(self):
        check.types(self)
        check.one_of(METRICS, metric=self.metric)
        check.one_of(STRATEGIES, strategy=self.strategy)
        check.one_of(RULES, rule=self.rule)
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

    def alpha_of(self, test: str) -> float:
        """The factor of a test's threshold."""
        return TESTS[test] if self.alpha is None else self.alpha
