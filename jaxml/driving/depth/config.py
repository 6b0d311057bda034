"""Configuration of the depth networks."""

import dataclasses

from jaxml.core import check


@dataclasses.dataclass(frozen=True)
class DepthConfig:
    """Monodepth2 by its equations; the encoder is a residual network from scratch.

    Attributes:
      blocks: residual blocks of each stage of the encoder.
      widths: channels of each stage; the decoder narrows from half of them.
      least_m: nearest depth.
      most_m: farthest depth.
      scales: resolutions that are supervised, each half of the one before.
      smooth_weight: of the disparity's smoothness at full size; halved with each scale.
      ssim_share: of the photometric error; the rest is L1.
      pose_scale: of the pose network's six numbers.
    """

    blocks: tuple[int, ...] = (2, 2, 2, 2)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    least_m: float = 0.1
    most_m: float = 100.0
    scales: int = 4
    smooth_weight: float = 1e-3
    ssim_share: float = 0.85
    pose_scale: float = 0.01

    def __post_init__(self):
        check.types(self)
        check.positive(least_m=self.least_m, smooth_weight=self.smooth_weight)
        check.positive(pose_scale=self.pose_scale)
        check.between(0, 1, ssim_share=self.ssim_share)
        check.between(1, len(self.widths), scales=self.scales)
        if self.most_m <= self.least_m:
            raise ValueError(
                f"most_m must be above least_m; got most_m={self.most_m}, least_m={self.least_m}."
            )
        if len(self.blocks) != len(self.widths):
            raise ValueError(f"widths must name one width per stage; got {self.widths}.")


PRESETS = {
    "tiny": DepthConfig((1, 1), (8, 16), scales=2),
    "laptop": DepthConfig((1, 1, 1), (16, 32, 64), scales=3),
    "h100": DepthConfig(),
}
"""By scale; "h100" is the published size, ResNet-18."""
