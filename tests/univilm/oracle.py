"""UniVL in float64 NumPy, written from the authors' modules and tensor names; no jaxml here."""

import math

import numpy as np


def norm(t, name, x):
    u = x.mean(-1, keepdims=True)
    s = ((x - u) ** 2).mean(-1, keepdims=True)
    return t[f"{name}.weight"] * (x - u) / np.sqrt(s + 1e-12) + t[f"{name}.bias"]


def linear(t, name, x):
    return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]


ERF = np.vectorize(math.erf)


def gelu(x):
    return x * 0.5 * (1 + ERF(x / math.sqrt(2)))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def heads(x, h):
    return x.reshape(*x.shape[:2], h, -1).transpose(0, 2, 1, 3)


def attend(t, name, x, memory, bias, h):
    q, k, v = (
        heads(linear(t, f"{name}.{part}", y), h)
        for part, y in (("query", x), ("key", memory), ("value", memory))
    )
    scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(q.shape[-1]) + bias
    out = softmax(scores) @ v
    return out.transpose(0, 2, 1, 3).reshape(x.shape)


def added(t, name, y, x):
    return norm(t, f"{name}.LayerNorm", linear(t, f"{name}.dense", y) + x)


def key_bias(mask):
    return (1.0 - mask[:, None, None, :]) * -10000.0


def encoder(t, prefix, x, mask, num, h):
    for i in range(num):
        name = f"{prefix}.encoder.layer.{i}"
        a = added(t, f"{name}.attention.output",
                  attend(t, f"{name}.attention.self", x, x, key_bias(mask), h), x)  # fmt: skip
        x = added(t, f"{name}.output", gelu(linear(t, f"{name}.intermediate.dense", a)), a)
    return x


def text(t, ids, num, h):
    e = "bert.embeddings"
    x = (
        t[f"{e}.word_embeddings.weight"][ids]
        + t[f"{e}.position_embeddings.weight"][None, : ids.shape[1]]
        + t[f"{e}.token_type_embeddings.weight"][0]
    )
    return encoder(t, "bert", norm(t, f"{e}.LayerNorm", x), (ids != 0) * 1.0, num, h)


def video(t, raw, mask, num, h):
    feats = norm(t, "normalize_video.visual_norm2d", raw)
    e = "visual.embeddings"
    x = linear(t, f"{e}.word_embeddings", feats)
    x = x + t[f"{e}.position_embeddings.weight"][None, : raw.shape[1]]
    return feats, encoder(t, "visual", norm(t, f"{e}.LayerNorm", x), mask * 1.0, num, h)


def cross(t, words, frames, word_mask, frame_mask, num, h):
    x = np.concatenate([words, frames], 1)
    kind = np.r_[np.zeros(words.shape[1], int), np.ones(frames.shape[1], int)]
    e = "cross.embeddings"
    x = (
        x
        + t[f"{e}.position_embeddings.weight"][None, : x.shape[1]]
        + t[f"{e}.token_type_embeddings.weight"][kind][None]
    )
    mask = np.concatenate([word_mask, frame_mask], 1) * 1.0
    x = encoder(t, "cross", norm(t, f"{e}.LayerNorm", x), mask, num, h)
    pooled = np.tanh(linear(t, "cross.pooler.dense", x[:, 0]))
    return x, pooled, mask


def similarity(t, pooled):
    return linear(t, "similarity_dense", pooled)[:, 0]


def mlm(t, name, x, table):
    x = norm(t, f"{name}.transform.LayerNorm", gelu(linear(t, f"{name}.transform.dense", x)))
    return x @ table + t[f"{name}.bias"]


