"""How several vehicles' points, boxes or features become one."""

import jax
import jax.numpy as jnp

from jaxml.core.types import Array, PyTree
from jaxml.driving.boxes.box3d import Box3D
from jaxml.driving.detection3d.config import PillarConfig
from jaxml.driving.geometry import se3
from jaxml.driving.geometry.nms import rotated_nms
from jaxml.driving.v2x.warp import visible, warp_bev
from jaxml.nn import conv


def early(points: Array, seen: Array, poses: Array) -> tuple[Array, Array]:
    """All points in the ego's frame: [a, r, 4], [a, r], [a, 4, 4] -> [a r, 4], [a r]."""
    moved = se3.transform(poses, points)
    return moved.reshape(-1, points.shape[-1]), seen.reshape(-1)


def late(found: Box3D, poses: Array, there: Array, threshold: float) -> Box3D:
    """All boxes in the ego's frame, suppressed together.

    Args:
      found: of every agent in its own frame [a, n, 7].
      poses: [a, 4, 4].
      there: which agents there are, bool [a].
      threshold: overlap above which the worse box goes.

    Returns:
      Boxes [a n, 7].
    """
    box = se3.boxes_to(poses, found.box).reshape(-1, 7)
    label, score = found.label.reshape(-1), found.score.reshape(-1)
    mask = (found.mask & there[:, None]).reshape(-1)
    apart = box.at[:, 0].add(1e3 * label)
    return Box3D(box, label, score, rotated_nms(apart, score, threshold, mask), found.frame)


def fcooper(features: Array, there: Array) -> Array:
    """Element-wise maximum over agents in one frame: [a, y, x, c], [a] -> [y, x, c]."""
    kept = jnp.where(there[:, None, None, None], features, -jnp.inf)
    return jnp.max(kept, 0)


def v2vnet_params(width: int) -> PyTree:
    """Declares the message, the gates of the update, and the last layer."""
    return {
        "message": conv.params(2 * width, width, 3),
        "gates": conv.params(2 * width, 2 * width, 3),
        "candidate": conv.params(2 * width, width, 3),
        "last": conv.params(width, width, 1),
    }


def v2vnet(
    p: PyTree, features: Array, poses: Array, there: Array, cfg: PillarConfig, iterations: int
) -> Array:
    """Messages between all agents, each warped to its receiver, then the ego's state.

    In each iteration agent i takes the mean over agents j of a convolution of its own state and
    j's, counted where j's map reaches, and a convolutional GRU updates its state.

    Args:
      p: from `v2vnet_params`.
      features: each agent's map in its own frame [a, y, x, c].
      poses: each agent's frame to the ego's [a, 4, 4].
      there: bool [a].
      cfg: of the detectors.
      iterations: rounds of messages.

    Returns:
      [y, x, c] in the ego's frame.
    """
    between = se3.inverse(poses)[:, None] @ poses[None]  # [i, j]: j's frame to i's
    covers = jax.vmap(jax.vmap(lambda pose: visible(pose, cfg)))(between)
    covers = covers * there[None, :, None, None]

    def message(state: Array, mine: Array, way: Array, cover: Array) -> Array:
        theirs = jax.vmap(lambda x, pose: warp_bev(x, pose, cfg))(state, way)
        both = jnp.concatenate([jnp.broadcast_to(mine[None], theirs.shape), theirs], -1)
        said = jax.nn.relu(conv.apply(p["message"], both)) * cover[..., None]
        return jnp.sum(said, 0) / jnp.maximum(jnp.sum(cover, 0), 1e-6)[..., None]

    state = features
    for _ in range(iterations):
        now = state
        heard = jax.vmap(lambda m, w, c, now=now: message(now, m, w, c))(now, between, covers)
        state = _gru(p, now, heard)
    return jax.nn.relu(conv.apply(p["last"], state[:1]))[0]


def _gru(p: PyTree, state: Array, heard: Array) -> Array:
    gates = jax.nn.sigmoid(conv.apply(p["gates"], jnp.concatenate([state, heard], -1)))
    reset, update = jnp.split(gates, 2, -1)
    new = jnp.tanh(conv.apply(p["candidate"], jnp.concatenate([reset * state, heard], -1)))
    return (1 - update) * state + update * new
