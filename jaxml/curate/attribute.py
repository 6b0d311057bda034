"""Which training examples a prediction is due to: TRAK, influence functions, and their test."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy import stats

from jaxml.core import check, rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.curate import perexample
from jaxml.curate.perexample import LossFn


def _output(loss_fn: LossFn) -> LossFn:
    """ln(p / (1 - p)) of an example whose loss is -ln p, the output that TRAK linearises."""

    def output(params: PyTree, example: PyTree) -> Array:
        loss = loss_fn(params, example)
        return -loss - jnp.log(-jnp.expm1(-jnp.maximum(loss, 1e-7)))

    return output


def trak(
    key: Key,
    loss_fn: LossFn,
    params_runs: Sequence[PyTree],
    train: PyTree,
    targets: PyTree,
    *,
    width: int = 2048,
    ridge: float = 0.0,
    batch_size: int = 16,
) -> np.ndarray:
    """Park et al. (2023): float64 [targets, n], the effect of each training example.

    `phi = P^T grad ln(p / (1 - p))`; the mean over models of `Phi (Phi^T Phi + ridge I)^-1 phi`
    times the mean over models of `1 - p`.

    Args:
      key: of the projections, one for each model.
      loss_fn: `(params, example) -> -ln p` of the right answer.
      params_runs: of models trained on (halves of) the training set.
      train: tree of arrays [n, ...].
      targets: tree of arrays [m, ...].
      width: of the projection; 0 for none.
      ridge: lambda.
      batch_size: examples at a time.

    Raises:
      ValueError: no model, ridge < 0, a gradient that is not finite.
    """
    check.at_least(1, num_runs=len(params_runs))
    check.at_least(0, ridge=ridge, width=width)
    num_params = len(ravel_pytree(params_runs[0])[0])
    gradient = perexample.flat_gradient(_output(loss_fn))

    def feature(at: tuple[PyTree, Key], example: PyTree) -> Array:
        vector = gradient(at[0], example)
        return perexample.rademacher(at[1], num_params, width)(vector) if width else vector

    effect, doubt = 0.0, 0.0
    for number, params in enumerate(params_runs):
        at = (params, rng.fold(key, "projection", number))
        rows, queries = (
            perexample.finite(
                "gradient", perexample.map_batched(feature, at, examples, batch_size)
            ).astype(np.float64)
            for examples in (train, targets)
        )
        kernel = rows.T @ rows + ridge * np.eye(rows.shape[1])
        effect = effect + queries @ np.linalg.solve(kernel, rows.T) / len(params_runs)
        loss = perexample.map_batched(loss_fn, params, train, batch_size)
        doubt = doubt - np.expm1(-loss.astype(np.float64)) / len(params_runs)
    return np.asarray(effect * doubt)


def influence(
    loss_fn: LossFn,
    params: PyTree,
    train: PyTree,
    targets: PyTree,
    *,
    ridge: float = 1e-3,
    num_steps: int = 100,
    batch_size: int = 16,
) -> np.ndarray:
    """Koh and Liang (2017): `-grad l_z^T (H + ridge I)^-1 grad l_i`, float64 [targets, n].

    Negative where more weight on the training example lowers the target's loss. H is the Hessian
    of the mean training loss; the systems are solved by conjugate gradients.

    Args:
      loss_fn: `(params, example) -> scalar`.
      params: of the trained model.
      train: tree of arrays [n, ...].
      targets: tree of arrays [m, ...].
      ridge: added to the Hessian; must make it positive definite.
      num_steps: of conjugate gradients.
      batch_size: examples at a time.

    Raises:
      ValueError: ridge <= 0, or an answer that is not finite.
    """
    check.positive(ridge=ridge)
    flat, unravel = ravel_pytree(params)

    def mean_loss(vector: Array) -> Array:
        return jnp.mean(jax.vmap(lambda e: loss_fn(unravel(vector), e))(train))

    def product(vector: Array) -> Array:
        return jax.jvp(jax.grad(mean_loss), (flat,), (vector,))[1] + ridge * vector

    gradient = perexample.flat_gradient(loss_fn)
    solve = jax.jit(
        lambda b: jax.scipy.sparse.linalg.cg(product, b, maxiter=num_steps, tol=1e-6)[0]
    )
    queries = perexample.map_batched(gradient, params, targets, batch_size)
    solved = np.stack([np.asarray(solve(query)) for query in queries]).astype(np.float64)
    rows = perexample.map_batched(gradient, params, train, batch_size)
    return perexample.finite("influence", -solved @ rows.T)


def lds(scores_mn: np.ndarray, subsets_sn: np.ndarray, outputs_sm: np.ndarray) -> np.ndarray:
    """Linear datamodelling score: Spearman of summed scores with retrained outputs, float64 [m].

    Args:
      scores_mn: attribution [targets, n].
      subsets_sn: bool [subsets, n], examples each model was retrained on.
      outputs_sm: outputs of these models on the targets.

    Raises:
      ValueError: sizes that differ, or fewer than 3 subsets.
    """
    sizes = check.shape("scores_mn", scores_mn, ["m", "n"])
    num = check.shape("subsets_sn", subsets_sn, ["s", sizes["n"]])["s"]
    check.shape("outputs_sm", outputs_sm, [num, sizes["m"]])
    check.at_least(3, num_subsets=num)
    predicted = np.asarray(subsets_sn, np.float64) @ np.asarray(scores_mn).T
    pairs = zip(predicted.T, np.asarray(outputs_sm).T, strict=True)
    return np.array([stats.spearmanr(a, b)[0] for a, b in pairs])