def decoder(t, ids, memory, mask, num, h):
    e = "decoder.embeddings"
    x = t["bert.embeddings.word_embeddings.weight"][ids]
    x = x + t["bert.embeddings.position_embeddings.weight"][None, : ids.shape[1]]
    x = norm(t, f"{e}.LayerNorm", x)
    n = ids.shape[1]
    hidden = ((1.0 - (ids != 0))[:, None, None, :] + np.triu(np.ones((n, n)), 1)) > 0
    bias = hidden * -10000.0
    for i in range(num):
        name = f"decoder.decoder.layer.{i}"
        a = added(t, f"{name}.slf_attn.output",
                  attend(t, f"{name}.slf_attn.att", x, x, bias, h), x)  # fmt: skip
        b = added(t, f"{name}.enc_attn.output",
                  attend(t, f"{name}.enc_attn.att", a, memory, key_bias(mask), h), a)  # fmt: skip
        x = added(t, f"{name}.output", gelu(linear(t, f"{name}.intermediate.dense", b)), b)
    table = t["bert.embeddings.word_embeddings.weight"].T
    return mlm(t, "decoder.classifier.cls.predictions", x, table)


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def mil_nce(sim, num_videos, n_pair):
    """The authors' loss with its double-length rows, literally."""
    mask = np.kron(np.eye(num_videos), np.ones((n_pair, n_pair)))
    rows = np.concatenate([sim.T, sim + mask * -1e12], -1)
    log = log_softmax(rows) + (1 - np.concatenate([mask, 0 * mask], -1)) * -1e12
    top = log.max(-1, keepdims=True)
    losses = -(top[:, 0] + np.log(np.exp(log - top).sum(-1)))
    return losses[np.arange(num_videos) * n_pair + n_pair // 2].mean()


def cmfm(pred, target, mask, hidden):
    d = pred.shape[-1]
    logits = pred.reshape(-1, d) @ target.reshape(-1, d).T
    real = mask.reshape(-1) * 1.0
    logits = logits + (1 - real[:, None] * real[None]) * -1e8
    return -np.diag(log_softmax(logits))[hidden.reshape(-1)].mean()


def cross_entropy(logits, labels, ignore):
    log = log_softmax(logits.reshape(-1, logits.shape[-1]))
    flat = labels.reshape(-1)
    kept = flat != ignore
    return -log[np.arange(len(flat))[kept], flat[kept]].mean()


def max_margin(sim, margin, n_pair=1, hard_rate=None):
    d = np.diag(sim)
    loss = np.maximum(margin + sim - d[:, None], 0) + np.maximum(margin + sim - d[None], 0)
    if hard_rate is not None and n_pair > 1:
        b, e = len(sim) // n_pair, 1 - hard_rate
        alpha = e / ((b - 1) * (1 - e))
        weight = np.kron((1 - alpha) * np.eye(b) + alpha, np.ones((n_pair, n_pair)))
        loss = loss * weight * (b * (1 - e))
    return loss.mean()


def beam_reference(step, num_beams, max_len, begin, end):
    """One clip by the authors' rules; `step(prefixes) -> log-probabilities [k, v]`."""
    scores, prefixes = np.zeros(num_beams), [[begin]] * num_beams
    for turn in range(max_len):
        log = step(prefixes)
        total = log[0] if turn == 0 else (log + scores[:, None])
        flat = total.reshape(-1)
        best = np.argsort(-flat, kind="stable")[:num_beams]
        scores = flat[best]
        prefixes = [[*prefixes[j // log.shape[1]], int(j % log.shape[1])] for j in best]
        if prefixes[0][-1] == end:
            break
    said = prefixes[0][1:]
    return said[: said.index(end)] if end in said else said, scores[0]


def beam_frozen(step, num_beams, max_len, begin, end, penalty=0.0):
    """Finished beams wait; ranked by score over length to the penalty."""
    live = [([begin], 0.0, False)]
    for _ in range(max_len):
        options = []
        log = step([ids for ids, _, _ in live])
        for (ids, score, done), row in zip(live, log, strict=True):
            if done:
                options.append((ids, score, True))
            else:
                options += [([*ids, w], score + row[w], w == end) for w in range(len(row))]
        live = sorted(options, key=lambda o: -o[1])[:num_beams]
        if all(done for *_, done in live):
            break
    ids, score, done = max(live, key=lambda o: o[1] / (len(o[0]) - 1) ** penalty)
    return [w for w in ids[1:] if w != end], score / (len(ids) - 1) ** penalty
