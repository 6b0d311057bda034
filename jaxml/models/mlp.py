"""Multi-layer perceptron: affine layers with an activation between them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from jaxml.core import check, param
from jaxml.core.types import Array, Key, PyTree
from jaxml.models.tap import Tap, untouched
from jaxml.nn import linear
from jaxml.nn.initializer import he_normal


@dataclasses.dataclass(frozen=True)
class MlpConfig:
    """Attributes: widths of the input, of each hidden layer and of the output."""

    in_width: int
    hidden: tuple[int, ...]
    num_classes: int
    bias: bool = True

    def __post_init__(self):
        check.types(self)
        check.positive(in_width=self.in_width, num_classes=self.num_classes)
        for width in self.hidden:
            check.positive(hidden=width)

    @property
    def widths(self) -> tuple[int, ...]:
        """All widths from input to output."""
        return (self.in_width, *self.hidden, self.num_classes)


def params(cfg: MlpConfig) -> PyTree:
    """Declares `layer0`, `layer1`, ... each with `kernel` and, unless off, `bias`."""
    pairs = zip(cfg.widths[:-1], cfg.widths[1:], strict=True)
    return {
        f"layer{i}": linear.params(n, m, bias=cfg.bias, init=he_normal)
        for i, (n, m) in enumerate(pairs)
    }


def init(key: Key, cfg: MlpConfig) -> PyTree:
    """Makes the parameters."""
    return param.init(key, params(cfg))


def apply(
    p: PyTree,
    cfg: MlpConfig,
    x: Array,
    *,
    activation: Callable[[Array], Array] = jax.nn.relu,
    tap: Tap = untouched,
    dtype: Any = None,
) -> Array:
    """Logits [b, classes].

    Args:
      p: from `init`.
      cfg: its configuration.
      x: [b, ...], flattened to [b, in_width].
      activation: after every layer but the last.
      tap: sees `layer{i}` [b, hidden] after each activation.
      dtype: compute dtype (default: of `x`).

    Raises:
      ValueError: an input of another width.

    >>> cfg = MlpConfig(4, (8,), 3)
    >>> apply(init(jax.random.key(0), cfg), cfg, jax.numpy.ones((2, 4))).shape
    (2, 3)
    """
    x = x.reshape(x.shape[0], -1)
    for i in range(len(cfg.hidden)):
        x = tap(f"layer{i}", activation(linear.apply(p[f"layer{i}"], x, dtype)))
    return linear.apply(p[f"layer{len(cfg.hidden)}"], x, dtype)
