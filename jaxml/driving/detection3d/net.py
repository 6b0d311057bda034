"""The detector's network: pillars, backbone, head; each part can be used alone."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxml.core import param
from jaxml.core.types import Array, Key, PyTree
from jaxml.driving.detection2d import convnorm
from jaxml.driving.detection3d import pillars
from jaxml.driving.detection3d.config import PillarConfig
from jaxml.nn import conv

OUTPUTS = {"offset": 2, "z": 1, "size": 3, "turn": 2}
"""Branches of boxes: offset in the cell, height of the middle, log sides, sine and cosine."""


def params(cfg: PillarConfig) -> PyTree:
    """Declares `pillar`, `backbone` and `head`."""
    return {
        "pillar": pillars.params(cfg.pillar_width),
        "backbone": backbone_params(cfg, cfg.pillar_width),
        "head": head_params(cfg, cfg.bev_width),
    }


def backbone_params(cfg: PillarConfig, before: int) -> PyTree:
    """Declares the stages and what brings each to the first one's resolution."""
    declared, factor = {}, 1
    for i, width in enumerate(cfg.widths):
        declared[f"stage{i}"] = convnorm.params(before, width)
        for j in range(cfg.convs[i]):
            declared[f"stage{i}_{j}"] = convnorm.params(width, width)
        factor = factor * cfg.strides[i] if i else 1
        declared[f"up{i}"] = convnorm.params(width, factor**2 * cfg.up_width, 1)
        before = width
    return declared


def head_params(cfg: PillarConfig, before: int) -> PyTree:
    """Declares the shared convolution and the branches."""
    width = cfg.head_width
    declared = {"shared": convnorm.params(before, width)}
    for name, out in {"heat": cfg.num_classes, **OUTPUTS}.items():
        last = conv.params(width, out, 3)
        if name == "heat":
            last["bias"] = dataclasses.replace(last["bias"], init=_constant(cfg.heat_bias))
        declared[name] = {"hidden": convnorm.params(width, width), "out": last}
    return declared


def _constant(value: float) -> jax.nn.initializers.Initializer:
    return jax.nn.initializers.constant(value)


def state(cfg: PillarConfig) -> PyTree:
    """Declares the running statistics, in the tree of `params`."""
    return {
        "pillar": pillars.state(cfg.pillar_width),
        "backbone": backbone_state(cfg),
        "head": head_state(cfg),
    }


def backbone_state(cfg: PillarConfig) -> PyTree:
    """Declares the backbone's statistics."""
    declared, factor = {}, 1
    for i, width in enumerate(cfg.widths):
        declared[f"stage{i}"] = convnorm.state(width)
        declared |= {f"stage{i}_{j}": convnorm.state(width) for j in range(cfg.convs[i])}
        factor = factor * cfg.strides[i] if i else 1
        declared[f"up{i}"] = convnorm.state(factor**2 * cfg.up_width)
    return declared


def head_state(cfg: PillarConfig) -> PyTree:
    """Declares the head's statistics."""
    one = convnorm.state(cfg.head_width)
    return {"shared": one, **{name: one for name in ("heat", *OUTPUTS)}}


def init(key: Key, cfg: PillarConfig) -> PyTree:
    """Makes the parameters."""
    return param.init(key, params(cfg))


def init_state(cfg: PillarConfig) -> PyTree:
    """Makes the statistics: mean 0, variance 1."""
    return param.init(jax.random.key(0), state(cfg))


def encode(
    p: PyTree, s: PyTree, cfg: PillarConfig, points: Array, mask: Array, *, train: bool
) -> tuple[Array, PyTree]:
    """Clouds [b, p, 4] with masks [b, p] to the map of pillars [b, y, x, c]."""
    made = jax.vmap(lambda x, m: pillars.pillarize(x, m, cfg.grid))(points, mask)
    return pillars.apply(p["pillar"], s["pillar"], made, cfg.grid.shape, train=train, kept=cfg.kept)


def backbone(
    p: PyTree, s: PyTree, cfg: PillarConfig, x: Array, *, train: bool
) -> tuple[Array, PyTree]:
    """The map of pillars to features [b, y / stride, x / stride, bev_width]."""
    new, ups, factor = {}, [], 1
    for i in range(len(cfg.widths)):
        x, new[f"stage{i}"] = convnorm.apply(
            p[f"stage{i}"], s[f"stage{i}"], x, train=train, stride=cfg.strides[i], momentum=cfg.kept
        )
        for j in range(cfg.convs[i]):
            name = f"stage{i}_{j}"
            x, new[name] = convnorm.apply(p[name], s[name], x, train=train, momentum=cfg.kept)
        factor = factor * cfg.strides[i] if i else 1
        name = f"up{i}"
        up, new[name] = convnorm.apply(p[name], s[name], x, train=train, momentum=cfg.kept)
        ups.append(convnorm.spread(up, factor))
    return jnp.concatenate(ups, -1), new


def head(
    p: PyTree, s: PyTree, cfg: PillarConfig, x: Array, *, train: bool
) -> tuple[dict[str, Array], PyTree]:
    """Features to `heat` (logits) and the boxes' maps."""
    maps, new = {}, {}
    x, new["shared"] = convnorm.apply(p["shared"], s["shared"], x, train=train, momentum=cfg.kept)
    for name in ("heat", *OUTPUTS):
        y, new[name] = convnorm.apply(p[name]["hidden"], s[name], x, train=train, momentum=cfg.kept)
        maps[name] = conv.apply(p[name]["out"], y)
    return maps, new


def apply(
    p: PyTree, cfg: PillarConfig, points: Array, mask: Array, s: PyTree, *, train: bool = False
) -> tuple[dict[str, Array], PyTree]:
    """Clouds to maps, and the new statistics.

    Args:
      p: from `init`.
      cfg: its configuration.
      points: x, y, z, intensity [b, p, 4].
      mask: bool [b, p].
      s: from `init_state`.
      train: normalise by the batch.
    """
    x, pillar = encode(p, s, cfg, points, mask, train=train)
    x, middle = backbone(p["backbone"], s["backbone"], cfg, x, train=train)
    maps, last = head(p["head"], s["head"], cfg, x, train=train)
    return maps, {"pillar": pillar, "backbone": middle, "head": last}
