"""TransNormerLLM in float64 NumPy, written from the equations; shares no code with the package."""

import jax
import numpy as np

from jaxml.core import param


def drawn(lm, seed=0, std=0.3):
    """Parameters of a model in which every part matters; compiles nothing."""
    draw = np.random.default_rng(seed)

    def one(path, p):
        if path[-1].key == "theta":
            return draw.uniform(0.01, 1, p.shape).astype(np.float32)
        offset = 1.0 if path[-1].key == "scale" else 0.0
        return (offset + std * draw.standard_normal(p.shape)).astype(np.float32)

    tree = jax.tree_util.tree_map_with_path(one, lm.declared, is_leaf=param.is_param)
    return jax.tree.map(jax.numpy.asarray, tree)


def silu(x):
    return x / (1 + np.exp(-x))


def srms(x, eps=1e-6):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)


def slopes(heads):
    def power_of_two(n):
        return [2 ** (-8 * (i + 1) / n) for i in range(n)]

    log = np.log2(heads)
    if log == int(log):
        return np.array(power_of_two(heads))
    near = 2 ** int(np.floor(log))
    return np.array(power_of_two(near) + list(slopes(2 * near))[0::2][: heads - near])


def attention(q, k, v, slope):
    """q, k [h, t, c], v [h, t, e]."""
    t = q.shape[1]
    out = np.zeros((q.shape[0], t, v.shape[2]))
    for h in range(q.shape[0]):
        for i in range(t):
            for j in range(i + 1):
                out[h, i] += np.exp(-slope[h] * (i - j)) * (q[h, i] @ k[h, j]) * v[h, j]
    return out


def logits(weights, ids, heads, scale=True):
    """Logits [t, v] from weights under the names of the released checkpoints."""
    emb = weights["model.embed_tokens.weight"]
    width = emb.shape[1]
    layers = 1 + max(int(n.split(".")[2]) for n in weights if n.startswith("model.layers"))
    x = emb[ids] * (np.sqrt(width) if scale else 1)
    t, c = len(ids), width // heads

    def split(y):
        return y.reshape(t, heads, c).transpose(1, 0, 2)

    for i in range(layers):
        w = {n.split(f"layers.{i}.")[1]: a for n, a in weights.items() if f"layers.{i}." in n}
        q, k, v, u = np.split(srms(x) @ w["token_mixer.qkvu_proj.weight"].T, 4, axis=-1)
        q, k, v = split(silu(q)), split(silu(k)), split(v)
        if "token_mixer.lrpe.theta" in w:
            angle = w["token_mixer.lrpe.theta"] * np.arange(t)[None, :, None]
            q, k = (np.concatenate([y * np.cos(angle), y * np.sin(angle)], -1) for y in (q, k))
        factor = 1 - i / (layers - 1) + 1e-5 if layers > 1 else 1 + 1e-5
        o = attention(q, k, v, slopes(heads) * factor).transpose(1, 0, 2).reshape(t, width)
        x = x + (u * srms(o)) @ w["token_mixer.out_proj.weight"].T
        y = srms(x)
        hidden = (y @ w["channel_mixer.l1.weight"].T) * (y @ w["channel_mixer.l2.weight"].T)
        x = x + hidden @ w["channel_mixer.l3.weight"].T
    return srms(x) @ emb.T


def reference_weights(params, cfg):
    """Our parameters under the released names and layouts (out, in)."""
    out = {"model.embed_tokens.weight": params["embed"]["embedding"]}
    for index, (first, num, coded, _) in enumerate(cfg.stretches):
        p = params[f"stretch_{index}"]
        for i in range(num):
            name = f"model.layers.{first + i}"
            out[f"{name}.token_mixer.qkvu_proj.weight"] = np.transpose(
                p["qkvu"][i], (1, 2, 3, 0)
            ).reshape(-1, cfg.width)
            out[f"{name}.token_mixer.out_proj.weight"] = p["out"][i].reshape(-1, cfg.width).T
            for theirs, ours in (("l1", "gate"), ("l2", "up"), ("l3", "down")):
                out[f"{name}.channel_mixer.{theirs}.weight"] = p["glu"][ours]["kernel"][i].T
            if coded:
                out[f"{name}.token_mixer.lrpe.theta"] = p["lrpe"]["theta"][i]
    return {n: np.asarray(a, np.float64) for n, a in out.items()}
