"""Architectures by a few numbers: the MLPs, VGGs and ResNets of this folder."""

import dataclasses
from typing import Literal

from jaxml.core import check
from jaxml.models import mlp, resnet, vgg


@dataclasses.dataclass(frozen=True)
class ArchConfig:
    """One network.

    Attributes:
      kind: `mlp` (of `hidden` widths), `vgg` or `resnet` (of `depth`).
      depth: 11, 13, 16, 19 for vgg; 6 n + 2 for resnet.
      width: multiplier of the channels.
      hidden: widths of the mlp.
      batch_norm: in vgg; resnets always have it.
      num_classes: outputs.
      image: y, x, c.
    """

    kind: Literal["mlp", "vgg", "resnet"] = "mlp"
    depth: int = 11
    width: float = 1.0
    hidden: tuple[int, ...] = (128, 128, 128)
    batch_norm: bool = False
    num_classes: int = 10
    image: tuple[int, int, int] = (28, 28, 1)

    def __post_init__(self):
        check.one_of(("mlp", "vgg", "resnet"), kind=self.kind)
        check.positive(depth=self.depth, width=self.width, num_classes=self.num_classes)

    @property
    def model(self) -> mlp.MlpConfig | vgg.VggConfig | resnet.ResNetConfig:
        """The network's own configuration."""
        high, wide, channels = self.image
        if self.kind == "mlp":
            return mlp.MlpConfig(high * wide * channels, self.hidden, self.num_classes)
        if self.kind == "vgg":
            return vgg.VggConfig(
                self.num_classes, self.depth, self.width, channels, batch_norm=self.batch_norm
            )
        return resnet.cifar(self.depth, self.num_classes, self.width, channels, shortcut=3)
