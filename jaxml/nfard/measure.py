"""The distance of each test, from the readings of victim, suspect and references on the suite."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxml.nfard import contrast, projection
from jaxml.nfard.access import Answer
from jaxml.nfard.config import DetectorConfig
from jaxml.nfard.distance import nf_distance


class Reading(NamedTuple):
    """A model on the suite, the fit half first.

    Attributes:
      labels: [N].
      outputs: centred log-probabilities [N, C], or None.
      hidden: [N, d], or None.
    """

    labels: np.ndarray
    outputs: np.ndarray | None = None
    hidden: np.ndarray | None = None


def reading(answer: Answer, cfg: DetectorConfig) -> Reading:
    """What of an answer the detector may look at."""
    hidden = answer.hidden if cfg.access == "white" else None
    return Reading(answer.labels, answer.outputs(cfg.eps), hidden)


def applies(test: str, victim: Reading, suspect: Reading) -> bool:
    """Whether both models show what a test looks at; neuron by neuron needs equal widths."""
    if test.startswith("labels"):
        return True
    both = (
        (victim.hidden, suspect.hidden)
        if test.startswith("hidden")
        else (victim.outputs, suspect.outputs)
    )
    if any(x is None for x in both):
        return False
    v, s = both
    assert v is not None and s is not None
    return v.shape[1] == s.shape[1] or test not in ("hidden", "output")


def distance(
    test: str,
    victim: Reading,
    suspect: Reading,
    controls: Sequence[Reading],
    cfg: DetectorConfig,
) -> float:
    """The distance of a test that applies.

    Args:
      test: a name of `TESTS`.
      victim: on the suite.
      suspect: on the same.
      controls: references, the suspect not among them; for contrasts.
      cfg: the detector's.
    """
    half = cfg.n_suite // 2
    if test == "labels":
        return contrast.label_distance(victim.labels, suspect.labels)
    if test == "labels_contrast":
        return contrast.label_contrast(victim.labels, suspect.labels, [c.labels for c in controls])
    hidden = test.startswith("hidden")
    v, s = (r.hidden if hidden else r.outputs for r in (victim, suspect))
    assert v is not None and s is not None
    if test == "output_contrast":
        known = [c.outputs for c in controls if c.outputs is not None]
        return contrast.output_contrast(v, s, known, half)
    if test.endswith("projected"):
        how = "procrustes" if cfg.projection == "procrustes" else "lstsq"
        found = projection.fit_projection(s[:half], v[:half], how, cfg.ridge)
        return nf_distance(v[half:], projection.apply_projection(found, s[half:]), cfg.metric).value
    if hidden and cfg.match == "hungarian":
        s = s[:, projection.match_neurons(v[:half], s[:half])]
    return nf_distance(v[half:], s[half:], cfg.metric).value
