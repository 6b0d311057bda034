"""Choosing the regularisation on held-out training data, never on the test set."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from jaxml.core.types import Array, PyTree
from jaxml.merge import merging
from jaxml.merge.config import MergeConfig
from jaxml.merge.covariance import Moments
from jaxml.merge.network import Network

GAMMAS = (1e-2, 1e-1, 0.3, 1.0, 3.0, 10.0, 100.0)
"""Relative regularisations tried by default."""


class Chosen(NamedTuple):
    """The best configuration, its merge, and the score of every candidate."""

    cfg: MergeConfig
    result: merging.MergeResult
    scores: dict[MergeConfig, float]


def choose(
    network: Network,
    models: Sequence[PyTree],
    batches: Iterable[Array],
    candidates: Sequence[MergeConfig],
    score: Callable[[PyTree], float],
    moments: Mapping[str, Moments] | None = None,
) -> Chosen:
    """Merges with every candidate and keeps the one of highest score; the first among equals.

    Args:
      network: the architecture.
      models: variables, the reference first.
      batches: training inputs.
      candidates: of one method that uses moments, and of reference 0.
      score: of merged variables, on data that neither training nor testing uses.
      moments: of these models, if known; else made here, once for all candidates.

    Raises:
      ValueError: no candidate, or one with another reference.
    """
    if not candidates:
        raise ValueError("candidates must hold at least one configuration; got none.")
    if any(cfg.reference != 0 for cfg in candidates):
        raise ValueError("candidates must have reference=0; put that network first.")
    pairs = "all" if candidates[0].method == "zipit" else "reference"
    moments = moments or merging.feature_moments(network, models, batches, pairs)
    results = {}
    for cfg in candidates:
        alignments = merging.alignments_from_moments(network, moments, cfg)
        results[cfg] = merging.finish(network, models, batches, cfg, alignments, diagnose=False)
    scores = {cfg: score(result.variables) for cfg, result in results.items()}
    best = max(candidates, key=lambda cfg: scores[cfg])
    diagnostics = merging.diagnostics_of(results[best].alignments)
    return Chosen(best, results[best]._replace(diagnostics=diagnostics), scores)


def gammas(cfg: MergeConfig, values: Sequence[float] = GAMMAS) -> list[MergeConfig]:
    """The configuration with each regularisation."""
    return [dataclasses.replace(cfg, method="cca", gamma=value) for value in values]
