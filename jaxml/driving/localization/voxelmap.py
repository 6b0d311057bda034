"""A map of points in voxels, with static shapes: points sorted by hashed voxel.

A voxel is a bucket of a hash; its points lie side by side. Buckets that two voxels share cost
nothing but room: points of the wrong voxel are far away and never the nearest.
"""

import functools
import itertools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core.types import Array

_NOWHERE = 1e6
_AROUND = np.array(list(itertools.product((-1, 0, 1), repeat=3)), np.int32)
_OCTANT = np.array(list(itertools.product((0, 1), repeat=3)), np.int32)


@flax.struct.dataclass
class VoxelMap:
    """Points by voxel.

    Attributes:
      points: [m, 3], those of one bucket side by side; empty places are far away.
      mask: bool [m].
      start: first place of each bucket, int32 [buckets].
      count: points of each bucket, int32 [buckets].
      voxel_m: side of a voxel.
      parts: a power of two; one point is kept for each voxel_m / parts.
    """

    points: Array
    mask: Array
    start: Array
    count: Array
    voxel_m: float = flax.struct.field(pytree_node=False)
    parts: int = flax.struct.field(pytree_node=False, default=4)


def empty_map(room: int, buckets: int, voxel_m: float, parts: int = 4) -> VoxelMap:
    """A map without points."""
    return VoxelMap(
        jnp.full((room, 3), _NOWHERE, jnp.float32),
        jnp.zeros(room, bool),
        jnp.zeros(buckets, jnp.int32),
        jnp.zeros(buckets, jnp.int32),
        voxel_m,
        parts,
    )


def _hash(cell: Array) -> Array:
    """uint32 [...] of integer cells [..., 3]."""
    x, y, z = (cell[..., i].astype(jnp.uint32) for i in range(3))
    mixed = (
        (x * jnp.uint32(73_856_093)) ^ (y * jnp.uint32(19_349_669)) ^ (z * jnp.uint32(83_492_791))
    )
    mixed = mixed ^ (mixed >> 15)
    mixed = mixed * jnp.uint32(0x2C1B3C6D)
    return mixed ^ (mixed >> 12)


def _keys(points: Array, voxel_m: float, buckets: int, parts: int) -> Array:
    """Bucket in the upper bits, which part of the voxel and some of its hash in the 15 lower."""
    bits = parts.bit_length() - 1
    fine = jnp.floor(points * (parts / voxel_m)).astype(jnp.int32)
    mixed = _hash(fine >> bits)
    x, y, z = (fine[..., i] & (parts - 1) for i in range(3))
    part = (x | (y << bits) | (z << 2 * bits)).astype(jnp.uint32)
    low = part | ((mixed >> 17) << 3 * bits)
    return ((mixed & jnp.uint32(buckets - 1)) << 15) | (low & jnp.uint32(0x7FFF))


_LAST = np.uint32(0xFFFFFFFF)


def insert(world: VoxelMap, points: Array, mask: Array, keep: Array | None = None) -> VoxelMap:
    """The map with further points: one for each part of a voxel, older ones first.

    Args:
      world: the map.
      points: [p, 3] in the map's frame.
      mask: bool [p].
      keep: which of the map's own points stay, bool [m]; None: all.

    Returns:
      A map of the same room; what does not fit is left out.
    """
    room, buckets = world.points.shape[0], world.start.shape[0]
    old = world.mask if keep is None else world.mask & keep
    every = jnp.concatenate([world.points, points])
    there = jnp.concatenate([old, mask])
    key, order = _first_of_each(every, there, world.voxel_m, buckets, world.parts)
    return _indexed(world, every[order[:room]], key[:room])


