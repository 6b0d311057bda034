"""The convex way to bound a softmax residual: cross-entropy's infimal convolution with a norm.

`p* = argmax <p, z> + H(p)` over the simplex with `||p - y|| <= R` gives the residual `p* - y`: the
gradient of a loss that is convex, R-Lipschitz and as smooth as cross-entropy. Where softmax itself
is within R of the one-hot `y`, it is the answer.

Otherwise, with c the label's class, write `p_k = R t_k` for the others and kappa = R times the
multiplier. Stationarity reads `kappa t_k + log t_k = z_k - m` for k != c, where m is such that
`(sum t)^2 + sum t^2 = 1`, and one equation for class c is left, decreasing in kappa. Both roots lie
in brackets that do not depend on R, so a few guarded Newton steps find them for any radius.
"""

import jax
import jax.numpy as jnp

from jaxml.core.types import Array

_OUTER, _INNER = 6, 3
_TINY = 1e-30
_SMALLEST = 1e-6  # of kappa: below it the constraint is as good as inactive


def wright_omega(a: Array) -> Array:
    """The root w of `w + log w = a`, by two steps of Fritsch, Shafer and Crowley (1973).

    >>> round(float(wright_omega(jnp.float32(1.0))), 6)
    1.0
    """
    a = jnp.maximum(a, -80.0)
    large = jnp.maximum(a, 1.0)
    w = jnp.where(a > 1, large - jnp.log(large), jnp.exp(jnp.minimum(a, (a - 1) * 2 / 3)))
    for _ in range(2):
        rest = a - w - jnp.log(w)
        part = (1 + w) * (1 + w + 2 * rest / 3)
        w = w * (1 + rest / (1 + w) * (part - rest / 2) / (part - rest))
    return w


def _others(z: Array, m: Array, kappa: Array, other: Array) -> Array:
    """t_k of the classes that are not the label's, 0 for the label's."""
    t = wright_omega(z - m[:, None] + jnp.log(kappa)[:, None]) / kappa[:, None]
    return jnp.where(other, t, 0.0)


def _bracket(top: Array, kappa: Array, classes: int) -> tuple[Array, Array]:
    """Ends between which m lies: the largest t_k is in [1 / sqrt(K (K - 1)), 1 / sqrt 2]."""
    low, high = (classes * (classes - 1.0)) ** -0.5, 0.5**0.5
    return top - high * kappa - jnp.log(high), top - low * kappa - jnp.log(low)


def _solve_m(z: Array, m: Array, kappa: Array, other: Array, top: Array) -> Array:
    """Newton on `log ||(sum t, t)||`, decreasing in m, from the last m or the bracket's middle.

    Small t are exponential in m, where the logarithm is straight and one step finds the root; the
    norm itself would be climbed by one unit of m a step.
    """
    low, high = _bracket(top, kappa, z.shape[1])
    m = jnp.clip(jnp.where(jnp.isfinite(m), m, (low + high) / 2), low, high)
    for _ in range(_INNER):
        t = _others(z, m, kappa, other)
        total = jnp.sum(t, axis=1)
        norm = jnp.sqrt(total**2 + jnp.sum(t**2, axis=1))
        slope = jnp.sum((total[:, None] + t) * t / (1 + kappa[:, None] * t), axis=1) / norm
        m = jnp.clip(m + norm * jnp.log(norm) / slope, low, high)
    return m


def envelope_residual(z: Array, label: Array, radius: Array) -> Array:
    """`p* - y`, of norm at most `radius`.

    Args:
      z: logits [n, K], K >= 2.
      label: classes int [n].
      radius: R > 0, [n]; above 1 it counts as 1 (no clipping at all is mode "lipschitz").

    Returns:
      The residual [n, K].

    >>> z, label = jnp.array([[0.0, 3.0, 1.0]]), jnp.array([0])
    >>> [round(float(x), 3) for x in envelope_residual(z, label, jnp.array([0.5]))[0]]
    [-0.394, 0.288, 0.106]
    """
    classes, radius = z.shape[1], jnp.minimum(radius, 1.0)
    own = jax.nn.one_hot(label, classes, dtype=bool)
    plain = jax.nn.softmax(z, axis=1) - own.astype(z.dtype)
    active = jnp.sum(plain**2, axis=1) > radius**2
    other = ~own
    z_own = jnp.sum(jnp.where(own, z, 0.0), axis=1)
    top = jnp.max(jnp.where(own, -jnp.inf, z), axis=1)
    smallest = (classes * (classes - 1.0)) ** -0.5
    most = (top - z_own - jnp.log(smallest) - jnp.log(radius)) / (0.5**0.5 + smallest)
    low = jnp.full_like(most, _SMALLEST)
    high = jnp.maximum(most, 2 * _SMALLEST)

    def step(_: int, now: tuple[Array, ...]) -> tuple[Array, ...]:
        kappa, m, low, high = now
        m = _solve_m(z, m, kappa, other, top)
        value, slope, own_share = _label_equation(
            z_own, _others(z, m, kappa, other), m, kappa, radius
        )
        low, high = jnp.where(value > 0, kappa, low), jnp.where(value > 0, high, kappa)
        newton = kappa - value / slope
        inside = (newton >= low) & (newton <= high) & (own_share > _TINY)
        return jnp.where(inside, newton, (low + high) / 2), m, low, high

    start = (jnp.maximum(high / 2, _SMALLEST), jnp.full_like(top, -jnp.inf), low, high)
    kappa, m, _, _ = jax.lax.fori_loop(0, _OUTER, step, start)
    t = _others(z, _solve_m(z, m, kappa, other, top), kappa, other)
    bounded = jnp.where(own, -jnp.sum(t, axis=1, keepdims=True), t)
    bounded = bounded * (radius / jnp.linalg.norm(bounded, axis=1))[:, None]
    return jnp.where(active[:, None], bounded, plain)


def _label_equation(
    z_own: Array, t: Array, m: Array, kappa: Array, radius: Array
) -> tuple[Array, Array, Array]:
    """The label's equation, its slope in kappa (m follows along), and p of the label's class."""
    k = kappa[:, None]
    total = jnp.sum(t, axis=1)
    weight = (total[:, None] + t) / (1 + k * t)
    m_slope = -jnp.sum(weight * t**2, axis=1) / jnp.sum(weight * t, axis=1)
    total_slope = -jnp.sum((t**2 + t * m_slope[:, None]) / (1 + k * t), axis=1)
    own = jnp.maximum(1 - radius * total, _TINY)
    value = m - kappa * total + jnp.log(own) - jnp.log(radius) - z_own
    slope = m_slope - total - kappa * total_slope - radius * total_slope / own
    return value, slope, own
