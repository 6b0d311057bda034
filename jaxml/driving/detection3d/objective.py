"""Targets and loss of the CenterPoint head."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxml.core import rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.driving.boxes.box3d import Box3D
from jaxml.driving.detection2d import heatmap
from jaxml.driving.detection3d import net
from jaxml.driving.detection3d.config import PillarConfig
from jaxml.driving.sim.config import SimConfig
from jaxml.driving.sim.scene import observe
from jaxml.train.step import Loss


def targets(boxes: Box3D, cfg: PillarConfig) -> dict[str, Array]:
    """What the maps are to say of one scene.

    Returns:
      `heat` [y, x, classes]; for each box `cell` (row, column) [n, 2], `mask` [n], and the values
      of the branches `offset`, `z`, `size`, `turn` [n, c].
    """
    rows, columns = cfg.map_shape
    x, y = boxes.box[:, 0] - cfg.grid.x_m[0], boxes.box[:, 1] - cfg.grid.y_m[0]
    centre = jnp.stack([x, y], -1) / cfg.cell_m
    low = jnp.floor(centre)
    limit = jnp.array([columns, rows], low.dtype)[None]
    inside = boxes.mask & jnp.all((low >= 0) & (low < limit), -1)
    size = jnp.maximum(boxes.box[:, 3:6], 0.05)
    radius = heatmap.gaussian_radius(size[:, 0] / cfg.cell_m, size[:, 1] / cfg.cell_m, cfg.overlap)
    radius = jnp.maximum(radius, cfg.least_radius)
    heat = heatmap.draw(centre, radius, boxes.label, inside, (rows, columns, cfg.num_classes))
    cell = jnp.clip(low, 0, limit - 1).astype(jnp.int32)[:, ::-1]
    heading = boxes.box[:, 6]
    return {
        "heat": heat,
        "cell": cell,
        "mask": inside,
        "offset": centre - low,
        "z": boxes.box[:, 2:3],
        "size": jnp.log(size),
        "turn": jnp.stack([jnp.sin(heading), jnp.cos(heading)], -1),
    }


def center_loss(
    maps: dict[str, Array], wanted: dict[str, Array], cfg: PillarConfig
) -> tuple[Array, dict[str, Array]]:
    """Focal loss of the heat map plus L1 of the boxes at their cells, over a batch."""
    heat = heatmap.focal_loss(maps["heat"], wanted["heat"])
    there = wanted["mask"][..., None]
    num = jnp.maximum(jnp.sum(wanted["mask"]), 1)
    box = jnp.zeros(())
    for name in net.OUTPUTS:
        found = jax.vmap(lambda m, c: m[c[:, 0], c[:, 1]])(maps[name], wanted["cell"])
        box = box + jnp.sum(jnp.where(there, jnp.abs(found - wanted[name]), 0.0)) / num
    return heat + cfg.box_weight * box, {"heat": heat, "box": box}


def loss_fn(cfg: PillarConfig, sim: SimConfig) -> Callable[[PyTree, PyTree, Key, PyTree], Loss]:
    """The loss of batches of layouts `boxes`, `label`, `mask`: scenes are sensed inside the step.

    Clouds are turned and mirrored with their labels; layouts are never sensed twice alike.
    """

    def loss(params: PyTree, batch: PyTree, key: Key, extra: PyTree) -> Loss:
        keys = jax.random.split(rng.fold(key, "scene"), batch["mask"].shape[0])
        scene = jax.vmap(lambda k, *x: observe(k, sim, *x))(
            keys, batch["boxes"], batch["label"], batch["mask"]
        )
        points, truth = augmented(rng.fold(key, "turn"), scene.points[:, 0], scene.truth)
        maps, new = net.apply(params, cfg, points, scene.seen[:, 0], extra, train=True)
        wanted = jax.vmap(lambda t: targets(t, cfg))(truth)
        total, metrics = center_loss(maps, wanted, cfg)
        return Loss(total, metrics=metrics, extra=new)

    return loss


def augmented(key: Key, points: Array, truth: Box3D) -> tuple[Array, Box3D]:
    """Each scene mirrored at the x axis half of the time, turned by up to 45 degrees, scaled."""
    num = points.shape[0]
    flip = jax.random.bernoulli(rng.fold(key, "flip"), 0.5, (num, 1))
    angle = jax.random.uniform(rng.fold(key, "angle"), (num, 1), minval=-1, maxval=1) * jnp.pi / 4
    scale = jax.random.uniform(rng.fold(key, "scale"), (num, 1), minval=0.95, maxval=1.05)
    c, s, sign = jnp.cos(angle), jnp.sin(angle), jnp.where(flip, -1.0, 1.0)

    def move(xyz: Array) -> Array:
        x, y = xyz[..., 0], sign * xyz[..., 1]
        return jnp.stack([c * x - s * y, s * x + c * y, xyz[..., 2]], -1) * scale[..., None]

    points = jnp.concatenate([move(points[..., :3]), points[..., 3:]], -1)
    box = truth.box
    heading = sign * box[..., 6] + angle
    box = jnp.concatenate(
        [move(box[..., :3]), box[..., 3:6] * scale[..., None], heading[..., None]], -1
    )
    return points, truth.replace(box=box)  # pyright: ignore[reportAttributeAccessIssue]
