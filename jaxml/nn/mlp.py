"""Feed-forward layers: plain, and gated (SwiGLU, SGLU)."""

from collections.abc import Callable
from typing import Any

import jax

from jaxml.core.types import Array, PyTree
from jaxml.nn import linear

type Activation = Callable[[Array], Array]


def identity(x: Array) -> Array:
    """The activation that does nothing: a gated layer with it is the simple GLU (SGLU)."""
    return x


def gelu(x: Array) -> Array:
    """The exact GELU, x Phi(x), by the error function."""
    return jax.nn.gelu(x, approximate=False)


def params(width: int, hidden: int, bias: bool = True) -> PyTree:
    """Declares `up` [d, f] and `down` [f, d]."""
    return {
        "up": linear.params(width, hidden, axes=("embed", "mlp"), bias=bias),
        "down": linear.params(hidden, width, axes=("mlp", "embed"), bias=bias),
    }


def apply(p: PyTree, x: Array, activation: Activation = gelu, dtype: Any = None) -> Array:
    """`down(activation(up(x)))` [..., d] -> [..., d]."""
    return linear.apply(p["down"], activation(linear.apply(p["up"], x, dtype)))


def gated_params(width: int, hidden: int) -> PyTree:
    """Declares `gate` and `up` [d, f] and `down` [f, d], without biases."""
    return {
        "gate": linear.params(width, hidden, axes=("embed", "mlp"), bias=False),
        "up": linear.params(width, hidden, axes=("embed", "mlp"), bias=False),
        "down": linear.params(hidden, width, axes=("mlp", "embed"), bias=False),
    }


def gated(p: PyTree, x: Array, activation: Activation = jax.nn.silu, dtype: Any = None) -> Array:
    """`down(activation(gate(x)) * up(x))` [..., d] -> [..., d]; silu gives SwiGLU."""
    gate = activation(linear.apply(p["gate"], x, dtype))
    return linear.apply(p["down"], gate * linear.apply(p["up"], x, dtype))
