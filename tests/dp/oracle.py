"""Second transcriptions in float64 NumPy, example by example, sharing no code with jaxml."""

import math

import numpy as np
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.stats import norm


def features(x, u, unit=True, bound=None):
    """phi of one example, [P d]."""
    g = (x @ u >= 0).astype(np.float64)
    phi = np.outer(g, x).ravel()
    length = math.sqrt(sum(float(p) ** 2 for p in phi))
    if unit:
        return phi / length if length > 0 else phi
    return phi * min(1.0, bound / length) if length > 0 else phi


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def residual(z, y, loss):
    own = np.zeros(len(z))
    own[y] = 1
    if loss == "softmax_ce":
        return softmax(z) - own
    return (1 / (1 + np.exp(-z)) if loss == "logistic" else z) - own


def clipped_mean(v, xs, u, ys, clip, mode, loss):
    """Mean of per-example gradients, each made whole, then bounded; flat or per class."""
    p, d, k = v.shape
    flat = v.reshape(p * d, k)
    total = np.zeros_like(flat)
    for x, y in zip(xs, ys, strict=True):
        phi = features(x, u)
        grad = np.outer(phi, residual(phi @ flat, y, loss))
        if mode == "flat":
            length = np.linalg.norm(grad)
            grad = grad * min(1.0, clip / length) if length > 0 else grad
        elif mode == "per_class":
            for c in range(k):
                length = np.linalg.norm(phi)
                most = clip / math.sqrt(k)
                if length > 0:
                    r = np.linalg.norm(grad[:, c])
                    grad[:, c] *= min(1.0, most / r) if r > 0 else 1.0
        total += grad
    return (total / len(xs)).reshape(p, d, k)


def envelope(z, y, radius):
    """p* - y by a general solver: max <p, z> + H(p) on the simplex with ||p - y|| <= R."""
    own = np.zeros(len(z))
    own[y] = 1
    p = softmax(z)
    if np.linalg.norm(p - own) <= radius:
        return p - own

    def cost(p):
        p = np.maximum(p, 1e-300)
        return -(p @ z) + np.sum(p * np.log(p))

    def slope(p):
        return -z + np.log(np.maximum(p, 1e-300)) + 1

    ball = {"type": "ineq", "fun": lambda p: radius**2 - np.sum((p - own) ** 2),
            "jac": lambda p: -2 * (p - own)}  # fmt: skip
    whole = {"type": "eq", "fun": lambda p: p.sum() - 1, "jac": lambda p: np.ones_like(p)}
    start = own + (p - own) * radius / np.linalg.norm(p - own)
    found = minimize(cost, start, jac=slope, bounds=[(1e-12, 1)] * len(z), method="SLSQP",
                     constraints=[ball, whole], options={"ftol": 1e-15})  # fmt: skip
    return found.x - own


def delta(mu, eps):
    """The hockey-stick divergence of N(mu, 1) from N(0, 1), by quadrature."""
    start = eps / mu + mu / 2

    def excess(x):
        return norm.pdf(x - mu) - math.exp(eps) * norm.pdf(x)

    return quad(excess, start, start + 40, epsabs=0, epsrel=1e-12, limit=500)[0]


def cgd_mu(c, num_batches, epochs, ratio):
    """Theorem 4.5 as printed, in 80-bit floats."""
    c, l, e = np.longdouble(c), num_batches, epochs
    shared = c ** (2 * l - 2) * (1 - c * c) / (1 - c**l) ** 2
    shared = shared * (1 - c ** (l * (e - 1))) / (1 + c ** (l * (e - 1)))
    return float(np.longdouble(ratio) * np.sqrt(1 + shared))


def gd_mu(c, steps, ratio):
    """Theorem 4.1 as printed."""
    c = np.longdouble(c)
    return float(ratio * np.sqrt((1 - c**steps) / (1 + c**steps) * (1 + c) / (1 - c)))


def linear_mu(c, num_batches, epochs, ratio):
    """mu of the last iterate when one loss of the last batch is linear, summed step by step."""
    signal = noise = 0.0
    for step in range(num_batches * epochs):
        last = step % num_batches == num_batches - 1
        signal = c * signal + (ratio if last else 0.0)
        noise = c * c * noise + 1.0
    return signal / math.sqrt(noise)
