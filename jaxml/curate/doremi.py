"""Domain weights by distributionally robust optimisation (DoReMi, Xie et al. 2023)."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxml.core import check, rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.curate.training import TokenLoss, draw, stack_domains


@dataclasses.dataclass(frozen=True)
class DoremiConfig:
    """Training of the proxy.

    Attributes:
      num_steps: of the proxy.
      batch_size: rows, drawn uniformly over domains.
      eta: step of the weights.
      smoothing: c, the share of the uniform mixture.
    """

    num_steps: int = 1000
    batch_size: int = 64
    eta: float = 1.0
    smoothing: float = 1e-3

    def __post_init__(self):
        check.types(self)
        check.positive(num_steps=self.num_steps, batch_size=self.batch_size, eta=self.eta)
        check.between(0, 1, smoothing=self.smoothing)


def doremi_update(
    alpha: Array,
    lam_prev: Array,
    excess: Array,
    mask: Array,
    domain: Array,
    eta: float | Array = 1.0,
    c: float | Array = 1e-3,
) -> tuple[Array, Array]:
    """One step of the weights: algorithm 1 of the paper.

    Args:
      alpha: weights [K] on the simplex.
      lam_prev: the last excess of each domain [K]; kept by a domain that the batch lacks.
      excess: loss of the proxy minus the reference's, of every token [b, t]; clipped at zero here,
        token by token.
      mask: True where a token counts [b, t].
      domain: int [b].
      eta: step.
      c: share of the uniform mixture.

    Returns:
      The new weights [K] and excesses [K].
    """
    num = alpha.shape[0]
    weight = mask.astype(excess.dtype)
    total = jax.ops.segment_sum(jnp.sum(jnp.maximum(excess, 0.0) * weight, -1), domain, num)
    count = jax.ops.segment_sum(jnp.sum(weight, -1), domain, num)
    lam = jnp.where(count > 0, total / jnp.maximum(count, 1.0), lam_prev)
    raised = jax.nn.softmax(jnp.log(alpha) + eta * lam)
    return (1.0 - c) * raised + c / num, lam


class DoremiResult(NamedTuple):
    """What a round found.

    Attributes:
      alpha: float32 [K], the mean of the weights over all steps: the answer.
      history: [steps, K], the weights after each step.
      params: of the proxy.
    """

    alpha: np.ndarray
    history: np.ndarray
    params: PyTree


def doremi(
    key: Key,
    params: PyTree,
    reference: PyTree,
    token_loss: TokenLoss,
    domains: Sequence[np.ndarray],
    optimizer: optax.GradientTransformation,
    cfg: DoremiConfig = DoremiConfig(),  # noqa: B008
    row_mask: Callable[[Array], Array] | None = None,
) -> DoremiResult:
    """One round: trains the proxy by the robust objective and returns the mean of the weights.

    Rows are drawn uniformly over domains, so the loss of a row is weighted by alpha over 1/K.

    Args:
      key: of the draws.
      params: the proxy's start.
      reference: parameters of the reference, of the same model.
      token_loss: of the model.
      domains: rows [n_k, ...] of each domain.
      optimizer: of optax.
      cfg: steps, batch size, eta and smoothing.
      row_mask: `(rows [b, ...]) -> bool [b, t]`, tokens that count; all by default.

    Raises:
      ValueError: an empty domain, or rows of different shape.
    """
    rows, starts = (jnp.asarray(a) for a in stack_domains(domains))
    num = len(domains)
    run = _robust(token_loss, optimizer, cfg, num, row_mask)
    start = (params, optimizer.init(params), jnp.full((num,), 1.0 / num), jnp.zeros(num))
    (params, *_), history = run(key, start, rows, starts, reference)
    return DoremiResult(np.asarray(jnp.mean(history, 0)), np.asarray(history), params)


@functools.lru_cache(maxsize=16)
def _robust(
    token_loss: TokenLoss,
    optimizer: optax.GradientTransformation,
    cfg: DoremiConfig,
    num: int,
    row_mask: Callable[[Array], Array] | None,
) -> Callable:
    """A round as one compiled function of (key, start, rows, starts, reference)."""
    uniform = jnp.full((num,), 1.0 / num)

    @jax.jit
    def run(
        key: Key, start: tuple, rows: Array, starts: Array, reference: PyTree
    ) -> tuple[tuple, Array]:
        def step(state: tuple, index: Array) -> tuple[tuple, Array]:
            params, opt_state, alpha, lam = state
            at, domain = draw(rng.fold(key, index), starts, uniform, cfg.batch_size)
            batch = rows[at]
            before = token_loss(reference, batch)
            mask = jnp.ones(before.shape, bool) if row_mask is None else row_mask(batch)

            def robust(p: PyTree) -> tuple[Array, tuple[Array, Array]]:
                loss = token_loss(p, batch)
                excess = jax.lax.stop_gradient(loss - before)
                new = doremi_update(alpha, lam, excess, mask, domain, cfg.eta, cfg.smoothing)
                weight = (new[0][domain] * num)[:, None] * mask
                return jnp.sum(weight * loss) / jnp.sum(weight), new

            grads, (alpha, lam) = jax.grad(robust, has_aux=True)(params)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state, alpha, lam), alpha

        return jax.lax.scan(step, start, jnp.arange(cfg.num_steps))

    return run


def temperature(sizes: Sequence[float] | np.ndarray, tau: float) -> np.ndarray:
    """The baseline `w ~ n^tau`: 1 proportional, 0 uniform: float64 [K].

    Raises:
      ValueError: a size that is not positive.
    """
    sizes = np.asarray(sizes, np.float64)
    check.positive(smallest_size=float(sizes.min()))
    weights = (sizes / sizes.max()) ** tau
    return weights / weights.sum()
