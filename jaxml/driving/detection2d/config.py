"""Configuration of CenterNet."""

import dataclasses

from jaxml.core import check


@dataclasses.dataclass(frozen=True)
class CenterNetConfig:
    """A detector of stride 4.

    Attributes:
      num_classes: heat maps.
      widths: channels at strides 2, 4, 8, ...; at least two.
      blocks: further convolutions at each stride.
      head_width: hidden channels of each branch.
      size_weight: of the size's loss; those of heat map and offset are 1.
      most: boxes decoded.
      heat_bias: of the heat maps at the beginning.
    """

    num_classes: int = 3
    widths: tuple[int, ...] = (16, 32, 48, 64)
    blocks: int = 1
    head_width: int = 32
    size_weight: float = 0.1
    most: int = 100
    heat_bias: float = -2.19

    def __post_init__(self):
        check.types(self)
        check.positive(num_classes=self.num_classes, head_width=self.head_width, most=self.most)
        check.positive(size_weight=self.size_weight)
        check.at_least(0, blocks=self.blocks)
        if len(self.widths) < 2:
            raise ValueError(f"widths must name two strides or more; got widths={self.widths}.")


PRESETS = {
    "tiny": CenterNetConfig(widths=(8, 8, 8), blocks=0, head_width=8, most=20),
    "laptop": CenterNetConfig(),
    "h100": CenterNetConfig(widths=(64, 128, 256, 384), blocks=2, head_width=128),
}
"""By scale."""
