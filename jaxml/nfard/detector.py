"""Is this model a copy of mine? Calibrate with references, then judge suspects."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxml.core.types import Key
from jaxml.nfard import measure
from jaxml.nfard.access import Access
from jaxml.nfard.config import HARD, DetectorConfig
from jaxml.nfard.measure import Reading
from jaxml.nfard.suite import Suite, select_suite
from jaxml.nfard.threshold import Threshold, p_value, threshold

WEAK = (
    "hard labels only: the agreement test is weaker than a comparison of probabilities, and a "
    "copy that was re-trained may pass it"
)
OTHER_LABELS = "another label set: only tests with a projection apply, and they are weaker"


class Calibration(NamedTuple):
    """Everything a verdict needs besides the suspect.

    Attributes:
      suite: rows of the pool.
      victim: its reading on the suite.
      controls: of the references, then of further models that only contrasts use.
      thresholds: by test; tests with fewer than 3 references that they apply to are missing.
      distances: of the references, by test.
    """

    suite: Suite
    victim: Reading
    controls: tuple[Reading, ...]
    thresholds: dict[str, Threshold]
    distances: dict[str, tuple[float, ...]]

    @property
    def first(self) -> Threshold:
        """The threshold of the most trusted test."""
        return next(iter(self.thresholds.values()))


class Finding(NamedTuple):
    """One test of one suspect; reuse where the distance is at most the threshold."""

    test: str
    distance: float
    threshold: float
    margin: float
    p_value: float
    reuse: bool


class Verdict(NamedTuple):
    """The answer.

    Attributes:
      reuse: whether the suspect counts as a copy.
      distance: of the test that decides (for "majority" and "any": the one with the smallest p).
      threshold: its threshold.
      margin: threshold - distance; positive for reuse.
      p_value: probability that an independent model comes as near; under "any" the smallest of m,
        times m.
      test: the test that decides.
      tests: every test that applied.
      weaker: the evidence is weaker than a comparison of probabilities.
      note: why.
    """

    reuse: bool
    distance: float
    threshold: float
    margin: float
    p_value: float
    test: str
    tests: tuple[Finding, ...]
    weaker: bool = False
    note: str = ""


def calibrate(
    victim: Access,
    references: Sequence[Access],
    x: np.ndarray,
    cfg: DetectorConfig,
    key: Key | None = None,
    controls: Sequence[Access] = (),
) -> Calibration:
    """Chooses the suite and the thresholds.

    Args:
      victim: the owner's model.
      references: at least 3 models of the same task made without it, best with the architectures
        that suspects may have.
      x: the pool of normal samples [n, ...] that no model was trained on.
      cfg: the detector.
      key: of a random suite.
      controls: more independent models that thresholds are not made from, only contrasts: such
        as references that saw less data.

    Raises:
      ValueError: fewer than 3 references, a pool smaller than the suite, outputs of the victim
        that are hard labels or not finite.
    """
    if len(references) < 3:
        raise ValueError(f"there must be at least 3 reference models; got {len(references)}.")
    whole = victim(x, np.arange(len(x)))
    if whole.probs is None:
        raise ValueError("the victim must give probabilities; it gives labels only.")
    suite = select_suite(whole.probs, cfg.n_suite, cfg.strategy, key)
    own = jax.tree.map(lambda a: a[suite.rows], whole)
    others, more = (
        [measure.reading(r(x, suite.rows), cfg) for r in models]
        for models in (references, controls)
    )
    return calibrate_readings(suite, measure.reading(own, cfg), others, cfg, more)


def calibrate_readings(
    suite: Suite,
    victim: Reading,
    references: Sequence[Reading],
    cfg: DetectorConfig,
    controls: Sequence[Reading] = (),
) -> Calibration:
    """`calibrate` from readings on a suite; contrasts leave the reference itself out."""
    thresholds, distances = {}, {}
    for test in dict.fromkeys((*cfg.chosen, *HARD)):
        found = []
        for i, one in enumerate(references):
            if measure.applies(test, victim, one):
                rest = [*references[:i], *references[i + 1 :], *controls]
                found.append(measure.distance(test, victim, one, rest, cfg))
        if len(found) >= 3:
            distances[test] = tuple(found)
            mark = cfg.mark_of(test)
            thresholds[test] = threshold(found, cfg.confidence, mark.alpha, mark.rule)
    if not thresholds:
        raise ValueError("there must be at least 3 references that a test applies to.")
    return Calibration(suite, victim, (*references, *controls), thresholds, distances)


def detect(
    victim: Access | None,
    suspect: Access,
    x: np.ndarray,
    calibration: Calibration,
    cfg: DetectorConfig,
) -> Verdict:
    """Judges one suspect.

    Args:
      victim: not asked again, its reading is in the calibration; may be None.
      suspect: any access.
      x: the pool that was calibrated with.
      calibration: from `calibrate` with the same configuration.
      cfg: the detector.

    Raises:
      ValueError: outputs that are not finite or no probabilities, a table that lacks samples,
        another number of classes with projection "none".
    """
    del victim
    return judge(calibration, measure.reading(suspect(x, calibration.suite.rows), cfg), cfg)


def judge(calibration: Calibration, suspect: Reading, cfg: DetectorConfig) -> Verdict:
    """The verdict on a reading."""
    own, other = calibration.victim.outputs, _other_labels(calibration, suspect)
    if other and cfg.projection == "none" and suspect.hidden is None:
        assert own is not None and suspect.outputs is not None
        raise ValueError(
            f"the suspect has {suspect.outputs.shape[1]} classes, the victim {own.shape[1]}; "
            "with projection='none' they must be equal."
        )
    hard = suspect.outputs is None and suspect.hidden is None
    note = WEAK if hard else OTHER_LABELS if other else ""
    results = [
        _result(test, calibration, suspect, cfg) for test in tests_of(calibration, suspect, cfg)
    ]
    return _verdict(results, cfg, bool(note) and suspect.hidden is None, note)


def _other_labels(calibration: Calibration, suspect: Reading) -> bool:
    own = calibration.victim.outputs
    if own is None or suspect.outputs is None:
        return False
    return suspect.outputs.shape[1] != own.shape[1]


def tests_of(calibration: Calibration, suspect: Reading, cfg: DetectorConfig) -> list[str]:
    """The tests that apply to a suspect, most trusted first.

    Hard labels have their own; labels of another set mean nothing.
    """
    hard = suspect.outputs is None and suspect.hidden is None
    other = _other_labels(calibration, suspect)
    return [
        test
        for test in (HARD if hard else cfg.chosen)
        if test in calibration.thresholds
        and measure.applies(test, calibration.victim, suspect)
        and not (other and test.startswith("labels"))
    ]


def _result(test: str, calibration: Calibration, suspect: Reading, cfg: DetectorConfig) -> Finding:
    found = calibration.thresholds[test]
    value = measure.distance(test, calibration.victim, suspect, calibration.controls, cfg)
    margin = found.value - value
    return Finding(test, value, found.value, margin, p_value(value, found), margin >= 0)


def _verdict(results: Sequence[Finding], cfg: DetectorConfig, weaker: bool, note: str) -> Verdict:
    if not results:
        raise ValueError("no test applies to the suspect (see its access, classes and layers).")
    lowest = min(results, key=lambda r: r.p_value)
    if cfg.combination == "first":
        decides, p = results[0], results[0].p_value
        reuse = decides.reuse
    elif cfg.combination == "majority":
        decides, p = lowest, float(np.median([r.p_value for r in results]))
        reuse = 2 * sum(r.reuse for r in results) > len(results)
    else:
        decides, p = lowest, min(1.0, len(results) * lowest.p_value)
        reuse = p <= 1 - cfg.confidence
    return Verdict(
        reuse,
        decides.distance,
        decides.threshold,
        decides.margin,
        p,
        decides.test,
        tuple(results),
        weaker,
        note,
    )
