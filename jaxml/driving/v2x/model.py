"""Cooperative detectors: one network for each agent, then fusion, then one head."""

import functools
from collections.abc import Callable

import jax

from jaxml.core import param, rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.driving.boxes.box3d import Box3D
from jaxml.driving.detection3d import net
from jaxml.driving.detection3d.decode import decode
from jaxml.driving.detection3d.objective import augmented, center_loss, targets
from jaxml.driving.sim.scene import Scene, delayed, observe
from jaxml.driving.v2x import fuse
from jaxml.driving.v2x.config import NoiseConfig, V2XConfig
from jaxml.driving.v2x.warp import noisy_poses, warp_bev
from jaxml.train.step import Loss


def init(key: Key, cfg: V2XConfig) -> PyTree:
    """Makes the parameters; those of messages only where the method has them."""
    declared = net.params(cfg.model)
    if cfg.method == "v2vnet":
        declared["fuse"] = fuse.v2vnet_params(cfg.model.bev_width)
    return param.init(key, declared)


def init_state(cfg: V2XConfig) -> PyTree:
    """Makes the statistics: mean 0, variance 1."""
    return net.init_state(cfg.model)


def apply(
    p: PyTree, cfg: V2XConfig, scene: Scene, s: PyTree, *, train: bool = False
) -> tuple[dict[str, Array], PyTree]:
    """Maps in the ego's frame and the new statistics, of a batch of scenes.

    "none" and "late" give the ego's own maps.
    """
    if cfg.method in ("none", "late"):
        return net.apply(p, cfg.model, scene.points[:, 0], scene.seen[:, 0], s, train=train)
    if cfg.method == "early":
        points, seen = jax.vmap(fuse.early)(scene.points, scene.seen, scene.pose)
        return net.apply(p, cfg.model, points, seen, s, train=train)
    num, agents = scene.seen.shape[:2]
    points = scene.points.reshape(num * agents, *scene.points.shape[2:])
    x, pillar = net.encode(
        p, s, cfg.model, points, scene.seen.reshape(num * agents, -1), train=train
    )
    x, middle = net.backbone(p["backbone"], s["backbone"], cfg.model, x, train=train)
    x = x.reshape(num, agents, *x.shape[1:])
    if cfg.method == "fcooper":
        warp = jax.vmap(jax.vmap(lambda f, pose: warp_bev(f, pose, cfg.model)))
        x = jax.vmap(fuse.fcooper)(warp(x, scene.pose), scene.there)
    else:
        x = jax.vmap(
            lambda f, pose, there: fuse.v2vnet(p["fuse"], f, pose, there, cfg.model, cfg.iterations)
        )(x, scene.pose, scene.there)
    maps, last = net.head(p["head"], s["head"], cfg.model, x, train=train)
    return maps, {"pillar": pillar, "backbone": middle, "head": last}


def sense(key: Key, cfg: V2XConfig, batch: PyTree, delay_s: float = 0.0) -> Scene:
    """Scenes of a batch of layouts; the others' part of them is `delay_s` old."""
    keys = jax.random.split(rng.fold(key, "scene"), batch["mask"].shape[0])
    now = (keys, batch["boxes"], batch["label"], batch["mask"])
    if not delay_s:
        return jax.vmap(lambda k, *x: observe(k, cfg.sim, *x))(*now)
    then: Callable[..., Scene] = functools.partial(delayed, delay_s=delay_s)
    return jax.vmap(lambda k, *x: then(k, cfg.sim, *x))(*now, batch["velocity"])


def loss_fn(cfg: V2XConfig) -> Callable[[PyTree, PyTree, Key, PyTree], Loss]:
    """The loss of batches of layouts.

    A single vehicle learns what it sees itself; cooperating ones what any of them sees.
    """

    def loss(params: PyTree, batch: PyTree, key: Key, extra: PyTree) -> Loss:
        scene = sense(key, cfg, batch)
        truth = scene.truth
        if cfg.method in ("none", "late"):
            own = truth.mask & (scene.hits[:, 0] >= cfg.sim.least_points)
            truth = truth.replace(mask=own)  # pyright: ignore[reportAttributeAccessIssue]
            points, truth = augmented(rng.fold(key, "turn"), scene.points[:, 0], truth)
            scene = scene._replace(points=scene.points.at[:, 0].set(points))
        maps, new = apply(params, cfg, scene, extra, train=True)
        wanted = jax.vmap(lambda t: targets(t, cfg.model))(truth)
        total, metrics = center_loss(maps, wanted, cfg.model)
        return Loss(total, metrics=metrics, extra=new)

    return loss


def detect(p: PyTree, s: PyTree, cfg: V2XConfig, scene: Scene, key: Key, noise: NoiseConfig):
    """Boxes in the ego's frame of a batch of scenes, with poses as the others report them."""
    keys = jax.random.split(rng.fold(key, "noise"), scene.there.shape[0])
    poses = jax.vmap(lambda k, x: noisy_poses(k, x, noise))(keys, scene.pose)
    scene = scene._replace(pose=poses)
    if cfg.method != "late":
        maps, _ = apply(p, cfg, scene, s)
        return decode(maps, cfg.model)
    num, agents = scene.seen.shape[:2]
    points = scene.points.reshape(num * agents, *scene.points.shape[2:])
    maps, _ = net.apply(p, cfg.model, points, scene.seen.reshape(num * agents, -1), s)
    found: Box3D = jax.tree.map(
        lambda x: x.reshape(num, agents, *x.shape[1:]), decode(maps, cfg.model)
    )
    return jax.vmap(lambda f, pose, there: fuse.late(f, pose, there, cfg.model.nms))(
        found, scene.pose, scene.there
    )
