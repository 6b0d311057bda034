"""The networks: an encoder, a decoder of disparities at several scales, a network of poses."""

import jax
import jax.numpy as jnp

from jaxml.core import check, param
from jaxml.core.types import Array, Key, PyTree
from jaxml.driving.depth.config import DepthConfig
from jaxml.driving.geometry import se3
from jaxml.models import resnet
from jaxml.models.resnet import ResNetConfig
from jaxml.nn import conv


def _encoder(cfg: DepthConfig, channels: int) -> ResNetConfig:
    return ResNetConfig(1, cfg.blocks, cfg.widths, channels, "imagenet")


def _reflect(x: Array) -> Array:
    return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")


def _layer(p: PyTree, x: Array) -> Array:
    """3 x 3 convolution with reflected borders."""
    return conv.apply(p, _reflect(x), 1, 0)


def _decoder_widths(cfg: DepthConfig) -> tuple[int, ...]:
    """Of the decoder's levels, from full size down; one more level than stages."""
    return tuple(max(cfg.widths[0] // 4 * 2**i, 4) for i in range(len(cfg.widths) + 1))


def params(cfg: DepthConfig) -> PyTree:
    """Declares `encoder`, `decoder`, `pose_encoder` and `pose`."""
    widths, decoder = _decoder_widths(cfg), {}
    skips = _skip_widths(cfg)
    before = cfg.widths[-1]
    for i in range(len(cfg.widths), -1, -1):
        decoder[f"up{i}"] = conv.params(before, widths[i], 3)
        skip = skips[i - 1] if i > 0 else 0
        decoder[f"join{i}"] = conv.params(widths[i] + skip, widths[i], 3)
        before = widths[i]
        if i < cfg.scales:
            decoder[f"disparity{i}"] = conv.params(widths[i], 1, 3)
    last = cfg.widths[-1]
    pose = {
        "squeeze": conv.params(last, 64, 1),
        "hidden": conv.params(64, 64, 3),
        "out": conv.params(64, 6, 1),
    }
    return {
        "encoder": resnet.params(_encoder(cfg, 3)),
        "decoder": decoder,
        "pose_encoder": resnet.params(_encoder(cfg, 6)),
        "pose": pose,
    }


def _skip_widths(cfg: DepthConfig) -> tuple[int, ...]:
    """Of what the decoder's levels 1, 2, ... take over: the stem, and every stage but the last."""
    return (cfg.widths[0], *cfg.widths[:-1])


def init(key: Key, cfg: DepthConfig) -> PyTree:
    """Makes the parameters."""
    return param.init(key, params(cfg))


def init_state(cfg: DepthConfig) -> PyTree:
    """Makes the batch statistics of both encoders."""
    return {
        "encoder": resnet.init_state(_encoder(cfg, 3)),
        "pose_encoder": resnet.init_state(_encoder(cfg, 6)),
    }


def _features(
    p: PyTree, s: PyTree, cfg: ResNetConfig, image: Array, train: bool
) -> tuple[dict[str, Array], PyTree]:
    """What the encoder holds at the stem and at the end of each stage."""
    seen: dict[str, Array] = {}

    def tap(name: str, x: Array) -> Array:
        seen[name] = x
        return x

    _, new = resnet.apply(p, cfg, (image - 0.45) / 0.225, s, train=train, tap=tap)
    last = {f"stage{i}": seen[f"stage{i}_block{n - 1}"] for i, n in enumerate(cfg.blocks)}
    return {"stem": seen["stem"], **last}, new


def apply(
    p: PyTree, cfg: DepthConfig, image: Array, s: PyTree, *, train: bool = False
) -> tuple[list[Array], PyTree]:
    """Disparities in (0, 1), full size first, and the new statistics.

    Args:
      p: from `init`.
      cfg: its configuration.
      image: in [0, 1] [b, y, x, 3]; y and x multiples of 2^(stages + 1).
      s: from `init_state`.
      train: normalise by the batch.

    Returns:
      [b, y / 2^i, x / 2^i] for each scale i.

    Raises:
      ValueError: a size that does not divide.
    """
    sizes = check.shape("image", image, ["b", "y", "x", 3])
    deepest = 2 ** (len(cfg.widths) + 1)
    check.divides(deepest_stride=deepest, height=sizes["y"])
    check.divides(deepest_stride=deepest, width=sizes["x"])
    seen, new = _features(p["encoder"], s["encoder"], _encoder(cfg, 3), image, train)
    stages = [seen[f"stage{i}"] for i in range(len(cfg.widths))]
    skips = [seen["stem"], *stages[:-1]]
    x, found = stages[-1], {}
    for i in range(len(cfg.widths), -1, -1):
        x = jax.nn.elu(_layer(p["decoder"][f"up{i}"], x))
        x = jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)
        if i > 0:
            x = jnp.concatenate([x, skips[i - 1]], -1)
        x = jax.nn.elu(_layer(p["decoder"][f"join{i}"], x))
        if i < cfg.scales:
            found[i] = jax.nn.sigmoid(_layer(p["decoder"][f"disparity{i}"], x))[..., 0]
    return [found[i] for i in range(cfg.scales)], {**s, "encoder": new}


def disparity_to_depth(disparity: Array, cfg: DepthConfig) -> Array:
    """Depth in metres, 1 / (a + b disparity), from `most_m` at 0 to `least_m` at 1."""
    low, high = 1 / cfg.most_m, 1 / cfg.least_m
    return 1 / (low + (high - low) * disparity)


def relative_pose(
    p: PyTree, cfg: DepthConfig, first: Array, second: Array, s: PyTree, *, train: bool = False
) -> tuple[Array, PyTree]:
    """The motion from the first camera's frame to the second's, and the new statistics.

    Args:
      p: from `init`.
      cfg: its configuration.
      first: images in the order of time [b, y, x, 3].
      second: likewise.
      s: from `init_state`.
      train: normalise by the batch.

    Returns:
      [b, 4, 4]: the exponential of `pose_scale` times six numbers.
    """
    both = jnp.concatenate([first, second], -1)
    seen, new = _features(p["pose_encoder"], s["pose_encoder"], _encoder(cfg, 6), both, train)
    x = jax.nn.relu(conv.apply(p["pose"]["squeeze"], seen[f"stage{len(cfg.widths) - 1}"]))
    x = jax.nn.relu(conv.apply(p["pose"]["hidden"], x))
    twist = jnp.mean(conv.apply(p["pose"]["out"], x), (1, 2))
    return se3.exp(cfg.pose_scale * twist), {**s, "pose_encoder": new}
