"""CenterNet's targets and loss."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxml.core.types import Array, Key, PyTree
from jaxml.driving.detection2d import heatmap, net
from jaxml.driving.detection2d.config import CenterNetConfig
from jaxml.train.step import Loss


def targets(
    box: Array, label: Array, mask: Array, shape: tuple[int, int], num_classes: int
) -> dict[str, Array]:
    """What the network is to say of one image.

    Args:
      box: x1, y1, x2, y2 in pixels [n, 4].
      label: int32 [n].
      mask: bool [n].
      shape: rows and columns at stride 4.
      num_classes: heat maps.

    Returns:
      `heat` [y, x, classes]; for each object `cell` (row, column), `size`, `offset` [n, 2] and
      `mask` [n].
    """
    rows, columns = shape
    small = box / net.STRIDE
    centre = jnp.stack([(small[:, 0] + small[:, 2]) / 2, (small[:, 1] + small[:, 3]) / 2], -1)
    size = jnp.maximum(small[:, 2:] - small[:, :2], 0.0)
    radius = heatmap.gaussian_radius(jnp.ceil(size[:, 1]), jnp.ceil(size[:, 0]))
    low = jnp.floor(centre)
    column = jnp.clip(low[:, 0], 0, columns - 1).astype(jnp.int32)
    row = jnp.clip(low[:, 1], 0, rows - 1).astype(jnp.int32)
    inside = mask & (low[:, 0] < columns) & (low[:, 1] < rows) & jnp.all(low >= 0, -1)
    heat = heatmap.draw(centre, radius, label, inside, (rows, columns, num_classes))
    return {
        "heat": heat,
        "cell": jnp.stack([row, column], -1),
        "size": size,
        "offset": centre - low,
        "mask": inside,
    }


def at_cells(maps: Array, cell: Array) -> Array:
    """Values [n, c] of a map [y, x, c] at cells (row, column) [n, 2]."""
    return maps[cell[:, 0], cell[:, 1]]


def loss_fn(cfg: CenterNetConfig) -> Callable[[PyTree, PyTree, Key, PyTree], Loss]:
    """The loss of batches `image` uint8, `box`, `label`, `mask`; the state is `extra`."""

    def loss(params: PyTree, batch: PyTree, key: Key, extra: PyTree) -> Loss:
        image, box = augmented(key, batch["image"].astype(jnp.float32) / 255.0, batch["box"])
        maps, new = net.apply(params, cfg, image, extra, train=True)
        _, *shape, _ = maps["heat"].shape
        wanted = jax.vmap(lambda b, c, m: targets(b, c, m, (shape[0], shape[1]), cfg.num_classes))(
            box, batch["label"], batch["mask"]
        )
        heat = heatmap.focal_loss(maps["heat"], wanted["heat"])
        there = wanted["mask"][..., None]
        num = jnp.maximum(jnp.sum(wanted["mask"]), 1)

        def distance(name: str) -> Array:
            found = jax.vmap(at_cells)(maps[name], wanted["cell"])
            return jnp.sum(jnp.where(there, jnp.abs(found - wanted[name]), 0.0)) / num

        size, offset = distance("size"), distance("offset")
        total = heat + cfg.size_weight * size + offset
        return Loss(total, metrics={"heat": heat, "size": size, "offset": offset}, extra=new)

    return loss


def augmented(key: Key, image: Array, box: Array) -> tuple[Array, Array]:
    """Each image and its boxes mirrored left to right and top to bottom, half of the time each."""
    height, width = image.shape[1:3]
    flips = jax.random.bernoulli(key, 0.5, (2, image.shape[0]))
    lr, ud = flips[0], flips[1]
    image = jnp.where(lr[:, None, None, None], image[:, :, ::-1], image)
    image = jnp.where(ud[:, None, None, None], image[:, ::-1], image)
    x1, y1, x2, y2 = (box[..., i] for i in range(4))
    x1, x2 = jnp.where(lr[:, None], width - x2, x1), jnp.where(lr[:, None], width - x1, x2)
    y1, y2 = jnp.where(ud[:, None], height - y2, y1), jnp.where(ud[:, None], height - y1, y2)
    return image, jnp.stack([x1, y1, x2, y2], -1)