def _first_of_each(
    points: Array, mask: Array, voxel_m: float, buckets: int, parts: int
) -> tuple[Array, Array]:
    """Keys in rising order, one of each, and the order; what is left over stands last."""
    key = jnp.where(mask, _keys(points, voxel_m, buckets, parts), _LAST)
    number = jnp.arange(len(key), dtype=jnp.int32)
    key, order = jax.lax.sort((key, number), num_keys=1, is_stable=True)
    new = jnp.concatenate([jnp.ones(1, bool), key[1:] != key[:-1]]) & (key != _LAST)
    place = jnp.where(new, jnp.cumsum(new) - 1, len(key))
    packed = jnp.full(len(key), _LAST).at[place].set(key, mode="drop")
    return packed, jnp.zeros(len(key), jnp.int32).at[place].set(order, mode="drop")


def _indexed(world: VoxelMap, points: Array, key: Array) -> VoxelMap:
    buckets = world.start.shape[0]
    mask = key != _LAST
    bucket = jnp.where(mask, key >> 15, buckets).astype(jnp.int32)
    place = jnp.arange(len(key), dtype=jnp.int32)
    start = jnp.zeros(buckets, jnp.int32)
    begins = jnp.concatenate([jnp.ones(1, bool), bucket[1:] != bucket[:-1]]) & mask
    start = start.at[jnp.where(begins, bucket, buckets)].set(place, mode="drop")
    count = jnp.zeros(buckets, jnp.int32).at[bucket].add(1, mode="drop")
    points = jnp.where(mask[:, None], points, _NOWHERE)
    return world.replace(  # pyright: ignore[reportAttributeAccessIssue]
        points=points, mask=mask, start=start, count=count
    )


@functools.partial(jax.jit, static_argnames=("voxel_m", "room"))
def thin(points: Array, mask: Array, *, voxel_m: float, room: int) -> tuple[Array, Array]:
    """One point (the first) for each voxel, packed: [room, 3] and bool [room]."""
    key, order = _first_of_each(points, mask, voxel_m, 1 << 17, 1)
    good = key[:room] != _LAST
    return jnp.where(good[:, None], points[order[:room]], 0.0), good


@flax.struct.dataclass
class Candidates:
    """Points of the map around points, kept over the iterations of one registration.

    Attributes:
      xyz: [3, 27 c or 8 c, s]: candidates first, so that a search runs along contiguous points;
        empty places are far away.
    """

    xyz: Array


def around(
    world: VoxelMap, points: Array, cell_room: int = 20, *, octant: bool = False
) -> Candidates:
    """What the map holds in the 27 voxels around each of the points [s, 3].

    They hold everything within a voxel of a point; the 8 nearest (`octant`), which cost a third,
    hold everything within half a voxel.
    """
    shift, cells = (0.5, _OCTANT) if octant else (0.0, _AROUND)
    cell = jnp.floor(points * (1.0 / world.voxel_m) - shift).astype(jnp.int32)
    cells = cell[None] + jnp.asarray(cells)[:, None]
    bucket = (_hash(cells) & jnp.uint32(world.start.shape[0] - 1)).astype(jnp.int32)
    start, count = world.start[bucket], jnp.minimum(world.count[bucket], cell_room)
    step = jnp.arange(cell_room, dtype=jnp.int32)[None, :, None]
    place = jnp.minimum(start[:, None] + step, world.points.shape[0] - 1)
    place = place.reshape(-1, len(points))
    there = (step < count[:, None]).reshape(place.shape)
    return Candidates(
        jnp.stack([jnp.where(there, world.points[:, i][place], _NOWHERE) for i in range(3)])
    )


def nearest(candidates: Candidates, points: Array) -> tuple[Array, Array]:
    """The nearest candidate [s, 3] of each point [s, 3] and its squared distance [s].

    It is the nearest point of the map wherever it is nearer than `around` reaches from
    where the candidates were looked up.
    """
    offsets = [candidates.xyz[i] - points[None, :, i] for i in range(3)]
    squared = offsets[0] ** 2 + offsets[1] ** 2 + offsets[2] ** 2
    least = jnp.min(squared, 0)
    best = squared == least[None]
    share = 1.0 / jnp.sum(best, 0)
    found = [jnp.sum(jnp.where(best, candidates.xyz[i], 0.0), 0) * share for i in range(3)]
    return jnp.stack(found, -1), least
