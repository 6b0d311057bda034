"""Multinomial logistic regression by L-BFGS on all examples at once."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxml.core import check
from jaxml.core.types import Array, PyTree
from jaxml.nn import loss


def zeros(width: int, num_classes: int) -> PyTree:
    """Where `fit` may start: `kernel` [d, c] and `bias` [c]."""
    check.positive(width=width, num_classes=num_classes)
    return {"kernel": jnp.zeros((width, num_classes)), "bias": jnp.zeros(num_classes)}


def logits(p: PyTree, x_nd: Array) -> Array:
    """`x kernel + bias`, [n, c]."""
    product = x_nd @ p["kernel"]
    return product + jnp.broadcast_to(p["bias"], product.shape)


@functools.partial(jax.jit, static_argnames="steps")
def fit(start: PyTree, x_nd: Array, label_n: Array, decay: float, steps: int) -> PyTree:
    """Minimises mean cross-entropy plus `decay * |kernel|^2`.

    Args:
      start: parameters, e.g. `zeros`.
      x_nd: features.
      label_n: integers in [0, c).
      decay: of the kernel.
      steps: of L-BFGS.

    >>> x = jnp.array([[0.0], [1.0], [3.0], [4.0]])
    >>> found = fit(zeros(1, 2), x, jnp.array([0, 0, 1, 1]), 1e-3, 30)
    >>> jnp.argmax(logits(found, x), -1).tolist()
    [0, 0, 1, 1]
    """

    def objective(p: PyTree) -> Array:
        return loss.cross_entropy(logits(p, x_nd), label_n)[0] + decay * jnp.sum(p["kernel"] ** 2)

    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(objective)

    def step(carry: Any, _: None) -> tuple[Any, None]:
        p, state = carry
        value, grad = value_and_grad(p, state=state)
        updates, state = solver.update(grad, state, p, value=value, grad=grad, value_fn=objective)
        return (optax.apply_updates(p, updates), state), None

    (fitted, _), _ = jax.lax.scan(step, (start, solver.init(start)), length=steps)
    return fitted
