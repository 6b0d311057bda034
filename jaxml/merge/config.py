"""How networks are merged."""

import dataclasses
from typing import Literal

from jaxml.core import check

type Method = Literal["cca", "permute", "weights", "zipit", "ot", "average"]
METHODS = ("cca", "permute", "weights", "zipit", "ot", "average")


@dataclasses.dataclass(frozen=True)
class MergeConfig:
    """One merge.

    Attributes:
      method: how features are aligned before averaging: `cca` (canonical correlation), `permute`
        (activation matching), `weights` (Git Re-Basin), `zipit` (ZipIt!), `ot` (optimal transport
        between activations), `average` (not at all).
      gamma: of `cca`, added to the diagonals of covariances.
      gamma_mode: "relative" to each network's mean variance, or "absolute" as in the paper.
      reference: index of the network whose basis the others are brought to.
      weights: share of each network in the average; None: alike.
      repair: after averaging: "bn_reset" (batch statistics anew, where there are any), "rescale"
        (REPAIR: every layer gets the mean and deviation its parents had), or "none".
      alpha: of `zipit`: share of its correlation that a merged feature keeps.
      beta: of `zipit`: share of merges that may stay inside one network.
      seed: of `weights`.
    """

    method: Method = "cca"
    gamma: float = 0.1
    gamma_mode: Literal["relative", "absolute"] = "relative"
    reference: int = 0
    weights: tuple[float, ...] | None = None
    repair: Literal["bn_reset", "rescale", "none"] = "bn_reset"
    alpha: float = 0.3
    beta: float = 0.125
    seed: int = 0

    def __post_init__(self):
        check.one_of(METHODS, method=self.method)
        check.one_of(("relative", "absolute"), gamma_mode=self.gamma_mode)
        check.one_of(("bn_reset", "rescale", "none"), repair=self.repair)
        check.at_least(0, gamma=self.gamma, reference=self.reference, seed=self.seed)
        check.between(0, 1, alpha=self.alpha, beta=self.beta)
