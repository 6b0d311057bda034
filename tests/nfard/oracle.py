"""Float64 NumPy and plain loops, written from the formulas; knows nothing of the package."""

import math

import numpy as np


def clr(probs, eps=1e-12):
    logs = np.log(np.maximum(np.asarray(probs, np.float64), eps))
    return logs - logs.mean(1, keepdims=True)


def cosine(v, s):
    """1 - cos of each pair of centred columns, one neuron at a time."""
    out = []
    for j in range(v.shape[1]):
        a, b = v[:, j] - v[:, j].mean(), s[:, j] - s[:, j].mean()
        na, nb = math.sqrt(float(a @ a)), math.sqrt(float(b @ b))
        out.append(1.0 if na == 0 or nb == 0 else 1 - float(a @ b) / (na * nb))
    return np.array(out)


def euclidean(v, s):
    return np.sqrt(((v - s) ** 2).mean(0))


def z_scores(x):
    return (x - x.mean(0)) / x.std(0)


def ridge(s, v, lam):
    """The normal equations, solved as one stacked least-squares problem (another way)."""
    sm, vm = s.mean(0), v.mean(0)
    shift = math.sqrt(lam * np.trace((s - sm).T @ (s - sm)) / s.shape[1])
    left = np.concatenate([s - sm, shift * np.eye(s.shape[1])])
    right = np.concatenate([v - vm, np.zeros((s.shape[1], v.shape[1]))])
    return np.linalg.lstsq(left, right, rcond=None)[0], sm, vm


def contrast(v, s, controls, half):
    """Residuals of ridge regressions on the controls, then a second ridge back, then cosine."""
    known = np.concatenate(controls, 1)

    def left_over(y):
        p, km, ym = ridge(known[:half], y[:half], 1e-3)
        return y - ym - (known - km) @ p

    rv, rs = left_over(v), left_over(s)
    p, sm, vm = ridge(rs[:half], rv[:half], 1e-2)
    return cosine(rv[half:], (rs[half:] - sm) @ p + vm).mean()


def t_quantile(q, df):
    """By bisection of the integral of the density."""
    norm = math.gamma((df + 1) / 2) / (math.sqrt(df * math.pi) * math.gamma(df / 2))

    def cdf(x):
        grid = np.linspace(0, x, 20001)
        return 0.5 + np.trapezoid(norm * (1 + grid**2 / df) ** (-(df + 1) / 2), grid)

    low, high = 0.0, 200.0
    for _ in range(80):
        mid = (low + high) / 2
        low, high = (mid, high) if cdf(mid) < q else (low, mid)
    return low


def auc(truth, distances):
    """Every pair counted."""
    near = [d for t, d in zip(truth, distances, strict=True) if t]
    far = [d for t, d in zip(truth, distances, strict=True) if not t]
    wins = sum(1.0 if a < b else 0.5 if a == b else 0.0 for a in near for b in far)
    return wins / (len(near) * len(far))


def js_divergence(p, q):
    total = 0.0
    for a, b in zip(p, q, strict=True):
        for x, y in zip(a, b, strict=True):
            m = (x + y) / 2
            total += 0.5 * (x * math.log(x / m) if x else 0.0)
            total += 0.5 * (y * math.log(y / m) if y else 0.0)
    return total / len(p)
