"""Many designs at once: compiled, in chunks that stay in cache, over several devices."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxml.chiplet import field
from jaxml.chiplet.config import ModelShape, Number, System
from jaxml.chiplet.model import Assignment, Report, assignment, evaluate
from jaxml.chiplet.presets import SEQUENCES_PER_BATCH
from jaxml.chiplet.rounding import EXACT, SMOOTH, Rounding
from jaxml.chiplet.simulate import check_inputs
from jaxml.core import check

MIN_CHUNK = 512
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

    return _spread(local, mesh)(values, base)


def _prepare(
    model: ModelShape,
    system: System,
    values: Mapping[str, Any],
    method: str,
    batch_tokens: Number | None,
    smooth: bool,
    chunk: int,
    mesh: Mesh | None,
) -> tuple[dict[str, np.ndarray], tuple[ModelShape, System, Number], int, int]:
    """Checked and padded arrays, the base, the number of designs, the bound of the arrays."""
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
    share = max(MIN_CHUNK, -(-n // devices))
    size = min(chunk, 1 << (share - 1).bit_length())  # few programs for many lengths
    padded = -(-n // (size * devices)) * size * devices
    dtype = np.dtype(jnp.result_type(float))
    filled = {p: np.pad(v.astype(dtype), (0, padded - n), "edge") for p, v in arrays.items()}
    return filled, _scalars((model, system, batch)), n, max_arrays


@functools.partial(jax.jit, static_argnames=("methods", "objective", "rounding", "chunk", "mesh"))
def _run_slopes(
    values: dict[str, Number],
    base: tuple[ModelShape, System, Number],
    methods: Assignment,
    objective: str,
    rounding: Rounding,
    chunk: int,
    mesh: Mesh | None,
) -> tuple[Number, dict[str, Number]]:
    def piece(values: dict[str, Number], base: Any) -> tuple[Number, dict[str, Number]]:
        """Points do not meet, so the gradient of the sum holds every point's own gradient."""

        def summed(logs: dict[str, Number]) -> tuple[Number, Number]:
            points = jax.tree.map(jnp.exp, logs)
            value = getattr(reports(points, base, methods, rounding, 1), objective)
            return jnp.sum(jnp.log(value)), value

        grads, value = jax.grad(summed, has_aux=True)(jax.tree.map(jnp.log, values))
        return value, grads

    def local(values: dict[str, Number], base: Any) -> tuple[Number, dict[str, Number]]:
        n = jnp.shape(next(iter(values.values())))[0]
        pieces = {path: v.reshape(n // chunk, chunk) for path, v in values.items()}
        found = jax.lax.map(lambda part: piece(part, base), pieces)
        return jax.tree.map(lambda x: x.reshape(n), found)

    return _spread(local, mesh)(values, base)


def _spread(local: Any, mesh: Mesh | None) -> Any:
    """Over the devices of a mesh; nothing is exchanged, so nothing is checked for replication."""
    if mesh is None:
        return local
    axes = PartitionSpec(mesh.axis_names)
    specs = (axes, PartitionSpec())
    return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=axes, check_vma=False)


def sweep_slopes(
    model: ModelShape,
    system: System,
    values: Mapping[str, Any],
    *,
    objective: str = "time_s",
    method: str = "hecaton",
    batch_tokens: Number | None = None,
    chunk: int = 4096,
    mesh: Mesh | None = None,
) -> tuple[Number, dict[str, Number]]:
    """Objective and its elasticities at n designs, in the smooth model.

    Args:
      model: see `sweep`.
      system: see `sweep`.
      values: see `sweep`; all positive.
      objective: a number of `Report`.
      method: see `sweep`.
      batch_tokens: see `sweep`.
      chunk: see `sweep`.
      mesh: see `sweep`.

    Returns:
      The objective [n], and `d log objective / d log value` [n] by name.

    Raises:
      ValueError: see `sweep`.
    """
    check.one_of(("time_s", "energy_j", "edp_js"), objective=objective)
    filled, base, n, _ = _prepare(model, system, values, method, batch_tokens, True, chunk, mesh)
    size = min(chunk, next(iter(filled.values())).shape[0] // (1 if mesh is None else mesh.size))
    found = _run_slopes(filled, base, assignment(method), objective, SMOOTH, size, mesh)
    return jax.tree.map(lambda x: x[:n], found)


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
    call = prepared(
        model,
        system,
        values,
        method=method,
        batch_tokens=batch_tokens,
        smooth=smooth,
        chunk=chunk,
        mesh=mesh,
    )
    return call()


def prepared(
    model: ModelShape,
    system: System,
    values: Mapping[str, Any],
    *,
    method: str = "hecaton",
    batch_tokens: Number | None = None,
    smooth: bool = False,
    chunk: int = 4096,
    mesh: Mesh | None = None,
) -> Callable[[], Report]:
    """`sweep` with its checks made and its inputs on the device, to be called without arguments.

    Args and errors: see `sweep`.
    """
    filled, base, n, max_arrays = _prepare(
        model, system, values, method, batch_tokens, smooth, chunk, mesh
    )
    padded = next(iter(filled.values())).shape[0]
    size = min(chunk, padded // (1 if mesh is None else mesh.size))
    rounding = SMOOTH if smooth else EXACT
    place = None if mesh is None else NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    filled = jax.device_put(filled, place)

    def call() -> Report:
        found = _run(filled, base, assignment(method), rounding, max_arrays, size, mesh)
        return found if padded == n else jax.tree.map(lambda x: x[:n], found)

    return call
