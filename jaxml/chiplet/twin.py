"""The executable twin: the modelled algorithm as a program that runs on devices.

A mesh of devices stands for the mesh of dies. Matrices are cut as the model says, activations are
gathered along one axis and reduce-scattered along the other, weights never move. What the compiled
program moves can be counted (`compiled.count_collectives`) and is what the model charges.
"""

import dataclasses
import functools
import typing
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, PartitionSpec

from jaxml.core import check
from jaxml.core.types import Array, Key, PyTree

AXES = ("rows", "cols")
P = PartitionSpec
_X = {"col": P("rows", "cols"), "row": P("cols", "rows")}
_W = {"col": P("cols", "rows"), "row": P("rows", "cols")}


def die_mesh(rows: int, cols: int) -> Mesh:
    """The first `rows * cols` devices as a mesh of dies.

    Raises:
      ValueError: there are fewer devices.
    """
    check.positive(rows=rows, cols=cols)
    devices = jax.devices()
    if rows * cols > len(devices):
        raise ValueError(
            f"rows * cols must be at most the number of devices; got rows={rows}, cols={cols}, "
            f"devices={len(devices)}."
        )
    kinds = (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh((rows, cols), AXES, axis_types=kinds, devices=devices[: rows * cols])


def _axes(orientation: str) -> tuple[str, str]:
    """The axis X is gathered along, and the one Y is scattered along."""
    first, second = AXES
    return (first, second) if orientation == "col" else (second, first)


def _gather(x: Array, axis: str) -> Array:
    return jax.lax.all_gather(x, axis, axis=0, tiled=True)


def _scatter(x: Array, axis: str) -> Array:
    return jax.lax.psum_scatter(x, axis, scatter_dimension=0, tiled=True)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _linear(x: Array, w: Array, orientation: str, regather: bool) -> Array:
    """With its own backward pass, see `local_linear`."""
    return _forward(x, w, orientation, regather)[0]


def local_linear(x: Array, w: Array, orientation: str, regather: bool) -> Array:
    """Y = X W on a die, inside `shard_map`.

    Args:
      x: [t / parts, ..., K / parts], this die's tokens and features.
      w: [K / parts, M / parts], this die's tile.
      orientation: "col" gathers along columns and scatters along rows, "row" the other way.
      regather: keep x as it is and gather it again in backward, or keep it gathered.
    """
    return typing.cast(Array, _linear(x, w, orientation, regather))


def _forward(x: Array, w: Array, orientation: str, regather: bool) -> tuple[Array, Any]:
    along, across = _axes(orientation)
    whole = _gather(x, along)
    y = _scatter(jnp.einsum("t...k,km->t...m", whole, w), across)
    return y, (x if regather else whole, w)


def _backward(orientation: str, regather: bool, kept: Any, dy: Array) -> tuple[Array, Array]:
    along, across = _axes(orientation)
    x, w = kept
    if regather:  # the barrier keeps the compiler from reusing the gather of the forward pass
        x, dy = jax.lax.optimization_barrier((x, dy))
        x = _gather(x, along)
    dy = _gather(dy, across)
    dx = _scatter(jnp.einsum("t...m,km->t...k", dy, w), along)
    return dx, jnp.einsum("t...k,t...m->km", x, dy)


_linear.defvjp(_forward, _backward)


def mesh_linear(
    x: Array,
    w: Array,
    mesh: Mesh,
    orientation: Literal["col", "row"] = "col",
    *,
    regather: bool = False,
) -> Array:
    """Y = X W over a mesh of dies.

    Args:
      x: [t, ..., K].
      w: [K, M].
      mesh: of `die_mesh`.
      orientation: see `local_linear`; it decides the layout of x and y.
      regather: see `local_linear`.

    Returns:
      [t, ..., M], laid out for a matrix of the other orientation.

    Raises:
      ValueError: sizes that the mesh does not divide, or an unknown orientation.
    """
    check.one_of(("col", "row"), orientation=orientation)
    along, across = (mesh.shape[axis] for axis in _axes(orientation))
    for name, size in (("tokens", x.shape[0]), ("outputs", w.shape[1])):
        for parts in (along, across):
            if size % parts:
                raise ValueError(f"{parts} dies must divide {name}; got {name}={size}.")
    if w.shape[0] % across or x.shape[-1] != w.shape[0]:
        raise ValueError(
            f"inputs must be the last axis of x and divide by {across} dies; got x.shape="
            f"{x.shape}, w.shape={w.shape}."
        )
    body = jax.shard_map(
        lambda x, w: local_linear(x, w, orientation, regather),
        mesh=mesh,
        in_specs=(_spec(_X[orientation], x.ndim), _W[orientation]),
        out_specs=_spec(_X["row" if orientation == "col" else "col"], x.ndim),
        check_vma=False,
    )
    return body(x, w)


def _spec(two: PartitionSpec, ndim: int) -> PartitionSpec:
    return P(two[0], *([None] * (ndim - 2)), two[1])


@dataclasses.dataclass(frozen=True)
class BlockShape:
    """A Transformer block of the twin: grouped-query attention and a gated MLP, pre-norm."""

    width: int
    num_heads: int
    num_kv_heads: int
    ffn_width: int

    def __post_init__(self):
        check.types(self)
        check.positive(width=self.width, ffn_width=self.ffn_width)
        check.divides(num_heads=self.num_heads, width=self.width)
        check.divides(num_kv_heads=self.num_kv_heads, num_heads=self.num_heads)

    @property
    def head_dim(self) -> int:
        """Features of a head."""
        return self.width // self.num_heads


def init_block(key: Key, shape: BlockShape) -> dict[str, Array]:
    """Random weights: `q k v out gate up down` and the two norms."""
    h, f, kv = shape.width, shape.ffn_width, shape.head_dim * shape.num_kv_heads
    sizes = {"q": (h, h), "k": (h, kv), "v": (h, kv), "out": (h, h)}
    sizes |= {"gate": (h, f), "up": (h, f), "down": (f, h)}
    keys = jax.random.split(key, len(sizes))
    made = {
        name: jax.random.normal(k, size) / jnp.sqrt(size[0])
        for k, (name, size) in zip(keys, sizes.items(), strict=True)
    }
    return made | {"norm_attention": jnp.ones(h), "norm_ffn": jnp.ones(h)}


def _norm(x: Array, scale: Array, psum: Callable[[Array], Array], width: int) -> Array:
    """RMS norm of features that lie on several dies: one number per token is summed."""
    mean = psum(jnp.sum(jnp.square(x), -1, keepdims=True)) / width
    return x * jax.lax.rsqrt(mean + 1e-6) * jnp.expand_dims(scale, range(x.ndim - 1))


def _attend(q: Array, k: Array, v: Array, first: Array, head_dim: int) -> Array:
    """Causal attention of the queries from position `first` on; [t, b, heads * head_dim]."""
    t, b, _ = q.shape
    s = k.shape[0]
    q = q.reshape(t, b, -1, head_dim)
    k, v = (x.reshape(s, b, -1, head_dim) for x in (k, v))
    group = q.shape[2] // k.shape[2]
    k, v = (jnp.repeat(x, group, axis=2) for x in (k, v))
    scores = jnp.einsum("tbhc,sbhc->bhts", q, k) / jnp.sqrt(head_dim)
    seen = jnp.arange(s)[None] <= first + jnp.arange(t)[:, None]
    weights = jax.nn.softmax(jnp.where(seen[None, None], scores, -1e30), -1)
    return jnp.einsum("bhts,sbhc->tbhc", weights, v).reshape(t, b, -1)


def dense_block(params: PyTree, x_tbd: Array, shape: BlockShape) -> Array:
    """The block on one device: what `mesh_transformer_block` must equal."""
    whole = lambda x: x  # noqa: E731
    x = _norm(x_tbd, params["norm_attention"], whole, shape.width)
    q, k, v = (x @ params[name] for name in "qkv")
    x_tbd = x_tbd + _attend(q, k, v, jnp.int32(0), shape.head_dim) @ params["out"]
    x = _norm(x_tbd, params["norm_ffn"], whole, shape.width)
    return x_tbd + (jax.nn.silu(x @ params["gate"]) * (x @ params["up"])) @ params["down"]


def _block(params: PyTree, x: Array, shape: BlockShape, regather: bool) -> Array:
    """The block on a die; x is [t / rows, b, width / cols]."""
    total = lambda x: jax.lax.psum(x, "cols")  # noqa: E731
    rows = jax.lax.axis_size("rows")
    linear = lambda x, names, way: local_linear(  # noqa: E731
        x, jnp.concatenate([params[name] for name in names], 1), way, regather
    )
    inside = _norm(x, params["norm_attention"], total, shape.width)
    kv = shape.head_dim * shape.num_kv_heads // rows
    qkv = linear(inside, "qkv", "col")  # [t / cols, b, (h + 2 kv) / rows]
    q, local_kv = qkv[..., : shape.width // rows], qkv[..., shape.width // rows :]
    every = _gather(local_kv, "cols")
    first = jax.lax.axis_index("cols") * q.shape[0]
    mixed = _attend(q, every[..., :kv], every[..., kv:], first, shape.head_dim)
    x = x + linear(mixed, ["out"], "row")
    inside = _norm(x, params["norm_ffn"], total, shape.width)
    hidden = linear(inside, ["gate", "up"], "col")
    gate, up = jnp.split(hidden, 2, -1)
    return x + linear(jax.nn.silu(gate) * up, ["down"], "row")


def mesh_transformer_block(
    params: PyTree, x_tbd: Array, shape: BlockShape, mesh: Mesh, *, regather: bool = True
) -> Array:
    """The block over a mesh of dies; equal to `dense_block`.

    Heads lie on the rows of dies and tokens of queries on the columns; keys and values are gathered
    along rows.

    Args:
      params: of `init_block`.
      x_tbd: [t, b, width], tokens first.
      shape: of the block.
      mesh: of `die_mesh`.
      regather: gather inputs again for the weight gradients, as the model charges by default.

    Raises:
      ValueError: tokens, heads or widths that the mesh does not divide.
    """
    rows, cols = mesh.shape["rows"], mesh.shape["cols"]
    check.shape("x_tbd", x_tbd, ["t", "b", shape.width])
    for name, size, parts in (
        ("num_heads", shape.num_heads, rows),
        ("num_kv_heads", shape.num_kv_heads, rows),
        ("width", shape.width, rows * cols),
        ("ffn_width", shape.ffn_width, rows * cols),
        ("tokens", x_tbd.shape[0], rows * cols),
    ):
        if size % parts:
            raise ValueError(f"the mesh's {parts} parts must divide {name}; got {name}={size}.")
    specs = {name: _W["col"] for name in ("q", "k", "v", "gate", "up")}
    specs |= {name: _W["row"] for name in ("out", "down")}
    specs |= {"norm_attention": P("cols"), "norm_ffn": P("cols")}
    return jax.shard_map(
        lambda params, x: _block(params, x, shape, regather),
        mesh=mesh,
        in_specs=(specs, P("rows", None, "cols")),
        out_specs=P("rows", None, "cols"),
        check_vma=False,
    )(params, x_tbd)
