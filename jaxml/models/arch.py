"""Architectures by a few numbers: the MLPs, VGGs and ResNets of this folder."""

import dataclasses
from typing import Literal

from jaxml.core import check
from jaxml.core.types import PyTree
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


def arch_of(params: PyTree, image: tuple[int, ...]) -> ArchConfig:
    """The architecture whose parameters these are.

    Raises:
      ValueError: none that is known.
    """
    high, wide, channels = image
    shape = (high, wide, channels)
    if "layer0" in params:
        num = len(params)
        widths = [params[f"layer{i}"]["kernel"].shape[1] for i in range(num)]
        return ArchConfig("mlp", hidden=tuple(widths[:-1]), num_classes=widths[-1], image=shape)
    if "conv0" in params and "head0" in params:
        convs = sum(name.startswith("conv") for name in params)
        classes = params["head0"]["kernel"].shape[1]
        width = params["conv0"]["kernel"].shape[-1] / 64
        normed = "norm0" in params
        return ArchConfig("vgg", convs + 3, width, (), normed, classes, shape)
    if "stem" in params and "stage0_block0" in params:
        depth = 6 * sum(name.startswith("stage0_") for name in params) + 2
        width = params["stem"]["conv"]["kernel"].shape[-1] / 16
        classes = params["head"]["kernel"].shape[1]
        return ArchConfig("resnet", depth, width, (), True, classes, shape)
    raise ValueError(
        f"models must be an mlp, vgg or resnet of jaxml.models; their arrays are "
        f"{', '.join(list(params)[:6])}; for others name their function."
    )
