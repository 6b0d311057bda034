"""Independent float64 transcriptions; nothing here imports jaxml."""

import numpy as np


def power(s, exponent):
    """A power of a symmetric matrix, by its singular values."""
    u, values, vt = np.linalg.svd(s)
    return u @ np.diag(values**exponent) @ vt


def cca_transform(x, y, gamma):
    """T and its inverse from samples [n, d], by the columns P_x, P_y; gamma absolute."""
    x, y = x - x.mean(0), y - y.mean(0)
    eye = np.eye(x.shape[1])
    sxx, syy, sxy = x.T @ x / len(x) + gamma * eye, y.T @ y / len(x) + gamma * eye, x.T @ y / len(x)
    u, s, vt = np.linalg.svd(power(sxx, -0.5) @ sxy @ power(syy, -0.5))
    px, py = power(sxx, -0.5) @ u, power(syy, -0.5) @ vt.T
    t = (py @ np.linalg.inv(px)).T
    return t, np.linalg.inv(t), s


def canonical_correlations(x, y):
    """Bjoerck and Golub: singular values between orthonormal bases of the centred samples."""
    qx, qy = (np.linalg.qr(z - z.mean(0))[0] for z in (x, y))
    return np.linalg.svd(qx.T @ qy, compute_uv=False)


def mlp(layers, x):
    """Logits and hidden features of [(kernel, bias), ...]."""
    hidden = []
    for kernel, bias in layers[:-1]:
        x = np.maximum(x @ kernel + bias, 0)
        hidden.append(x)
    return x @ layers[-1][0] + layers[-1][1], hidden


def merged_mlp(models, x, gamma):
    """CCA Merge of MLPs, all aligned to the first; gamma absolute."""
    features = [mlp(layers, x)[1] for layers in models]
    total = [[np.zeros_like(k), np.zeros_like(b)] for k, b in models[0]]
    for layers, mine in zip(models, features, strict=True):
        new = [(kernel.copy(), bias.copy()) for kernel, bias in layers]
        for i, y in enumerate(mine):
            if layers is models[0]:
                continue
            t, inverse, _ = cca_transform(features[0][i], y, gamma)
            new[i] = (new[i][0] @ t.T, t @ new[i][1])
            new[i + 1] = (inverse.T @ new[i + 1][0], new[i + 1][1])
        for slot, pair in zip(total, new, strict=True):
            slot[0] += pair[0] / len(models)
            slot[1] += pair[1] / len(models)
    return total


def zipit(similar, num_models, alpha, beta):
    """The greedy merging with shrinking matrices, entry by entry."""
    similar = np.array(similar, float)
    total = len(similar)
    d = total // num_models
    np.fill_diagonal(similar, -np.inf)
    columns = [{i} for i in range(total)]
    owner = [i // d for i in range(total)]
    budget = [int((total - d) // num_models * beta + 1e-4)] * num_models
    while len(columns) > d:
        i, j = np.unravel_index(similar.argmax(), similar.shape)
        i, j = min(i, j), max(i, j)
        if similar.max() == -np.inf:
            i, j = 0, 1
        columns[i] |= columns[j]
        joined = np.minimum(similar[i], similar[j]) * alpha
        joined[i] = -np.inf
        similar[i, :], similar[:, i] = joined, joined
        similar = np.delete(np.delete(similar, j, 0), j, 1)
        same, mine = owner[i] == owner[j], owner[i]
        del columns[j], owner[j]
        if same:
            budget[mine] -= 1
            if budget[mine] <= 0:
                rows = [k for k, o in enumerate(owner) if o == mine]
                similar[np.ix_(rows, rows)] = -np.inf
    unmerge = np.zeros((total, d))
    for column, members in enumerate(columns):
        unmerge[sorted(members), column] = 1
    return unmerge
