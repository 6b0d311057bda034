"""`simulate` and `compare`: checked inputs, one compiled program per method."""

import itertools
from collections.abc import Sequence

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxml.chiplet import field
from jaxml.chiplet.config import ModelShape, Number, System
from jaxml.chiplet.method import METHODS
from jaxml.chiplet.model import Assignment, Report, assignment, evaluate, evaluate_jit
from jaxml.chiplet.presets import SEQUENCES_PER_BATCH
from jaxml.chiplet.rounding import EXACT, SMOOTH
from jaxml.core import check

MANY_ARRAYS = 256
WHOLE = ("mesh.rows", "mesh.cols", "die.num_arrays", "die.array_rows", "die.array_cols")
"""Numbers that may be fractions in the smooth model only."""
UNITS = {"die.num_arrays": "arrays", "die.array_rows": "rows", "die.array_cols": "columns"}
MATRICES = ("qkv", "out", "up", "down")


def _concrete(*values: Number) -> bool:
    return not any(isinstance(value, jax.core.Tracer) for value in values)


def check_inputs(
    model: ModelShape, system: System, method: str, batch_tokens: Number, smooth: bool
) -> int:
    """Checks what `simulate` is given; returns a bound of the arrays of a die, at least 16.

    Raises:
      ValueError: a number breaks its rule, an unknown method, SUMMA on a mesh that is not square,
        heads that do not divide, a mesh that is not whole in exact mode.
    """
    check.one_of(METHODS, method=method)
    field.validate(model)
    field.validate(system)
    if _concrete(batch_tokens):
        _whole("batch_tokens", batch_tokens, "tokens")
    check.at_least(0, lora_rank=system.training.lora_rank)
    rows, cols, arrays = system.mesh.rows, system.mesh.cols, system.die.num_arrays
    if not smooth:
        for path in WHOLE:
            if _concrete(value := field.get(system, path)):
                _whole(path, value, UNITS.get(path, "dies"))
    if METHODS[method].square and _concrete(rows, cols) and np.any(np.not_equal(rows, cols)):
        raise ValueError(
            f"method {method!r} needs a square mesh; got mesh.rows={rows}, mesh.cols={cols}."
        )
    heads, kv_heads, width = model.num_heads, model.num_kv_heads, model.width
    if _concrete(heads, kv_heads, width):
        _divides("num_heads", heads, "width", width)
        _divides("num_kv_heads", kv_heads, "num_heads", heads)
    most = int(np.max(np.asarray(arrays))) if _concrete(arrays) else MANY_ARRAYS
    return max(16, 1 << (most - 1).bit_length())  # few programs for many numbers


def _whole(name: str, value: Number, unit: str) -> None:
    numbers = np.asarray(value, np.float64)
    broken = ~(np.isfinite(numbers) & (numbers >= 1) & (numbers == np.floor(numbers)))
    if broken.any():
        first = numbers[broken].ravel()[0]
        wanted = f"a whole number >= 1{unit and ' '}{unit}"
        raise ValueError(f"{name} must be {wanted}; got {name}={first:g}.")


def _divides(part: str, small: Number, whole: str, large: Number) -> None:
    smalls, larges = np.broadcast_arrays(np.asarray(small), np.asarray(large))
    broken = np.mod(larges, smalls) != 0
    if broken.any():
        a, b = smalls[broken].ravel()[0], larges[broken].ravel()[0]
        raise ValueError(f"{part} must divide {whole}; got {part}={a}, {whole}={b}.")


def simulate(
    model: ModelShape,
    system: System,
    *,
    method: str = "hecaton",
    batch_tokens: Number | None = None,
    smooth: bool = False,
) -> Report:
    """Time and energy of one training batch on one package.

    Args:
      model: what is trained.
      system: the package. Its numbers, and the model's, may be arrays of one shape.
      method: a key of `METHODS`.
      batch_tokens: tokens of a batch; default 256 sequences.
      smooth: no rounding of folds and chunks, for gradients; rows and columns may be fractions.

    Returns:
      A `Report`. Designs that do not fit have `feasible` False and negative margins; their numbers
      stay finite.

    Raises:
      ValueError: see `check_inputs`; nothing is traced before.

    >>> from jaxml.chiplet import presets
    >>> report = simulate(presets.MODELS["llama2-70b"], presets.paper_v1(), method="hecaton")
    >>> bool(report.feasible), round(float(report.mfu), 2)
    (True, 0.31)
    """
    batch = SEQUENCES_PER_BATCH * model.seq_len if batch_tokens is None else batch_tokens
    max_arrays = check_inputs(model, system, method, batch, smooth)
    rounding = SMOOTH if smooth else EXACT
    return evaluate_jit(*as_arrays(model, system, batch), assignment(method), rounding, max_arrays)


def as_arrays(
    model: ModelShape, system: System, batch: Number
) -> tuple[ModelShape, System, Number]:
    """All numbers as arrays of one floating type and one shape."""
    leaves = jax.tree.leaves((model, system, batch))
    shape = jnp.broadcast_shapes(*(jnp.shape(x) for x in leaves))
    dtype = jnp.result_type(float)

    def full(x: Number) -> jax.Array:
        return jnp.broadcast_to(jnp.asarray(x, dtype), shape)

    return jax.tree.map(full, (model, system, batch))


def compare(
    model: ModelShape,
    system: System,
    *,
    methods: Sequence[str] = ("flat_ring", "torus_ring", "optimus", "summa", "hecaton", "dual"),
    batch_tokens: Number | None = None,
) -> dict[str, Report]:
    """`simulate` for several methods.

    Raises:
      ValueError: see `check_inputs`.
    """
    return {
        method: simulate(model, system, method=method, batch_tokens=batch_tokens)
        for method in methods
    }


def mixed(
    model: ModelShape,
    system: System,
    *,
    other: str = "summa_kv",
    batch_tokens: Number | None = None,
) -> tuple[Report, dict[str, str]]:
    """The fastest choice of Hecaton or SUMMA for each of the four matrices (ours).

    All 16 choices are computed. Where the two matrices of a block differ, the change of layout is
    paid for; keys and values are always streamed.

    Returns:
      The report of the fastest feasible choice (the fastest if none is), and the method by matrix.

    Raises:
      ValueError: see `check_inputs`; the mesh must be square.
    """
    batch = SEQUENCES_PER_BATCH * model.seq_len if batch_tokens is None else batch_tokens
    max_arrays = check_inputs(model, system, other, batch, smooth=False)
    inputs = as_arrays(model, system, batch)
    best: tuple[tuple[bool, float], Report, tuple[str, ...]] | None = None
    for names in itertools.product(("hecaton", other), repeat=4):
        chosen: Assignment = tuple(METHODS[name] for name in names)  # pyright: ignore
        with jax.disable_jit():  # sixteen programs would take longer to compile than to run
            report = evaluate(*inputs, chosen, EXACT, max_arrays)
        rank = (not bool(report.feasible), float(report.time_s))
        if best is None or rank < best[0]:
            best = (rank, report, names)
    assert best is not None
    return best[1], dict(zip(MATRICES, best[2], strict=True))
