"""Initialisers `(key, shape, dtype) -> array`, in the layouts of this package.

Kernels are (..., in, out), so fan-in counts every axis but the last.
"""

import jax
import jax.numpy as jnp

from jaxml.core.types import Initializer

zeros: Initializer = jax.nn.initializers.zeros
"""All zero."""
ones: Initializer = jax.nn.initializers.ones
"""All one."""
lecun_normal: Initializer = jax.nn.initializers.lecun_normal()
"""Truncated normal of variance 1 / fan-in."""
he_normal: Initializer = jax.nn.initializers.he_normal()
"""Truncated normal of variance 2 / fan-in, for layers before a ReLU."""
glorot_uniform: Initializer = jax.nn.initializers.glorot_uniform()
"""Uniform of variance 2 / (fan-in + fan-out)."""
uniform_fan_in: Initializer = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Uniform on +-1 / sqrt(fan-in), the default of torch's linear and convolution kernels."""


def normal(stddev: float) -> Initializer:
    """Gaussian of this standard deviation, not truncated."""
    return jax.nn.initializers.normal(stddev)


def uniform(bound: float) -> Initializer:
    """Uniform on (-bound, bound).

    >>> x = uniform(0.5)(jax.random.key(0), (100,), jnp.float32)
    >>> bool((abs(x) <= 0.5).all() and x.min() < 0)
    True
    """

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init
