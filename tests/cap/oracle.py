"""Float64 transcriptions in NumPy that share no code with jaxml."""

import numpy as np


def unit(x):
    return x / np.sqrt((x**2).sum(-1, keepdims=True))


def contrast(z, reps, labels, ids, mine, extra, tau, reduction, gradient=False):
    """Both terms, by loops over anchors; with their gradient at the raw anchors by differences."""
    copies = unit(np.array(z, float))

    def terms(raw):
        anchor = unit(raw)
        columns = [(c, i, l) for c, i, l in zip(copies, ids, mine, strict=True)]
        for e, l in [*zip(ids, mine, strict=True), *((e, labels[e]) for e in extra)]:
            columns += [(unit(np.array(r, float)), e, l) for r in reps[e]]
        out = []
        for kind in (1, 2):
            total, anchors, pairs = 0.0, 0, 0
            for i, a in enumerate(anchor):
                own = (None, ids[i], mine[i])[kind]
                scores = np.array([a @ c[0] / tau for c in columns])
                keep = np.arange(len(columns)) != i
                normaliser = np.log(np.exp(scores[keep]).sum())
                chosen = [k for k, c in enumerate(columns) if k != i and c[kind] == own]
                if chosen:
                    total -= np.mean([scores[k] - normaliser for k in chosen])
                    anchors, pairs = anchors + 1, pairs + len(chosen)
            divisor = anchors if reduction == "mean" else pairs
            out.append(total / divisor if divisor else 0.0)
        return np.array(out)

    if not gradient:
        return terms(np.array(z, float))
    raw, slope = np.array(z, float), np.zeros((2, *np.shape(z)))
    for at in np.ndindex(raw.shape):
        step = np.zeros_like(raw)
        step[at] = 1e-5
        slope[(slice(None), *at)] = (terms(raw + step) - terms(raw - step)) / 2e-5
    return terms(raw), slope


def topk(x, k):
    """Mask of the k largest; among equal ones the first."""
    order = sorted(range(x.size), key=lambda i: (-x.reshape(-1)[i], i))
    mask = np.zeros(x.size, bool)
    mask[order[:k]] = True
    return mask.reshape(x.shape)


def cubic(step, total, start, end, warmup, cooldown):
    if step <= warmup:
        return start
    if step > total - cooldown:
        return end
    done = (step - warmup) / (total - warmup - cooldown)
    return end + (start - end) * (1 - done) ** 3


def kd(student, teacher, temperature):
    def soft(x):
        e = np.exp(x / temperature)
        return e / e.sum(-1, keepdims=True)

    p, q = soft(teacher), soft(student)
    return temperature**2 * (p * np.log(p / q)).sum(-1).mean()
