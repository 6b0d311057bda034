"""CenterNet's network: strided convolutions down, a path up to stride 4, three branches."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxml.core import check, param
from jaxml.core.types import Array, Key, PyTree
from jaxml.driving.detection2d import convnorm
from jaxml.driving.detection2d.config import CenterNetConfig
from jaxml.nn import conv
from jaxml.nn.initializer import he_normal

STRIDE = 4


def _outputs(cfg: CenterNetConfig) -> dict[str, int]:
    return {"heat": cfg.num_classes, "size": 2, "offset": 2}


def params(cfg: CenterNetConfig) -> PyTree:
    """Declares `down`, `up` and the branches `heat`, `size`, `offset`."""
    down, up, before = {}, {}, 3
    for i, width in enumerate(cfg.widths):
        down[f"stride{i}"] = convnorm.params(before, width)
        for j in range(cfg.blocks):
            down[f"block{i}_{j}"] = convnorm.params(width, width)
        before = width
    for i in range(len(cfg.widths) - 1, 1, -1):
        lower = cfg.widths[i - 1]
        up[f"widen{i}"] = convnorm.params(before, 4 * lower, 1)
        up[f"join{i}"] = convnorm.params(2 * lower, lower)
        before = lower
    heads = {name: _branch(before, cfg.head_width, out) for name, out in _outputs(cfg).items()}
    bias = heads["heat"]["out"]["bias"]
    heads["heat"]["out"]["bias"] = _filled(bias, cfg.heat_bias)
    return {"down": down, "up": up, **heads}


def _branch(before: int, width: int, out: int) -> PyTree:
    return {
        "hidden": conv.params(before, width, 3, init=he_normal),
        "out": conv.params(width, out, 1),
    }


def _filled(declared: param.Param, value: float) -> param.Param:
    def init(key: Key, shape: tuple[int, ...], dtype: object = jnp.float32) -> Array:
        del key
        return jnp.full(shape, value, dtype)  # pyright: ignore[reportArgumentType]

    return dataclasses.replace(declared, init=init)


def state(cfg: CenterNetConfig) -> PyTree:
    """Declares the running statistics, in the tree of `params`."""
    down, up = {}, {}
    for i, width in enumerate(cfg.widths):
        down[f"stride{i}"] = convnorm.state(width)
        down |= {f"block{i}_{j}": convnorm.state(width) for j in range(cfg.blocks)}
    for i in range(len(cfg.widths) - 1, 1, -1):
        up[f"widen{i}"] = convnorm.state(4 * cfg.widths[i - 1])
        up[f"join{i}"] = convnorm.state(cfg.widths[i - 1])
    return {"down": down, "up": up}


def init(key: Key, cfg: CenterNetConfig) -> PyTree:
    """Makes the parameters."""
    return param.init(key, params(cfg))


def init_state(cfg: CenterNetConfig) -> PyTree:
    """Makes the statistics: mean 0, variance 1."""
    return param.init(jax.random.key(0), state(cfg))


def apply(
    p: PyTree, cfg: CenterNetConfig, image: Array, state: PyTree, *, train: bool = False
) -> tuple[dict[str, Array], PyTree]:
    """The maps at stride 4 and the new statistics.

    Args:
      p: from `init`.
      cfg: its configuration.
      image: in [0, 1] [b, y, x, 3]; y and x multiples of the deepest stride.
      state: from `init_state`.
      train: normalise by the batch.

    Returns:
      `heat` (logits [b, y/4, x/4, classes]), `size` (pixels at stride 4, w and h), `offset`.

    Raises:
      ValueError: a size that is no multiple of the deepest stride.
    """
    sizes = check.shape("image", image, ["b", "y", "x", 3])
    deepest = 2 ** len(cfg.widths)
    check.divides(deepest_stride=deepest, height=sizes["y"])
    check.divides(deepest_stride=deepest, width=sizes["x"])
    new: PyTree = {"down": {}, "up": {}}

    def layer(part: str, name: str, x: Array, stride: int = 1) -> Array:
        y, new[part][name] = convnorm.apply(
            p[part][name], state[part][name], x, train=train, stride=stride, momentum=0.9
        )
        return y

    x, seen = 4.0 * (image - 0.5), []
    for i in range(len(cfg.widths)):
        x = layer("down", f"stride{i}", x, 2)
        for j in range(cfg.blocks):
            x = x + layer("down", f"block{i}_{j}", x)
        seen.append(x)
    for i in range(len(cfg.widths) - 1, 1, -1):
        x = convnorm.spread(layer("up", f"widen{i}", x), 2)
        x = layer("up", f"join{i}", jnp.concatenate([x, seen[i - 1]], -1))
    maps = {name: _apply_branch(p[name], x) for name in _outputs(cfg)}
    return maps, new


def _apply_branch(p: PyTree, x: Array) -> Array:
    return conv.apply(p["out"], jax.nn.relu(conv.apply(p["hidden"], x)))
