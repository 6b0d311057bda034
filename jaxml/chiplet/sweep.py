"""Many designs at once: compiled, in chunks that stay in cache, over several devices."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxml.chiplet import field
from jaxml.chiplet.config import ModelShape, Number, System
from jaxml.chiplet.model import Assignment, Report, assignment, evaluate
from jaxml.chiplet.presets import SEQUENCES_PER_BATCH
from jaxml.chiplet.rounding import EXACT, SMOOTH, Rounding
from jaxml.chiplet.simulate import check_inputs
from jaxml.core import check

type Point = tuple[ModelShape, System]


def place(model: ModelShape, system: System, values: Mapping[str, Number]) -> Point:
    """Model and system with numbers replaced by dotted name, e.g. `link.latency_s`, `model.width`.

    Raises:
      ValueError: a name that is no number; the nearest is given.
    """
    for path, value in values.items():
        if path.startswith("model."):
            model = field.put(model, path.removeprefix("model."), value)
        else:
            system = field.put(system, path, value)
    return model, system


def grid(axes: Mapping[str, Sequence[float]]) -> dict[str, np.ndarray]:
    """All combinations of the values of each axis, the last axis fastest.

    >>> grid({"mesh.rows": [8, 16], "link.latency_s": [1e-9]})["mesh.rows"].tolist()
    [8.0, 16.0]
    """
    arrays = np.meshgrid(*(np.asarray(v, float) for v in axes.values()), indexing="ij")
    return {path: array.ravel() for path, array in zip(axes, arrays, strict=True)}


def _scalars(tree: Any) -> Any:
    dtype = jnp.result_type(float)
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)


def reports(
    values: Mapping[str, Number],
    base: tuple[ModelShape, System, Number],
    methods: Assignment,
    rounding: Rounding,
    max_arrays: int,
) -> Report:
    """Reports of the points `values`, arrays [n], around a base; traced."""
    model, system = place(base[0], base[1], values)
    report = evaluate(model, system, base[2], methods, rounding, max_arrays)
    shape = jnp.shape(next(iter(values.values())))
    return jax.tree.map(lambda x: jnp.broadcast_to(x, shape), report)


@functools.partial(jax.jit, static_argnames=("methods", "rounding", "max_arrays", "chunk", "mesh"))
def _run(
    values: dict[str, Number],
    base: tuple[ModelShape, System, Number],
    methods: Assignment,
    rounding: Rounding,
    max_arrays: int,
    chunk: int,
    mesh: Mesh | None,
) -> Report:
    def local(values: dict[str, Number], base: tuple[ModelShape, System, Number]) -> Report:
        n = jnp.shape(next(iter(values.values())))[0]
        pieces = {path: v.reshape(n // chunk, chunk) for path, v in values.items()}
        found = jax.lax.map(
            lambda piece: reports(piece, base, methods, rounding, max_arrays), pieces
        )
        return jax.tree.map(lambda x: x.reshape(n), found)

    if mesh is None:
        return local(values, base)
    axes = PartitionSpec(mesh.axis_names)
    specs = (axes, PartitionSpec())
    # Nothing is exchanged, so there is nothing for the replication check to see.
    return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=axes, check_vma=False)(
        values, base
    )


def sweep(
    model: ModelShape,
    system: System,
    values: Mapping[str, Any],
    *,
    method: str = "hecaton",
    batch_tokens: Number | None = None,
    smooth: bool = False,
    chunk: int = 4096,
    mesh: Mesh | None = None,
) -> Report:
    """Reports of n designs.

    Args:
      model: what is trained.
      system: what is not swept.
      values: arrays [n] by dotted name: a number of the system (`die.clock_hz`) or of the model
        (`model.seq_len`).
      method: a key of `METHODS`.
      batch_tokens: of a batch; default 256 sequences of the base model.
      smooth: see `simulate`.
      chunk: designs computed at a time on a device.
      mesh: devices to spread the designs over; default the first one.

    Returns:
      A `Report` of arrays [n], float32 unless 64-bit types are enabled.

    Raises:
      ValueError: an unknown name, arrays of different length, or what `check_inputs` names.

    >>> from jaxml.chiplet import presets
    >>> found = sweep(presets.MODELS["llama2-7b"], presets.default(),
    ...               grid({"link.bandwidth_bytes_s": [16e9, 32e9, 64e9]}))
    >>> found.time_s.shape
    (3,)
    """
    if not values:
        raise ValueError("values must name at least one number to sweep; got none.")
    check.positive(chunk=chunk)
    arrays = {path: np.asarray(v) for path, v in values.items()}
    lengths = {path: v.shape for path, v in arrays.items()}
    if len(set(lengths.values())) > 1 or any(len(s) != 1 or s[0] < 1 for s in lengths.values()):
        raise ValueError(f"values must be arrays [n] of one length >= 1; got shapes {lengths}.")
    batch = SEQUENCES_PER_BATCH * model.seq_len if batch_tokens is None else batch_tokens
    max_arrays = check_inputs(*place(model, system, arrays), method, batch, smooth)
    n = next(iter(arrays.values())).shape[0]
    devices = 1 if mesh is None else mesh.size
    chunk = min(chunk, -(-n // devices))
    padded = -(-n // (chunk * devices)) * chunk * devices
    dtype = np.dtype(jnp.result_type(float))
    filled = {p: np.pad(v.astype(dtype), (0, padded - n), "edge") for p, v in arrays.items()}
    base = _scalars((model, system, batch))
    rounding = SMOOTH if smooth else EXACT
    found = _run(filled, base, assignment(method), rounding, max_arrays, chunk, mesh)
    return found if padded == n else jax.tree.map(lambda x: x[:n], found)
