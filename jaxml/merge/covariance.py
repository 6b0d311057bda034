"""Second moments of the features of N networks, in one pass over the data.

Only what alignment to one reference needs: the N covariances of each network with itself and the
N - 1 between the reference (the first) and each other one, O(N d^2) instead of O(N^2 d^2).
Sums are of features minus the mean of the first batch, so that they do not cancel, and carry
their rounding errors along (Kahan), so that float32 does for any number of batches.
"""

from typing import Any, Literal, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array
from jaxml.dist import collective

type Pairs = Literal["reference", "all"]


@flax.struct.dataclass
class CovarianceState:
    """Running sums of one node.

    Attributes:
      shift: [n, d], subtracted from every feature.
      sums: `count` [], `first` [n, d], `own` [n, d, d], `cross` [n - 1, d, d]; or, for all pairs,
        `full` [n d, n d] in place of the last two.
      lost: what rounding took from each of `sums`.
    """

    shift: Array
    sums: dict[str, Array]
    lost: dict[str, Array]


class Moments(NamedTuple):
    """Means [n, d] and biased covariances, float64, of `count` samples.

    Attributes:
      mean: [n, d].
      own: [n, d, d], of each network with itself.
      cross: [n, d, d], row axis the reference, column axis the other; the first equals `own[0]`.
      count: number of samples.
      full: [n d, n d], all pairs, or None.
    """

    mean: np.ndarray
    own: np.ndarray
    cross: np.ndarray
    count: float
    full: np.ndarray | None = None


def covariance_init(
    first: Array, *, pairs: Pairs = "reference", axis_name: collective.AxisName = None
) -> CovarianceState:
    """The empty state, for features like `first`.

    Args:
      first: a batch of features [n, ..., d]; only its mean and its shape are used, so it has to
        be passed to `covariance_update` too.
      pairs: "reference", or "all" pairs of networks (what `zipit_match` needs).
      axis_name: mapped axis over which samples are split.

    Raises:
      ValueError: fewer than two networks, or another word for `pairs`.
    """
    check.one_of(("reference", "all"), pairs=pairs)
    rows = _rows(first)
    n, _, d = rows.shape
    check.at_least(2, num_models=n)
    shift = collective.psum_mean(jnp.mean(rows, 1), axis_name)
    shapes: dict[str, tuple[int, ...]] = {"count": (), "first": (n, d)}
    if pairs == "all":
        shapes["full"] = (n * d, n * d)
    else:
        shapes |= {"own": (n, d, d), "cross": (n - 1, d, d)}
    zeros = {name: jnp.zeros(shape, rows.dtype) for name, shape in shapes.items()}
    return CovarianceState(shift, zeros, jax.tree.map(jnp.copy, zeros))


def covariance_update(
    state: CovarianceState, features: Array, *, axis_name: collective.AxisName = None
) -> CovarianceState:
    """Adds a batch of features [n, ..., d]; every position is a sample; what is not finite is 0.

    With `axis_name` the sums over all devices are added, so that the state stays the same on each.
    """
    rows = _rows(features)
    batch = _batch_sums(rows - state.shift[:, None, :], "full" in state.sums)
    batch = collective.psum(batch, axis_name)
    added = {name: _add(state.sums[name], state.lost[name], batch[name]) for name in batch}
    sums, lost = ({name: pair[i] for name, pair in added.items()} for i in (0, 1))
    return CovarianceState(state.shift, sums, lost)


def _rows(features: Array) -> Array:
    """Features as finite samples [n, samples, d], at least float32."""
    wide = jnp.promote_types(features.dtype, jnp.float32)
    rows = features.reshape(features.shape[0], -1, features.shape[-1]).astype(wide)
    return jnp.where(jnp.isfinite(rows), rows, 0)


def _batch_sums(rows: Array, every_pair: bool) -> dict[str, Array]:
    n, samples, d = rows.shape
    found = {"count": jnp.asarray(samples, rows.dtype), "first": jnp.sum(rows, 1)}
    if every_pair:
        side_by_side = jnp.swapaxes(rows, 0, 1).reshape(samples, n * d)
        return {**found, "full": gram(side_by_side)}
    # One product at a time: compilers batch them badly, and n is small.
    own = jnp.stack([gram(rows[i]) for i in range(n)])
    cross = jnp.stack([_product(rows[0], rows[i]) for i in range(1, n)])
    return {**found, "own": own, "cross": cross}


def _product(x_sd: Array, y_se: Array) -> Array:
    """x^T y [d, e] in full precision."""
    contract = (((0,), (0,)), ((), ()))
    return jax.lax.dot_general(x_sd, y_se, contract, precision=jax.lax.Precision.HIGHEST)


def gram(x_sd: Array, smallest: int = 128) -> Array:
    """x^T x [d, d], the blocks below the diagonal by symmetry.

    >>> gram(jnp.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[10.0, 14.0], [14.0, 20.0]]
    """
    d = x_sd.shape[1]
    if d < 2 * smallest or d % 2:
        return _product(x_sd, x_sd)
    left, right = x_sd[:, : d // 2], x_sd[:, d // 2 :]
    corner = _product(left, right)
    top = jnp.concatenate([gram(left, smallest), corner], 1)
    return jnp.concatenate([top, jnp.concatenate([corner.T, gram(right, smallest)], 1)], 0)


def _add(total: Array, lost: Array, more: Array) -> tuple[Array, Array]:
    """Kahan's sum: the new total, and what its rounding lost."""
    more = more - lost
    after = total + more
    # The barrier keeps the compiler from simplifying (a + b) - a to b.
    return after, (jax.lax.optimization_barrier(after) - total) - more


def covariance_finalize(state: CovarianceState) -> Moments:
    """Means and biased covariances in float64, on the host.

    Raises:
      ValueError: there was no sample.
    """
    wide: dict[str, Any] = {
        name: np.asarray(state.sums[name], np.float64) - np.asarray(state.lost[name], np.float64)
        for name in state.sums
    }
    count = float(wide["count"])
    if count <= 0:
        raise ValueError(f"covariances need samples; got count={count:g}.")
    offset = wide["first"] / count
    mean = np.asarray(state.shift, np.float64) + offset
    n, d = mean.shape
    if "full" in wide:
        flat = offset.reshape(-1)
        full = wide["full"] / count - np.outer(flat, flat)
        blocks = full.reshape(n, d, n, d)
        own = np.stack([blocks[i, :, i] for i in range(n)])
        cross = np.stack([blocks[0, :, i] for i in range(n)])
        return Moments(mean, own, cross, count, full)
    own = wide["own"] / count - offset[:, :, None] * offset[:, None, :]
    cross = wide["cross"] / count - offset[0][None, :, None] * offset[1:, None, :]
    return Moments(mean, own, np.concatenate([own[:1], cross]), count)
