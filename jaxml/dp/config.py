"""Configurations of the convex model and of its private training."""

import dataclasses
import math
from typing import Literal

from jaxml.core import check

ClipMode = Literal["envelope", "flat", "lipschitz", "per_class"]
Loss = Literal["softmax_ce", "squared", "logistic"]
Adjacency = Literal["replace_one", "zero_out"]
CURVATURE = {"softmax_ce": 0.5, "squared": 1.0, "logistic": 0.25}
"""Largest second derivative of each loss in the logits."""
TF32_SLACK = 2.0**-9
"""Two factors rounded to 10 bits cannot make a product longer by more than this share."""
_MODES = {
    "envelope": ("softmax_ce", "squared"),
    "flat": ("softmax_ce", "squared", "logistic"),
    "lipschitz": ("softmax_ce", "logistic"),
    "per_class": ("squared", "logistic"),
}


@dataclasses.dataclass(frozen=True)
class ConvexReLUConfig:
    """The convex two-layer ReLU model `f(x) = sum_p 1[x.u_p >= 0] x^T V_p`.

    A generalised linear model on the gated features `phi(x)`, P d numbers of each example.

    Attributes:
      in_dim: d.
      num_classes: K.
      num_gates: P, random half-spaces drawn without looking at the data.
      feature_norm: "unit" scales each example so that `||phi|| = 1`; "none" takes it as it is and
        shrinks it to `norm_bound` where it is longer. Both look at one example only.
      loss: "softmax_ce", "squared" (half squared error against one-hot labels) or "logistic" (one
        class against the rest, summed over classes).
      norm_bound: largest `||phi||` for "none"; must be public knowledge, not read off the data.
    """

    in_dim: int
    num_classes: int
    num_gates: int = 128
    feature_norm: Literal["unit", "none"] = "unit"
    loss: Loss = "softmax_ce"
    norm_bound: float | None = None

    def __post_init__(self):
        check.types(self)
        check.positive(in_dim=self.in_dim, num_classes=self.num_classes, num_gates=self.num_gates)
        if (self.feature_norm == "none") != (self.norm_bound is not None):
            raise ValueError(
                "norm_bound must be given for feature_norm='none', and only there; "
                f"got feature_norm={self.feature_norm!r}, norm_bound={self.norm_bound}."
            )
        if self.norm_bound is not None:
            check.positive(norm_bound=self.norm_bound)

    @property
    def max_norm(self) -> float:
        """Largest `||phi(x)||` of any example."""
        return 1.0 if self.norm_bound is None else self.norm_bound

    @property
    def smoothness(self) -> float:
        """Beta of the data term, for any data."""
        return CURVATURE[self.loss] * self.max_norm**2


@dataclasses.dataclass(frozen=True)
class NoisyCGDConfig:
    """Noisy cyclic gradient descent: disjoint batches in a fixed order, the last iterate released.

    Attributes:
      batch_size: b; divides the number of examples.
      epochs: E, passes over the batches.
      learning_rate: eta.
      l2: lambda, of the ridge term, whose gradient is neither clipped nor private.
      noise_multiplier: sigma; the mean gradient gets noise of deviation `sigma C / b` per
        coordinate. 0 only without a report.
      clip_norm: C, on the norm of an example's gradient.
      clip_mode: how gradients are bounded, see `clip`. "lipschitz" clips nothing: the bound of the
        loss takes the place of C.
      adjacency: data sets differ in one example that is replaced, or (weaker) one that is blanked.
      delta: of the report.
      matmul: "highest" keeps float32; "tf32" is faster on GPUs, and gradients are then bounded by
        `C / (1 + 2^-9)`, so that rounding cannot pass C.
    """

    batch_size: int = 1000
    epochs: int = 20
    learning_rate: float = 3.9
    l2: float = 5.4e-5 / 3.9
    noise_multiplier: float = 5.0
    clip_norm: float = 1.0
    clip_mode: ClipMode = "envelope"
    adjacency: Adjacency = "replace_one"
    delta: float = 1e-5
    matmul: Literal["highest", "tf32"] = "highest"

    def __post_init__(self):
        check.types(self)
        check.positive(batch_size=self.batch_size, epochs=self.epochs)
        check.positive(learning_rate=self.learning_rate, clip_norm=self.clip_norm)
        check.at_least(0, l2=self.l2, noise_multiplier=self.noise_multiplier)
        in_open_interval(delta=self.delta)


def in_open_interval(**values: float) -> None:
    """Raises ValueError unless every value lies strictly between 0 and 1."""
    for name, value in values.items():
        if not 0 < value < 1:
            raise ValueError(f"{name} must lie in (0, 1); got {name}={value}.")


def check_mode(mode: ClipMode, model: ConvexReLUConfig) -> None:
    """Raises ValueError where a way to bound gradients is not defined for the loss."""
    check.one_of(_MODES, clip_mode=mode)
    if model.loss not in _MODES[mode]:
        raise ValueError(
            f"clip_mode {mode!r} is defined for the losses {', '.join(_MODES[mode])}; "
            f"got loss={model.loss!r}."
        )


def gradient_bound(cfg: NoisyCGDConfig, model: ConvexReLUConfig) -> float:
    """Largest norm of one example's gradient: C, or the loss's own bound where nothing is clipped.

    >>> gradient_bound(NoisyCGDConfig(clip_mode="lipschitz"), ConvexReLUConfig(4, 3))
    1.4142135623730951
    """
    check_mode(cfg.clip_mode, model)
    if cfg.clip_mode != "lipschitz":
        return cfg.clip_norm
    per_logit = math.sqrt(2 if model.loss == "softmax_ce" else model.num_classes)
    return per_logit * model.max_norm


def is_proved(mode: ClipMode, loss: Loss, num_classes: int) -> bool:
    """Whether the bounded gradient is that of a convex loss of the same smoothness.

    Only then is the update a contraction, which the hidden-state theorem needs. Scaling the
    softmax residual of three or more classes ("flat") is neither a gradient nor monotone.

    >>> is_proved("flat", "softmax_ce", 2), is_proved("flat", "softmax_ce", 3)
    (True, False)
    """
    if mode != "flat" or loss == "squared":
        return True
    return num_classes <= (2 if loss == "softmax_ce" else 1)


PRESETS: dict[str, NoisyCGDConfig] = {
    "tiny": NoisyCGDConfig(batch_size=50, epochs=2),
    "laptop": NoisyCGDConfig(),
    "h100": NoisyCGDConfig(epochs=400, matmul="tf32"),
    "paper": NoisyCGDConfig(epochs=400, clip_mode="flat"),
}
"""Trainings by name. "paper": 400 epochs of batches of 1000 with flat clipping at 1 are the
authors' settings; unit features and the learning rate that goes with them are ours."""
NUM_GATES = {"tiny": 4, "laptop": 32, "h100": 128, "paper": 128}
"""Gates that go with each preset."""
