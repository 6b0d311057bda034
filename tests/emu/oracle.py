"""The equations once more, in float64 NumPy with plain loops; shares no code with the library."""

import numpy as np


def normed(f):
    return f / np.sqrt((f**2).sum(-1, keepdims=True))


def log_softmax(x):
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def l2_softmax(f, labels, w, b, alpha):
    total = 0.0
    for row, label in zip(f, labels, strict=True):
        scores = alpha * (row / np.sqrt(row @ row)) @ w + b
        total -= log_softmax(scores[None])[0, label]
    return total / len(f)


def center(u, labels, centers):
    return sum(((row - centers[k]) ** 2).sum() for row, k in zip(u, labels, strict=True)) / (
        2 * len(u)
    )


def moved_centers(u, labels, centers, eta):
    out = centers.copy()
    for k in range(len(centers)):
        mine = u[labels == k]
        delta = sum((centers[k] - row for row in mine), np.zeros(u.shape[1])) / (1 + len(mine))
        out[k] = centers[k] - eta * delta
    return out


def pairs(u, labels):
    kinds = {True: [], False: []}
    for i in range(len(u)):
        for j in range(i + 1, len(u)):
            same = bool(labels[i] == labels[j])
            kinds[same].append((float(same) - u[i] @ u[j]) ** 2)
    means = [np.mean(x) for x in kinds.values() if x]
    return np.mean(means)


def mlp(p, u):
    h = u @ p["hidden"]["kernel"] + p["hidden"]["bias"]
    h = np.where(h > 0, h, 0.2 * h)
    return h @ p["answer"]["kernel"] + p["answer"]["bias"]


def discriminator(p, kind, u, lang):
    a = mlp(p, u)
    if kind == "multiclass":
        return -np.mean([log_softmax(a)[i, k] for i, k in enumerate(lang)])
    if kind == "binary":
        terms = []
        for i, k in enumerate(lang):
            for j in range(a.shape[1]):
                if k in (0, j + 1):
                    prob = 1 / (1 + np.exp(-a[i, j]))
                    terms.append(-np.log(prob if k == j + 1 else 1 - prob))
        return np.mean(terms)
    return a[lang != 0, 0].mean() - a[lang == 0, 0].mean()


def adversary(p, kind, u, lang, weight, fool="confusion"):
    a, w = mlp(p, u), weight[lang]
    if kind == "multiclass":
        return -np.mean(w * log_softmax(a).mean(-1))
    if kind == "binary":
        total, num = 0.0, 0
        for i, k in enumerate(lang):
            for j in range(a.shape[1]):
                if k in (0, j + 1):
                    prob = 1 / (1 + np.exp(-a[i, j]))
                    goal = 0.5 if fool == "confusion" else float(k != j + 1)
                    total -= w[i] * (goal * np.log(prob) + (1 - goal) * np.log(1 - prob))
                    num += w[i] > 0
        return total / num
    return (a[:, 0] * w)[lang == 0].mean() - (a[:, 0] * w)[lang != 0].mean()


def nearest(queries, q_labels, gallery, g_labels, q_ids=None, g_ids=None):
    """Accuracy at 1 in per cent by brute force."""
    hits = 0
    q, g = normed(queries.astype(np.float64)), normed(gallery.astype(np.float64))
    for i in range(len(q)):
        best, answer = -np.inf, None
        for j in range(len(g)):
            if q_ids is not None and q_ids[i] == g_ids[j]:
                continue
            if q[i] @ g[j] > best:
                best, answer = q[i] @ g[j], g_labels[j]
        hits += answer == q_labels[i]
    return 100 * hits / len(q)


def use(weights, ids, branch_norm=True):
    """USE-multilingual of one sentence, from the arrays of the package's file, float64."""
    w = {k: np.asarray(v) for k, v in weights.items()}
    table = [w[f"q{t % 17 + 1}"][t // 17] * np.float64(w["scale"][t % 17]) + w["lo"][t % 17]
             for t in ids]  # fmt: skip
    e = np.stack(table).astype(np.float64)
    eps = float(w["eps"])

    def norm(x, g, b):
        m, v = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - m) / np.sqrt(v + eps) * g + b

    xs = [e @ w[f"proj{n}"] + w[f"proj_b{n}"] for n in (2, 3, 5)]
    gains = [(w[f"ln_g{n}"], w[f"ln_b{n}"]) for n in (2, 3, 5)]
    if branch_norm:
        xs = [norm(x, g, b) for x, (g, b) in zip(xs, gains, strict=True)]
    else:
        whole = norm(np.concatenate(xs, -1), *(np.concatenate(p) for p in zip(*gains, strict=True)))
        xs = np.split(whole, 3, -1)
    features = [e]
    for x, (n, left) in zip(xs, ((2, 0), (3, 1), (5, 2)), strict=True):
        for name in ("1", "2"):
            wide = np.zeros((len(ids), n * 256))
            for t in range(len(ids)):
                for s in range(n):
                    at = t - left + s
                    if 0 <= at < len(ids):
                        wide[t, s * 256 : (s + 1) * 256] = x[at]
            x = np.maximum(wide @ w[f"w{name}_{n}"] + w[f"b{name}_{n}"], 0) + x
        features.append(x)
    f = norm(np.concatenate(features, -1), w["ln_g"], w["ln_b"])
    g = (f @ w["cnn_W"] + w["cnn_b"]).sum(0) / np.sqrt(len(ids))
    y0 = np.maximum(g @ w["d0"], 0)
    y1 = np.maximum(g @ w["p1"] + y0 @ w["d1"], 0)
    y2 = np.maximum(y1 @ w["d2"], 0)
    z = np.tanh(y1 @ w["p3"] + y2 @ w["d3"])
    return z / np.sqrt(z @ z)
