"""The losses: self-supervised from neighbouring frames, or supervised by LiDAR points."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxml.core import rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.driving.depth import net
from jaxml.driving.depth.config import DepthConfig
from jaxml.driving.depth.photometric import (
    auto_masked,
    photometric_error,
    smoothness,
    warp_to_target,
)
from jaxml.driving.geometry import se3
from jaxml.train.step import Loss

type LossFn = Callable[[PyTree, PyTree, Key, PyTree], Loss]


def _full_size(disparity: Array, shape: tuple[int, int]) -> Array:
    return jax.image.resize(disparity, (disparity.shape[0], *shape), "linear", antialias=False)


def self_supervised_loss_fn(cfg: DepthConfig) -> LossFn:
    """The loss of batches `before`, `image`, `after` [b, y, x, 3] and `intrinsics` [b, 3, 3].

    Images in [0, 1].

    Every scale's disparity is brought to full size before it warps.
    """

    def loss(params: PyTree, batch: PyTree, key: Key, extra: PyTree) -> Loss:
        target, shape = batch["image"], batch["image"].shape[1:3]
        disparities, state = net.apply(params, cfg, target, extra, train=True)
        to_after, state = net.relative_pose(params, cfg, target, batch["after"], state, train=True)
        from_before, state = net.relative_pose(
            params, cfg, batch["before"], target, state, train=True
        )
        sources = {
            "before": se3.inverse(from_before),
            "after": to_after,
        }
        still = jnp.stack([_error(cfg, batch[name], target) for name in sources])
        total, moving = jnp.zeros(()), jnp.zeros(())
        for scale, disparity in enumerate(disparities):
            depth = net.disparity_to_depth(_full_size(disparity, shape), cfg)
            warped = jnp.stack(
                [
                    _error(cfg, _warp(batch[n], depth, pose, batch["intrinsics"]), target)
                    for n, pose in sources.items()
                ]
            )
            least, mask = auto_masked(rng.fold(key, "ties", scale), warped, still)
            small = jax.image.resize(target, (target.shape[0], *disparity.shape[1:], 3), "linear")
            total += jnp.mean(least)
            total += cfg.smooth_weight / 2**scale * smoothness(disparity, small)
            moving += jnp.mean(mask)
        num = len(disparities)
        return Loss(total / num, metrics={"moving": moving / num}, extra=state)

    return loss


def _error(cfg: DepthConfig, predicted: Array, target: Array) -> Array:
    return photometric_error(predicted, target, cfg.ssim_share)


_warp = jax.vmap(warp_to_target)


def lidar_loss_fn(cfg: DepthConfig) -> LossFn:
    """The loss of batches `image` [b, y, x, 3] and `depth` [b, y, x], 0 where nothing is known.

    L1 of log depth at every scale, which is metric; plus the disparity's smoothness.
    """

    def loss(params: PyTree, batch: PyTree, key: Key, extra: PyTree) -> Loss:
        del key
        image, truth = batch["image"], batch["depth"]
        known = truth > 0
        wanted = jnp.log(jnp.where(known, truth, 1.0))
        disparities, state = net.apply(params, cfg, image, extra, train=True)
        total = jnp.zeros(())
        for scale, disparity in enumerate(disparities):
            full = _full_size(disparity, image.shape[1:3])
            gap = jnp.abs(jnp.log(net.disparity_to_depth(full, cfg)) - wanted)
            small = jax.image.resize(image, (image.shape[0], *disparity.shape[1:], 3), "linear")
            total += jnp.sum(jnp.where(known, gap, 0.0)) / jnp.maximum(jnp.sum(known), 1)
            total += cfg.smooth_weight / 2**scale * smoothness(disparity, small)
        return Loss(total / len(disparities), extra=state)

    return loss
