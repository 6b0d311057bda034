"""VGG networks (Simonyan and Zisserman 2015) for small images, with or without batch norm.

The convolutions of table 1 (columns A, B, D, E), the mean over what is left of the image (one
pixel for 32 x 32), then the classifier.
"""

import dataclasses
import functools
import itertools
from typing import Any

import jax

from jaxml.core import check, param
from jaxml.core.types import Array, Key, PyTree
from jaxml.models.tap import Tap, untouched
from jaxml.nn import conv, linear, norm
from jaxml.nn.initializer import he_normal

STAGES: dict[int, tuple[int, ...]] = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""Convolutions before each pooling, by depth."""
WIDTHS = (64, 128, 256, 512, 512)
"""Channels of each stage at width multiplier 1."""


@dataclasses.dataclass(frozen=True)
class VggConfig:
    """One network.

    Attributes:
      num_classes: outputs.
      depth: 11, 13, 16 or 19.
      width_multiplier: of every stage's channels.
      in_channels: of the images.
      hidden: hidden layers of the classifier.
      batch_norm: after every convolution.
    """

    num_classes: int
    depth: int = 11
    width_multiplier: float = 1.0
    in_channels: int = 3
    hidden: tuple[int, ...] = ()
    batch_norm: bool = False

    def __post_init__(self):
        check.types(self)
        check.one_of([str(d) for d in STAGES], depth=str(self.depth))
        check.positive(num_classes=self.num_classes, in_channels=self.in_channels)
        check.positive(width_multiplier=self.width_multiplier)
        check.positive(narrowest_width=int(WIDTHS[0] * self.width_multiplier))
        for width in self.hidden:
            check.positive(hidden=width)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels after each convolution."""
        stages = zip(WIDTHS, STAGES[self.depth], strict=True)
        return tuple(int(w * self.width_multiplier) for w, num in stages for _ in range(num))

    @property
    def last_of_stage(self) -> tuple[int, ...]:
        """Indices of the convolutions before a pooling."""
        return tuple(end - 1 for end in itertools.accumulate(STAGES[self.depth]))

    @property
    def head_widths(self) -> tuple[int, ...]:
        """Widths of the classifier, from features to classes."""
        return (self.widths[-1], *self.hidden, self.num_classes)


def params(cfg: VggConfig) -> PyTree:
    """Declares `conv{i}` (with `norm{i}`) and `head{i}`."""
    declared = {}
    before = cfg.in_channels
    for i, width in enumerate(cfg.widths):
        declared[f"conv{i}"] = conv.params(before, width, 3)
        if cfg.batch_norm:
            declared[f"norm{i}"] = norm.batch_params(width)
        before = width
    heads = zip(cfg.head_widths[:-1], cfg.head_widths[1:], strict=True)
    for i, (before, width) in enumerate(heads):
        declared[f"head{i}"] = linear.params(before, width, init=he_normal)
    return declared


def state(cfg: VggConfig) -> PyTree:
    """Declares the batch statistics `norm{i}`; empty without batch norm."""
    widths = cfg.widths if cfg.batch_norm else ()
    return {f"norm{i}": norm.batch_state(width) for i, width in enumerate(widths)}


def init(key: Key, cfg: VggConfig) -> PyTree:
    """Makes the parameters."""
    return param.init(key, params(cfg))


def init_state(cfg: VggConfig) -> PyTree:
    """Makes the batch statistics: mean 0, variance 1."""
    return param.init(jax.random.key(0), state(cfg))


def apply(
    p: PyTree,
    cfg: VggConfig,
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
      x_byxc: images [b, y, x, c], at least 32 x 32.
      state: from `init_state`.
      train: normalise by the batch and update the statistics.
      momentum: of the statistics.
      axis_name: mapped axis over which the batch is sharded.
      tap: sees `conv{i}` [b, y, x, w] after each ReLU and `head{i}` [b, w] after each hidden layer.
      dtype: compute dtype (default: of `x_byxc`).

    Raises:
      ValueError: smaller images, or another number of channels.
    """
    sizes = check.shape("x_byxc", x_byxc, ["b", "y", "x", cfg.in_channels])
    check.at_least(32, height=sizes["y"], width=sizes["x"])
    layer = functools.partial(
        _conv, train=train, momentum=momentum, axis_name=axis_name, dtype=dtype
    )
    x, new = x_byxc, {}
    for i in range(len(cfg.widths)):
        x, changed = layer(p, state, x, i)
        x, new = tap(f"conv{i}", x), new | changed
        x = conv.max_pool(x) if i in cfg.last_of_stage else x
    x = conv.global_avg_pool(x)
    for i in range(len(cfg.hidden)):
        x = tap(f"head{i}", jax.nn.relu(linear.apply(p[f"head{i}"], x, dtype)))
    return linear.apply(p[f"head{len(cfg.hidden)}"], x, dtype), new


def _conv(p: PyTree, state: PyTree, x: Array, i: int, *, dtype: Any, **batch: Any):
    """Convolution i, its norm if it has one, ReLU; and what changed of the state."""
    name, changed = f"norm{i}", {}
    x = conv.apply(p[f"conv{i}"], x, dtype=dtype)
    if name in p:
        x, changed[name] = norm.batch(p[name], state[name], x, **batch)
    return jax.nn.relu(x), changed
