"""What victim and suspect share beyond what every model of the task shares.

Independent models of one task agree on much: which samples are hard, which classes are alike. The
references know that part. Regressing it out of both models leaves what is particular to the
victim, and there a copy still correlates. This is ours, not the paper's.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core.types import Array
from jaxml.nfard.distance import mean_alive, per_neuron
from jaxml.nfard.projection import ridge_map


def residual(controls_nk: Array, y_nd: Array, n_fit: int, ridge: float = 1e-3) -> Array:
    """What a ridge regression on the controls, fitted on the first rows, leaves of y: [N, d]."""
    fit = ridge_map(controls_nk[:n_fit], y_nd[:n_fit], ridge)
    return y_nd - fit.v_mean[None, :] - (controls_nk - fit.s_mean[None, :]) @ fit.matrix


def _contrast(controls: Array, v: Array, s: Array, n_fit: int) -> Array:
    left, right = residual(controls, v, n_fit), residual(controls, s, n_fit)
    back = ridge_map(right[:n_fit], left[:n_fit], 1e-2)
    moved = (right - back.s_mean[None, :]) @ back.matrix + back.v_mean[None, :]
    living = jnp.std(left[n_fit:], 0) > 1e-6
    return mean_alive(per_neuron(left[n_fit:], moved[n_fit:]), living)


_contrast_jit = jax.jit(_contrast, static_argnums=3)


def output_contrast(
    victim_nd: np.ndarray, suspect_nd: np.ndarray, controls: Sequence[np.ndarray], n_fit: int
) -> float:
    """Centred cosine distance of the residuals on the rows after the first `n_fit`.

    Args:
      victim_nd: outputs of the victim on the suite [N, C].
      suspect_nd: of the suspect [N, C'].
      controls: of the references, [N, C] each; the suspect is none of them.
      n_fit: rows that regressions are fitted on.
    """
    known = jnp.asarray(np.concatenate(controls, 1))
    return float(_contrast_jit(known, jnp.asarray(victim_nd), jnp.asarray(suspect_nd), n_fit))


def label_distance(victim: np.ndarray, suspect: np.ndarray) -> float:
    """Share of samples that the two label differently (labels [N])."""
    return float(np.mean(victim != suspect))


def label_contrast(
    victim: np.ndarray, suspect: np.ndarray, controls: Sequence[np.ndarray]
) -> float:
    """The same, each sample weighing as the share of references that disagree with the victim.

    To say what the victim says where nobody else does is telling; where everybody does, not.
    """
    weight = np.mean([victim != other for other in controls], 0)
    if weight.sum() == 0:
        return label_distance(victim, suspect)
    return float(np.sum(weight * (victim != suspect)) / weight.sum())
