"""Residual networks of basic blocks (He et al. 2016): CIFAR's (section 4.2), and ResNet-18.

A block is conv-norm-relu-conv-norm plus its input, then relu. Where the shape changes, the input
goes through a strided convolution and a norm (option B). Strided convolutions pad both sides alike.
"""

import dataclasses
import functools
from typing import Any, Literal

import jax

from jaxml.core import check, param
from jaxml.core.types import Array, Key, PyTree
from jaxml.models.tap import Tap, untouched
from jaxml.nn import conv, linear, norm
from jaxml.nn.initializer import he_normal


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
    """One network.

    Attributes:
      num_classes: outputs.
      blocks: number of blocks of each stage; every stage but the first halves the image.
      widths: channels of each stage.
      in_channels: of the images.
      stem: "cifar", a 3 x 3 convolution, or "imagenet", 7 x 7 by 2 and a max pool by 2.
      shortcut: kernel size of the convolutions on the shortcuts.
    """

    num_classes: int
    blocks: tuple[int, ...] = (3, 3, 3)
    widths: tuple[int, ...] = (16, 32, 64)
    in_channels: int = 3
    stem: Literal["cifar", "imagenet"] = "cifar"
    shortcut: Literal[1, 3] = 1

    def __post_init__(self):
        check.types(self)
        check.positive(num_classes=self.num_classes, in_channels=self.in_channels)
        if not self.blocks or len(self.blocks) != len(self.widths):
            raise ValueError(
                "widths must name one width per stage of blocks; "
                f"got blocks={self.blocks}, widths={self.widths}."
            )
        for num, width in zip(self.blocks, self.widths, strict=True):
            check.positive(blocks=num, widths=width)

    @property
    def layout(self) -> tuple[tuple[str, int, int, int], ...]:
        """For each block: its name, input width, width and stride."""
        rows, before = [], self.widths[0]
        for stage, (num, width) in enumerate(zip(self.blocks, self.widths, strict=True)):
            for block in range(num):
                stride = 2 if stage and not block else 1
                rows.append((f"stage{stage}_block{block}", before, width, stride))
                before = width
        return tuple(rows)


def cifar(
    depth: int,
    num_classes: int,
    width_multiplier: float = 1.0,
    in_channels: int = 3,
    shortcut: Literal[1, 3] = 1,
) -> ResNetConfig:
    """ResNet-`depth` for 32 x 32 images: three stages of (depth - 2) / 6 blocks.

    Raises:
      ValueError: `depth` is not 6 n + 2, or the multiplier leaves no channel.

    >>> cifar(20, 10).blocks
    (3, 3, 3)
    """
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"depth must be 6 n + 2 (8, 14, 20, 32, ...); got depth={depth}.")
    widths = tuple(int(width * width_multiplier) for width in (16, 32, 64))
    blocks = ((depth - 2) // 6,) * 3
    return ResNetConfig(num_classes, blocks, widths, in_channels, "cifar", shortcut)


def resnet18(num_classes: int = 1000, in_channels: int = 3) -> ResNetConfig:
    """ResNet-18 for large images."""
    return ResNetConfig(num_classes, (2, 2, 2, 2), (64, 128, 256, 512), in_channels, "imagenet")


def params(cfg: ResNetConfig) -> PyTree:
    """Declares `stem`, one entry per block of `cfg.layout`, and `head`."""
    stem = 7 if cfg.stem == "imagenet" else 3
    declared = {"stem": _conv_norm(cfg.in_channels, cfg.widths[0], stem)}
    for name, before, width, stride in cfg.layout:
        declared[name] = {"first": _conv_norm(before, width), "second": _conv_norm(width, width)}
        if stride != 1 or before != width:
            declared[name]["shortcut"] = _conv_norm(before, width, cfg.shortcut)
    declared["head"] = linear.params(cfg.widths[-1], cfg.num_classes, init=he_normal)
    return declared


def _conv_norm(before: int, width: int, kernel: int = 3) -> PyTree:
    declared = conv.params(before, width, kernel, bias=False)
    return {"conv": declared, "norm": norm.batch_params(width)}


def state(cfg: ResNetConfig) -> PyTree:
    """Declares the batch statistics: `mean` and `var` of every norm, in the tree of `params`."""
    declared = {"stem": norm.batch_state(cfg.widths[0])}
    for name, before, width, stride in cfg.layout:
        changes = stride != 1 or before != width
        places = ("first", "second", "shortcut") if changes else ("first", "second")
        declared[name] = {place: norm.batch_state(width) for place in places}
    return declared


def init(key: Key, cfg: ResNetConfig) -> PyTree:
    """Makes the parameters."""
    return param.init(key, params(cfg))


def init_state(cfg: ResNetConfig) -> PyTree:
    """Makes the batch statistics: mean 0, variance 1."""
    return param.init(jax.random.key(0), state(cfg))


def apply(
    p: PyTree,
    cfg: ResNetConfig,
    x_byxc: Array,
    state: PyTree,
    *,
    train: bool = False,
    momentum: float | Array = 0.9,
    axis_name: str | None = None,
    tap: Tap = untouched,
    dtype: Any = None,
) -> tuple[Array, PyTree]:
    """Logits [b, classes] and the new batch statistics.

    Args:
      p: from `init`.
      cfg: its configuration.
      x_byxc: images [b, y, x, c].
      state: from `init_state`.
      train: normalise by the batch and update the statistics.
      momentum: of the statistics.
      axis_name: mapped axis over which the batch is sharded.
      tap: sees, after their ReLU, `stem`, the inside of each block (`stage0_block0_hidden`) and its
        output (`stage0_block0`), all [b, y, x, w].
      dtype: compute dtype (default: of `x_byxc`).

    Raises:
      ValueError: another number of channels.
    """
    check.shape("x_byxc", x_byxc, ["b", "y", "x", cfg.in_channels])
    layer = functools.partial(
        _apply_conv_norm, train=train, momentum=momentum, axis_name=axis_name, dtype=dtype
    )
    new, large = {}, cfg.stem == "imagenet"
    x, new["stem"] = layer(p["stem"], state["stem"], x_byxc, 2 if large else 1)
    x = tap("stem", jax.nn.relu(x))
    if large:
        x = conv.max_pool(x, 3, 2, 1)
    for name, _, _, stride in cfg.layout:
        x, new[name] = _block(p[name], state[name], x, name, stride, layer, tap)
    return linear.apply(p["head"], conv.global_avg_pool(x), dtype), new


def _block(p: PyTree, state: PyTree, x: Array, name: str, stride: int, layer: Any, tap: Tap):
    new = {}
    y, new["first"] = layer(p["first"], state["first"], x, stride)
    y = tap(f"{name}_hidden", jax.nn.relu(y))
    y, new["second"] = layer(p["second"], state["second"], y, 1)
    if "shortcut" in p:
        x, new["shortcut"] = layer(p["shortcut"], state["shortcut"], x, stride)
    return tap(name, jax.nn.relu(x + y)), new


def _apply_conv_norm(p: PyTree, state: PyTree, x: Array, stride: int, *, dtype: Any, **kwargs: Any):
    size = p["conv"]["kernel"].shape[0]
    x = conv.apply(p["conv"], x, stride, size // 2, dtype=dtype)
    return norm.batch(p["norm"], state, x, **kwargs)
