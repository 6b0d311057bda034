"""Training on rows of tokens: drawn from a mixture of domains, or in a given order."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxml.core import check, rng
from jaxml.core.types import Array, Key, PyTree

type TokenLoss = Callable[[PyTree, Array], Array]
"""`(params, rows [b, ...]) -> loss of every token [b, t]`, nats; any model will do."""


def on_simplex(alpha: Sequence[float] | np.ndarray, name: str = "alpha") -> np.ndarray:
    """The weights as float64.

    Raises:
      ValueError: negative, or not summing to one.
    """
    alpha = np.asarray(alpha, np.float64)
    if alpha.ndim != 1 or np.any(alpha < 0) or not np.isclose(alpha.sum(), 1, atol=1e-5):
        raise ValueError(f"{name} must be >= 0 and sum to 1; got {name}={alpha}.")
    return alpha


def stack_domains(domains: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of all domains in one array [sum n_k, ...] and where each begins [K + 1].

    Raises:
      ValueError: no domain, an empty one, or rows of different shape.
    """
    shapes = {d.shape[1:] for d in domains}
    empty = [i for i, d in enumerate(domains) if not len(d)]
    if len(shapes) != 1 or empty:
        raise ValueError(
            f"domains must hold rows of one shape, at least one each; got shapes {shapes}, "
            f"empty domains {empty}."
        )
    return np.concatenate(domains), np.concatenate([[0], np.cumsum([len(d) for d in domains])])


def draw(key: Key, starts: Array, alpha: Array, batch_size: int) -> tuple[Array, Array]:
    """Rows [b] drawn from the mixture `alpha`, and their domains [b]."""
    domain = jax.random.categorical(rng.fold(key, "domain"), jnp.log(alpha), shape=(batch_size,))
    size = (starts[1:] - starts[:-1])[domain]
    share = jax.random.uniform(rng.fold(key, "row"), (batch_size,))
    return starts[domain] + jnp.minimum((share * size).astype(starts.dtype), size - 1), domain


def _update(
    token_loss: TokenLoss, optimizer: optax.GradientTransformation, state: PyTree, batch: Array
) -> tuple[PyTree, Array]:
    params, opt_state = state
    loss, grads = jax.value_and_grad(lambda p: jnp.mean(token_loss(p, batch)))(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), loss


@functools.lru_cache(maxsize=16)
def _on_mixture(
    token_loss: TokenLoss, optimizer: optax.GradientTransformation, num_steps: int, batch_size: int
) -> Callable:
    """The training as one compiled function of (key, params, rows, starts, alpha)."""

    @jax.jit
    def run(key: Key, params: PyTree, rows: Array, starts: Array, alpha: Array) -> PyTree:
        def step(state: PyTree, index: Array) -> tuple[PyTree, None]:
            at, _ = draw(rng.fold(key, index), starts, alpha, batch_size)
            return _update(token_loss, optimizer, state, rows[at])[0], None

        start = (params, optimizer.init(params))
        return jax.lax.scan(step, start, jnp.arange(num_steps))[0][0]

    return run


def train_on_mixture(
    key: Key,
    params: PyTree,
    token_loss: TokenLoss,
    domains: Sequence[np.ndarray],
    alpha: Sequence[float] | np.ndarray,
    optimizer: optax.GradientTransformation,
    num_steps: int,
    batch_size: int,
) -> PyTree:
    """Trains a model on rows drawn from a mixture; compiled once for all mixtures.

    Args:
      key: of the draws.
      params: start.
      token_loss: of the model.
      domains: rows [n_k, ...] of each domain.
      alpha: mixture [K].
      optimizer: of optax.
      num_steps: updates.
      batch_size: rows of each.

    Raises:
      ValueError: alpha is not on the simplex, or not one weight per domain.
    """
    alpha = on_simplex(alpha)
    check.shape("alpha", alpha, [len(domains)])
    rows, starts = (jnp.asarray(a) for a in stack_domains(domains))
    run = _on_mixture(token_loss, optimizer, num_steps, batch_size)
    return run(key, params, rows, starts, jnp.asarray(alpha, jnp.float32))


@functools.lru_cache(maxsize=16)
def _in_order(token_loss: TokenLoss, optimizer: optax.GradientTransformation) -> Callable:
    @jax.jit
    def run(params: PyTree, rows: Array, order_sb: Array) -> tuple[PyTree, Array]:
        start = (params, optimizer.init(params))
        (params, _), losses = jax.lax.scan(
            lambda state, at: _update(token_loss, optimizer, state, rows[at]), start, order_sb
        )
        return params, losses

    return run


def train_in_order(
    params: PyTree,
    token_loss: TokenLoss,
    rows: np.ndarray,
    order_sb: np.ndarray,
    optimizer: optax.GradientTransformation,
) -> tuple[PyTree, np.ndarray]:
    """Trains a model on rows in a given order, such as that of `epochs`.

    Args:
      params: start.
      token_loss: of the model.
      rows: [n, ...].
      order_sb: rows of each update, int [steps, b].
      optimizer: of optax.

    Returns:
      Parameters, and the loss of every update [steps].

    Raises:
      ValueError: an index outside the rows.
    """
    order_sb = np.asarray(order_sb, np.int32)
    check.between(0, len(rows) - 1, least_row=int(order_sb.min()), last_row=int(order_sb.max()))
    params, losses = _in_order(token_loss, optimizer)(params, jnp.asarray(rows), order_sb)
    return params, np.asarray(losses)


def epochs(seed: int, num_rows: int, num_steps: int, batch_size: int) -> np.ndarray:
    """Rows in a new order every epoch until all updates are filled: int32 [steps, b].

    >>> sorted(epochs(0, 4, 2, 2).ravel().tolist())
    [0, 1, 2, 3]
    """
    check.positive(num_rows=num_rows, num_steps=num_steps, batch_size=batch_size)
    total = num_steps * batch_size
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(num_rows) for _ in range(-(-total // num_rows))]
    return np.concatenate(orders)[:total].reshape(num_steps, batch_size).astype(np.int32)
