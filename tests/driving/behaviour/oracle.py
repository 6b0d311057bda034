"""Float64 NumPy transcriptions that share no code with the library."""

import numpy as np


def min_errors(paths, truth):
    """minADE and minFDE by loops."""
    ade, fde = [], []
    for p, y in zip(paths, truth, strict=True):
        each = [[np.hypot(*(a - b)) for a, b in zip(q, y, strict=True)] for q in p]
        ade.append(min(np.mean(e) for e in each))
        fde.append(min(e[-1] for e in each))
    return np.array(ade), np.array(fde)


def scene_errors(paths, truth, group):
    """Social-GAN's minimum of the sum over a window."""
    ade = np.zeros(len(truth))
    for g in np.unique(group):
        rows = np.flatnonzero(group == g)
        sums = []
        for k in range(paths.shape[1]):
            sums.append([np.linalg.norm(paths[r, k] - truth[r], axis=-1).mean() for r in rows])
        ade[rows] = min(sums, key=sum)
    return ade


def mixture_nll(paths, prob, scale, truth):
    """The density written out."""
    found = []
    for i in range(len(truth)):
        steps = []
        for t in range(truth.shape[1]):
            total = 0.0
            for k in range(paths.shape[1]):
                s = scale[i, k, t]
                square = ((paths[i, k, t] - truth[i, t]) ** 2).sum()
                total += prob[i, k] * np.exp(-square / (2 * s**2)) / (2 * np.pi * s**2)
            steps.append(-np.log(total))
        found.append(np.mean(steps))
    return np.array(found)


def collide(a, b, radius, fine=400):
    """Whether two paths come near each other, by dense sampling in time."""
    for t in range(len(a) - 1):
        share = np.linspace(0, 1, fine)[:, None]
        pa, pb = a[t] + share * (a[t + 1] - a[t]), b[t] + share * (b[t + 1] - b[t])
        if np.min(np.linalg.norm(pa - pb, axis=1)) < radius:
            return True
    return False


def rss_same(v_r, v_f, rho, a, b_min, b_max):
    """Equation of the paper, longitudinal, same direction."""
    fast = v_r + rho * a
    return max(0.0, v_r * rho + 0.5 * a * rho**2 + fast**2 / (2 * b_min) - v_f**2 / (2 * b_max))


def inside(box, point):
    """Whether a point lies in a box (x, y, heading, length, width)."""
    x, y, h, length, width = box
    dx, dy = point[0] - x, point[1] - y
    along, across = dx * np.cos(h) + dy * np.sin(h), dy * np.cos(h) - dx * np.sin(h)
    return abs(along) <= length / 2 and abs(across) <= width / 2


def grid(box, n=60):
    """Points that fill a box."""
    x, y, h, length, width = box
    a, b = np.meshgrid(np.linspace(-0.5, 0.5, n) * length, np.linspace(-0.5, 0.5, n) * width)
    return np.stack([x + a * np.cos(h) - b * np.sin(h), y + a * np.sin(h) + b * np.cos(h)], -1)


def boxes_touch(a, b):
    """By filling one with points."""
    return any(inside(b, p) for p in grid(a).reshape(-1, 2)) or any(
        inside(a, p) for p in grid(b).reshape(-1, 2)
    )


def bicycle(state, action, dt):
    """Waymax's equations for one vehicle."""
    x, y, psi, v = state
    a, kappa = action
    way = v * dt + 0.5 * a * dt**2
    angle = (psi + kappa * way + np.pi) % (2 * np.pi) - np.pi
    return np.array([x + way * np.cos(psi), y + way * np.sin(psi), angle, v + a * dt])
