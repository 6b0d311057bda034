"""Camera, LiDAR, or both: maps from above, joined, one backbone, one head."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxml.core import param, rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.driving.detection2d import convnorm
from jaxml.driving.detection3d import net
from jaxml.driving.detection3d.objective import center_loss, targets
from jaxml.driving.fusion.config import FusionConfig
from jaxml.driving.fusion.lift import bin_depths, lift_splat
from jaxml.driving.geometry import se3
from jaxml.driving.geometry.camera import resized
from jaxml.driving.sim import camera
from jaxml.driving.sim.camera import Picture
from jaxml.driving.sim.scene import Scene, observe, picture
from jaxml.nn import conv
from jaxml.train.step import Loss

_STRIDE = 4


def params(cfg: FusionConfig) -> PyTree:
    """Declares what the sensors need, `fuser`, `backbone` and `head`."""
    width, (first, second) = cfg.model.pillar_width, cfg.lift.widths
    declared = {
        "fuser": convnorm.params(width, width),
        "backbone": net.backbone_params(cfg.model, width),
        "head": net.head_params(cfg.model, cfg.model.bev_width),
    }
    before = 0
    if cfg.sensors != "camera":
        declared["pillar"] = net.params(cfg.model)["pillar"]
        before += width
    if cfg.sensors != "lidar":
        declared |= {
            "image0": convnorm.params(3, first),
            "image1": convnorm.params(first, second),
            "image2": convnorm.params(second, second),
            "lift": conv.params(second, cfg.lift.bins + cfg.lift.context, 1),
        }
        before += cfg.lift.context
    declared["fuser"] = convnorm.params(before, width)
    return declared


def init(key: Key, cfg: FusionConfig) -> PyTree:
    """Makes the parameters."""
    return param.init(key, params(cfg))


def init_state(cfg: FusionConfig) -> PyTree:
    """Makes the statistics: mean 0, variance 1."""
    declared = {
        "fuser": convnorm.state(cfg.model.pillar_width),
        "backbone": net.backbone_state(cfg.model),
        "head": net.head_state(cfg.model),
    }
    if cfg.sensors != "camera":
        declared["pillar"] = net.state(cfg.model)["pillar"]
    if cfg.sensors != "lidar":
        widths = (cfg.lift.widths[0], cfg.lift.widths[1], cfg.lift.widths[1])
        declared |= {f"image{i}": convnorm.state(w) for i, w in enumerate(widths)}
    return param.init(jax.random.key(0), declared)


def apply(
    p: PyTree, cfg: FusionConfig, scene: Scene, image: Array, s: PyTree, *, train: bool = False
) -> tuple[dict[str, Array], Array | None, PyTree]:
    """The head's maps, the depth logits of the image (None without camera), new statistics.

    Args:
      p: from `init`.
      cfg: its configuration.
      scene: a batch; only the ego's cloud is used.
      image: the ego's colours [b, y, x, 3].
      s: from `init_state`.
      train: normalise by the batch.
    """
    parts, new, logits = [], {}, None
    if cfg.sensors != "camera":
        grid, new["pillar"] = net.encode(
            p, s, cfg.model, scene.points[:, 0], scene.seen[:, 0], train=train
        )
        parts.append(grid)
    if cfg.sensors != "lidar":
        ground, logits, seen = _camera(p, s, cfg, image, train)
        parts.append(ground)
        new |= seen
    x, new["fuser"] = convnorm.apply(
        p["fuser"], s["fuser"], jnp.concatenate(parts, -1), train=train, momentum=cfg.model.kept
    )
    x, new["backbone"] = net.backbone(p["backbone"], s["backbone"], cfg.model, x, train=train)
    maps, new["head"] = net.head(p["head"], s["head"], cfg.model, x, train=train)
    return maps, logits, new


def _camera(p: PyTree, s: PyTree, cfg: FusionConfig, image: Array, train: bool):
    x, new = 4.0 * (image - 0.5), {}
    for name, stride in (("image0", 2), ("image1", 2), ("image2", 1)):
        x, new[name] = convnorm.apply(
            p[name], s[name], x, train=train, stride=stride, momentum=cfg.model.kept
        )
    both = conv.apply(p["lift"], x)
    logits, context = both[..., : cfg.lift.bins], both[..., cfg.lift.bins :]
    small = resized(camera.intrinsics(cfg.sim.camera), 1 / _STRIDE, 1 / _STRIDE)
    back = se3.inverse(camera.LIDAR_TO_CAMERA)
    low = jnp.array([cfg.model.grid.x_m[0], cfg.model.grid.y_m[0]])

    def one(logits: Array, context: Array) -> Array:
        return lift_splat(
            logits, context, small, back, bin_depths(cfg.lift), low,
            cfg.model.grid.pillar_m, cfg.model.grid.shape,
        )  # fmt: skip

    return jax.vmap(one)(logits, context), logits, new


def sense(key: Key, cfg: FusionConfig, batch: PyTree) -> tuple[Scene, Picture]:
    """Scenes and pictures of a batch of layouts; labels are those inside the camera's view."""
    keys = jax.random.split(rng.fold(key, "scene"), batch["mask"].shape[0])
    layout = (batch["boxes"], batch["label"], batch["mask"])
    scene = jax.vmap(lambda k, *x: observe(k, cfg.sim, *x))(keys, *layout)
    seen = jax.vmap(lambda k, *x: picture(k, cfg.sim, *x))(keys, *layout)
    box = scene.truth.box
    half = jnp.radians(cfg.sim.camera.view_deg) / 2
    ahead = (box[..., 0] > 1.0) & (jnp.abs(jnp.arctan2(box[..., 1], box[..., 0])) < half)
    truth = scene.truth.replace(mask=scene.truth.mask & ahead)  # pyright: ignore[reportAttributeAccessIssue]
    return scene._replace(truth=truth), seen


def loss_fn(cfg: FusionConfig) -> Callable[[PyTree, PyTree, Key, PyTree], Loss]:
    """The loss of batches of layouts: boxes, and where there is a camera its depth bins."""

    def loss(params: PyTree, batch: PyTree, key: Key, extra: PyTree) -> Loss:
        scene, seen = sense(key, cfg, batch)
        maps, logits, new = apply(params, cfg, scene, seen.colour, extra, train=True)
        wanted = jax.vmap(lambda t: targets(t, cfg.model))(scene.truth)
        total, metrics = center_loss(maps, wanted, cfg.model)
        if logits is not None:
            depth = depth_loss(logits, seen.depth, cfg)
            total, metrics = total + cfg.depth_weight * depth, {**metrics, "depth": depth}
        return Loss(total, metrics=metrics, extra=new)

    return loss


def depth_loss(logits: Array, depth: Array, cfg: FusionConfig) -> Array:
    """Cross-entropy of the bins against the exact depth, where that lies within the bins."""
    small = depth[:, _STRIDE // 2 :: _STRIDE, _STRIDE // 2 :: _STRIDE]
    step = (cfg.lift.farthest_m - cfg.lift.nearest_m) / (cfg.lift.bins - 1)
    index = jnp.round((small - cfg.lift.nearest_m) / step).astype(jnp.int32)
    good = (index >= 0) & (index < cfg.lift.bins)
    index = jnp.clip(index, 0, cfg.lift.bins - 1)
    logp = jnp.take_along_axis(jax.nn.log_softmax(logits, -1), index[..., None], -1)[..., 0]
    return -jnp.sum(jnp.where(good, logp, 0.0)) / jnp.maximum(jnp.sum(good), 1)
