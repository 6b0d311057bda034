"""Names for the types that signatures use."""

from collections.abc import Callable
from typing import Any

import jax

type Array = jax.Array
type Key = jax.Array
type PyTree = Any
type Shape = tuple[int, ...]
type Axes = tuple[str | None, ...]
type Initializer = Callable[..., jax.Array]
"""`(key, shape, dtype) -> array`, the signature of `jax.nn.initializers`."""
