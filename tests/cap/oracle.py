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


def tensors(path):
    """A safetensors file by its definition: a length, JSON, raw little-endian arrays."""
    import json

    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    head = json.loads(content[8 : 8 + size])
    kinds = {"F32": "<f4", "F16": "<f2", "I64": "<i8"}
    found = {}
    for name, about in head.items():
        if name != "__metadata__":
            a, b = (8 + size + x for x in about["data_offsets"])
            found[name] = np.frombuffer(content[a:b], kinds[about["dtype"]]).reshape(about["shape"])
    return found


def bert_mean(w, ids, num_layers, num_heads):
    """Last hidden states of one unpadded sentence, and their mean (Devlin et al. 2019)."""
    from scipy.special import erf

    w = {k: v.astype(float) for k, v in w.items() if v.dtype.kind == "f"}

    def norm(name, x):
        x = x - x.mean(-1, keepdims=True)
        scale, shift = (w[f"{name}.LayerNorm.{k}"] for k in ("weight", "bias"))
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12) * scale + shift

    def dense(name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    t = "embeddings.{}_embeddings.weight"
    x = w[t.format("word")][ids] + w[t.format("position")][: len(ids)]
    x = norm("embeddings", x + w[t.format("token_type")][0])
    size = x.shape[1] // num_heads
    for i in range(num_layers):
        at = f"encoder.layer.{i}"
        q, k, v = (dense(f"{at}.attention.self.{n}", x) for n in ("query", "key", "value"))
        heads = []
        for h in range(num_heads):
            s = slice(h * size, (h + 1) * size)
            score = q[:, s] @ k[:, s].T / np.sqrt(size)
            p = np.exp(score - score.max(-1, keepdims=True))
            heads.append(p / p.sum(-1, keepdims=True) @ v[:, s])
        read = dense(f"{at}.attention.output.dense", np.concatenate(heads, -1))
        x = norm(f"{at}.attention.output", x + read)
        inner = dense(f"{at}.intermediate.dense", x)
        inner = inner * (1 + erf(inner / np.sqrt(2))) / 2
        x = norm(f"{at}.output", x + dense(f"{at}.output.dense", inner))
    return x, x.mean(0)
