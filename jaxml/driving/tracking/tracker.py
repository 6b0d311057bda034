"""The tracker: predict, match by overlap, update, begin and end tracks.

The filters run on the device with a fixed number of places; births, deaths and the assignment
(scipy's) run on the host.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from jaxml.core import check
from jaxml.driving.geometry.rotated_iou import rotated_iou_bev
from jaxml.driving.tracking import kalman
from jaxml.driving.tracking.config import TrackerConfig
from jaxml.driving.tracking.kalman import Belief


class Tracks(NamedTuple):
    """What was tracked, by frame.

    Attributes:
      identity: int [n_t] for each frame; a name is never used twice.
      box: [n_t, 7] for each frame.
    """

    identity: list[np.ndarray]
    box: list[np.ndarray]


@jax.jit
def _pairs(a, b):
    return rotated_iou_bev(a[:, None], b[None])


def overlaps(a: np.ndarray, b: np.ndarray, room: int = 64) -> np.ndarray:
    """Overlap of all pairs from above [n, m], by one compiled program for up to `room` boxes."""
    full = [_fill(x, room) for x in (a, b)]
    return np.asarray(_pairs(*full), np.float64)[: len(a), : len(b)]


def _fill(box: np.ndarray, room: int) -> np.ndarray:
    filler = np.array([1e6, 1e6, 0, 1, 1, 1, 0], np.float32)
    out = np.tile(filler, (max(room, len(box)), 1))
    out[: len(box)] = box
    return out


@functools.partial(jax.jit, static_argnames="cfg")
def _predicted(belief: Belief, cfg: TrackerConfig) -> Belief:
    return kalman.predict(belief, cfg)


@functools.partial(jax.jit, static_argnames="cfg")
def _updated(belief: Belief, box, matched, born, cfg: TrackerConfig) -> Belief:
    after = kalman.update(belief, box, matched, cfg)
    fresh = kalman.begin(box, cfg)
    return Belief(
        jnp.where(born[:, None], fresh.mean, after.mean),
        jnp.where(born[:, None, None], fresh.cov, after.cov),
    )


def track(frames: Sequence[np.ndarray], cfg: TrackerConfig, room: int = 64) -> Tracks:
    """Tracks boxes through frames in order.

    Args:
      frames: boxes [n_t, 7] of each frame, in one frame of the world.
      cfg: of the tracker.
      room: tracks alive at a time.

    Raises:
      ValueError: boxes of another shape, or more in one frame than there is room for.
    """
    belief = kalman.begin(jnp.asarray(_fill(np.zeros((0, 7)), room)), cfg)
    name, age, hits = np.full(room, -1), np.zeros(room, int), np.zeros(room, int)
    following, out = 0, Tracks([], [])
    for number, boxes in enumerate(frames):
        check.shape(f"frames[{number}]", boxes, ["n", 7])
        belief = _predicted(belief, cfg)
        alive = np.flatnonzero(name >= 0)
        rows, cols = _match(np.asarray(belief.mean)[alive, :7], boxes, cfg, room)
        slots = alive[rows]
        free = np.flatnonzero(name < 0)
        new = np.setdiff1d(np.arange(len(boxes)), cols)
        if len(new) > len(free):
            raise ValueError(f"room must hold all tracks; got room={room} at frame {number}.")
        births = free[: len(new)]
        measured = _fill(np.zeros((0, 7)), room)
        measured[slots], measured[births] = boxes[cols], boxes[new]
        matched, born = np.zeros(room, bool), np.zeros(room, bool)
        matched[slots], born[births] = True, True
        belief = _updated(belief, measured, matched, born, cfg)
        age += 1
        age[slots], age[births] = 0, 0
        hits[slots] += 1
        hits[births] = 1
        name[births] = following + np.arange(len(births))
        following += len(births)
        shown = (name >= 0) & (age == 0) & ((hits >= cfg.min_hits) | (number < cfg.min_hits))
        out.identity.append(name[shown].copy())
        out.box.append(np.asarray(belief.mean)[shown, :7])
        name[(name >= 0) & (age >= cfg.max_age)] = -1
    return out


def _match(
    tracks: np.ndarray, boxes: np.ndarray, cfg: TrackerConfig, room: int
) -> tuple[np.ndarray, np.ndarray]:
    if not len(tracks) or not len(boxes):
        return np.zeros(0, int), np.zeros(0, int)
    gain = overlaps(tracks, boxes, room)
    rows, cols = linear_sum_assignment(-gain)
    good = gain[rows, cols] >= max(cfg.least_iou, 1e-9)
    return rows[good], cols[good]
