"""Neuron functionality (NF): what each neuron of a model says about each sample of a suite.

A layer gives a matrix [N, d], rows samples, columns neurons. White-box NFs are activations. Of a
black box only probabilities are seen: their centred logarithms are its logits, up to the one
number per sample that softmax forgets.
"""

import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array
from jaxml.nn import precision


class HardLabelsError(ValueError):
    """Probabilities that are labels: every row is one-hot."""


def nf_matrix(acts: Array) -> Array:
    """Activations of a layer as an NF matrix [N, d]; of feature maps the spatial mean.

    Args:
      acts: [N, d], or [N, y, x, d].

    Raises:
      ValueError: another rank.

    >>> nf_matrix(jnp.ones((5, 4, 4, 3))).shape
    (5, 3)
    """
    if acts.ndim == 4:
        return jnp.mean(precision.widen(acts), (1, 2))
    check.shape("acts", acts, ["N", "d"])
    return acts


def centred(logits: Array) -> Array:
    """Logits [..., C] less their mean over classes."""
    return logits - jnp.mean(logits, -1, keepdims=True)


def check_probs(probs: Array | np.ndarray) -> np.ndarray:
    """Probabilities on the host, checked: finite, not negative, rows that sum to one, not labels.

    Raises:
      ValueError: naming what is wrong and where.
      HardLabelsError: every row is one-hot.
    """
    p = np.asarray(probs)
    check.shape("probs", p, ["N", "C"])
    if not np.isfinite(p).all():
        raise ValueError(f"probs must be finite; row {_first(~np.isfinite(p).all(1))} is not.")
    if (p < 0).any():
        raise ValueError(f"probs must be >= 0; row {_first((p < 0).any(1))} has {p.min():.3g}.")
    off = np.abs(p.sum(1, dtype=np.float64) - 1) > 1e-3
    if off.any():
        row = _first(off)
        raise ValueError(f"rows of probs must sum to 1 +- 1e-3; row {row} sums to {p[row].sum()}.")
    if is_hard(p):
        raise HardLabelsError(
            "probs must be probabilities; every row is one-hot: hard labels allow only the "
            "agreement test, which is weaker (pass the labels, integers [N])."
        )
    return p


def is_hard(probs: np.ndarray) -> bool:
    """Whether every row [C] holds one 1 and zeros."""
    return bool(((probs == 0) | (probs == 1)).all())


def _first(rows: np.ndarray) -> int:
    return int(np.flatnonzero(rows)[0])


def clr_logits(probs: Array | np.ndarray, eps: float = 1e-12) -> Array:
    """Centred log-probabilities [N, C]: `log max(p, eps)` less its mean over classes.

    Equal to the logits less their mean wherever no probability is below `eps`.

    Args:
      probs: [N, C].
      eps: > 0, stands for smaller probabilities.

    Raises:
      ValueError: not probabilities (see `check_probs`), or labels (`HardLabelsError`).

    >>> clr_logits(np.array([[0.8, 0.2]])).tolist()[0][0] > 0.69
    True
    """
    check.positive(eps=eps)
    return centred(jnp.log(jnp.maximum(jnp.asarray(check_probs(probs)), eps)))
