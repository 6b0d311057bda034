"""The contrastive losses between a model in pruning and banks of frozen representations.

Anchor i is the current representation of a batch example, candidates are the batch itself, the
bank's rows of the batch, and the bank's rows of further examples; all are unit vectors. With
s_ik = z_i . c_k / tau and the positives P(i),

    L_i = -(1/|P(i)|) sum_{j in P(i)} log( exp s_ij / sum_{k != i} exp s_ik )   (2112.07198, eq. 1)

where only the anchor's own copy is left out of the sum. Unsupervised positives are representations
of the same example, supervised ones of examples with the same label.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxml.cap.bank import Bank, take
from jaxml.cap.config import ContrastConfig, Reduction
from jaxml.core import check
from jaxml.core.types import Array


class Contrast(NamedTuple):
    """Both terms, without their weights, float32 []."""

    unsup: Array
    sup: Array


class Candidates(NamedTuple):
    """The rows of a bank that anchors are compared with, beside the batch's own copies.

    Attributes:
      vectors: [k, d] as stored; no gradient flows into them.
      inverse: 1 / norm of each, float32 [k].
      ids: example of each, int [k].
      labels: class of each, int [k], or None.
      valid: [k], False for rows that are not filled.
    """

    vectors: Array
    inverse: Array
    ids: Array
    labels: Array | None
    valid: Array


def normalise(x: Array, eps: float = 1e-12) -> Array:
    """Vectors [..., d] divided by their Euclidean norm, in float32 or better."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return x * _inverse_norm(x, eps)


def _inverse_norm(x: Array, eps: float = 1e-12) -> Array:
    return jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, -1, keepdims=True), eps))


def candidates(bank: Bank, ids_b: Array, labels_b: Array | None, extra_ids: Array) -> Candidates:
    """The (b + e) r candidates from a bank, in the order example, representation."""
    every = jnp.concatenate([ids_b, extra_ids])
    rows = jax.lax.stop_gradient(take(bank.reps, every))
    num_reps = rows.shape[1]
    vectors = rows.reshape(-1, rows.shape[-1])
    vectors = vectors.astype(jnp.promote_types(vectors.dtype, jnp.float32))
    known = None if labels_b is None or bank.labels is None else take(bank.labels, extra_ids)
    filled = jnp.arange(num_reps) < (num_reps if bank.count is None else bank.count)
    return Candidates(
        vectors,
        _inverse_norm(vectors)[:, 0],
        jnp.repeat(every, num_reps),
        None
        if labels_b is None or known is None
        else jnp.repeat(jnp.concatenate([labels_b, known]), num_reps),
        jnp.tile(filled, len(every)),
    )


def contrastive_loss(
    reps_bd: Array,
    bank: Bank,
    ids_b: Array,
    labels_b: Array | None,
    extra_ids: Array,
    cfg: ContrastConfig,
) -> Contrast:
    """Both terms between a batch and one bank; 0 while the bank holds nothing.

    Args:
      reps_bd: representations of the current model [b, d], of any length.
      bank: frozen representations.
      ids_b: the batch's examples in the bank, int [b].
      labels_b: their classes, int [b]; may be None if `cfg.weight_sup` is 0.
      extra_ids: further examples, int [e]; repetitions and batch examples are legal.
      cfg: temperature and reduction.

    Raises:
      ValueError: shapes that do not fit, an id outside the bank (where concrete), or labels missing
        though `cfg.weight_sup` > 0.

    >>> bank = Bank(jnp.ones((4, 1, 2)), jnp.zeros(4, int))
    >>> ids, cfg = jnp.arange(2), ContrastConfig()
    >>> found = contrastive_loss(jnp.ones((2, 2)), bank, ids, ids * 0, jnp.array([3]), cfg)
    >>> bool(jnp.allclose(found.unsup, jnp.log(4.0)))  # five candidates, less the own copy
    True
    """
    _check(reps_bd, bank, ids_b, labels_b, extra_ids, cfg)
    z, rows = normalise(reps_bd), candidates(bank, ids_b, labels_b, extra_ids)
    cosines = z @ jax.lax.stop_gradient(z).T, (z @ rows.vectors.T) * rows.inverse[None]
    scores = jnp.concatenate(cosines, 1) / cfg.tau
    valid = jnp.concatenate([jnp.ones(len(z), bool), rows.valid])
    allowed = valid[None] & ~jnp.eye(*scores.shape, dtype=bool)
    denominator = jax.nn.logsumexp(scores, -1, where=allowed)
    filled = 1.0 if bank.count is None else (bank.count > 0).astype(scores.dtype)

    def term(mine: Array, theirs: Array) -> Array:
        positive = allowed & (mine[:, None] == jnp.concatenate([mine, theirs])[None])
        return filled * _reduce(scores, denominator, positive, cfg.reduction)

    unsup = term(ids_b, rows.ids)
    if labels_b is None or rows.labels is None:
        return Contrast(unsup, jnp.zeros_like(unsup))
    return Contrast(unsup, term(labels_b, rows.labels))


def _reduce(scores: Array, denominator: Array, positive: Array, reduction: Reduction) -> Array:
    """Mean over anchors that have a positive, or the published program's second division.

    The latter divides the sum of the anchors' means by the number of all positive pairs.
    """
    count = jnp.sum(positive, -1)
    mean = jnp.sum(scores, -1, where=positive) / jnp.maximum(count, 1)
    total = jnp.sum(denominator - mean, where=count > 0)
    divisor = jnp.sum(count > 0) if reduction == "mean" else jnp.sum(count)
    return total / jnp.maximum(divisor, 1)


def _check(
    reps_bd: Array,
    bank: Bank,
    ids_b: Array,
    labels_b: Array | None,
    extra_ids: Array,
    cfg: ContrastConfig,
) -> None:
    sizes = check.shape("reps_bd", reps_bd, ["b", "d"])
    num, _, width = bank.reps.shape
    if width != sizes["d"]:
        raise ValueError(f"bank must have the width of reps_bd, {sizes['d']}; got {width}.")
    check.shape("ids_b", ids_b, [sizes["b"]])
    check.shape("extra_ids", extra_ids, ["e"])
    if cfg.weight_sup > 0 and (labels_b is None or bank.labels is None):
        raise ValueError(
            f"labels must be given where weight_sup > 0; got weight_sup={cfg.weight_sup}."
        )
    for name, ids in (("ids_b", ids_b), ("extra_ids", extra_ids)):
        if not isinstance(ids, Tracer) and len(ids):
            known = np.asarray(ids)  # under jit, jnp would trace even what is known
            check.between(0, num - 1, **{name: int(known.min())})
            check.between(0, num - 1, **{name: int(known.max())})
