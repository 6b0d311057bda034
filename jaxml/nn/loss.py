"""Cross-entropy in nats, from logits or without ever holding them."""

import functools

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array
from jaxml.nn import precision

AT_ONCE, FEWEST = 16_384, 256
"""Tokens whose logits are in memory at once by default, and the fewest steps of each row."""


def cross_entropy(
    logits: Array, labels: Array, mask: Array | None = None, label_smoothing: float = 0.0
) -> tuple[Array, Array]:
    """Mean negative log-likelihood of the labels that `mask` keeps.

    Args:
      logits: [..., v].
      labels: integers [...]; where `mask` is False any value may stand.
      mask: [...], True = keep (default: all).
      label_smoothing: share of the target spread evenly over all v classes, in [0, 1).

    Returns:
      The mean in nats (0 when nothing is kept) and the number kept, both float32 [].

    Raises:
      ValueError: shapes that do not fit, or smoothing outside [0, 1).

    >>> loss, count = cross_entropy(jnp.zeros((3, 4)), jnp.array([0, 1, 2]))
    >>> round(float(loss / jnp.log(4.0)), 5), float(count)
    (1.0, 3.0)
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must lie in [0, 1); got {label_smoothing=}.")
    check.shape("labels", labels, logits.shape[:-1])
    mask = _mask_like(labels, mask)
    wide = precision.widen(logits)
    normaliser = jax.nn.logsumexp(wide, -1)
    nll = normaliser - _pick(wide, labels, mask)
    if label_smoothing:
        spread = normaliser - jnp.mean(wide, -1)
        nll = (1 - label_smoothing) * nll + label_smoothing * spread
    count = jnp.sum(mask, dtype=wide.dtype)
    return jnp.sum(nll, where=mask) / jnp.maximum(count, 1), count


def z_loss(logits: Array, mask: Array | None = None) -> Array:
    """Mean of log(sum exp(logits))^2 over what `mask` [...] keeps: holds logits near a scale."""
    normaliser = jax.nn.logsumexp(precision.widen(logits), -1)
    mask = _mask_like(normaliser, mask)
    return jnp.sum(normaliser**2, where=mask) / jnp.maximum(jnp.sum(mask), 1)


def chunked_cross_entropy(
    x_btd: Array,
    embedding_vd: Array,
    labels_bt: Array,
    mask: Array | None = None,
    chunk: int | None = None,
) -> tuple[Array, Array]:
    """`cross_entropy(x @ embedding.T, labels, mask)` with at most [b, chunk, v] logits in memory.

    The gradient is made in the same sweep as the value (only when it is asked for), so that the
    logits are computed once. Reverse mode only.

    Args:
      x_btd: [b, t, d].
      embedding_vd: [v, d]; products are taken in the dtype of `x_btd`, summed in float32.
      labels_bt: integers [b, t].
      mask: [b, t], True = keep (default: all).
      chunk: time steps at a time; chunking over time keeps a batch sharded over b balanced. None:
        `AT_ONCE` tokens of all rows together, at least `FEWEST` steps. Every chunk reads and writes
        the whole gradient of the table, so that few tokens at a time cost a long row its speed.

    Returns:
      The mean in nats and the number kept, both float32 [].

    Raises:
      ValueError: shapes that do not fit, or `chunk` below 1.
    """
    sizes = check.shape("x_btd", x_btd, ["b", "t", "d"])
    check.shape("embedding_vd", embedding_vd, ["v", sizes["d"]])
    check.shape("labels_bt", labels_bt, [sizes["b"], sizes["t"]])
    if chunk is None:
        chunk = max(FEWEST, AT_ONCE // max(sizes["b"], 1))
    check.positive(chunk=chunk)
    mask = _mask_like(labels_bt, mask)
    count = jnp.sum(mask, dtype=precision.accumulator(x_btd.dtype))
    chunk = min(chunk, sizes["t"])
    pad = -sizes["t"] % chunk
    pieces = (
        _split(jnp.pad(x_btd, ((0, 0), (0, pad), (0, 0))), chunk),
        _split(jnp.pad(labels_bt, ((0, 0), (0, pad))), chunk),
        _split(jnp.pad(mask, ((0, 0), (0, pad))), chunk),
    )
    table_vd = precision.varying_like(embedding_vd, x_btd)
    return _summed_nll(*pieces, table_vd) / jnp.maximum(count, 1), count


@jax.custom_vjp
def _summed_nll(x_nbtd: Array, labels_nbt: Array, mask_nbt: Array, embedding_vd: Array) -> Array:
    def body(total: Array, piece: tuple[Array, Array, Array]) -> tuple[Array, None]:
        return total + _piece_nll(*piece, embedding_vd)[0], None

    zero = jnp.zeros((), precision.accumulator(x_nbtd.dtype))
    zero = precision.varying_like(zero, x_nbtd)
    return jax.lax.scan(body, zero, (x_nbtd, labels_nbt, mask_nbt))[0]


def _piece_nll(x: Array, labels: Array, mask: Array, embedding: Array) -> tuple[Array, Array]:
    """Summed loss of one piece, and its gradient with respect to the logits [b, t, v]."""
    logits = precision.dot(x, embedding.T)
    normaliser = jax.nn.logsumexp(logits, -1)
    total = jnp.sum(normaliser - _pick(logits, labels, mask), where=mask)
    hit = jnp.arange(logits.shape[-1])[None, None, :] == labels[..., None]
    slope = jnp.exp(logits - normaliser[..., None]) - hit
    return total, jnp.where(mask[..., None], slope, 0)


def _forward(x_nbtd: Array, labels_nbt: Array, mask_nbt: Array, embedding_vd: Array):
    wide = precision.accumulator(x_nbtd.dtype)
    contract = functools.partial(jnp.einsum, preferred_element_type=wide)
    table = embedding_vd.astype(x_nbtd.dtype)

    def body(carry: tuple[Array, Array], piece: tuple[Array, Array, Array]):
        total, slope_vd = carry
        nll, slope = _piece_nll(*piece, table)
        slope = slope.astype(table.dtype)
        slope_vd += contract("btv,btd->vd", slope, piece[0])
        slope_x = contract("btv,vd->btd", slope, table).astype(table.dtype)
        return (total + nll, slope_vd), slope_x

    zeros = (jnp.zeros((), wide), jnp.zeros(embedding_vd.shape, wide))
    start = jax.tree.map(lambda zero: precision.varying_like(zero, x_nbtd), zeros)
    (total, slope_vd), slope_x = jax.lax.scan(body, start, (x_nbtd, labels_nbt, mask_nbt))
    return total, (slope_x, slope_vd.astype(embedding_vd.dtype))


def _backward(saved: tuple[Array, Array], upstream: Array):
    slope_x, slope_vd = saved
    return (
        slope_x * upstream.astype(slope_x.dtype),
        None,
        None,
        (slope_vd * upstream.astype(slope_vd.dtype)),
    )


_summed_nll.defvjp(_forward, _backward)


def _mask_like(labels: Array, mask: Array | None) -> Array:
    if mask is None:
        return jnp.ones(labels.shape, bool)
    check.shape("mask", mask, labels.shape)
    return mask.astype(bool)


def _pick(logits: Array, labels: Array, mask: Array) -> Array:
    index = jnp.where(mask, labels, 0)[..., None]
    return jnp.take_along_axis(logits, index, -1)[..., 0]


def _split(x: Array, chunk: int) -> Array:
    """[b, n * chunk, ...] as [n, b, chunk, ...]."""
    return jnp.moveaxis(x.reshape(x.shape[0], -1, chunk, *x.shape[2:]), 1, 0)
