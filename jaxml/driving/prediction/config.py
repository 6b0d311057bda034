"""Settings of the pedestrian and the vehicle forecaster."""

import dataclasses

from jaxml.core import check
from jaxml.train.optim import OptimConfig


@dataclasses.dataclass(frozen=True)
class SocialConfig:
    """The forecaster of pedestrians.

    Attributes:
      num_vectors: k, coefficients of a path.
      num_modes: paths forecast.
      num_neighbours: nearest agents attended to; 0 turns attention off.
      width: of an agent's embedding.
      num_heads: of attention.
      num_layers: of attention and feed-forward.
      quantile: share of training agents that count as standing.
      temperature_m: metres; mode probabilities are trained towards `softmax(-ADE / temperature)`,
        so that the most likely mode is where truth is dense.
      probability_weight: of that cross-entropy.
      density_weight: of the negative log density.
      expected_weight: of the error expected under the forecast's own probabilities.
      first_weight: of the error of the first mode, whose anchor goes straight on; above 0 that mode
        becomes the forecast's own single path.
    """

    num_vectors: int = 6
    num_modes: int = 20
    num_neighbours: int = 6
    width: int = 48
    num_heads: int = 4
    num_layers: int = 1
    quantile: float = 0.4
    temperature_m: float = 0.2
    probability_weight: float = 0.1
    density_weight: float = 0.02
    expected_weight: float = 0.02
    first_weight: float = 0.0

    def __post_init__(self):
        check.types(self)
        check.positive(num_vectors=self.num_vectors, num_modes=self.num_modes, width=self.width)
        check.positive(num_layers=self.num_layers, temperature_m=self.temperature_m)
        check.at_least(0, num_neighbours=self.num_neighbours)
        check.divides(num_heads=self.num_heads, width=self.width)
        check.between(0.01, 0.99, quantile=self.quantile)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How folds are trained together.

    Attributes:
      model: see `SocialConfig`.
      optim: optimiser; `total_steps` are the steps made.
      batch_size: agents of each fold in a step, drawn with replacement.
      num_checks: times that validation is measured, evenly spaced; the best is kept.
    """

    model: SocialConfig = SocialConfig()
    optim: OptimConfig = OptimConfig(
        lr=2e-3, schedule="cosine", warmup_steps=50, total_steps=1000, final_lr_ratio=0.02,
        b2=0.999, weight_decay=1e-4,
    )  # fmt: skip
    batch_size: int = 192
    num_checks: int = 4

    def __post_init__(self):
        check.positive(batch_size=self.batch_size, num_checks=self.num_checks)
        if self.optim.total_steps % self.num_checks:
            raise ValueError(
                f"num_checks must divide total_steps; got num_checks={self.num_checks}, "
                f"total_steps={self.optim.total_steps}."
            )


PRESETS: dict[str, TrainConfig] = {
    "tiny": TrainConfig(
        SocialConfig(num_modes=4, num_neighbours=2, width=16, num_heads=2),
        OptimConfig(lr=3e-3, schedule="constant", total_steps=10),
        batch_size=32,
        num_checks=2,
    ),
    "laptop": TrainConfig(),
    "h100": TrainConfig(
        SocialConfig(num_neighbours=16, width=256, num_heads=8, num_layers=3),
        OptimConfig(
            lr=1e-3, schedule="cosine", warmup_steps=500, total_steps=16_000, final_lr_ratio=0.01,
            b2=0.999, weight_decay=1e-2,
        ),
        batch_size=512,
        num_checks=16,
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class VehicleConfig:
    """The forecaster of vehicles.

    Attributes:
      num_modes: K, learned queries.
      num_neighbours: nearest vehicles seen.
      num_lines: nearest map polylines seen; 0 without a map.
      width: of a token.
      num_heads: of attention.
      num_layers: of the encoder over tokens.
      expected_weight: of the error expected under the forecast's own probabilities, metres.
      probability_weight: of the cross-entropy to the mode that ends nearest.
      gain: of the network's corrections to what an agent's own motion suggests.
    """

    num_modes: int = 6
    num_neighbours: int = 4
    num_lines: int = 0
    width: int = 32
    num_heads: int = 4
    num_layers: int = 1
    expected_weight: float = 1.0
    probability_weight: float = 0.3
    gain: float = 0.2

    def __post_init__(self):
        check.types(self)
        check.positive(num_modes=self.num_modes, width=self.width, num_layers=self.num_layers)
        check.at_least(0, num_neighbours=self.num_neighbours, num_lines=self.num_lines)
        check.at_least(0, gain=self.gain)
        check.divides(num_heads=self.num_heads, width=self.width)


@dataclasses.dataclass(frozen=True)
class MotionConfig:
    """How the layer in front of the network is fitted.

    Attributes:
      steps: updates, with a step that falls to nothing.
      batch_size: agents in each.
      lr: the first step.
      end: weight of the error at the end of the path beside the mean error.
    """

    steps: int = 400
    batch_size: int = 1024
    lr: float = 1e-3
    end: float = 0.3

    def __post_init__(self):
        check.types(self)
        check.positive(steps=self.steps, batch_size=self.batch_size, lr=self.lr)
        check.at_least(0, end=self.end)


@dataclasses.dataclass(frozen=True)
class VehicleTrainConfig:
    """How the forecaster of vehicles is trained.

    Attributes:
      model: see `VehicleConfig`.
      optim: optimiser; `total_steps` are the steps made.
      batch_size: agents in a step.
      num_checks: times that held-out training windows are looked at; the best is kept.
      noise_m: standard deviation of noise added to observed positions.
      motion: how the layer in front of the network is fitted.
      stretch: worlds are drawn up to exp(stretch) times larger or smaller.
    """

    model: VehicleConfig = VehicleConfig()
    optim: OptimConfig = OptimConfig(
        lr=7e-4, schedule="cosine", warmup_steps=50, total_steps=600, final_lr_ratio=0.02,
        b2=0.999, weight_decay=5e-2,
    )  # fmt: skip
    batch_size: int = 128
    num_checks: int = 6
    noise_m: float = 0.02
    stretch: float = 0.3
    motion: MotionConfig = MotionConfig()

    def __post_init__(self):
        check.positive(batch_size=self.batch_size, num_checks=self.num_checks)
        check.at_least(0, noise_m=self.noise_m, stretch=self.stretch)
        if self.optim.total_steps % self.num_checks:
            raise ValueError(
                f"num_checks must divide total_steps; got num_checks={self.num_checks}, "
                f"total_steps={self.optim.total_steps}."
            )
